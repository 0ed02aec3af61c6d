//! The sessions of a shard: where they are found, when to look after them, and what the driver does for them.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    connection::{Due, Timeouts},
    deadlines::Deadlines,
    ids::{SessionRef, ShardId},
    machine::Action,
    session::{OpenSession, Parked, Session},
    sids::Sids,
    slots::{SessionSlot, Slots},
};

/// The sessions of a shard.
#[derive(Debug)]
pub struct Sessions {
    shard: ShardId,
    timeouts: Timeouts,
    /// By slot.
    pub slots: Slots<SessionSlot, Session>,
    /// By sid, those that are open.
    pub sids: Sids,
    deadlines: Deadlines<SessionSlot>,
    /// What the driver is to do.
    pub actions: VecDeque<Action>,
    /// Sessions that may be read again.
    resumed: VecDeque<SessionRef>,
    /// How many are named for the flush and not answered for.
    offered: u32,
}

impl Sessions {
    /// None yet.
    #[must_use]
    pub fn new(shard: ShardId, timeouts: Timeouts) -> Self {
        Self {
            shard,
            timeouts,
            slots: Slots::default(),
            sids: Sids::default(),
            deadlines: Deadlines::default(),
            actions: VecDeque::new(),
            resumed: VecDeque::new(),
            offered: 0,
        }
    }

    /// How long the parts of a connection's life may take that have nothing to do with its vhost.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes in a connection from `peer`.
    pub fn accept(&mut self, now: Instant, peer: IpAddr) -> SessionRef {
        let at = now + self.timeouts.handshake;
        let (slot, generation) = self.slots.insert(Session::new(now, peer, at));
        self.deadlines.push(at, slot, generation);
        SessionRef { shard: self.shard, slot, generation }
    }

    /// What the session in a slot is called.
    pub fn reference(&mut self, slot: SessionSlot) -> SessionRef {
        let (_, generation) = self.slots.at(slot).expect("a used slot");
        SessionRef { shard: self.shard, slot, generation }
    }

    /// The session, unless it is gone.
    pub fn entry(&mut self, session: SessionRef) -> Option<&mut Session> {
        self.slots.entry(session.slot, session.generation)
    }

    /// The session, unless it is gone.
    #[must_use]
    pub fn peek(&self, session: SessionRef) -> Option<&Session> {
        self.slots.peek(session.slot, session.generation)
    }

    /// What the session in a slot has while it is open.
    ///
    /// # Panics
    /// It is not open. Whoever asks knows that it is: its message or open request is acted upon, it subscribes
    /// something, or it was found by its sid.
    #[must_use]
    pub fn open(&self, slot: SessionSlot) -> &OpenSession {
        self.slots[slot].open().expect("an open session")
    }

    /// The same, to change it.
    ///
    /// # Panics
    /// As [`Sessions::open`].
    pub fn open_mut(&mut self, slot: SessionSlot) -> &mut OpenSession {
        self.slots[slot].open_mut().expect("an open session")
    }

    /// The open session of this sid.
    #[must_use]
    pub fn find(&self, sid: Uuid) -> Option<SessionSlot> {
        self.sids.find(&self.slots, sid)
    }

    /// Enters a session that has been opened among those that are found by their sid.
    pub fn list_sid(&mut self, slot: SessionSlot) {
        self.sids.insert(&self.slots, slot);
    }

    /// Takes a session out that is open no longer.
    pub fn unlist_sid(&mut self, slot: SessionSlot, sid: Uuid) {
        self.sids.remove(sid, slot);
    }

    /// Enters the session's deadline if it is earlier than the one that stands.
    pub fn schedule(&mut self, slot: SessionSlot) {
        let (session, generation) = self.slots.at(slot).expect("a used slot");
        let at = session.connection.deadline(&self.timeouts);
        if at < session.scheduled {
            session.scheduled = at;
            self.deadlines.push(at, slot, generation);
        }
    }

    /// When the next session is to be looked after, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Takes the next session that is to be looked after, with what is due; `left` entries are looked at, at most.
    pub fn next_due(&mut self, now: Instant, left: &mut usize) -> Option<(SessionRef, Due)> {
        loop {
            *left = left.checked_sub(1)?;
            let (at, slot, generation) = self.deadlines.pop_due(now)?;
            let Some(session) = self.slots.entry(slot, generation) else { continue };
            if session.scheduled == at {
                let due = session.connection.due(now, &self.timeouts);
                return Some((SessionRef { shard: self.shard, slot, generation }, due));
            }
        }
    }

    /// Enters the deadline of a session that has been looked after, at the latest `most` from now.
    pub fn reschedule(&mut self, now: Instant, session: SessionRef, most: Option<Duration>) {
        let Some(entry) = self.slots.entry(session.slot, session.generation) else { return };
        let next = entry.connection.deadline(&self.timeouts);
        let next = most.map_or(next, |most| next.min(now + most));
        entry.scheduled = next;
        self.deadlines.push(next, session.slot, session.generation);
    }

    /// The session is read again when its turn comes.
    pub fn resume(&mut self, session: SessionRef) {
        self.resumed.push_back(session);
    }

    /// The next session that may be read again.
    pub fn next_resumed(&mut self) -> Option<SessionRef> {
        self.resumed.pop_front()
    }

    /// Whether sessions wait to be read again.
    #[must_use]
    pub fn has_resumed(&self) -> bool {
        !self.resumed.is_empty()
    }

    /// Keeps input of a session that is not to be read.
    pub fn park(&mut self, slot: SessionSlot) -> &mut Parked {
        self.slots[slot].parked.get_or_insert_default()
    }

    /// Names a session for the flush.
    pub fn offer(&mut self, slot: SessionSlot) -> SessionRef {
        let (session, generation) = self.slots.at(slot).expect("a used slot");
        session.inbox.is_offered = true;
        self.offered += 1;
        SessionRef { shard: self.shard, slot, generation }
    }

    /// The driver has answered for a session that was named for the flush; the session, unless it is gone.
    pub fn answered_for(&mut self, session: SessionRef) -> Option<&mut Session> {
        let entry = self.slots.entry(session.slot, session.generation)?;
        self.offered -= u32::from(std::mem::take(&mut entry.inbox.is_offered));
        Some(entry)
    }

    /// Whether some are named for the flush and not answered for.
    #[must_use]
    pub fn are_offered(&self) -> bool {
        self.offered > 0
    }

    /// Removes a session.
    pub fn remove(&mut self, slot: SessionSlot) -> (SessionRef, Session) {
        let reference = self.reference(slot);
        let session = self.slots.remove(slot, reference.generation).expect("a used slot");
        self.offered -= u32::from(session.inbox.is_offered);
        (reference, session)
    }
}
