//! The system calls on connections, all of them non-blocking.

use std::{
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::{Errno, Result, retry_on_intr},
    net::{self, RecvFlags, SendFlags, Shutdown, SocketFlags},
};

/// How bytes are sent: what the socket takes at once, and no signal where the peer is gone.
pub(super) const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Receives into `buffer`; 0 is the end of the stream.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(received, _)| received)
}

/// Sends as many of `bytes` as the socket takes, 0 if it is full.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    match retry_on_intr(|| net::send(socket, bytes, SEND_FLAGS)) {
        Err(Errno::AGAIN) => Ok(0),
        outcome => outcome,
    }
}

/// Sends FIN after all that has been sent.
pub(super) fn shut_down_write(socket: BorrowedFd<'_>) {
    // It fails where the peer is gone, and then reading tells.
    let _ = net::shutdown(socket, Shutdown::Write);
}

/// Accepts a connection, non-blocking and closed on exec.
pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddr)> {
    let (socket, peer) = net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| peer.try_into().ok()).ok_or(Errno::AFNOSUPPORT)?;
    Ok((socket, peer))
}
