//! A level-triggered epoll set, the only place that speaks to epoll.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What to be told about a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes have come, or the peer is gone.
    Read,
    /// There is room for bytes (a pending connect counts as no room), or the peer is gone.
    Write,
    /// Both.
    ReadWrite,
}

impl Interest {
    fn flags(self) -> EventFlags {
        let read = EventFlags::IN | EventFlags::RDHUP;
        match self {
            Self::Read => read,
            Self::Write => EventFlags::OUT,
            Self::ReadWrite => read | EventFlags::OUT,
        }
    }
}

/// One socket's readiness. Errors and hang-ups count as both: the next call on the socket tells the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// The number that the socket was added with.
    pub(crate) token: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// How many sockets a wait reports at most.
const READY_MAX: usize = 1024;

pub(crate) struct Epoll {
    set: OwnedFd,
    /// What the last wait reported.
    ready: Vec<Ready>,
}

impl Ready {
    fn of(event: Event) -> Self {
        let Event { flags, data } = event;
        let gone = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        Self {
            token: data.u64(),
            readable: gone || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
            writable: gone || flags.contains(EventFlags::OUT),
        }
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { set: epoll::create(CreateFlags::CLOEXEC)?, ready: Vec::with_capacity(READY_MAX) })
    }

    /// Watches `socket`. Closing the socket takes it out of the set.
    pub(crate) fn add(&self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.set, socket, EventData::new_u64(token), interest.flags())?)
    }

    /// Changes what to be told about a socket that was added before.
    pub(crate) fn change(&self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.set, socket, EventData::new_u64(token), interest.flags())?)
    }

    /// Waits until a socket is ready, at most for `timeout`. Returns how many are; [`Self::ready`] tells which.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        if self.take()? == 0 && !timeout.is_zero() {
            // ppoll waits to the nanosecond; epoll does so on new kernels only.
            let timeout = Timespec {
                tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: timeout.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.set, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => drop(self.take()?),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.ready.len())
    }

    /// Takes what is ready now.
    fn take(&mut self) -> io::Result<usize> {
        let mut room = [const { MaybeUninit::uninit() }; READY_MAX];
        let events = match epoll::wait(&self.set, &mut room[..], Some(&Timespec::default())) {
            Ok((events, _)) => &*events,
            Err(Errno::INTR) => &[],
            Err(error) => return Err(error.into()),
        };
        self.ready.clear();
        self.ready.extend(events.iter().copied().map(Ready::of));
        Ok(self.ready.len())
    }

    /// The `index`th of the sockets that the last wait reported.
    pub(crate) fn ready(&self, index: usize) -> Ready {
        self.ready[index]
    }
}
