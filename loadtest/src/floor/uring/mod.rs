//! The floor by io_uring: one ring, multishot accept and receive into [`buffers`] that the kernel chooses, and the
//! sends of many deliveries by one system call.
//!
//! [`queues`] owns the io_uring and what the kernel has of ours, [`ring`] the connections, this module what is done with
//! what comes back. Connections are direct descriptors: slots of a table that the ring has, numbered from 0, so that no
//! send looks up and holds a file.

mod buffers;
mod queues;
mod ring;

use std::collections::HashMap;
use std::net::TcpListener;

use self::ring::{Arrival, Ring};
use super::protocol::Protocol;

pub(super) struct Server {
    protocol: Protocol,
    ring: Ring,
    /// Of connections, by number, what is no whole message yet: rare.
    unread: HashMap<u32, Vec<u8>>,
}

impl Server {
    /// # Errors
    /// The kernel has no io_uring, or not all of it that is wanted here (Linux 6.1 has).
    pub(super) fn new(listener: TcpListener) -> anyhow::Result<Self> {
        let ring = Ring::new(listener)?;
        Ok(Self { protocol: Protocol::default(), ring, unread: HashMap::new() })
    }

    /// # Errors
    /// The ring or the listener fails.
    pub(super) fn serve(&mut self) -> anyhow::Result<()> {
        loop {
            self.ring.wait()?;
            while let Some(arrival) = self.ring.next()? {
                match arrival {
                    Arrival::Accepted(number) => self.protocol.accepted(number),
                    Arrival::Received { connection, mut received } => {
                        if self.ring.is_open(connection) && self.take(connection, &mut received).is_err() {
                            self.remove(connection);
                            self.ring.end(connection);
                        }
                        self.ring.give_back(received);
                    }
                    Arrival::Ended(connection) => self.remove(connection),
                }
            }
        }
    }

    fn take(&mut self, connection: u32, received: &mut [u8]) -> anyhow::Result<()> {
        if let Some(unread) = self.unread.get_mut(&connection) {
            unread.extend_from_slice(received);
            let taken = self.protocol.take(connection, unread, &mut self.ring)?;
            unread.drain(..taken);
            if unread.is_empty() {
                self.unread.remove(&connection);
            }
        } else {
            let taken = self.protocol.take(connection, received, &mut self.ring)?;
            if taken < received.len() {
                self.unread.insert(connection, received[taken..].to_vec());
            }
        }
        Ok(())
    }

    fn remove(&mut self, connection: u32) {
        self.protocol.removed(connection);
        self.unread.remove(&connection);
    }
}
