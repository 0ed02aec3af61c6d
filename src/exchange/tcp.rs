//! What the kernel tells of a connection, and how one is cut.

use std::{
    io,
    mem::{MaybeUninit, offset_of},
    net::Shutdown,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use socket2::SockRef;

/// The beginning of the kernel's `struct tcp_info`, up to what we want of it.
#[repr(C)]
struct TcpInfo {
    others: [u8; 128],
    bytes_received: u64,
}

/// A descriptor of our own for the connection behind `fd`.
///
/// # Errors
/// `fd` is closed by now, or no descriptor is left.
pub(super) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers; a descriptor that is closed by now is an error.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// How many bytes the peer has sent, if the kernel tells.
pub(super) fn bytes_received(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut info = MaybeUninit::<TcpInfo>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<TcpInfo>()).expect("a small constant");
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
    let wanted = offset_of!(TcpInfo, bytes_received) + size_of::<u64>();
    // SAFETY: it was zeroed, and any bytes are numbers.
    (result == 0 && length as usize >= wanted).then(|| unsafe { info.assume_init() }.bytes_received)
}

/// Cuts the connection: both sides see its end, whoever still holds its descriptors.
pub(super) fn cut(socket: BorrowedFd<'_>) {
    // It can only fail where there is no connection any more.
    let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
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
        assert_eq!(bytes_received(stream.as_fd()), Some(0));
        peer.write_all(&[0; 1000]).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
        let copy = duplicate(stream.as_raw_fd()).unwrap();
        assert_eq!(bytes_received(copy.as_fd()), Some(1000));
        cut(copy.as_fd());
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        assert!(duplicate(-1).is_err());
    }
}
