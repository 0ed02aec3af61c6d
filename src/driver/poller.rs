//! One shard's epoll set.
//!
//! Everything a shard waits for stands in it, edge-triggered and registered once: its
//! connections, its listener, its [`Wake`](super::wake::Wake) and its [`Timer`]. So both hosts
//! wait for one file descriptor. Because of the edges neither the eventfd nor the timer is ever
//! read: each write and each expiry is an edge of its own.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
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
    flags: EventFlags,
}

impl Event {
    /// Whether a read would not block: bytes, the end of the stream, or an error.
    pub(super) fn is_readable(self) -> bool {
        self.flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }

    /// Whether a write would not block.
    pub(super) fn is_writable(self) -> bool {
        self.flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR)
    }

    /// Whether the end of the stream stands behind what can be read.
    pub(super) fn is_hangup(self) -> bool {
        self.flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
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

/// An epoll set.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// An empty set.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Registers `fd` for everything that can happen to it. What holds already is an event too.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token.to_data()), flags)?)
    }

    /// Takes `fd` out of the set: it will be used elsewhere. Closing does it too.
    pub(super) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Takes the next events, instead of those in `events`.
    pub(super) fn poll(&self, wait: Wait, events: &mut Events) {
        let timeout = match wait {
            Wait::No => Some(&Timespec { tv_sec: 0, tv_nsec: 0 }),
            Wait::Forever => None,
        };
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events.taken), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll_wait on our own set: {error}"),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// The events taken last. Stays in the thread that made it.
pub(super) struct Events {
    /// Never grows beyond its first capacity.
    taken: Vec<epoll::Event>,
}

impl Events {
    /// None, with room for those of a turn.
    pub(super) fn new() -> Self {
        Self { taken: Vec::with_capacity(EVENTS_PER_TURN) }
    }

    /// How many were taken.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether there may be more than were taken.
    pub(super) fn is_full(&self) -> bool {
        self.taken.len() == self.taken.capacity()
    }

    /// One of them.
    pub(super) fn at(&self, index: usize) -> Event {
        let event = self.taken[index];
        Event { token: Token::from_data(event.data.u64()), flags: event.flags }
    }

    /// Forgets them: they have been dealt with.
    pub(super) fn clear(&mut self) {
        self.taken.clear();
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
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { timer, set_to: None })
    }

    /// Fires at `deadline` or before.
    pub(super) fn set(&mut self, deadline: Instant) {
        if self.set_to.is_some_and(|set_to| set_to <= deadline) {
            return;
        }
        // A timer of 0 would not fire at all.
        let delay = deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = delay.try_into().unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let times = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &times).expect("our own timer is set");
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

    #[test]
    fn tokens_survive_the_kernel() {
        let session = Token::Session { slot: NO_SLOT - 1, generation: u32::MAX };
        for token in [session, Token::Listener, Token::Wake, Token::Timer] {
            assert_eq!(Token::from_data(token.to_data()), token);
        }
    }

    #[test]
    fn a_timer_fires_again_though_it_is_never_read() {
        let poller = Poller::new().unwrap();
        let mut events = Events::new();
        let mut timer = Timer::new().unwrap();
        poller.add(timer.as_fd(), Token::Timer).unwrap();
        // Ends the test where the other one does not fire.
        let mut patience = Timer::new().unwrap();
        patience.set(Instant::now() + Duration::from_secs(60));
        poller.add(patience.as_fd(), Token::Wake).unwrap();
        for _ in 0..3 {
            let deadline = Instant::now() + Duration::from_millis(2);
            timer.set(deadline + Duration::from_secs(60));
            timer.set(deadline);
            poller.poll(Wait::Forever, &mut events);
            assert_eq!(events.at(0).token, Token::Timer);
            assert!(Instant::now() >= deadline, "not early");
            timer.fired();
        }
        poller.poll(Wait::No, &mut events);
        assert_eq!(events.len(), 0);
    }
}
