//! The peers of the ROUTER socket that are something to the exchange: clients with open requests,
//! and ready workers.
//!
//! A peer that has nothing open and is no worker is not known: there is nothing to forget when
//! its connection goes, and a peer that asks again is as good as a new one.

use std::{collections::HashMap, sync::Arc};

use super::{Pass, PeerName, WorkerRef, client::Requests};
use crate::{
    ids::{SessionRef, ShardId},
    slots::{SessionSlot, Slots},
};

/// The most peers that are known at a time. One more that asks is refused.
pub const PEERS_MAX: usize = 100_000;

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: PeerName,
    /// What its connection was let in with.
    pub(super) pass: Pass,
    pub(super) requests: Requests,
    /// It waits for room on a link.
    pub(super) is_stopped: bool,
    pub(super) worker: Option<WorkerRef>,
}

/// All known peers.
#[derive(Debug)]
pub(super) struct Peers {
    exchange: ShardId,
    entries: Slots<SessionSlot, Peer>,
    by_name: HashMap<PeerName, SessionRef, ahash::RandomState>,
}

impl Peers {
    pub(super) fn new(exchange: ShardId) -> Self {
        Self { exchange, entries: Slots::default(), by_name: HashMap::default() }
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<SessionRef> {
        self.by_name.get(name).copied()
    }

    /// Knows a peer from now on, unless there are too many.
    pub(super) fn insert(&mut self, name: &[u8], pass: Pass) -> Option<SessionRef> {
        if self.entries.len() >= PEERS_MAX {
            return None;
        }
        let name: PeerName = name.into();
        let peer = Peer {
            name: Arc::clone(&name),
            pass,
            requests: Requests::default(),
            is_stopped: false,
            worker: None,
        };
        let (slot, generation) = self.entries.insert(peer);
        let session = SessionRef { shard: self.exchange, slot, generation };
        self.by_name.insert(name, session);
        Some(session)
    }

    pub(super) fn entry(&mut self, session: SessionRef) -> Option<&mut Peer> {
        self.entries.entry(session.slot, session.generation)
    }

    pub(super) fn remove(&mut self, session: SessionRef) -> Option<Peer> {
        let peer = self.entries.remove(session.slot, session.generation)?;
        self.by_name.remove(&peer.name);
        Some(peer)
    }
}
