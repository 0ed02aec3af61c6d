//! The channels that a shard owns: who may know that they exist, which shards listen, who is present.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use webrocket_wire::{ChannelKind, ChannelName};

use crate::{
    message::{ChannelInfo, ChannelRef, Present, ShardId},
    slots::Slots,
    vhost::{Vhost, VhostId},
};

/// The most members that a list names.
pub const PRESENT_MAX: usize = 1000;

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

    /// Makes a channel that does not exist.
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
            audience: Vec::new(),
            members,
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

    /// Whether the channel is to be removed now.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.opened && self.audience.is_empty()
    }

    /// The channel as operators see it.
    #[must_use]
    pub fn info(&self) -> ChannelInfo {
        ChannelInfo {
            name: self.key.1.clone(),
            opened: self.opened,
            subscribers: self.audience.iter().map(|(_, sessions)| sessions).sum(),
            members: self.members.as_ref().map(|members| members.present().uids),
        }
    }
}

/// Who is present on a presence channel: a `uid` joins with its first session and leaves with its last.
#[derive(Debug, Default)]
pub struct Members {
    by_uid: HashMap<Arc<str>, Member>,
    by_joining: BTreeMap<u64, Arc<str>>,
    joined: u64,
}

#[derive(Debug)]
struct Member {
    joined: u64,
    sessions: u64,
}

impl Members {
    /// One more session of `uid`; `true` if that makes it present.
    pub fn join(&mut self, uid: &Arc<str>) -> bool {
        if let Some(member) = self.by_uid.get_mut(uid) {
            member.sessions += 1;
            return false;
        }
        self.joined += 1;
        self.by_uid.insert(Arc::clone(uid), Member { joined: self.joined, sessions: 1 });
        self.by_joining.insert(self.joined, Arc::clone(uid));
        true
    }

    /// One session of `uid` less; `true` if it is not present any more.
    pub fn leave(&mut self, uid: &Arc<str>) -> bool {
        let member = self.by_uid.get_mut(uid).expect("only those who joined leave");
        member.sessions -= 1;
        if member.sessions > 0 {
            return false;
        }
        let joined = member.joined;
        self.by_uid.remove(uid);
        self.by_joining.remove(&joined);
        true
    }

    /// Those present, in order of joining, at most [`PRESENT_MAX`].
    #[must_use]
    pub fn present(&self) -> Present {
        Present {
            uids: self.by_joining.values().take(PRESENT_MAX).cloned().collect(),
            total: self.by_joining.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_present_from_its_first_to_its_last_session() {
        let mut members = Members::default();
        let (ann, joe): (Arc<str>, Arc<str>) = ("ann".into(), "joe".into());
        assert!(members.join(&joe) && members.join(&ann) && !members.join(&joe));
        assert_eq!(members.present().uids, [Arc::clone(&joe), Arc::clone(&ann)]);
        assert!(!members.leave(&joe) && members.leave(&joe));
        assert!(members.join(&joe));
        assert_eq!(members.present(), Present { uids: vec![ann, joe], total: 2 });
    }

    #[test]
    fn long_lists_are_cut() {
        let mut members = Members::default();
        for number in 0..1500 {
            members.join(&format!("u{number}").into());
        }
        let present = members.present();
        assert_eq!((present.uids.len(), present.total, &*present.uids[999]), (1000, 1500, "u999"));
    }
}
