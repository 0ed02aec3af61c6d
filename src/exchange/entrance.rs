//! The two sockets that backends connect to, by name.

/// Which of the two sockets a connection is for; its name is the one that libzmq asks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    /// Clients and workers.
    Exchange,
    /// Streams.
    Stream,
}

impl Entrance {
    /// As libzmq names it when it asks whom to let in.
    pub(super) const fn domain(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Stream => "stream",
        }
    }
}
