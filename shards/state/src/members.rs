//! Who is present on a presence channel.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use webrocket_wire::{Member, presence};

use crate::{
    ids::SessionRef,
    message::{Joining, Present},
};

/// The most members that a list names.
pub const PRESENT_MAX: usize = 1000;

/// Who is present on a presence channel, over all shards.
///
/// A `uid` is present from the first to the last of its visible sessions; others are shown the
/// data with which the first one joined. A session that subscribes twice is counted twice and
/// leaves with the second: its shard takes one back, and nobody notices.
#[derive(Debug, Default)]
pub struct Members {
    sessions: HashMap<SessionRef, Tab, ahash::RandomState>,
    by_uid: HashMap<Arc<str>, Visible, ahash::RandomState>,
    by_joining: BTreeMap<u64, Member>,
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
struct Visible {
    joined: u64,
    sessions: u64,
}

impl Members {
    /// Whether a session is there, visible or not.
    #[must_use]
    pub fn has(&self, session: SessionRef) -> bool {
        self.sessions.contains_key(&session)
    }

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
        self.by_uid.insert(Arc::clone(uid), Visible { joined: self.joined, sessions: 1 });
        self.by_joining.insert(self.joined, Member { uid: Arc::clone(uid), data: data.clone() });
        true
    }

    /// A session leaves. If its `uid` is not present any more: the member, with the data with which it joined.
    pub fn leave(&mut self, session: SessionRef) -> Option<Member> {
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
        let Visible { joined, .. } = self.by_uid.remove(&uid).expect("just found");
        self.listed.take_if(|listed| joined <= listed.last);
        self.by_joining.remove(&joined)
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
    pub fn all(&self) -> Vec<Member> {
        self.by_joining.values().cloned().collect()
    }
}

impl Listed {
    fn new(by_joining: &BTreeMap<u64, Member>) -> Self {
        let mut last = 0;
        let listed = by_joining.iter().take(PRESENT_MAX);
        let list = presence::list(listed.map(|(joined, member)| {
            last = *joined;
            member
        }));
        Self { list: list.into(), count: by_joining.len().min(PRESENT_MAX), last }
    }
}

#[cfg(test)]
mod tests {
    use webrocket_wire::MemberData;

    use super::*;
    use crate::{ids::ShardId, slots::SessionSlot};

    fn session(slot: u32) -> SessionRef {
        SessionRef { shard: ShardId(0), slot: SessionSlot(slot), generation: 0 }
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
        assert_eq!(
            members.leave(session(3)),
            Some(Member { uid: "joe".into(), data: MemberData::new(r#"{"a":1}"#) })
        );
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
