//! Runs machines: one pinned host per shard, one epoll set each, queues between them.
//!
//! [`start`] binds one listener per shard to the same address, starts the shards' threads, and gives back
//! the ways in and out: a [`Mailbox`] into each shard, one channel with what they report and hand over,
//! and a [`Port`] for each party that takes part in the shards' queues from a thread of its own.
//! The machine decides everything; this module reads, sends, accepts and closes for it.
//!
//! | module | owns |
//! | --- | --- |
//! | `start` | the shards' threads and what they are given |
//! | `shard` | a turn: what happens between two sleeps, and the bounds on it |
//! | `host` | how a shard sleeps: glommio on io_uring, or a plain thread on epoll |
//! | `executor` | how a glommio executor is made |
//! | `poller`, `connections`, `listener`, `socket` | the epoll set and the sockets in it |
//! | `queues`, `mailbox`, `control`, `wake` | the ways between threads, all bounded |
//! | `probe` | whether io_uring can be used |
//! | `abort` | that a panic ends the process |
//! | `turns` | how long turns take |
//! | `affinity` | which CPU a shard is pinned to |
//! | `descriptors` | how many file descriptors there are, and which of them browsers may not take |
//!
//! Invariants: a turn never blocks; nothing ever blocks on a push; each connection belongs to one
//! shard until it is closed or handed over; a late event or action of a session that is gone finds
//! another generation and is ignored. There are no locks, and no TLS yet.

mod abort;
pub mod affinity;
mod connections;
mod control;
pub mod descriptors;
mod error;
mod executor;
mod host;
mod listener;
pub mod mailbox;
mod options;
mod poller;
mod probe;
mod queues;
mod sender;
mod shard;
mod socket;
mod start;
pub mod turns;
pub mod wake;

pub(crate) use abort::AbortOnPanic;
pub use error::DriverError;
pub use mailbox::{FromShard, HandOff, Mailbox};
pub use options::{DriverOptions, Io, IoMode};
pub use probe::UringRefusal;
pub use queues::Port;
pub use shard::Publish;
pub use start::{Running, Threads, start};
