//! What shards call each other, each other's sessions, their requests, and channels.

use crate::slots::{ChannelSlot, SessionSlot};

/// One shard of this process, counted from 0. The exchange takes part in what shards say to each
/// other under the number after the last one; see [`Directory::exchange`](crate::Directory::exchange).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Names a session. A late message to a session that is gone finds another generation and is
/// ignored, never misdelivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionRef {
    /// The shard that holds the session.
    pub shard: ShardId,
    /// Its slot there.
    pub slot: SessionSlot,
    /// Which session in that slot.
    pub generation: u32,
}

/// Names one request of a session, so that its answer finds its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestRef {
    /// The session that asked.
    pub session: SessionRef,
    /// Counted from 0 within the session, wrapping.
    pub number: u32,
}

/// Names a channel at its owner: quicker than by name, and a closed channel's late messages
/// reach no later channel of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelRef {
    /// The owner's slot.
    pub slot: ChannelSlot,
    /// Which channel in that slot.
    pub generation: u32,
}
