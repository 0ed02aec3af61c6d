//! One connection: its socket, how far its opening is, and the bytes that wait on either side.
//!
//! Never blocks. Reads into a buffer that all connections share and keeps only the incomplete rest; what the socket
//! does not take at once is kept until it does. Knows nothing of epoll and of what the messages mean.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Which connection: they count from 0 in the order of their opening, and the number of one that has ended
/// is given to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u32);

impl ConnectionId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "connection {}", self.0)
    }
}

/// How far a connection's opening is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// TCP is connecting.
    Connecting,
    /// The request is sent, the answer is not complete.
    Handshaking,
    /// Frames flow.
    Open,
    /// A close frame is sent; the server's end is awaited.
    Closing,
}

/// How many source addresses connections to this machine are spread over.
const SOURCES: u32 = 64;

/// The source address for a connection to this machine: 127.0.0.2 and so on, in turn.
///
/// One address has some 28,000 ephemeral ports, and finding a free one among them costs more than all the rest of a
/// connect from a few thousand connections on.
pub(crate) fn source_address(connection: ConnectionId) -> Ipv4Addr {
    let [.., last] = (2 + connection.0 % SOURCES).to_be_bytes();
    Ipv4Addr::new(127, 0, 0, last)
}

pub(crate) struct Connection {
    socket: TcpStream,
    pub(crate) stage: Stage,
    /// The beginning of a frame (or of the handshake's answer) whose rest has not come yet.
    kept: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
}

impl Connection {
    /// Begins to connect to `target`, from `source` if one is given.
    pub(crate) fn begin(target: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            let one: libc::c_int = 1;
            // SAFETY: the descriptor is open, and the kernel only reads the int during the call.
            let result = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::IPPROTO_IP,
                    libc::IP_BIND_ADDRESS_NO_PORT,
                    (&raw const one).cast(),
                    size_of_val(&one) as libc::socklen_t,
                )
            };
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
            socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
        }
        match socket.connect(&target.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let (kept, unsent) = (Vec::new(), Vec::new());
        Ok(Self { socket: socket.into(), stage: Stage::Connecting, kept, unsent })
    }

    /// Lets the socket be reset instead of closed when it is dropped.
    pub(crate) fn reset(&self) -> io::Result<()> {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO))
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The result of the pending connect, once the socket is writable.
    pub(crate) fn connected(&self) -> io::Result<()> {
        self.socket.take_error()?.map_or(Ok(()), Err)
    }

    /// Reads what has come into `buffer`, behind what was kept. Returns how many bytes now stand there, kept ones
    /// included; `None` when nothing new has come.
    ///
    /// The buffer grows when the kept bytes would leave little room. The caller gives back, with [`Self::keep`],
    /// what it could not use.
    ///
    /// # Errors
    /// The socket's; [`io::ErrorKind::UnexpectedEof`] when the peer has closed it.
    pub(crate) fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let kept = self.kept.len();
        if buffer.len() < 2 * kept {
            buffer.resize(2 * kept, 0);
        }
        let received = match self.socket.read(&mut buffer[kept..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        buffer[..kept].copy_from_slice(&self.kept);
        self.kept.clear();
        Ok(Some(kept + received))
    }

    /// Keeps `rest` until more comes.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.kept.extend_from_slice(rest);
    }

    /// Sends `bytes`, behind what is still unsent. Returns whether the socket took everything.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let taken = if self.unsent.is_empty() { write_some(&self.socket, bytes)? } else { 0 };
        self.unsent.extend_from_slice(&bytes[taken..]);
        Ok(self.unsent.is_empty())
    }

    /// Sends what is still unsent. Returns whether the socket took everything.
    pub(crate) fn send_rest(&mut self) -> io::Result<bool> {
        let taken = write_some(&self.socket, &self.unsent)?;
        self.unsent.drain(..taken);
        Ok(self.unsent.is_empty())
    }
}

/// Writes as much of `bytes` as the socket takes.
fn write_some(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match socket.write(&bytes[taken..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_take_turns() {
        assert_eq!(source_address(ConnectionId(0)), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(source_address(ConnectionId(63)), Ipv4Addr::new(127, 0, 0, 65));
        assert_eq!(source_address(ConnectionId(64)), Ipv4Addr::new(127, 0, 0, 2));
    }
}
