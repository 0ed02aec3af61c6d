//! Why shards cannot start.

use std::{io, net::SocketAddr};

use super::probe::UringRefusal;

/// The shards could not be started; nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Somebody listens there already.
    #[error("cannot listen on {address}: it is in use; stop what listens there or choose another address")]
    AddressInUse {
        /// Where.
        address: SocketAddr,
    },
    /// The system does not let us listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// io_uring was demanded and is refused.
    #[error("io_uring cannot be used here: {0}; allow it, or choose the I/O mode `epoll` or `auto`")]
    UringRefused(UringRefusal),
    /// A shard lacks something of the system.
    #[error("shard {shard} cannot start: {context}: {source}")]
    Shard {
        /// Which shard.
        shard: u16,
        /// What it wanted.
        context: &'static str,
        /// What the system says.
        source: io::Error,
    },
}
