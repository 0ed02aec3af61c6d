//! The way between the control thread and a shard: a bounded queue each way.

use std::{net::SocketAddr, sync::Arc};

use crossbeam::queue::ArrayQueue;
use webrocket_state::ShardId;

use super::wake::Wake;

/// The control thread's way into one shard. Commands arrive in the order of sending.
#[derive(Debug)]
pub struct Mailbox<C> {
    queue: Arc<ArrayQueue<C>>,
    wake: Arc<Wake>,
}

impl<C> Clone for Mailbox<C> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), wake: Arc::clone(&self.wake) }
    }
}

impl<C> Mailbox<C> {
    /// A mailbox over a queue that the shard whom `wake` wakes drains.
    #[must_use]
    pub fn new(queue: Arc<ArrayQueue<C>>, wake: Arc<Wake>) -> Self {
        Self { queue, wake }
    }

    /// Puts a command into the queue and wakes the shard.
    ///
    /// # Errors
    /// The queue is full; the command comes back.
    pub fn try_send(&self, command: C) -> Result<(), C> {
        self.queue.push(command)?;
        self.wake.wake();
        Ok(())
    }
}

/// What a shard's driver passes to the control thread.
#[derive(Debug)]
pub enum FromShard<R> {
    /// The machine's word.
    Report(ShardId, R),
    /// A connection whose request is no WebSocket upgrade: the HTTP server's.
    HandOff(HandOff),
}

/// A connection on its way to the HTTP server.
#[derive(Debug)]
pub struct HandOff {
    /// The socket, non-blocking.
    pub stream: std::net::TcpStream,
    /// The other side.
    pub peer: SocketAddr,
    /// What was read so far: a complete request head, perhaps the beginning of a body.
    pub head: Vec<u8>,
}
