//! How to run shards.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::{probe::UringRefusal, shard::Publish};

/// Which host shall run the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoMode {
    /// io_uring where it can be used, epoll elsewhere.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// Plain threads on epoll.
    Epoll,
}

/// Which host runs the shards.
#[derive(Debug)]
pub enum Io {
    /// glommio executors on io_uring.
    Uring,
    /// Plain threads on epoll; if io_uring would have been preferred, why it is not used.
    Epoll(Option<UringRefusal>),
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uring => f.write_str("io_uring"),
            Self::Epoll(None) => f.write_str("epoll"),
            Self::Epoll(Some(refusal)) => write!(f, "epoll, since io_uring cannot be used here: {refusal}"),
        }
    }
}

/// How to run shards.
#[derive(Clone)]
pub struct DriverOptions {
    /// Where to listen. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// How many shards, at least one.
    pub shards: u16,
    /// Which host.
    pub io: IoMode,
    /// Whether to pin each shard to a CPU of the inherited affinity mask.
    pub pin: bool,
    /// How many parties beside the shards take part in the queues, each in a thread of its own.
    pub further_parties: u16,
    /// Messages that may wait from one party to another. Full: they wait in the sender's machine.
    pub queue_capacity: usize,
    /// Commands that may wait for one shard. Full: [`Mailbox::try_send`] gives the command back.
    pub mailbox_capacity: usize,
    /// Reports and hand-offs of all shards that may wait for the control thread. Full: they wait in the shards.
    pub report_capacity: usize,
    /// Gets each shard's figures after each of its turns, in the shard's thread.
    pub publish: Publish,
}

impl DriverOptions {
    /// The defaults for `shards` shards that listen on `listen`: pinned, and nobody gets the figures.
    #[must_use]
    pub fn new(listen: SocketAddr, shards: u16) -> Self {
        Self {
            listen,
            shards,
            io: IoMode::Auto,
            pin: true,
            further_parties: 0,
            queue_capacity: 4096,
            mailbox_capacity: 1024,
            report_capacity: 4096,
            publish: Arc::new(|_, _| {}),
        }
    }
}

impl fmt::Debug for DriverOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverOptions")
            .field("listen", &self.listen)
            .field("shards", &self.shards)
            .field("io", &self.io)
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}
