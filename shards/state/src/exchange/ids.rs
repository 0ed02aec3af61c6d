//! What the exchange calls its peers, its workers and their triggers.

use std::sync::Arc;

use crate::slots::WorkerSlot;

/// The name of a peer on the ROUTER socket: its routing id.
pub type PeerName = Arc<[u8]>;

/// Names a worker; never valid for a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerRef {
    /// Its slot in the exchange.
    pub slot: WorkerSlot,
    /// Which worker in that slot.
    pub generation: u32,
}

/// Names a trigger within its vhost, in the order of placing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerId(pub u64);
