//! The queues of an io_uring, and all that the kernel has of ours meanwhile.
//!
//! Nothing else tells the kernel an address. What an operation points to is moved in here together with it:
//!
//! - A frame of the batch stays here until [`Queues::submit`] has returned. Its send never waits: it is done, or has
//!   failed, when the system call that submitted it returns, and only failures come back (a short send is one).
//! - The rest of a short send waits in the kernel, and stays here until its completion comes.
//! - A buffer that is received into comes out with the completion that names it ([`Received`]).
//!
//! When this is dropped, what the kernel may still read or write is leaked: it takes an io_uring apart later, and does
//! not tell when.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry as Slot, HashMap};
use std::io;
use std::mem::ManuallyDrop;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::buffers::{self, Buffers, Received};

/// All or nothing at once: what is short of all fails and tells how much it was.
const AT_ONCE: i32 = ALL | SendFlags::DONTWAIT.bits() as i32;
const ALL: i32 = (RecvFlags::WAITALL.bits() | SendFlags::NOSIGNAL.bits()) as i32;

/// What has come back from the kernel.
pub(super) enum Completion {
    /// The number of an accepted connection, or why there is none; accepting goes on unless this is the last one.
    Accepted { result: Result<u32, Errno>, is_last: bool },
    /// Bytes, or none: the peer has ended the connection, or receiving has failed.
    Received { connection: u32, outcome: Result<Received, Nothing>, is_last: bool },
    /// A rest has been sent, as a whole or not.
    RestSent { connection: u32, is_whole: bool },
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nothing {
    /// There was no buffer to be had.
    NoBuffer,
    /// Nothing will come any more.
    End,
}

/// What a socket did not take at once.
pub(super) struct Short {
    pub(super) connection: u32,
    pub(super) rest: Vec<u8>,
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

pub(super) struct Queues {
    ring: IoUring,
    listener: TcpListener,
    buffers: Buffers,
    /// The connections and frames of the batch: the kernel reads a frame at any time until the batch is submitted.
    batch: ManuallyDrop<Vec<(u32, Rc<[u8]>)>>,
    /// By connection, the rests that the kernel has: neither changed nor freed until they are sent.
    rests: ManuallyDrop<HashMap<u32, Vec<u8>>>,
    arrived: VecDeque<Completion>,
}

impl Queues {
    /// Takes over an io_uring that has a table of connections.
    ///
    /// # Errors
    /// The kernel has no rings of buffers.
    pub(super) fn new(ring: IoUring, listener: TcpListener) -> io::Result<Self> {
        let buffers = Buffers::register(&ring.submitter())?;
        Ok(Self {
            ring,
            listener,
            buffers,
            batch: ManuallyDrop::default(),
            rests: ManuallyDrop::default(),
            arrived: VecDeque::new(),
        })
    }

    /// Whether nothing can be pushed until [`Self::submit`].
    pub(super) fn is_full(&mut self) -> bool {
        self.ring.submission().is_full()
    }

    /// How many sends the batch has.
    pub(super) fn batched(&self) -> usize {
        self.batch.len()
    }

    /// Accepts connections from now on.
    pub(super) fn accept(&mut self) {
        let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd())).allocate_file_index(true);
        self.push(accept.build(), Operation::Accept);
    }

    /// Receives from `connection` from now on.
    pub(super) fn receive(&mut self, connection: u32) {
        let receive = opcode::RecvMulti::new(Fixed(connection), buffers::GROUP).build();
        self.push(receive, Operation::Receive(connection));
    }

    /// Lets received bytes go.
    pub(super) fn give_back(&mut self, received: Received) {
        self.buffers.give_back(received);
    }

    /// Puts a send into the batch. What the socket does not take at once, [`Self::submit`] returns.
    pub(super) fn send_at_once(&mut self, connection: u32, frame: Rc<[u8]>) {
        let (address, length) = (frame.as_ptr(), u32::try_from(frame.len()).expect("a frame is short"));
        let index = self.batch.len() as u32;
        // Before the kernel can read it.
        self.batch.push((connection, frame));
        let send = opcode::Send::new(Fixed(connection), address, length).flags(AT_ONCE).build();
        self.push(silent(send), Operation::Send(index));
    }

    /// Sends what the socket did not take at once, as soon as it does. A connection has one rest at a time.
    pub(super) fn send_rest(&mut self, connection: u32, rest: Vec<u8>) {
        let Slot::Vacant(slot) = self.rests.entry(connection) else {
            panic!("the rest of connection {connection} is being sent already");
        };
        let rest = slot.insert(rest);
        let (address, length) = (rest.as_ptr(), u32::try_from(rest.len()).expect("it is bounded"));
        let send = opcode::Send::new(Fixed(connection), address, length).flags(ALL).build();
        self.push(send, Operation::Rest(connection));
    }

    /// Lets all operations of `connection` come back.
    pub(super) fn cancel(&mut self, connection: u32) {
        let of_it = CancelBuilder::fd(Fixed(connection)).all();
        self.push(silent(opcode::AsyncCancel2::new(of_it).build()), Operation::Other);
    }

    /// Closes `connection`. Its number may be given to another one from now on.
    pub(super) fn close(&mut self, connection: u32) {
        self.push(silent(opcode::Close::new(Fixed(connection)).build()), Operation::Other);
    }

    /// Submits all that was pushed, and waits for `want` completions. Returns what sockets did not take of the batch;
    /// the next batch is empty.
    ///
    /// # Errors
    /// The ring's.
    pub(super) fn submit(&mut self, mut want: usize) -> io::Result<Vec<Short>> {
        let mut short = Vec::new();
        loop {
            let outcome = self.ring.submit_and_wait(want);
            let completed = self.ring.completion().len();
            self.reap(&mut short);
            if let Err(error) = outcome {
                match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    // Too many completions wait, or memory is short: what is reaped makes room.
                    Some(Errno::BUSY | Errno::AGAIN) if completed > 0 => {}
                    _ => return Err(error),
                }
            }
            want = 0;
            let submission = self.ring.submission();
            if submission.is_empty() && !submission.cq_overflow() {
                break;
            }
        }
        // The kernel has taken all sends of the batch, and none of them waits.
        self.batch.clear();
        Ok(short)
    }

    /// The next of what has come back, without waiting.
    pub(super) fn next(&mut self) -> Option<Completion> {
        self.arrived.pop_front()
    }

    /// # Panics
    /// The queue is full.
    fn push(&mut self, entry: Entry, operation: Operation) {
        let entry = entry.user_data(operation.user_data());
        // SAFETY: the frame of a send is in `batch` until the kernel has done with it, a rest in `rests` until its
        // completion; both are leaked if this is dropped before. Other operations point to nothing.
        unsafe { self.ring.submission().push(&entry) }.expect("there was room");
    }

    fn reap(&mut self, short: &mut Vec<Short>) {
        for completion in self.ring.completion() {
            let (result, flags) = (completion.result(), completion.flags());
            let is_last = !cqueue::more(flags);
            let arrived = match Operation::of(completion.user_data()) {
                Operation::Accept => Completion::Accepted {
                    result: u32::try_from(result).map_err(|_| Errno::from_raw_os_error(-result)),
                    is_last,
                },
                Operation::Receive(connection) => {
                    let length = usize::try_from(result).unwrap_or_default();
                    let received = cqueue::buffer_select(flags).map(|buffer| {
                        // SAFETY: only receiving by `buffers` has this kind of operation, and each completion is
                        // taken out of the queue once.
                        unsafe { self.buffers.take(buffer, length) }
                    });
                    let outcome = match received {
                        Some(received) if !received.is_empty() => Ok(received),
                        Some(empty) => {
                            self.buffers.give_back(empty);
                            Err(Nothing::End)
                        }
                        None if result == -Errno::NOBUFS.raw_os_error() => Err(Nothing::NoBuffer),
                        None => Err(Nothing::End),
                    };
                    Completion::Received { connection, outcome, is_last }
                }
                Operation::Send(index) => {
                    let (connection, frame) = &self.batch[index as usize];
                    let sent = match result {
                        sent @ 0.. => sent as usize,
                        error if error == -Errno::AGAIN.raw_os_error() => 0,
                        // That a peer is gone is found out by receiving.
                        _ => continue,
                    };
                    short.push(Short { connection: *connection, rest: frame[sent..].to_vec() });
                    continue;
                }
                Operation::Rest(connection) => {
                    let rest = self.rests.remove(&connection).expect("it was being sent");
                    let is_whole = usize::try_from(result).is_ok_and(|sent| sent == rest.len());
                    Completion::RestSent { connection, is_whole }
                }
                Operation::Other => continue,
            };
            self.arrived.push_back(arrived);
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
