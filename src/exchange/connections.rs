//! The connections of one socket that stand.
//!
//! libzmq names a connection by its descriptor, which is soon another one's. What tells them apart is
//! the connection's *number*, which it is given when it is let in and which stands in the `User-Id` of all
//! that it sends. Why a number and a descriptor together name one connection:
//!
//! - libzmq's one input and output thread says that a connection was accepted before it asks whether to
//!   let it in (`stream_listener_base_t::create_engine`: the handshake begins with the command that
//!   `send_attach` puts into this thread's own mailbox, which is read after `event_accepted`), and that it
//!   ended before it closes the descriptor (`stream_engine_base_t::error`: `event_disconnected` comes before
//!   `delete this`, whose destructor closes). A connection ends without that word only together with its
//!   socket (`session_base_t::~session_base_t`).
//! - What it said can be read when it has said it: `socket_base_t::monitor_event` sends within the call, and a
//!   `recv` that finds nothing looks into its mailbox first (`socket_base_t::recv`).
//! - Before a number is given, all that was said is heard. So a connection's number is at least as great as the
//!   next number was when its acceptance was heard, and one that had the same descriptor before, and
//!   had a number, had a smaller one: it was given before that connection ended.
//!
//! So a message whose number is smaller than its descriptor's connection may have comes from one that is over.
//!
//! A descriptor is copied when its acceptance is heard, and may be closed by then, or another file's. That it
//! ended was said before that, so it is heard before [`Connections::follow`] returns, and the copy is dropped
//! unused.
//!
//! The functions named are libzmq 4.3.4's, in the files of `src` that are called like their classes
//! (`stream_listener_base.cpp` and so on): the libzmq that is built along (`zeromq-src` 0.2.6) and Debian 12's.

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
    /// Cuts it. That it is over is heard like of any other.
    pub(super) fn cut(&mut self) {
        if let Some(socket) = &self.socket {
            tcp::cut(socket.as_fd());
        }
        self.is_cut = true;
    }

    /// Whether the server has cut it.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// How many bytes its peer has sent.
    pub(super) fn bytes_received(&self) -> u64 {
        self.traffic().map_or(0, |traffic| traffic.received)
    }

    /// How much has gone over it, if the kernel tells.
    pub(super) fn traffic(&self) -> Option<tcp::Traffic> {
        self.socket.as_ref().and_then(|socket| tcp::traffic(socket.as_fd()))
    }
}

/// All connections of one socket.
pub(super) struct Connections<T> {
    monitor: Monitor,
    standing: HashMap<RawFd, Connection<T>, ahash::RandomState>,
    /// From this descriptor on they are kept for others than backends.
    ceiling: RawFd,
    /// Connections that were cut and are over.
    cuts: u64,
}

impl<T: Default> Connections<T> {
    pub(super) fn new(monitor: Monitor, ceiling: RawFd) -> Self {
        Self { monitor, standing: HashMap::default(), ceiling, cuts: 0 }
    }

    /// What becomes readable when there is something to hear.
    pub(super) fn socket(&self) -> &zmq::Socket {
        self.monitor.socket()
    }

    /// How many stand.
    pub(super) fn len(&self) -> usize {
        self.standing.len()
    }

    /// Takes how many that had been cut were over since this was asked last.
    pub(super) fn take_cuts(&mut self) -> u64 {
        std::mem::take(&mut self.cuts)
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
                self.cuts += u64::from(connection.is_cut);
                ended(connection.owned);
            }
        }
        for fd in too_many {
            if let Some(connection) = self.standing.get_mut(&fd) {
                connection.cut();
            }
        }
    }

    /// The connection with this descriptor and number, if it stood when [`Connections::follow`] was called.
    pub(super) fn find(&mut self, fd: RawFd, number: Number) -> Option<&mut Connection<T>> {
        self.standing.get_mut(&fd).filter(|connection| number >= connection.first)
    }

    /// Cuts those of which `is_wrong`. To be called right after [`Connections::follow`].
    pub(super) fn cut_where(&mut self, is_wrong: impl Fn(&Connection<T>) -> bool) {
        for connection in self.standing.values_mut() {
            if !connection.is_cut && is_wrong(connection) {
                connection.cut();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::entrance::Entrance;
    use std::{
        net::{SocketAddr, TcpStream},
        os::fd::AsRawFd,
    };
    use zmq::{Context, POLLIN, Socket, SocketType};

    struct Entry {
        connections: Connections<u32>,
        address: SocketAddr,
        _socket: Socket,
    }

    impl Entry {
        fn open(ceiling: RawFd) -> Self {
            let context = Context::new();
            let socket = context.socket(SocketType::ROUTER).unwrap();
            let monitor = Monitor::new(&context, &socket, Entrance::Exchange).unwrap();
            socket.bind("tcp://127.0.0.1:*").unwrap();
            let endpoint = socket.get_last_endpoint().unwrap().unwrap();
            let address = endpoint.strip_prefix("tcp://").unwrap().parse().unwrap();
            Self { connections: Connections::new(monitor, ceiling), address, _socket: socket }
        }

        /// Follows until `len` connections stand; what those that are over owned.
        fn follow_until(&mut self, len: usize, next: u64) -> Vec<u32> {
            let mut ended = Vec::new();
            while self.connections.len() != len {
                assert_eq!(self.connections.socket().poll(POLLIN, 60_000), Ok(1), "nothing happens");
                self.connections.follow(Number(next), |owned| ended.push(owned));
            }
            ended
        }

        fn fd(&self) -> RawFd {
            *self.connections.standing.keys().next().unwrap()
        }
    }

    #[test]
    fn a_number_from_before_is_another_connections() {
        let mut entry = Entry::open(RawFd::MAX);
        let peer = TcpStream::connect(entry.address).unwrap();
        assert!(entry.follow_until(1, 7).is_empty());
        let fd = entry.fd();
        assert!(entry.connections.find(fd, Number(6)).is_none());
        entry.connections.find(fd, Number(7)).unwrap().owned = 19;
        assert!(entry.connections.find(fd, Number(8)).is_some());
        assert!(entry.connections.find(fd + 1, Number(8)).is_none());
        drop(peer);
        assert_eq!(entry.follow_until(0, 9), [19]);
        assert!(entry.connections.find(fd, Number(8)).is_none());
        assert_eq!(entry.connections.take_cuts(), 0);
    }

    #[test]
    fn who_is_cut_is_over_and_counted_once() {
        let mut entry = Entry::open(RawFd::MAX);
        let _peer = TcpStream::connect(entry.address).unwrap();
        entry.follow_until(1, 0);
        entry.connections.cut_where(|connection| connection.bytes_received() > 0);
        let fd = entry.fd();
        assert!(!entry.connections.find(fd, Number(0)).unwrap().is_cut());
        entry.connections.cut_where(|connection| connection.bytes_received() == 0);
        entry.follow_until(0, 0);
        assert_eq!((entry.connections.take_cuts(), entry.connections.take_cuts()), (1, 0));
    }

    #[test]
    fn nobody_gets_a_descriptor_that_is_kept_for_others() {
        let lowest = TcpStream::connect(Entry::open(RawFd::MAX).address).unwrap().as_raw_fd();
        let mut entry = Entry::open(lowest);
        let _peer = TcpStream::connect(entry.address).unwrap();
        entry.follow_until(1, 0);
        entry.follow_until(0, 0);
        assert_eq!(entry.connections.take_cuts(), 1);
    }
}
