//! One shard's epoll set.
//!
//! Everything a shard waits for stands in it, edge-triggered and registered once: its
//! connections, its listener, its [`Wake`](super::wake::Wake) and its [`Timer`]. So both hosts
//! wait for one file descriptor. Because of the edges neither the eventfd nor the timer is ever
//! read: each write and each expiry is an edge of its own.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Instant,
};

/// The most events that one turn takes.
const EVENTS_PER_TURN: usize = 1024;

/// What stands behind a registered file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// A connection. The generation tells a late event of a closed one from its successor's.
    Session {
        /// The machine's slot.
        slot: u32,
        /// Which session in that slot.
        generation: u32,
    },
    /// New connections wait.
    Listener,
    /// Another thread put something into a queue.
    Wake,
    /// A deadline is reached.
    Timer,
}

/// The slot that no session has; with it, the generation tells the other tokens apart.
const NO_SLOT: u32 = u32::MAX;

impl Token {
    fn to_data(self) -> u64 {
        let (slot, generation) = match self {
            Self::Session { slot, generation } => {
                assert_ne!(slot, NO_SLOT, "a machine has fewer slots");
                (slot, generation)
            }
            Self::Listener => (NO_SLOT, 0),
            Self::Wake => (NO_SLOT, 1),
            Self::Timer => (NO_SLOT, 2),
        };
        u64::from(generation) << 32 | u64::from(slot)
    }

    fn from_data(data: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        match (data as u32, (data >> 32) as u32) {
            (NO_SLOT, 0) => Self::Listener,
            (NO_SLOT, 1) => Self::Wake,
            (NO_SLOT, _) => Self::Timer,
            (slot, generation) => Self::Session { slot, generation },
        }
    }
}

/// What happened to a registered file descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) token: Token,
    flags: u32,
}

impl Event {
    /// Whether a read would not block: bytes, the end of the stream, or an error.
    pub(super) fn is_readable(self) -> bool {
        self.has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// Whether a write would not block.
    pub(super) fn is_writable(self) -> bool {
        self.has(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// Whether the end of the stream stands behind what can be read.
    pub(super) fn is_hangup(self) -> bool {
        self.has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR)
    }

    fn has(self, flags: libc::c_int) -> bool {
        self.flags & flags.cast_unsigned() != 0
    }
}

/// Whether to wait for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Take what there is.
    No,
    /// Sleep until there is something.
    Forever,
}

/// An epoll set and the events taken from it last.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Box<[libc::epoll_event]>,
    taken: usize,
}

impl Poller {
    /// An empty set.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_TURN];
        Ok(Self { epoll, events: events.into_boxed_slice(), taken: 0 })
    }

    /// Registers `fd` for everything that can happen to it. What holds already is an event too.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let flags = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: flags.cast_unsigned(), u64: token.to_data() };
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event)
    }

    /// Takes `fd` out of the set: it will be used elsewhere. Closing does it too.
    pub(super) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut unused = libc::epoll_event { events: 0, u64: 0 };
        self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), &mut unused)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, event: &mut libc::epoll_event) -> io::Result<()> {
        // SAFETY: both descriptors are open, `event` is a live structure.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes the next events, instead of those taken before.
    pub(super) fn poll(&mut self, wait: Wait) {
        let timeout = match wait {
            Wait::No => 0,
            Wait::Forever => -1,
        };
        let room = libc::c_int::try_from(self.events.len()).expect("a small constant");
        // SAFETY: the buffer is live and has room for `room` events.
        let taken =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, timeout) };
        self.taken = usize::try_from(taken).unwrap_or_else(|_| {
            let error = io::Error::last_os_error();
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "epoll_wait on our own set: {error}");
            0
        });
    }

    /// How many events were taken last.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Whether there may be more events than were taken.
    pub(super) fn was_full(&self) -> bool {
        self.taken == self.events.len()
    }

    /// One of the events taken last.
    pub(super) fn event(&self, index: usize) -> Event {
        let event = self.events[..self.taken][index];
        Event { token: Token::from_data(event.u64), flags: event.events }
    }

    /// Forgets the events taken last: they have been dealt with.
    pub(super) fn clear(&mut self) {
        self.taken = 0;
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// A timerfd that is set only when a deadline comes nearer; one that moves away costs an early
/// wake-up instead of a system call a turn.
#[derive(Debug)]
pub(super) struct Timer {
    timer: OwnedFd,
    set_to: Option<Instant>,
}

impl Timer {
    /// A timer that is not set.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: timerfd_create takes no pointers; the result is checked.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Self { timer: unsafe { OwnedFd::from_raw_fd(fd) }, set_to: None })
    }

    /// Fires at `deadline` or before.
    pub(super) fn set(&mut self, deadline: Instant) {
        if self.set_to.is_some_and(|set_to| set_to <= deadline) {
            return;
        }
        // A timer of 0 would not fire at all.
        let delay = deadline.saturating_duration_since(Instant::now()).as_nanos().max(1);
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let specification = libc::itimerspec {
            it_interval: never,
            it_value: libc::timespec {
                tv_sec: libc::time_t::try_from(delay / 1_000_000_000).unwrap_or(libc::time_t::MAX),
                tv_nsec: libc::c_long::try_from(delay % 1_000_000_000).expect("below a billion"),
            },
        };
        // SAFETY: the descriptor is ours, the specification is live, no old value is asked for.
        let result = unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), 0, &raw const specification, std::ptr::null_mut())
        };
        assert_eq!(result, 0, "timerfd_settime on our own timer: {}", io::Error::last_os_error());
        self.set_to = Some(deadline);
    }

    /// The timer fired: it is set no more.
    pub(super) fn fired(&mut self) {
        self.set_to = None;
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn tokens_survive_the_kernel() {
        let session = Token::Session { slot: NO_SLOT - 1, generation: u32::MAX };
        for token in [session, Token::Listener, Token::Wake, Token::Timer] {
            assert_eq!(Token::from_data(token.to_data()), token);
        }
    }

    #[test]
    fn a_timer_fires_again_though_it_is_never_read() {
        let mut poller = Poller::new().unwrap();
        let mut timer = Timer::new().unwrap();
        poller.add(timer.as_fd(), Token::Timer).unwrap();
        for _ in 0..3 {
            let deadline = Instant::now() + Duration::from_millis(2);
            timer.set(deadline + Duration::from_secs(60));
            timer.set(deadline);
            poller.poll(Wait::Forever);
            assert_eq!(poller.event(0).token, Token::Timer);
            assert!(Instant::now() >= deadline, "not early");
            timer.fired();
        }
        poller.poll(Wait::No);
        assert_eq!(poller.taken(), 0);
    }
}
