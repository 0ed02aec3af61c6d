//! The vhosts as a shard knows them.

use std::sync::Arc;

use webrocket_wire::VhostPath;

use crate::vhost::{Vhost, VhostId};

/// The newest snapshot of each vhost.
#[derive(Debug, Default)]
pub struct Vhosts {
    by_id: Vec<Option<Arc<Vhost>>>,
    by_path: hashbrown::HashMap<VhostPath, VhostId, ahash::RandomState>,
}

impl Vhosts {
    /// The vhost, unless it is gone.
    #[must_use]
    pub fn get(&self, id: VhostId) -> Option<&Arc<Vhost>> {
        self.by_id.get(id.0 as usize)?.as_ref()
    }

    /// The vhost at this path.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Arc<Vhost>> {
        self.get(*self.by_path.get(path)?)
    }

    /// Takes in a snapshot; whether the vhost was known.
    pub fn put(&mut self, vhost: Arc<Vhost>) -> bool {
        let index = vhost.id.0 as usize;
        if self.by_id.len() <= index {
            self.by_id.resize(index + 1, None);
        }
        let (id, path) = (vhost.id, vhost.path.clone());
        let was_known = self.by_id[index].replace(vhost).is_some();
        if !was_known {
            self.by_path.insert(path, id);
        }
        was_known
    }

    /// Forgets a vhost.
    pub fn remove(&mut self, id: VhostId) {
        if let Some(vhost) = self.by_id.get_mut(id.0 as usize).and_then(Option::take)
            && self.by_path.get(&vhost.path) == Some(&id)
        {
            self.by_path.remove(&vhost.path);
        }
    }
}
