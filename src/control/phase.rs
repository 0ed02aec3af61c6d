//! A node's life: starting, ready, stopping.

/// Where the node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Shards are being told what the store holds.
    Starting,
    /// Everything stored is in effect.
    Ready,
    /// Sessions are being closed.
    Stopping,
}
