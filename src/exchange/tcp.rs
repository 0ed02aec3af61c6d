//! What the kernel tells of a connection, and how one is cut.

use std::{
    io,
    mem::{MaybeUninit, offset_of},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use libc::tcp_info;
use rustix::net::{Shutdown, shutdown};

/// How much has gone over a connection, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traffic {
    /// The peer's kernel has what we sent.
    pub(super) acknowledged: u64,
    /// Our kernel has what the peer sent.
    pub(super) received: u64,
}

/// A descriptor of our own for what stands behind the number `fd`.
///
/// libzmq owns the descriptor of that number and closes it without asking. Then the number is nobody's, or already
/// that of another file of this process. Who calls this must therefore hear from libzmq afterwards that the connection
/// still stands, or drop the copy unused: see [`Connections::follow`](super::connections::Connections::follow).
///
/// # Errors
/// `fd` is closed by now, or no descriptor is left.
pub(super) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers, and changes nothing of the file behind the number, whichever that is. A number that is
    // nobody's is an error. It is not borrowed as a `BorrowedFd`, for that would promise that it is open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// How much has gone over the connection, if the kernel tells.
pub(super) fn traffic(socket: BorrowedFd<'_>) -> Option<Traffic> {
    let mut info = MaybeUninit::<tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<tcp_info>()).expect("a small constant");
    // SAFETY: writes at most `length` bytes into a live value of that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let wanted = offset_of!(tcp_info, tcpi_bytes_received) + size_of::<u64>();
    // SAFETY: it was zeroed, and any bytes are numbers.
    let info = (result == 0 && length as usize >= wanted).then(|| unsafe { info.assume_init() })?;
    Some(Traffic { acknowledged: info.tcpi_bytes_acked, received: info.tcpi_bytes_received })
}

/// Cuts the connection: both sides see its end, whoever still holds its descriptors.
pub(super) fn cut(socket: BorrowedFd<'_>) {
    // It can only fail where there is no connection any more.
    let _ = shutdown(socket, Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    #[test]
    fn a_connection_tells_what_it_received_and_can_be_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(traffic(stream.as_fd()), Some(Traffic { acknowledged: 0, received: 0 }));
        stream.write_all(&[0; 500]).unwrap();
        peer.read_exact(&mut [0; 500]).unwrap();
        // What it says now acknowledges all that came before.
        peer.write_all(&[0; 1000]).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
        let copy = duplicate(stream.as_raw_fd()).unwrap();
        assert_eq!(traffic(copy.as_fd()), Some(Traffic { acknowledged: 500, received: 1000 }));
        cut(copy.as_fd());
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        assert!(duplicate(-1).is_err());
    }
}
