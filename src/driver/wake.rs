//! Waking a party that sleeps: one eventfd in its epoll set, written only if it sleeps.
//!
//! A shard never reads it: with edges each write is an event of its own. Who polls for levels
//! drains it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering, fence},
};

/// Wakes one party from any thread.
///
/// The party says that it is about to sleep ([`Wake::prepare`]), looks into its queues once
/// more, and only then sleeps. A sender pushes first and wakes then. Between the two stands a
/// full fence on both sides, so either the party sees the push or the sender sees the sleeper.
#[derive(Debug)]
pub struct Wake {
    event: OwnedFd,
    sleeping: AtomicBool,
}

impl Wake {
    /// Makes the eventfd.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { event, sleeping: AtomicBool::new(false) })
    }

    /// Says that the party is about to sleep. Its queues must be looked at after this.
    pub fn prepare(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the party is awake.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Wakes the party if it sleeps. To be called after the push, once for a batch.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            let one = 1u64.to_ne_bytes();
            // SAFETY: writes 8 bytes from a live array. The only failure is a counter at its
            // maximum, and then the shard is being woken already.
            unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    /// Makes the eventfd unreadable until the next wake; whether it was readable.
    pub fn drain(&self) -> bool {
        let mut count = [0; 8];
        // SAFETY: reads 8 bytes into a live array; the only failure is that there is nothing to read.
        let read = unsafe { libc::read(self.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        read > 0
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let wake = Wake::new().unwrap();
        let wakes = || {
            let mut count = [0; 8];
            // SAFETY: reads 8 bytes into a live array.
            let read = unsafe { libc::read(wake.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
            if read < 0 { 0 } else { u64::from_ne_bytes(count) }
        };
        wake.wake();
        assert_eq!(wakes(), 0, "awake");
        wake.prepare();
        wake.wake();
        wake.wake();
        assert_eq!(wakes(), 1);
        wake.prepare();
        wake.awake();
        wake.wake();
        assert_eq!(wakes(), 0, "it had not slept after all");
    }
    #[test]
    fn a_drained_wake_is_unreadable_until_the_next_one() {
        let wake = Wake::new().unwrap();
        for _ in 0..2 {
            assert!(!wake.drain());
            wake.prepare();
            wake.wake();
            assert!(wake.drain());
        }
    }
}
