//! Right secrets that need no second hashing.

use std::collections::HashSet;

use webrocket_state::{VhostId, identity::Secret};
use webrocket_wire::UserName;

use super::random;
use crate::store::SecretHash;

/// Secrets that were right, each as a hash under a key of this process.
///
/// What is hashed includes the stored hash of the secret with its salt, so a changed secret
/// leaves nothing valid behind. Bounded: about half of the entries, the longest unused, are
/// forgotten when it is full.
pub(super) struct Remembered {
    key: [u8; 32],
    /// Half of the bound.
    half: usize,
    recent: HashSet<Mark>,
    earlier: HashSet<Mark>,
}

/// One right secret, without telling it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark([u8; 32]);

impl Remembered {
    /// Remembers at most `most` secrets.
    pub(super) fn new(most: usize) -> Self {
        Self { key: random::bytes(), half: most / 2, recent: HashSet::new(), earlier: HashSet::new() }
    }

    /// The mark of a secret, presented for a user whose secret's hash is `hash`.
    pub(super) fn mark(
        &self,
        vhost: VhostId,
        user: &UserName,
        generation: u64,
        hash: &SecretHash,
        secret: &Secret,
    ) -> Mark {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&vhost.0.to_le_bytes());
        hasher.update(&generation.to_le_bytes());
        for part in [user.as_str().as_bytes(), hash.phc().as_bytes(), secret.reveal()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Mark(hasher.finalize().into())
    }

    /// Whether the secret was right before. Nobody can aim at a mark, so looking it up tells
    /// nothing by its time.
    pub(super) fn contains(&mut self, mark: Mark) -> bool {
        if self.recent.contains(&mark) {
            return true;
        }
        let known = self.earlier.remove(&mark);
        if known {
            self.insert(mark);
        }
        known
    }

    /// Remembers a right secret.
    pub(super) fn insert(&mut self, mark: Mark) {
        if self.half == 0 {
            return;
        }
        if self.recent.len() >= self.half {
            self.earlier = std::mem::take(&mut self.recent);
        }
        self.recent.insert(mark);
    }

    pub(super) fn len(&self) -> usize {
        self.recent.len() + self.earlier.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_one_secret_of_one_user() {
        let remembered = Remembered::new(10);
        let hash = SecretHash::of(&Secret::new("pw"));
        let joe: UserName = "joe".parse().unwrap();
        let mark = remembered.mark(VhostId(1), &joe, 5, &hash, &Secret::new("pw"));
        assert!(mark == remembered.mark(VhostId(1), &joe, 5, &hash, &Secret::new("pw")));
        let rehashed = SecretHash::of(&Secret::new("pw"));
        let others = [
            remembered.mark(VhostId(2), &joe, 5, &hash, &Secret::new("pw")),
            remembered.mark(VhostId(1), &"jo".parse().unwrap(), 5, &hash, &Secret::new("pw")),
            remembered.mark(VhostId(1), &joe, 6, &hash, &Secret::new("pw")),
            remembered.mark(VhostId(1), &joe, 5, &rehashed, &Secret::new("pw")),
            remembered.mark(VhostId(1), &joe, 5, &hash, &Secret::new("pw2")),
            Remembered::new(10).mark(VhostId(1), &joe, 5, &hash, &Secret::new("pw")),
        ];
        assert!(others.iter().all(|&other| other != mark));
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut remembered = Remembered::new(100);
        let mark = |number: u8| Mark([number; 32]);
        remembered.insert(mark(0));
        for number in 1..=255 {
            remembered.insert(mark(number));
            assert!(remembered.contains(mark(0)), "used all the time");
            assert!(remembered.contains(mark(number)));
            assert!(remembered.len() <= 100);
        }
        assert!(!remembered.contains(mark(1)));
    }
}
