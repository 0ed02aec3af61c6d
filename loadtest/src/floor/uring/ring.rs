//! The connections, and what each of them still waits for.
//!
//! What a socket does not take of a batch's send becomes the connection's rest, whose send waits in the kernel; what
//! comes meanwhile queues up behind it. A connection has at most one send in a batch, and none beside its rest: its
//! bytes keep their order.
//!
//! A connection is closed when nothing of it is in flight any more, so that a late completion never meets the next
//! one in its slot.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;

use anyhow::Context;
use io_uring::IoUring;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::buffers::Received;
use super::queues::{Completion, Nothing, Queues};
use crate::floor::protocol::{Output, UNSENT_BYTES_MAX};

/// The length of the submission queue.
const ENTRIES: u32 = 512;
/// How many sends are submitted at once, at most: others have room beside them.
const BATCH_MAX: usize = 256;
/// More wait in the kernel until there is room.
const COMPLETIONS: u32 = 8192;
/// Slots for connections, as far as the limit on file descriptors allows.
const CONNECTIONS_MAX: u32 = 1 << 16;

/// What has come.
pub(super) enum Arrival {
    /// A connection with this number.
    Accepted(u32),
    /// Bytes, which are to be given back.
    Received { connection: u32, received: Received },
    /// This connection will receive nothing more. Its number may be given to another one from now on.
    Ended(u32),
}

struct Connection {
    is_receiving: bool,
    is_ending: bool,
    /// The last batch in which it has a send.
    batch: u64,
    /// While its rest is being sent: what is to be sent then.
    behind_rest: Option<Vec<u8>>,
}

pub(super) struct Ring {
    queues: Queues,
    /// By slot.
    connections: Vec<Option<Connection>>,
    /// The number of the batch in the making.
    batch: u64,
}

impl Ring {
    /// # Errors
    /// The kernel has no io_uring, or not as it is wanted here.
    pub(super) fn new(listener: TcpListener) -> anyhow::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_submit_all().setup_cqsize(COMPLETIONS).setup_single_issuer().setup_defer_taskrun();
        let ring = builder.build(ENTRIES).context("the kernel gives no io_uring")?;
        ring.submitter().register_files_sparse(slots()).context("the ring takes no table of connections")?;
        let mut queues = Queues::new(ring, listener).context("the ring takes no buffers")?;
        queues.accept();
        Ok(Self { queues, connections: Vec::new(), batch: 1 })
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
        while let Some(completion) = self.queues.next() {
            let arrival = match completion {
                Completion::Accepted { result, is_last } => self.accepted(result, is_last)?,
                Completion::Received { connection, outcome, is_last } => {
                    self.received(connection, outcome, is_last)
                }
                Completion::RestSent { connection, is_whole } => {
                    self.rest_sent(connection, is_whole);
                    None
                }
            };
            if arrival.is_some() {
                return Ok(arrival);
            }
        }
        Ok(None)
    }

    /// Lets received bytes go.
    pub(super) fn give_back(&mut self, received: Received) {
        self.queues.give_back(received);
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
            self.room().cancel(connection);
        }
        self.close_if_idle(connection);
    }

    fn close_if_idle(&mut self, number: u32) {
        let slot = &mut self.connections[number as usize];
        if slot.as_ref().is_some_and(|it| it.is_ending && !it.is_receiving && it.behind_rest.is_none()) {
            *slot = None;
            self.room().close(number);
        }
    }

    fn accepted(&mut self, result: Result<u32, Errno>, is_last: bool) -> anyhow::Result<Option<Arrival>> {
        if is_last {
            self.room().accept();
        }
        let number = match result {
            Ok(number) => number,
            // The peer has given up meanwhile, or there are too many.
            Err(Errno::CONNABORTED | Errno::NFILE | Errno::MFILE) => return Ok(None),
            Err(error) => return Err(error).context("the listener fails"),
        };
        let index = number as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] =
            Some(Connection { is_receiving: true, is_ending: false, batch: 0, behind_rest: None });
        self.room().receive(number);
        Ok(Some(Arrival::Accepted(number)))
    }

    fn received(
        &mut self,
        number: u32,
        outcome: Result<Received, Nothing>,
        is_last: bool,
    ) -> Option<Arrival> {
        if is_last {
            let is_over = matches!(outcome, Err(Nothing::End));
            if !is_over && self.is_open(number) {
                self.room().receive(number);
            } else {
                if let Some(connection) = &mut self.connections[number as usize] {
                    connection.is_receiving = false;
                }
                self.end(number);
            }
            if is_over {
                return Some(Arrival::Ended(number));
            }
        }
        outcome.ok().map(|received| Arrival::Received { connection: number, received })
    }

    /// Puts a send into the batch.
    fn stage(&mut self, number: u32, frame: &Rc<[u8]>) {
        let is_staged = matches!(&self.connections[number as usize], Some(it) if it.batch == self.batch);
        if is_staged || self.queues.batched() == BATCH_MAX {
            self.submit_now();
        }
        // Whatever this submits, it does so before the connection is looked at.
        self.room();
        let Some(connection) = self.connections[number as usize].as_mut().filter(|it| !it.is_ending) else {
            return;
        };
        if let Some(behind) = &mut connection.behind_rest {
            if behind.len() + frame.len() > UNSENT_BYTES_MAX {
                return self.end(number);
            }
            return behind.extend_from_slice(frame);
        }
        connection.batch = self.batch;
        self.queues.send_at_once(number, frame.clone());
    }

    fn rest_sent(&mut self, number: u32, is_whole: bool) {
        let Some(connection) = &mut self.connections[number as usize] else { return };
        let behind = connection.behind_rest.take().unwrap_or_default();
        if is_whole && !connection.is_ending && !behind.is_empty() {
            connection.behind_rest = Some(Vec::new());
            self.room().send_rest(number, behind);
        } else if is_whole {
            self.close_if_idle(number);
        } else {
            self.end(number);
        }
    }

    /// The queues, with room for one operation at least.
    fn room(&mut self) -> &mut Queues {
        while self.queues.is_full() {
            self.submit_now();
        }
        &mut self.queues
    }

    fn submit_now(&mut self) {
        self.submit(0).expect("the ring takes what it has room for");
    }

    /// Submits all that is due, and waits for so many completions.
    fn submit(&mut self, want: usize) -> io::Result<()> {
        let short = self.queues.submit(want)?;
        self.batch += 1;
        for short in &short {
            if let Some(connection) = &mut self.connections[short.connection as usize] {
                connection.behind_rest = Some(Vec::new());
            }
        }
        for short in short {
            if self.connections[short.connection as usize].is_some() {
                self.room().send_rest(short.connection, short.rest);
            }
        }
        Ok(())
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

/// How many connections the table may have room for.
fn slots() -> u32 {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(u32::MAX).min(CONNECTIONS_MAX)
}
