//! The queues, what is in flight, and what each connection still waits for.
//!
//! A send never waits: it is done, or has failed, when the system call that submitted it returns, and only failures
//! come back (a short send is one of them). So a submitted batch of sends needs its frames no longer than that call.
//! What a socket did not take becomes the connection's [`Rest`], whose send waits in the kernel; what comes meanwhile
//! queues up behind it. A connection has at most one send in a batch, and none beside its rest: its bytes keep their
//! order.
//!
//! A connection is closed when nothing of it is in flight any more, so that a late completion never meets the next
//! one in its slot.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use anyhow::Context;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode};

use super::buffers::{self, Buffers};
use super::{RingOptions, Taskrun};
use crate::floor::UNSENT_BYTES_MAX;
use crate::floor::protocol::Output;

/// Room in the submission queue beside a batch of sends.
const OTHER_ENTRIES: u32 = 64;
/// More wait in the kernel until there is room.
const COMPLETIONS: u32 = 8192;
/// Slots for connections, as far as the limit on file descriptors allows.
const CONNECTIONS_MAX: u32 = 1 << 16;
/// All or nothing at once: what is short of all fails and tells how much it was.
const AT_ONCE: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
const ALL: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

/// What has come.
pub(super) enum Arrival {
    /// A connection with this number.
    Accepted(u32),
    /// Bytes, in a buffer that is to be given back.
    Received { connection: u32, buffer: u16, length: usize },
    /// This connection will receive nothing more. Its number may be given to another one from now on.
    Ended(u32),
}

/// What a completion is of.
#[derive(Clone, Copy)]
enum Operation {
    Accept,
    Receive(u32),
    /// By its index in the batch.
    Send(u32),
    Rest(u32),
    /// Cancelling and closing, after which nothing is to be done.
    Other,
}

struct Connection {
    is_receiving: bool,
    is_ending: bool,
    /// The last batch in which it has a send.
    batch: u64,
    rest: Option<Box<Rest>>,
}

/// What a socket did not take at once.
struct Rest {
    /// In flight: neither changed nor freed until it completes.
    sending: Vec<u8>,
    behind: Vec<u8>,
}

pub(super) struct Ring {
    ring: IoUring,
    listener: TcpListener,
    /// By slot.
    connections: Vec<Option<Connection>>,
    /// The sends of the batch in the making, and the number of that batch.
    staged: Vec<(u32, Rc<[u8]>)>,
    batch: u64,
    batch_max: usize,
    /// Completions that wait for [`Self::next`].
    arrived: VecDeque<cqueue::Entry>,
    /// Connections whose rest is to be sent.
    short: Vec<u32>,
}

impl Ring {
    /// # Errors
    /// The kernel has no io_uring, or not as it is wanted here.
    pub(super) fn new(options: &RingOptions, listener: TcpListener) -> anyhow::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_submit_all().setup_cqsize(COMPLETIONS);
        match options.taskrun {
            Taskrun::Default => {}
            Taskrun::Coop => drop(builder.setup_coop_taskrun()),
            Taskrun::Defer => drop(builder.setup_single_issuer().setup_defer_taskrun()),
        }
        let entries = (u32::from(options.batch) + OTHER_ENTRIES).next_power_of_two();
        let ring = builder.build(entries).context("the kernel gives no io_uring")?;
        ring.submitter().register_files_sparse(slots()?).context("the ring takes no table of connections")?;
        let mut ring = Self {
            ring,
            listener,
            connections: Vec::new(),
            staged: Vec::new(),
            batch: 1,
            batch_max: options.batch.into(),
            arrived: VecDeque::new(),
            short: Vec::new(),
        };
        ring.accept();
        Ok(ring)
    }

    /// Buffers for what connections receive; without them, they receive nothing.
    pub(super) fn register_buffers(&self) -> anyhow::Result<Buffers> {
        Buffers::register(&self.ring.submitter()).context("the ring takes no buffers")
    }

    /// Submits what is due, and waits until something has come.
    ///
    /// # Errors
    /// The ring's.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.submit(1)
    }

    /// The next of what has come, without waiting.
    ///
    /// # Errors
    /// The listener's.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Arrival>> {
        while let Some(completion) = self.arrived.pop_front() {
            let arrival = match Operation::of(completion.user_data()) {
                Operation::Accept => self.accepted(&completion)?,
                Operation::Receive(number) => self.received(number, &completion),
                Operation::Rest(number) => {
                    self.rest_sent(number, completion.result());
                    None
                }
                Operation::Send(_) | Operation::Other => None,
            };
            if arrival.is_some() {
                return Ok(arrival);
            }
        }
        Ok(None)
    }

    /// Whether `connection` is to be listened to.
    pub(super) fn is_open(&self, connection: u32) -> bool {
        self.connections[connection as usize].as_ref().is_some_and(|connection| !connection.is_ending)
    }

    /// Ends `connection`: what of it is in flight comes back, then it is closed.
    pub(super) fn end(&mut self, connection: u32) {
        let Some(ending) = &mut self.connections[connection as usize] else { return };
        if !ending.is_ending {
            ending.is_ending = true;
            let of_it = CancelBuilder::fd(Fixed(connection)).all();
            self.push(silent(opcode::AsyncCancel2::new(of_it).build()), Operation::Other);
        }
        self.close_if_idle(connection);
    }

    fn close_if_idle(&mut self, number: u32) {
        let slot = &mut self.connections[number as usize];
        if slot.as_ref().is_some_and(|it| it.is_ending && !it.is_receiving && it.rest.is_none()) {
            *slot = None;
            self.push(silent(opcode::Close::new(Fixed(number)).build()), Operation::Other);
        }
    }

    fn accept(&mut self) {
        let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd())).allocate_file_index(true);
        self.push(accept.build(), Operation::Accept);
    }

    fn accepted(&mut self, completion: &cqueue::Entry) -> anyhow::Result<Option<Arrival>> {
        if !cqueue::more(completion.flags()) {
            self.accept();
        }
        let Ok(number) = u32::try_from(completion.result()) else {
            return match -completion.result() {
                // The peer has given up meanwhile, or there are too many.
                libc::ECONNABORTED | libc::ENFILE | libc::EMFILE => Ok(None),
                error => Err(io::Error::from_raw_os_error(error)).context("the listener fails"),
            };
        };
        let index = number as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] =
            Some(Connection { is_receiving: false, is_ending: false, batch: 0, rest: None });
        self.receive(number);
        Ok(Some(Arrival::Accepted(number)))
    }

    fn receive(&mut self, number: u32) {
        if let Some(connection) = &mut self.connections[number as usize] {
            connection.is_receiving = true;
            let receive = opcode::RecvMulti::new(Fixed(number), buffers::GROUP).build();
            self.push(receive, Operation::Receive(number));
        }
    }

    fn received(&mut self, number: u32, completion: &cqueue::Entry) -> Option<Arrival> {
        let buffer = cqueue::buffer_select(completion.flags());
        let received = usize::try_from(completion.result()).ok().filter(|length| *length > 0).zip(buffer);
        if !cqueue::more(completion.flags()) {
            self.connections[number as usize].as_mut()?.is_receiving = false;
            let goes_on = received.is_some() || completion.result() == -libc::ENOBUFS;
            if !goes_on || !self.is_open(number) {
                self.end(number);
            } else {
                self.receive(number);
            }
            if !goes_on {
                return Some(Arrival::Ended(number));
            }
        }
        received.map(|(length, buffer)| Arrival::Received { connection: number, buffer, length })
    }

    /// Puts a send into the batch.
    fn stage(&mut self, number: u32, frame: &Rc<[u8]>) {
        let is_staged = matches!(&self.connections[number as usize], Some(it) if it.batch == self.batch);
        if is_staged || self.staged.len() == self.batch_max || self.ring.submission().is_full() {
            self.submit(0).expect("the ring takes what it has room for");
        }
        let Some(connection) = self.connections[number as usize].as_mut().filter(|it| !it.is_ending) else {
            return;
        };
        if let Some(rest) = &mut connection.rest {
            if rest.behind.len() + frame.len() > UNSENT_BYTES_MAX {
                return self.end(number);
            }
            return rest.behind.extend_from_slice(frame);
        }
        connection.batch = self.batch;
        let length = u32::try_from(frame.len()).expect("a frame is short");
        let send = opcode::Send::new(Fixed(number), frame.as_ptr(), length).flags(AT_ONCE).build();
        let index = self.staged.len() as u32;
        self.staged.push((number, frame.clone()));
        self.push(silent(send), Operation::Send(index));
    }

    fn send_rest(&mut self, number: u32) {
        let Some(Connection { rest: Some(rest), .. }) = &self.connections[number as usize] else { return };
        let length = u32::try_from(rest.sending.len()).expect("it is bounded");
        let send = opcode::Send::new(Fixed(number), rest.sending.as_ptr(), length).flags(ALL).build();
        self.push(send, Operation::Rest(number));
    }

    fn rest_sent(&mut self, number: u32, result: i32) {
        let Some(connection) = &mut self.connections[number as usize] else { return };
        let Some(rest) = &mut connection.rest else { return };
        let is_sent = usize::try_from(result).is_ok_and(|sent| sent == rest.sending.len());
        if is_sent && !connection.is_ending && !rest.behind.is_empty() {
            rest.sending = std::mem::take(&mut rest.behind);
            return self.send_rest(number);
        }
        connection.rest = None;
        if is_sent {
            self.close_if_idle(number);
        } else {
            self.end(number);
        }
    }

    fn push(&mut self, entry: Entry, operation: Operation) {
        let entry = entry.user_data(operation.user_data());
        while {
            // SAFETY: what a send points to is kept in `staged` or a connection's `rest` until it has completed; all
            // other operations point to nothing.
            unsafe { self.ring.submission().push(&entry) }.is_err()
        } {
            self.submit(0).expect("the ring takes what it has room for");
        }
    }

    /// Submits all that is due, waits for so many completions, and takes them out of the kernel's hands.
    fn submit(&mut self, mut want: usize) -> io::Result<()> {
        loop {
            if let Err(error) = self.ring.submit_and_wait(want)
                && !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
            {
                return Err(error);
            }
            self.reap();
            want = 0;
            let submission = self.ring.submission();
            if submission.is_empty() && !submission.cq_overflow() {
                break;
            }
        }
        // Nothing of the batch is in flight any more.
        self.staged.clear();
        self.batch += 1;
        for number in std::mem::take(&mut self.short) {
            self.send_rest(number);
        }
        Ok(())
    }

    fn reap(&mut self) {
        for completion in self.ring.completion() {
            let Operation::Send(index) = Operation::of(completion.user_data()) else {
                self.arrived.push_back(completion);
                continue;
            };
            let (number, frame) = &self.staged[index as usize];
            let sent = match completion.result() {
                sent @ 0.. => sent as usize,
                error if error == -libc::EAGAIN => 0,
                // Who is gone is found out by receiving.
                _ => continue,
            };
            if let Some(connection) = &mut self.connections[*number as usize] {
                let rest = Rest { sending: frame[sent..].to_vec(), behind: Vec::new() };
                connection.rest = Some(Box::new(rest));
                self.short.push(*number);
            }
        }
    }
}

impl Output for Ring {
    fn send(&mut self, connections: &[u32], bytes: &[u8]) {
        let frame: Rc<[u8]> = bytes.into();
        for number in connections {
            self.stage(*number, &frame);
        }
    }
}

impl Operation {
    fn user_data(self) -> u64 {
        let (kind, number) = match self {
            Self::Accept => (0, 0),
            Self::Receive(number) => (1, number),
            Self::Send(number) => (2, number),
            Self::Rest(number) => (3, number),
            Self::Other => (4, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn of(user_data: u64) -> Self {
        let number = user_data as u32;
        match user_data >> 32 {
            0 => Self::Accept,
            1 => Self::Receive(number),
            2 => Self::Send(number),
            3 => Self::Rest(number),
            _ => Self::Other,
        }
    }
}

/// Only its failure is told.
fn silent(entry: Entry) -> Entry {
    entry.flags(Flags::SKIP_SUCCESS)
}

/// How many connections the table may have room for.
fn slots() -> io::Result<u32> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit for the duration of the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX).min(CONNECTIONS_MAX))
}
