//! The two hosts of a shard: a glommio executor on io_uring, and a plain thread on epoll.
//!
//! Both run the same [`Driver`] over the same epoll set and differ only in how they wait for it.
//! glommio 0.9 has no public call that waits for a file descriptor, but its streams arm a poll of
//! theirs when they are made: a stream over the epoll set that is read ends with `ENOTSOCK` as soon as
//! the set has events. It is made anew for each wait and never dropped, for the set is not its own.

use std::{
    future::poll_fn,
    mem::ManuallyDrop,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd},
    pin::Pin,
};

use futures_io::AsyncRead;
use glommio::{LocalExecutor, net::TcpStream};
use rustix::io::Errno;
use webrocket_state::Machine;

use super::{
    poller::Wait,
    shard::{Driver, Next},
};

/// Runs a shard to its end in this thread, sleeping in `epoll_wait`.
pub(super) fn run_on_epoll<M: Machine>(mut driver: Driver<M>) {
    loop {
        match driver.turn() {
            Next::Turn => driver.poll(Wait::No),
            Next::Sleep => driver.poll(Wait::Forever),
            Next::Stop => return,
        }
    }
}

/// Runs a shard to its end in `executor`.
pub(super) fn run_on_uring<M: Machine>(executor: &LocalExecutor, mut driver: Driver<M>) {
    executor.run(async move {
        loop {
            let next = driver.turn();
            if next == Next::Stop {
                return;
            }
            driver.poll(Wait::No);
            // Sleeping costs the executor half a dozen system calls, looking once more costs one.
            // With it, rings with IORING_SETUP_COOP_TASKRUN are no better than plain ones
            // (`cargo bench --bench receive`, a dozen runs in turn), so they stay plain.
            if next == Next::Turn {
                glommio::yield_if_needed().await;
            } else if !driver.has_events() {
                readable(driver.as_fd()).await;
                driver.poll(Wait::No);
            }
        }
    });
}

/// Waits until the epoll set has events.
async fn readable(epoll: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open for as long as it is borrowed. The stream never closes it, wherever this
    // function is left: it is never dropped. As the descriptor is no socket, nothing is read from it.
    let mut stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(epoll.as_raw_fd()) });
    let result = poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut [0])).await;
    debug_assert_eq!(
        result.err().and_then(|error| error.raw_os_error()),
        Some(Errno::NOTSOCK.raw_os_error())
    );
}
