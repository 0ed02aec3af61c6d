//! Where channels live.

use std::net::IpAddr;

use webrocket_wire::ChannelName;

use crate::{ids::ShardId, vhost::VhostId};

/// The one place that knows which shard owns a channel.
///
/// The same in every shard and in the control thread. The hash is keyed by the node's seed, so
/// that nobody outside can aim at one shard by his choice of names.
#[derive(Debug, Clone)]
pub struct Directory {
    shards: u16,
    hash: ahash::RandomState,
}

impl Directory {
    /// A directory of `shards` shards, at least one.
    #[must_use]
    pub fn new(shards: u16, seed: u64) -> Self {
        assert!(shards > 0, "a node has at least one shard");
        Self { shards, hash: ahash::RandomState::with_seeds(seed, 0, 0, 0) }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// What the exchange is called among the shards: the number after the last one.
    #[must_use]
    pub fn exchange(&self) -> ShardId {
        ShardId(self.shards)
    }

    /// The shard that owns `channel` of `vhost`.
    #[must_use]
    pub fn owner(&self, vhost: VhostId, channel: &ChannelName) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        self.shard_of(self.hash.hash_one((vhost, channel)))
    }

    /// The shard that counts the connections of `vhost` from `address`.
    #[must_use]
    pub fn counter(&self, vhost: VhostId, address: IpAddr) -> ShardId {
        self.shard_of(self.hash.hash_one((vhost, address)))
    }

    fn shard_of(&self, hash: u64) -> ShardId {
        ShardId(u16::try_from(hash % u64::from(self.shards)).expect("below the number of shards"))
    }
}
