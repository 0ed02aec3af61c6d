//! The channels that a shard owns: who may know that they exist, which shards listen, who is present.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use webrocket_wire::{ChannelKind, ChannelName, MemberData, presence};

use crate::{
    message::{ChannelInfo, ChannelRef, Joining, MemberInfo, Present, SessionRef, ShardId},
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

    /// Whether a session is a member of a presence channel of that name, in any vhost.
    #[must_use]
    pub fn has_member(&self, session: SessionRef, name: &str) -> bool {
        let named = self.by_key.iter().filter(|((_, of), _)| of.as_str() == name);
        let mut members = named.filter_map(|(_, channel)| self.slots[channel.slot].members.as_ref());
        members.any(|members| members.sessions.contains_key(&session))
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

/// Who is present on a presence channel, over all shards.
///
/// A `uid` is present from the first to the last of its visible sessions; others are shown the
/// data with which the first one joined. A session that subscribes twice is counted twice and
/// leaves with the second: its shard takes one back, and nobody notices.
#[derive(Debug, Default)]
pub struct Members {
    sessions: HashMap<SessionRef, Tab, ahash::RandomState>,
    by_uid: HashMap<Arc<str>, Member, ahash::RandomState>,
    by_joining: BTreeMap<u64, MemberInfo>,
    joined: u64,
    /// What [`Members::present`] lists, until it changes.
    listed: Option<Listed>,
}

/// A list of those present: long, and the same for all who join a long channel.
#[derive(Debug)]
struct Listed {
    list: Arc<str>,
    /// How many it names, and who of them joined last.
    count: usize,
    last: u64,
}

/// One session on the channel.
#[derive(Debug)]
struct Tab {
    uid: Arc<str>,
    hidden: bool,
    subscriptions: u32,
}

/// A `uid` with visible sessions.
#[derive(Debug)]
struct Member {
    joined: u64,
    sessions: u64,
    data: MemberData,
}

impl Members {
    /// A session joins. `true` if that makes its `uid` present.
    pub fn join(&mut self, session: SessionRef, joining: &Joining) -> bool {
        if let Some(tab) = self.sessions.get_mut(&session) {
            tab.subscriptions += 1;
            return false;
        }
        let Joining { uid, data, hidden } = joining;
        self.sessions.insert(session, Tab { uid: Arc::clone(uid), hidden: *hidden, subscriptions: 1 });
        if *hidden {
            return false;
        }
        if let Some(member) = self.by_uid.get_mut(uid) {
            member.sessions += 1;
            return false;
        }
        self.joined += 1;
        self.listed.take_if(|listed| listed.count < PRESENT_MAX);
        let member = Member { joined: self.joined, sessions: 1, data: data.clone() };
        self.by_uid.insert(Arc::clone(uid), member);
        let entry = presence::list_entry(uid, data).into();
        self.by_joining.insert(self.joined, MemberInfo { uid: Arc::clone(uid), entry });
        true
    }

    /// A session leaves. If its `uid` is not present any more: the `uid`, and the data with which it joined.
    pub fn leave(&mut self, session: SessionRef) -> Option<(Arc<str>, MemberData)> {
        let tab = self.sessions.get_mut(&session).expect("only those who joined leave");
        tab.subscriptions -= 1;
        if tab.subscriptions > 0 {
            return None;
        }
        let Tab { uid, hidden, .. } = self.sessions.remove(&session).expect("just found");
        if hidden {
            return None;
        }
        let member = self.by_uid.get_mut(&uid).expect("a visible session makes its uid present");
        member.sessions -= 1;
        if member.sessions > 0 {
            return None;
        }
        let Member { joined, data, .. } = self.by_uid.remove(&uid).expect("just found");
        self.by_joining.remove(&joined);
        self.listed.take_if(|listed| joined <= listed.last);
        Some((uid, data))
    }

    /// Those present, in order of joining, at most [`PRESENT_MAX`].
    pub fn present(&mut self) -> Present {
        let Self { by_joining, listed, .. } = self;
        let listed = listed.get_or_insert_with(|| Listed::new(by_joining));
        let total = by_joining.len();
        Present { list: Arc::clone(&listed.list), total: (total > PRESENT_MAX).then_some(total as u64) }
    }

    /// All who are present, in order of joining.
    #[must_use]
    pub fn all(&self) -> Vec<MemberInfo> {
        self.by_joining.values().cloned().collect()
    }
}

impl Listed {
    fn new(by_joining: &BTreeMap<u64, MemberInfo>) -> Self {
        let mut list = String::new();
        let mut last = 0;
        for (joined, member) in by_joining.iter().take(PRESENT_MAX) {
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(&member.entry);
            last = *joined;
        }
        Self { list: list.into(), count: by_joining.len().min(PRESENT_MAX), last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(slot: u32) -> SessionRef {
        SessionRef { shard: ShardId(0), slot, generation: 0 }
    }

    fn joining(uid: &str, data: &str, hidden: bool) -> Joining {
        Joining { uid: uid.into(), data: MemberData::new(data), hidden }
    }

    fn list(members: &mut Members) -> String {
        members.present().list.to_string()
    }

    #[test]
    fn a_uid_is_present_from_its_first_to_its_last_visible_session() {
        let mut members = Members::default();
        assert!(!members.join(session(0), &joining("joe", "{}", true)));
        assert_eq!(list(&mut members), "");
        assert!(members.join(session(1), &joining("joe", r#"{"a":1}"#, false)));
        assert!(members.join(session(2), &joining("ann", "{}", false)));
        assert!(!members.join(session(3), &joining("joe", r#"{"a":2}"#, false)));
        assert_eq!(list(&mut members), r#"{"uid":"joe","a":1},{"uid":"ann"}"#);
        assert_eq!(members.leave(session(1)), None);
        assert_eq!(list(&mut members), r#"{"uid":"joe","a":1},{"uid":"ann"}"#);
        assert_eq!(members.leave(session(3)), Some(("joe".into(), MemberData::new(r#"{"a":1}"#))));
        assert_eq!(members.leave(session(0)), None);
        assert!(members.join(session(0), &joining("joe", "{}", false)));
        assert_eq!(list(&mut members), r#"{"uid":"ann"},{"uid":"joe"}"#);
    }

    #[test]
    fn a_session_that_subscribes_twice_is_there_once() {
        let mut members = Members::default();
        assert!(!members.join(session(0), &joining("joe", "{}", true)));
        assert!(!members.join(session(0), &joining("joe", "{}", false)));
        assert_eq!(list(&mut members), "");
        assert_eq!(members.leave(session(0)), None);
        assert_eq!(members.sessions.len(), 1);
        assert_eq!(members.leave(session(0)), None);
        assert_eq!(members.sessions.len(), 0);
    }

    #[test]
    fn long_lists_are_cut() {
        let mut members = Members::default();
        for number in 0..1500 {
            members.join(session(number), &joining(&format!("u{number}"), "{}", false));
        }
        let present = members.present();
        assert!(present.list.ends_with(r#"{"uid":"u998"},{"uid":"u999"}"#));
        assert_eq!((present.total, members.all().len()), (Some(1500), 1500));
        members.join(session(1500), &joining("u1500", "{}", false));
        members.leave(session(1200));
        members.leave(session(1500));
        let again = members.present();
        assert!(Arc::ptr_eq(&present.list, &again.list), "those listed are the same");
        assert_eq!(again.total, Some(1499));
        members.leave(session(0));
        let changed = members.present();
        assert!(changed.list.starts_with(r#"{"uid":"u1"},"#) && changed.list.ends_with(r#"{"uid":"u1000"}"#));
    }
}
