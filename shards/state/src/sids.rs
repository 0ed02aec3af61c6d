//! Sessions by their sid.
//!
//! Many small tables instead of one, so that growing never moves more than a fraction of a shard's
//! sessions at once.

use hashbrown::HashTable;
use uuid::Uuid;

use crate::{session::Session, slots::Slots};

const TABLES: usize = 64;

/// The slots of open sessions, found by sid.
#[derive(Debug)]
pub struct Sids([HashTable<u32>; TABLES]);

impl Default for Sids {
    fn default() -> Self {
        Self(std::array::from_fn(|_| HashTable::new()))
    }
}

impl Sids {
    /// The slot of the session with this sid.
    #[must_use]
    pub fn find(&self, sessions: &Slots<Session>, sid: Uuid) -> Option<u32> {
        self.0[table(sid)].find(hash(sid), |slot| sessions[*slot].sid == sid).copied()
    }

    /// Enters a session that has got its sid.
    pub fn insert(&mut self, sessions: &Slots<Session>, slot: u32) {
        let sid = sessions[slot].sid;
        self.0[table(sid)].insert_unique(hash(sid), slot, |slot| hash(sessions[*slot].sid));
    }

    /// Takes a session out, if it is there.
    pub fn remove(&mut self, sid: Uuid, slot: u32) {
        if let Ok(entry) = self.0[table(sid)].find_entry(hash(sid), |other| *other == slot) {
            entry.remove();
        }
    }
}

/// Sids are random, so any of their bits will do; which table a sid stands in and where are told
/// by different ones.
fn table(sid: Uuid) -> usize {
    usize::from(sid.as_bytes()[0]) % TABLES
}

fn hash(sid: Uuid) -> u64 {
    sid.as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Instant};

    use super::*;

    #[test]
    fn sessions_are_found_until_they_are_gone() {
        let (mut sids, mut sessions, now) = (Sids::default(), Slots::default(), Instant::now());
        for number in 0..1000u32 {
            let (slot, _) = sessions.insert(Session::new(now, IpAddr::from([127, 0, 0, 1]), now));
            sessions[slot].sid = Uuid::from_u64_pair(u64::from(number) << 50, u64::from(number % 7));
            sids.insert(&sessions, slot);
        }
        for slot in 0..1000 {
            let sid = sessions[slot].sid;
            assert_eq!(sids.find(&sessions, sid), Some(slot));
            sids.remove(sid, slot);
            assert_eq!(sids.find(&sessions, sid), None);
            sids.remove(sid, slot);
        }
    }
}
