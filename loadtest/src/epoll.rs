//! A level-triggered epoll set, the only place that speaks to epoll.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

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
    fn bits(self) -> u32 {
        (match self {
            Self::Read => libc::EPOLLIN | libc::EPOLLRDHUP,
            Self::Write => libc::EPOLLOUT,
            Self::ReadWrite => libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLOUT,
        }) as u32
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

pub(crate) struct Epoll {
    set: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// A set that reports at most `batch` sockets a wait.
    pub(crate) fn new(batch: usize) -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers; the result is checked before it is used.
        let set = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `set` is a fresh descriptor that nobody else owns.
        let set = unsafe { OwnedFd::from_raw_fd(set) };
        Ok(Self { set, events: vec![libc::epoll_event { events: 0, u64: 0 }; batch] })
    }

    /// Watches `socket`. Closing the socket takes it out of the set.
    pub(crate) fn add(&self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, interest)
    }

    /// Changes what to be told about a socket that was added before.
    pub(crate) fn change(&self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, token, interest)
    }

    fn control(
        &self,
        operation: libc::c_int,
        socket: BorrowedFd<'_>,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        // SAFETY: both descriptors are open (borrowed), and the kernel only reads `event` during the call.
        let result = unsafe {
            libc::epoll_ctl(self.set.as_fd().as_raw_fd(), operation, socket.as_raw_fd(), &raw mut event)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until a socket is ready, at most for `timeout`. Returns how many are; [`Self::ready`] tells which.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let room = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        // SAFETY: `events` is a valid array of at least `room` elements for the kernel to fill; the timeout is only
        // read, and there is no signal mask. The system call is called directly, for C libraries know it only lately.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.set.as_raw_fd(),
                self.events.as_mut_ptr(),
                room,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0,
            )
        };
        match usize::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// The `index`th of the sockets that the last wait reported.
    pub(crate) fn ready(&self, index: usize) -> Ready {
        let event = self.events[index];
        let bits = event.events;
        let gone = bits & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0;
        Ready {
            token: event.u64,
            readable: gone || bits & (libc::EPOLLIN | libc::EPOLLRDHUP) as u32 != 0,
            writable: gone || bits & libc::EPOLLOUT as u32 != 0,
        }
    }
}
