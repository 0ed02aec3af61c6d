//! Vhosts as the exchange knows them: who is let in, and which streams listen.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use webrocket_wire::{AccessToken, BackendKey, VhostPath};

use super::{Pass, message::SourceId};
use crate::vhost::{Vhost, VhostId};

/// One vhost.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) snapshot: Option<Arc<Vhost>>,
    token: Option<AccessToken>,
    keys: Arc<BTreeSet<BackendKey>>,
    /// Counts what its backends were let in with; 0 without a token.
    generation: u64,
    pub(super) streams: Streams,
    /// The takers over HTTP, workers and streams, in the order in which they came.
    pub(super) sources: Vec<SourceId>,
}

/// All vhosts.
#[derive(Debug, Default)]
pub(super) struct Vhosts {
    entries: HashMap<VhostId, Entry, ahash::RandomState>,
    by_path: HashMap<VhostPath, VhostId, ahash::RandomState>,
    by_key: HashMap<BackendKey, VhostId, ahash::RandomState>,
    last_generation: u64,
}

impl Vhosts {
    pub(super) fn entry(&self, vhost: VhostId) -> Option<&Entry> {
        self.entries.get(&vhost).filter(|entry| entry.snapshot.is_some())
    }

    pub(super) fn entry_mut(&mut self, vhost: VhostId) -> Option<&mut Entry> {
        self.entries.get_mut(&vhost).filter(|entry| entry.snapshot.is_some())
    }

    pub(super) fn path(&self, vhost: VhostId) -> Option<&VhostPath> {
        self.entries.get(&vhost)?.snapshot.as_ref().map(|vhost| &vhost.path)
    }

    /// All vhosts, in one order on every run.
    pub(super) fn ids(&self) -> Vec<VhostId> {
        let mut ids: Vec<_> = self.entries.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn put(&mut self, vhost: Arc<Vhost>) {
        self.by_path.insert(vhost.path.clone(), vhost.id);
        let entry = self.entries.entry(vhost.id).or_default();
        entry.snapshot = Some(vhost);
    }

    /// The token and the keys that let in from now on. If that takes anything away from the vhost's backends,
    /// all earlier passes are worth nothing any more: whether it does.
    pub(super) fn put_access(
        &mut self,
        vhost: VhostId,
        token: AccessToken,
        keys: Arc<BTreeSet<BackendKey>>,
    ) -> bool {
        let entry = self.entries.entry(vhost).or_default();
        let is_revoking = entry.token != Some(token) || !entry.keys.is_subset(&keys);
        for key in entry.keys.difference(&keys) {
            self.by_key.remove(key);
        }
        for key in keys.difference(&entry.keys) {
            let before = self.by_key.insert(*key, vhost);
            assert!(before.is_none(), "a key belongs to one vhost");
        }
        if is_revoking {
            self.last_generation += 1;
            entry.generation = self.last_generation;
        }
        entry.token = Some(token);
        entry.keys = keys;
        is_revoking
    }

    pub(super) fn remove(&mut self, vhost: VhostId) {
        let Some(entry) = self.entries.remove(&vhost) else { return };
        for key in &*entry.keys {
            self.by_key.remove(key);
        }
        if let Some(snapshot) = entry.snapshot
            && self.by_path.get(&snapshot.path) == Some(&vhost)
        {
            self.by_path.remove(&snapshot.path);
        }
    }

    pub(super) fn authenticate(&self, path: &[u8], token: &[u8]) -> Option<Pass> {
        let path = std::str::from_utf8(path).ok()?;
        let token: AccessToken = std::str::from_utf8(token).ok()?.parse().ok()?;
        let vhost = *self.by_path.get(path)?;
        let entry = self.entry(vhost)?;
        let is_right = entry.token.as_ref() == Some(&token);
        is_right.then_some(Pass { vhost, generation: entry.generation })
    }

    pub(super) fn authenticate_key(&self, key: &[u8; 32]) -> Option<Pass> {
        let vhost = *self.by_key.get(&BackendKey::from_bytes(*key))?;
        let entry = self.entry(vhost)?;
        Some(Pass { vhost, generation: entry.generation })
    }

    pub(super) fn is_valid(&self, pass: Pass) -> bool {
        self.entry(pass.vhost)
            .is_some_and(|entry| entry.token.is_some() && entry.generation == pass.generation)
    }

    /// The beginning of events that a topic names, if it is one of the pass's own vhost.
    pub(super) fn prefix<'a>(&self, pass: Pass, topic: &'a [u8]) -> Option<&'a [u8]> {
        if !self.is_valid(pass) {
            return None;
        }
        topic.strip_prefix(self.path(pass.vhost)?.as_str().as_bytes())?.strip_prefix(b":")
    }
}

/// The subscriptions of streams over ZeroMQ, by the beginning of the events that they take.
#[derive(Debug, Default)]
pub(super) struct Streams {
    prefixes: HashMap<Box<[u8]>, u64, ahash::RandomState>,
    count: u64,
}

impl Streams {
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    pub(super) fn add(&mut self, prefix: &[u8]) {
        *self.prefixes.entry(prefix.into()).or_default() += 1;
        self.count += 1;
    }

    /// Whether there was such a subscription.
    pub(super) fn remove(&mut self, prefix: &[u8]) -> bool {
        let Some(count) = self.prefixes.get_mut(prefix) else { return false };
        *count -= 1;
        if *count == 0 {
            self.prefixes.remove(prefix);
        }
        self.count -= 1;
        true
    }

    /// Forgets all; how many there were.
    pub(super) fn clear(&mut self) -> u64 {
        self.prefixes.clear();
        std::mem::take(&mut self.count)
    }

    /// Whether anybody takes this event. An event's name is short, prefixes may be many.
    pub(super) fn take(&self, event: &str) -> bool {
        let event = event.as_bytes();
        !self.prefixes.is_empty() && (0..=event.len()).any(|end| self.prefixes.contains_key(&event[..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VHOST: VhostId = VhostId(3);

    fn put_access(vhosts: &mut Vhosts, vhost: VhostId, token: u8, keys: &[u8]) -> bool {
        let keys = keys.iter().map(|byte| BackendKey::from_bytes([*byte; 32]));
        vhosts.put_access(vhost, AccessToken::from_bytes([token; 20]), Arc::new(keys.collect()))
    }

    fn vhosts() -> Vhosts {
        let mut vhosts = Vhosts::default();
        put_access(&mut vhosts, VHOST, 1, &[]);
        vhosts.put(Arc::new(Vhost {
            id: VHOST,
            path: "/moon".parse().unwrap(),
            settings: crate::Settings::default(),
            users: Default::default(),
            channels: Default::default(),
        }));
        vhosts
    }

    #[test]
    fn who_is_let_in() {
        let mut vhosts = vhosts();
        let [right, wrong] = [[1; 20], [2; 20]].map(|bytes| AccessToken::from_bytes(bytes).reveal());
        let pass = vhosts.authenticate(b"/moon", right.as_bytes()).unwrap();
        assert!(vhosts.is_valid(pass));
        assert_eq!(pass.to_string().parse(), Ok(pass));
        for (path, token) in
            [("/moon", &*wrong), ("/sun", &right), ("/moon", ""), ("", ""), ("/moon", "\u{e9}")]
        {
            assert_eq!(vhosts.authenticate(path.as_bytes(), token.as_bytes()), None);
        }
        assert_eq!(vhosts.authenticate(b"\xff", b"\xff"), None);
        assert!(put_access(&mut vhosts, VHOST, 2, &[]) && !vhosts.is_valid(pass));
        assert_eq!(vhosts.authenticate(b"/moon", right.as_bytes()), None);
        let newer = vhosts.authenticate(b"/moon", wrong.as_bytes()).unwrap();
        assert!(newer != pass && vhosts.is_valid(newer));
        vhosts.remove(VHOST);
        assert!(!vhosts.is_valid(newer) && vhosts.authenticate(b"/moon", wrong.as_bytes()).is_none());
    }

    #[test]
    fn keys_let_in_and_are_taken_away() {
        let mut vhosts = vhosts();
        let let_in = |vhosts: &Vhosts, byte| vhosts.authenticate_key(&[byte; 32]);
        assert_eq!(let_in(&vhosts, 7), None);
        assert!(!put_access(&mut vhosts, VHOST, 1, &[7]), "nobody loses anything");
        let pass = let_in(&vhosts, 7).unwrap();
        assert!(!put_access(&mut vhosts, VHOST, 1, &[7, 8]) && vhosts.is_valid(pass));
        assert_eq!(
            (let_in(&vhosts, 7), let_in(&vhosts, 8), let_in(&vhosts, 9)),
            (Some(pass), Some(pass), None)
        );

        assert!(put_access(&mut vhosts, VHOST, 1, &[8, 9]) && !vhosts.is_valid(pass));
        let newer = let_in(&vhosts, 8).unwrap();
        assert!(let_in(&vhosts, 7).is_none() && vhosts.is_valid(newer) && let_in(&vhosts, 9) == Some(newer));
        assert!(put_access(&mut vhosts, VHOST, 2, &[8, 9]) && !vhosts.is_valid(newer), "another token");

        // What one vhost gave up may be another's.
        let other = VhostId(4);
        put_access(&mut vhosts, other, 3, &[7]);
        assert_eq!(let_in(&vhosts, 7), None, "nothing more is known of that vhost");
        vhosts.remove(VHOST);
        put_access(&mut vhosts, other, 3, &[7, 8]);
        assert_eq!((let_in(&vhosts, 8), let_in(&vhosts, 9)), (None, None));
    }

    #[test]
    fn a_topic_names_its_own_vhost() {
        let vhosts = vhosts();
        let token = AccessToken::from_bytes([1; 20]).reveal();
        let pass = vhosts.authenticate(b"/moon", token.as_bytes()).unwrap();
        assert_eq!(vhosts.prefix(pass, b"/moon:"), Some(&b""[..]));
        assert_eq!(vhosts.prefix(pass, b"/moon:job"), Some(&b"job"[..]));
        for foreign in [&b""[..], b"/", b"/moon", b"/moonlight:", b"/sun:", b"/moon/a:"] {
            assert_eq!(vhosts.prefix(pass, foreign), None);
        }
        let stale = Pass { generation: pass.generation + 1, ..pass };
        assert_eq!(vhosts.prefix(stale, b"/moon:"), None);
    }

    #[test]
    fn streams_are_counted_by_prefix() {
        let mut streams = Streams::default();
        assert!(!streams.take("job"));
        for prefix in ["jo", "jo", "x"] {
            streams.add(prefix.as_bytes());
        }
        assert!(streams.take("job") && streams.take("jo") && streams.take("x") && !streams.take("j"));
        assert!(streams.remove(b"jo") && streams.take("job"));
        assert!(streams.remove(b"jo") && !streams.take("job"));
        assert!(!streams.remove(b"jo"));
        assert_eq!(streams.len(), 1);
        streams.add(b"");
        assert!(streams.take("job"));
        assert_eq!(streams.clear(), 2);
    }
}
