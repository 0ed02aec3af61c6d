//! Who the workers of the desks are: peers of the ROUTER socket, or takers over HTTP.

use super::{
    ids::{PeerName, WorkerRef},
    message::SourceId,
};
use crate::ids::SessionRef;

/// Who a worker is.
#[derive(Debug)]
pub(super) enum Taker {
    Peer { session: SessionRef, name: PeerName },
    Source(SourceId),
}

/// A worker's seat at its desk.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) worker: WorkerRef,
    pub(super) taker: Taker,
    /// Whether it says what it has handled.
    pub(super) is_acknowledged: bool,
}

/// The seats of all desks, by the worker's slot.
#[derive(Debug, Default)]
pub(super) struct Seats(Vec<Option<Seat>>);

impl Seats {
    pub(super) fn find(&self, worker: WorkerRef) -> Option<&Seat> {
        self.0.get(worker.slot.index())?.as_ref().filter(|seat| seat.worker == worker)
    }

    pub(super) fn put(&mut self, seat: Seat) {
        let slot = seat.worker.slot.index();
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(seat);
    }

    pub(super) fn take(&mut self, worker: WorkerRef) -> Option<Seat> {
        self.0.get_mut(worker.slot.index())?.take_if(|seat| seat.worker == worker)
    }
}
