//! What shards know of a vhost: an immutable snapshot that the control thread makes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use webrocket_wire::{Rights, UserName, VhostPath, handshake::Dialect};

use crate::settings::Settings;

/// Names a vhost within this process. Never given twice, so a removed vhost's late messages
/// reach nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VhostId(pub u32);

/// One vhost, as all shards see it. A change makes a new snapshot, sent to every shard.
#[derive(Debug, Clone)]
pub struct Vhost {
    /// The vhost's identity within this process.
    pub id: VhostId,
    /// Its path, `/world`.
    pub path: VhostPath,
    /// Limits and timeouts.
    pub settings: Settings,
    /// Its users by name.
    pub users: BTreeMap<UserName, User>,
    /// How many channels the vhost has, over all shards. The same counter in every snapshot.
    pub channels: Arc<ChannelCount>,
}

impl Vhost {
    /// What a session that speaks `dialect` may do on open channels before it authenticates.
    #[must_use]
    pub fn anonymous_rights(&self, dialect: Dialect) -> Rights {
        self.settings.anonymous.rights(dialect, !self.users.is_empty())
    }
}

/// A user of a vhost. The secret is not here: only the control thread verifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// What sessions of this user may do.
    pub rights: Rights,
    /// Whether the user must present a secret.
    pub has_secret: bool,
    /// Told apart from an earlier user of the same name: sessions of that one are not this one's.
    pub generation: u64,
}

/// The number of channels of one vhost, shared by the shards that own them.
#[derive(Debug, Default)]
pub struct ChannelCount(AtomicU32);

impl ChannelCount {
    /// Counts one more channel, unless there are `max` already.
    #[must_use]
    pub fn reserve(&self, max: u32) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1))
            .is_ok()
    }

    /// Counts one channel less.
    pub fn release(&self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a channel was released that nobody reserved");
    }

    /// The number of channels now.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
