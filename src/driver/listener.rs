//! Listening sockets: one per shard on one address, so that the kernel spreads connections.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{descriptors, error::DriverError, socket};

/// Connections that wait to be accepted, per shard; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long a shard accepts nothing after only the file descriptors were left that are kept for
/// others, or none.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds one listener per shard to `address`. Port 0 lets the system choose one port for all.
///
/// # Errors
/// [`DriverError::AddressInUse`] if anyone listens there, also a process of the same user: the
/// kernel would let it share the port and give it part of our connections.
pub(super) fn bind_all(address: SocketAddr, shards: u16) -> Result<Vec<Listener>, DriverError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => DriverError::AddressInUse { address },
        _ => DriverError::Listen { address, source },
    };
    if address.port() != 0 {
        bind(address, false).map_err(failed)?;
    }
    let first = bind(address, true).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?.as_socket().expect("bound to an IP address");
    let mut sockets = vec![first];
    for _ in 1..shards {
        sockets.push(bind(bound, true).map_err(failed)?);
    }
    // Only now: a shard whose listener is missing would leave the others all connections.
    for socket in &sockets {
        socket.listen(BACKLOG).map_err(failed)?;
    }
    let ceiling = descriptors::ceiling();
    let listener = |socket: Socket| Listener {
        ceiling,
        is_full: false,
        socket: socket.into(),
        address: bound,
        has_waiting: false,
        paused_until: None,
    };
    Ok(sockets.into_iter().map(listener).collect())
}

fn bind(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One shard's listener.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    address: SocketAddr,
    /// The last event has not been used up.
    has_waiting: bool,
    /// Descriptors from this one on are not for browsers.
    ceiling: RawFd,
    /// The last connection got one of those.
    is_full: bool,
    paused_until: Option<Instant>,
}

impl Listener {
    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The kernel says that connections wait.
    pub(super) fn note_waiting(&mut self) {
        self.has_waiting = true;
    }

    /// Whether to come back at once.
    pub(super) fn is_busy(&self) -> bool {
        self.has_waiting && self.paused_until.is_none()
    }

    /// When to come back.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Accepts the next connection that waits. Running out of file descriptors, those not counted
    /// that are kept for others, pauses accepting and counts in `pauses`; the connections wait in
    /// the backlog.
    pub(super) fn accept(&mut self, now: Instant, pauses: &AtomicU64) -> Option<(OwnedFd, SocketAddr)> {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        while self.is_busy() {
            if self.is_full && !descriptors::is_one_free(self.socket.as_fd(), self.ceiling) {
                self.pause(now, pauses);
                return None;
            }
            let error = match socket::accept(self.socket.as_fd()) {
                Ok(accepted) => {
                    self.is_full = accepted.0.as_raw_fd() >= self.ceiling;
                    return Some(accepted);
                }
                Err(error) => error,
            };
            match error {
                Errno::AGAIN => self.has_waiting = false,
                Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => self.pause(now, pauses),
                // The connection died while it waited: accept(2) passes its error on.
                _ => {}
            }
        }
        None
    }
}

impl Listener {
    fn pause(&mut self, now: Instant, pauses: &AtomicU64) {
        self.paused_until = Some(now + PAUSE);
        pauses.fetch_add(1, Ordering::Relaxed);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_refused_though_the_port_could_be_shared() {
        let address = "127.0.0.1:0".parse().unwrap();
        let held = bind_all(address, 2).unwrap();
        assert_eq!(held[0].address(), held[1].address());
        let error = bind_all(held[0].address(), 1).unwrap_err();
        assert!(matches!(error, DriverError::AddressInUse { .. }), "{error}");
        let address = held[0].address();
        drop(held);
        bind_all(address, 3).unwrap();
    }
}
