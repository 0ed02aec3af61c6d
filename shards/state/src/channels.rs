//! The channels that a shard owns: who may know that they exist, and which shards listen.

use std::sync::Arc;

use rand::{RngExt, rngs::StdRng};
use smallvec::SmallVec;
use webrocket_wire::{ChannelKind, ChannelName, Position};

use crate::{
    command::ChannelInfo,
    encoding::{Encoding, Encodings},
    ids::{ChannelRef, SessionRef, ShardId},
    members::Members,
    slots::{ChannelSlot, Slots},
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
    pub audience: Tally<ShardId>,
    /// The encodings that this owner makes for somebody, and for how many sessions each.
    pub made: Tally<Encoding>,
    /// Who is present, on presence channels.
    pub members: Option<Box<Members>>,
    /// The last broadcast's.
    position: Position,
    count: Arc<crate::vhost::ChannelCount>,
}

/// How many sessions there are of each of a few sorts.
#[derive(Debug)]
pub struct Tally<K>(SmallVec<[(K, u64); 1]>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<K: Copy + Eq> Tally<K> {
    fn add(&mut self, sort: K) {
        match self.0.iter_mut().find(|(known, _)| *known == sort) {
            Some((_, sessions)) => *sessions += 1,
            None => self.0.push((sort, 1)),
        }
    }

    fn remove(&mut self, sort: K) {
        let index = self.0.iter().position(|(known, _)| *known == sort);
        let index = index.expect("whoever leaves was counted when he joined");
        self.0[index].1 -= 1;
        if self.0[index].1 == 0 {
            self.0.swap_remove(index);
        }
    }

    /// The sorts of which there are sessions.
    pub fn sorts(&self) -> impl Iterator<Item = K> {
        self.0.iter().map(|(sort, _)| *sort)
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, sessions)| sessions).sum()
    }
}

/// The channels that a shard owns.
#[derive(Debug)]
pub struct Channels {
    slots: Slots<ChannelSlot, Channel>,
    by_key: hashbrown::HashMap<ChannelKey, ChannelRef, ahash::RandomState>,
    encodings: Encodings,
    epochs: StdRng,
}

/// The vhost has as many channels as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimit;

impl Channels {
    /// None yet; `epochs` is what their epochs are drawn from.
    #[must_use]
    pub fn new(encodings: Encodings, epochs: StdRng) -> Self {
        Self { slots: Slots::default(), by_key: hashbrown::HashMap::default(), encodings, epochs }
    }

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

    /// Makes a channel that does not exist, in an epoch of its own.
    ///
    /// # Errors
    /// [`ChannelLimit`]
    pub fn create(
        &mut self,
        vhost: &Vhost,
        name: ChannelName,
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
            audience: Tally::default(),
            made: Tally::default(),
            members,
            position: Position { epoch: self.epochs.random(), offset: 0 },
            count: Arc::clone(&vhost.channels),
        });
        let channel = ChannelRef { slot, generation };
        let before = self.by_key.insert(key, channel);
        assert!(before.is_none(), "a channel was made twice");
        Ok(channel)
    }

    /// A session of `shard` subscribes, and receives in `encoding`.
    pub fn join(&mut self, channel: ChannelRef, shard: ShardId, encoding: Encoding) {
        let is_costly = self.encodings.is_costly(encoding);
        let Some(entry) = self.entry(channel) else { return };
        entry.audience.add(shard);
        if is_costly {
            entry.made.add(encoding);
        }
    }

    /// A subscription of `shard` is over.
    pub fn leave(&mut self, channel: ChannelRef, shard: ShardId, encoding: Encoding) {
        let is_costly = self.encodings.is_costly(encoding);
        let Some(entry) = self.entry(channel) else { return };
        entry.audience.remove(shard);
        if is_costly {
            entry.made.remove(encoding);
        }
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
            subscribers: self.audience.total(),
            members: None,
        }
    }

    /// The same with all its members.
    #[must_use]
    pub fn info(&self) -> ChannelInfo {
        ChannelInfo { members: self.members.as_ref().map(|members| members.all()), ..self.summary() }
    }
}
