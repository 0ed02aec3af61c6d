//! Waking a party that sleeps: one eventfd in its epoll set, written only if it sleeps.
//!
//! A shard never reads it: with edges each write is an event of its own. Who polls for levels
//! drains it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering, fence},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::{read, write},
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
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
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
            // The only failure is a counter at its maximum, and then the shard is being woken already.
            let _ = write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Makes the eventfd unreadable until the next wake; whether it was readable.
    pub fn drain(&self) -> bool {
        // The only failure is that there is nothing to read.
        read(&self.event, &mut [0; 8]).is_ok()
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
            read(&wake.event, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
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
