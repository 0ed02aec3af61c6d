//! Wakes a thread that polls descriptors.

use std::{
    io::{Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
};

/// A pair of sockets: one thread waits for the descriptor, any other rings.
pub(crate) struct Bell {
    listening: UnixStream,
    ringing: UnixStream,
}

impl Bell {
    /// # Panics
    /// The process has no descriptors left.
    pub(crate) fn new() -> Self {
        let (listening, ringing) = UnixStream::pair().expect("a pair of sockets for the worker's bell");
        for side in [&listening, &ringing] {
            side.set_nonblocking(true).expect("a socket can be made non-blocking");
        }
        Self { listening, ringing }
    }

    pub(crate) fn ring(&self) {
        // If its buffer is full, it has been rung often enough.
        let _ = (&self.ringing).write(b"!");
    }

    pub(crate) fn silence(&self) {
        let mut heard = [0; 64];
        while (&self.listening).read(&mut heard).is_ok_and(|count| count > 0) {}
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.listening.as_raw_fd()
    }
}
