//! The connections of one socket that stand.
//!
//! libzmq names a connection by its descriptor, which is soon another one's. What tells them apart is
//! the connection's *number*, which it is given when it is let in and which stands in the `User-Id` of all
//! that it sends. Why a number and a descriptor together name one connection:
//!
//! - libzmq's one input and output thread says that a connection was accepted before it asks whether to
//!   let it in, and that it ended before it closes the descriptor.
//! - Before a number is given, all that was said is heard. So a connection's number is at least as great as the
//!   next number was when its acceptance was heard, and one that had the same descriptor before, and
//!   had a number, had a smaller one: it was given before that connection ended.
//!
//! So a message whose number is smaller than its descriptor's connection may have comes from one that is over.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd, RawFd},
};

use super::{
    monitor::{ConnectionEvent, Monitor},
    tcp,
};

/// Given to connections in the order in which they are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Number(pub(super) u64);

/// A connection that stands, with what its socket's owner knows of it.
pub(super) struct Connection<T> {
    /// The least number that it may have.
    first: Number,
    /// A descriptor of our own, which stays this connection's; none if there was none left.
    socket: Option<OwnedFd>,
    /// The server has cut it, and it is not over yet.
    is_cut: bool,
    pub(super) owned: T,
}

impl<T> Connection<T> {
    /// Cuts it; whether it was not cut before.
    pub(super) fn cut(&mut self) -> bool {
        if let Some(socket) = &self.socket {
            tcp::cut(socket.as_fd());
        }
        !std::mem::replace(&mut self.is_cut, true)
    }

    /// Whether the server has cut it.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// How many bytes its peer has sent.
    pub(super) fn bytes_received(&self) -> u64 {
        self.socket.as_ref().and_then(|socket| tcp::bytes_received(socket.as_fd())).unwrap_or(0)
    }
}

/// All connections of one socket.
pub(super) struct Connections<T> {
    monitor: Monitor,
    standing: HashMap<RawFd, Connection<T>, ahash::RandomState>,
    /// From this descriptor on they are kept for others than backends.
    ceiling: RawFd,
    /// Connections cut off because descriptors ran short.
    turned_away: u64,
}

impl<T: Default> Connections<T> {
    pub(super) fn new(monitor: Monitor, ceiling: RawFd) -> Self {
        Self { monitor, standing: HashMap::default(), ceiling, turned_away: 0 }
    }

    /// What becomes readable when there is something to hear.
    pub(super) fn socket(&self) -> &zmq::Socket {
        self.monitor.socket()
    }

    /// How many stand.
    pub(super) fn len(&self) -> usize {
        self.standing.len()
    }

    /// Takes how many were turned away since this was asked last.
    pub(super) fn take_turned_away(&mut self) -> u64 {
        std::mem::take(&mut self.turned_away)
    }

    /// Hears all that was said; `next` is the next number to be given. After this every connection that
    /// stands has its own descriptor. What is over is handed to `ended`.
    pub(super) fn follow(&mut self, next: Number, mut ended: impl FnMut(T)) {
        let mut too_many = Vec::new();
        while let Some(event) = self.monitor.next_event() {
            let before = match event {
                ConnectionEvent::Accepted(fd) => {
                    if fd >= self.ceiling {
                        too_many.push(fd);
                    }
                    let socket = tcp::duplicate(fd).ok();
                    let connection = Connection { first: next, socket, is_cut: false, owned: T::default() };
                    self.standing.insert(fd, connection)
                }
                ConnectionEvent::Ended(fd) => self.standing.remove(&fd),
            };
            if let Some(connection) = before {
                ended(connection.owned);
            }
        }
        for fd in too_many {
            self.turned_away += u64::from(self.standing.get_mut(&fd).is_some_and(Connection::cut));
        }
    }

    /// The connection with this descriptor and number, if it stood when [`Connections::follow`] was called.
    pub(super) fn find(&mut self, fd: RawFd, number: Number) -> Option<&mut Connection<T>> {
        self.standing.get_mut(&fd).filter(|connection| number >= connection.first)
    }

    /// All that stood when [`Connections::follow`] was called.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection<T>> {
        self.standing.values_mut()
    }
}
