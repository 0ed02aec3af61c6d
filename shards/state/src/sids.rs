//! Sessions by their sid.
//!
//! Many small tables instead of one, so that growing never moves more than a fraction of a shard's
//! sessions at once.

use hashbrown::HashTable;
use uuid::Uuid;

use crate::{
    session::Session,
    slots::{SessionSlot, Slots},
};

const TABLES: usize = 64;

/// The slots of open sessions, found by sid.
#[derive(Debug)]
pub struct Sids([HashTable<SessionSlot>; TABLES]);

impl Default for Sids {
    fn default() -> Self {
        Self(std::array::from_fn(|_| HashTable::new()))
    }
}

impl Sids {
    /// The slot of the session with this sid.
    #[must_use]
    pub fn find(&self, sessions: &Slots<SessionSlot, Session>, sid: Uuid) -> Option<SessionSlot> {
        self.0[table(sid)].find(hash(sid), |slot| sid_of(sessions, *slot) == sid).copied()
    }

    /// Enters a session that has got its sid.
    pub fn insert(&mut self, sessions: &Slots<SessionSlot, Session>, slot: SessionSlot) {
        let sid = sid_of(sessions, slot);
        self.0[table(sid)].insert_unique(hash(sid), slot, |slot| hash(sid_of(sessions, *slot)));
    }

    /// Takes a session out, if it is there.
    pub fn remove(&mut self, sid: Uuid, slot: SessionSlot) {
        if let Ok(entry) = self.0[table(sid)].find_entry(hash(sid), |other| *other == slot) {
            entry.remove();
        }
    }
}

fn sid_of(sessions: &Slots<SessionSlot, Session>, slot: SessionSlot) -> Uuid {
    sessions[slot].open().expect("only open sessions are found by their sid").sid
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
    use std::{net::IpAddr, sync::Arc, time::Instant};

    use webrocket_wire::handshake::Dialect;

    use super::*;
    use crate::{
        encoding::Encoding,
        session::{OpenSession, State},
        settings::Settings,
        vhost::{Vhost, VhostId},
    };

    #[test]
    fn sessions_are_found_until_they_are_gone() {
        let (mut sids, mut sessions, now) = (Sids::default(), Slots::default(), Instant::now());
        let vhost = Arc::new(Vhost {
            id: VhostId(0),
            path: "/w".parse().unwrap(),
            settings: Settings::default(),
            users: Default::default(),
            channels: Arc::default(),
        });
        let sid = |number: u32| Uuid::from_u64_pair(u64::from(number) << 50, u64::from(number % 7));
        for number in 0..1000 {
            let mut session = Session::new(now, IpAddr::from([127, 0, 0, 1]), now);
            let (dialect, encoding, vhost) = (Dialect::Wwfp, Encoding::PLAIN, Arc::clone(&vhost));
            session.state = State::Open(OpenSession::new(now, sid(number), dialect, encoding, vhost));
            let (slot, _) = sessions.insert(session);
            sids.insert(&sessions, slot);
        }
        for number in 0..1000 {
            let (sid, slot) = (sid(number), SessionSlot(number));
            assert_eq!(sids.find(&sessions, sid), Some(slot));
            sids.remove(sid, slot);
            assert_eq!(sids.find(&sessions, sid), None);
            sids.remove(sid, slot);
        }
    }
}
