//! All vhosts as the control thread knows them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use webrocket_state::{
    User, Vhost, VhostId, command::Ticket, exchange::ExchangeCommand, vhost::ChannelCount,
};
use webrocket_wire::{AccessToken, BackendKey, UserName, VhostPath};

use super::{
    refusal::Refusal,
    request::{Caller, Pass, VhostView},
};
use crate::store::{SecretHash, StoredVhost, UserRecord, VhostRecord};

/// The most keys of one vhost.
pub(super) const KEYS_MAX: usize = 1_000;

/// All vhosts, by path and by identity.
#[derive(Debug, Default)]
pub(super) struct Vhosts {
    by_path: BTreeMap<VhostPath, Entry>,
    paths: HashMap<VhostId, VhostPath>,
    last_id: u32,
}

/// One vhost: the snapshot that shards have, and what only the control thread knows.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) vhost: Arc<Vhost>,
    pub(super) token: AccessToken,
    /// The keys of its backends, none of them another vhost's.
    pub(super) keys: Arc<BTreeSet<BackendKey>>,
    pub(super) secrets: HashMap<UserName, Arc<SecretHash>>,
}

impl Vhosts {
    /// Adds a vhost under an identity that none has had in this process.
    pub(super) fn insert(&mut self, stored: StoredVhost) -> &mut Entry {
        self.last_id = self.last_id.checked_add(1).expect("a process makes fewer vhosts");
        let id = VhostId(self.last_id);
        let mut entry = Entry {
            vhost: Arc::new(Vhost {
                id,
                path: stored.path.clone(),
                settings: stored.record.settings,
                users: BTreeMap::new(),
                channels: Arc::new(ChannelCount::default()),
            }),
            token: stored.record.token,
            keys: Arc::new(stored.keys.into_iter().collect()),
            secrets: HashMap::new(),
        };
        for (name, user) in stored.users {
            entry.put_user(name, user);
        }
        self.paths.insert(id, stored.path.clone());
        self.by_path.entry(stored.path).insert_entry(entry).into_mut()
    }

    /// Removes a vhost.
    pub(super) fn remove(&mut self, path: &VhostPath) -> Option<Entry> {
        let entry = self.by_path.remove(path)?;
        self.paths.remove(&entry.vhost.id);
        Some(entry)
    }

    /// The vhost at a path.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn at(&self, path: &VhostPath) -> Result<&Entry, Refusal> {
        self.by_path.get(path).ok_or_else(|| Refusal::NoVhost(path.clone()))
    }

    /// The vhost at a path, to change it.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn at_mut(&mut self, path: &VhostPath) -> Result<&mut Entry, Refusal> {
        self.by_path.get_mut(path).ok_or_else(|| Refusal::NoVhost(path.clone()))
    }

    /// The vhost of which somebody asks something.
    ///
    /// # Errors
    /// There is none, or a backend's token is its token no longer.
    pub(super) fn of_caller(&self, caller: &Caller) -> Result<&Entry, Refusal> {
        match caller {
            Caller::Operator(path) => self.at(path),
            Caller::Backend(pass) => self.of_pass(pass),
        }
    }

    /// The vhost that a backend's pass is for.
    ///
    /// # Errors
    /// It is removed, or has another token now.
    pub(super) fn of_pass(&self, pass: &Pass) -> Result<&Entry, Refusal> {
        let entry = self.of(pass.vhost).ok_or(Refusal::NoResource)?;
        if entry.token == pass.token { Ok(entry) } else { Err(Refusal::NoBackend) }
    }

    /// The vhost of an identity, if it is not removed.
    pub(super) fn of(&self, id: VhostId) -> Option<&Entry> {
        self.by_path.get(self.paths.get(&id)?)
    }

    /// Whether the vhost can have this key, too.
    ///
    /// # Errors
    /// It has it already, another one has it, it has too many, or there is no such vhost.
    pub(super) fn check_new_key(&self, path: &VhostPath, key: &BackendKey) -> Result<(), Refusal> {
        let keys = &self.at(path)?.keys;
        if keys.contains(key) {
            return Err(Refusal::KeyExists(*key));
        }
        if self.iter().any(|entry| entry.keys.contains(key)) {
            return Err(Refusal::KeyElsewhere(*key));
        }
        if keys.len() >= KEYS_MAX { Err(Refusal::KeyLimit(KEYS_MAX)) } else { Ok(()) }
    }

    pub(super) fn contains(&self, path: &VhostPath) -> bool {
        self.by_path.contains_key(path)
    }

    /// All vhosts, by path.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_path.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_path.len()
    }
}

impl Entry {
    /// Adds or replaces a user.
    pub(super) fn put_user(&mut self, name: UserName, record: UserRecord) {
        let user = User {
            rights: record.rights,
            has_secret: record.secret.is_some(),
            generation: record.generation,
        };
        match record.secret {
            Some(secret) => self.secrets.insert(name.clone(), Arc::new(secret)),
            None => self.secrets.remove(&name),
        };
        Arc::make_mut(&mut self.vhost).users.insert(name, user);
    }

    /// Removes a user.
    pub(super) fn remove_user(&mut self, name: &UserName) {
        self.secrets.remove(name);
        Arc::make_mut(&mut self.vhost).users.remove(name);
    }

    /// The user.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn user(&self, name: &UserName) -> Result<User, Refusal> {
        self.vhost.users.get(name).copied().ok_or_else(|| Refusal::NoUser(name.clone()))
    }

    /// What the store keeps of the vhost itself.
    pub(super) fn record(&self) -> VhostRecord {
        VhostRecord { token: self.token, settings: self.vhost.settings }
    }

    /// The command that tells the exchange whom to let in.
    pub(super) fn access(&self, ticket: Ticket<()>) -> ExchangeCommand {
        let keys = Arc::clone(&self.keys);
        ExchangeCommand::PutAccess { ticket, vhost: self.vhost.id, token: self.token, keys }
    }

    /// The vhost as operators see it.
    pub(super) fn view(&self) -> VhostView {
        VhostView { vhost: Arc::clone(&self.vhost), token: self.token }
    }
}
