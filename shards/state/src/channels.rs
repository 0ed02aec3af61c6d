//! The channels that a shard owns: who may know that they exist, and which shards listen.

use std::sync::Arc;

use webrocket_wire::{ChannelKind, ChannelName, Position};

use crate::{
    members::Members,
    message::{ChannelInfo, ChannelRef, SessionRef, ShardId},
    slots::Slots,
    vhost::{Vhost, VhostId},
};

/// What a channel is found by.
pub type ChannelKey = (VhostId, ChannelName);

/// A channel at its owner.
#[derive(Debug)]
pub struct Channel {
    /// Its vhost and name.
    pub key: ChannelKey,
    /// Whether it was opened explicitly; otherwise it goes with its last subscriber.
    pub opened: bool,
    /// The shards with subscribers, and how many each has.
    pub audience: Vec<(ShardId, u64)>,
    /// Who is present, on presence channels.
    pub members: Option<Box<Members>>,
    /// The last broadcast's.
    position: Position,
    count: Arc<crate::vhost::ChannelCount>,
}

/// The channels that a shard owns.
#[derive(Debug, Default)]
pub struct Channels {
    slots: Slots<Channel>,
    by_key: hashbrown::HashMap<ChannelKey, ChannelRef, ahash::RandomState>,
}

/// The vhost has as many channels as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimit;

impl Channels {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The channel of that name.
    #[must_use]
    pub fn find(&self, key: &ChannelKey) -> Option<ChannelRef> {
        self.by_key.get(key).copied()
    }

    /// The channel, unless it is closed.
    pub fn entry(&mut self, channel: ChannelRef) -> Option<&mut Channel> {
        self.slots.entry(channel.slot, channel.generation)
    }

    /// Makes a channel that does not exist. `epoch` is drawn at random.
    ///
    /// # Errors
    /// [`ChannelLimit`]
    pub fn create(
        &mut self,
        vhost: &Vhost,
        name: ChannelName,
        epoch: u64,
        opened: bool,
    ) -> Result<ChannelRef, ChannelLimit> {
        if !vhost.channels.reserve(vhost.settings.channels_max) {
            return Err(ChannelLimit);
        }
        let members = (name.kind() == ChannelKind::Presence).then(Box::default);
        let key = (vhost.id, name);
        let (slot, generation) = self.slots.insert(Channel {
            key: key.clone(),
            opened,
            audience: Vec::new(),
            members,
            position: Position { epoch, offset: 0 },
            count: Arc::clone(&vhost.channels),
        });
        let channel = ChannelRef { slot, generation };
        let before = self.by_key.insert(key, channel);
        assert!(before.is_none(), "a channel was made twice");
        Ok(channel)
    }

    /// Removes a channel.
    pub fn remove(&mut self, channel: ChannelRef) -> Channel {
        let removed = self.slots.remove(channel.slot, channel.generation).expect("an open channel");
        self.by_key.remove(&removed.key);
        removed.count.release();
        removed
    }

    /// Whether a session is a member of a presence channel of that name, in any vhost.
    #[must_use]
    pub fn has_member(&self, session: SessionRef, name: &str) -> bool {
        let named = self.by_key.iter().filter(|((_, of), _)| of.as_str() == name);
        let mut members = named.filter_map(|(_, channel)| self.slots[channel.slot].members.as_ref());
        members.any(|members| members.has(session))
    }

    /// The channels of a vhost, by name.
    #[must_use]
    pub fn of_vhost(&self, vhost: VhostId) -> Vec<(ChannelName, ChannelRef)> {
        let mut found: Vec<_> = self
            .by_key
            .iter()
            .filter(|((of, _), _)| *of == vhost)
            .map(|((_, name), channel)| (name.clone(), *channel))
            .collect();
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found
    }
}

impl Channel {
    /// A session of `shard` subscribes.
    pub fn join(&mut self, shard: ShardId) {
        match self.audience.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, sessions)) => *sessions += 1,
            None => self.audience.push((shard, 1)),
        }
    }

    /// A subscription of `shard` is over.
    pub fn leave(&mut self, shard: ShardId) {
        let index = self
            .audience
            .iter()
            .position(|(known, _)| *known == shard)
            .expect("a shard leaves only what it joined");
        self.audience[index].1 -= 1;
        if self.audience[index].1 == 0 {
            self.audience.swap_remove(index);
        }
    }

    /// The position of the broadcast that comes now.
    pub fn next_position(&mut self) -> Position {
        self.position.offset += 1;
        self.position
    }

    /// Whether the channel is to be removed now.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.opened && self.audience.is_empty()
    }

    /// The channel as operators and backends see it in lists.
    #[must_use]
    pub fn summary(&self) -> ChannelInfo {
        ChannelInfo {
            name: self.key.1.clone(),
            opened: self.opened,
            subscribers: self.audience.iter().map(|(_, sessions)| sessions).sum(),
            members: None,
        }
    }

    /// The same with all its members.
    #[must_use]
    pub fn info(&self) -> ChannelInfo {
        ChannelInfo { members: self.members.as_ref().map(|members| members.all()), ..self.summary() }
    }
}
