//! What long work a shard has begun.

use crate::{
    command::Ticket,
    slots::{SessionSlot, ViewSlot},
    vhost::VhostId,
};

/// Long work that goes on at the shard's next turn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    /// Tell the subscribers of a closed channel.
    CloseView { view: ViewSlot, generation: u32 },
    /// Apply a vhost's snapshot, whichever it is by then, to its sessions, from this slot on.
    SweepVhost { ticket: Ticket<()>, vhost: VhostId, next: SessionSlot },
    /// Close a vhost's sessions, from this slot on.
    CloseVhost { ticket: Ticket<()>, vhost: VhostId, next: SessionSlot },
    /// Close all sessions, from this slot on.
    Shutdown { next: SessionSlot },
}

/// Where work on all sessions begins.
pub(super) const FIRST: SessionSlot = SessionSlot(0);
