//! The desks of all vhosts: who handles a trigger.
//!
//! A vhost's *desk* holds its ready workers and the triggers that wait while all who could take
//! them are busy. To the desk a worker is a filter, a window and what it has not acknowledged,
//! whatever its transport is.
//!
//! Invariants:
//!
//! - A trigger that was placed is in one place: it waits, one worker has it, or it is done.
//! - While a worker has room, nothing that it may have waits: a trigger never overtakes an earlier
//!   one that the same worker could have had.
//! - What a worker gives back, or leaves behind when it goes, waits again in its original place,
//!   in front of everything that was placed after it.
//! - Nothing passes from one vhost to another.
//!
//! Does not: encode, send, or know what a trigger says beyond its event's name.
//!
//! Source: docs/protocol.md, "Triggers".

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use webrocket_wire::Trigger;

use super::{
    desk::Desk,
    queue::QueueLimits,
    worker::{Filter, Worker, WorkerInfo, WorkerRef},
};
use crate::{deadlines::Deadlines, slots::Slots, vhost::VhostId};

/// A worker that is silent for so long is dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Names a trigger within its vhost, in the order of placing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerId(pub u64);

/// Nobody can take the trigger: no worker's filter matches, or the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssignationFailed;

/// What is to be done for a desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeskOrder {
    /// Send a trigger to a worker.
    Deliver {
        /// Whom to.
        worker: WorkerRef,
        /// What.
        trigger: Arc<Trigger>,
        /// By what the worker acknowledges it; `None` for a worker without window.
        id: Option<TriggerId>,
    },
    /// Tell a worker that it is one no more.
    Dismiss(WorkerRef),
    /// A trigger was given to so many workers in vain that it is given up: to be counted and logged.
    GiveUp {
        /// The vhost.
        vhost: VhostId,
        /// What nobody handled.
        trigger: Arc<Trigger>,
    },
}

/// The desks of all vhosts.
#[derive(Debug, Default)]
pub struct Desks {
    desks: BTreeMap<VhostId, Desk>,
    workers: Slots<Worker>,
    deadlines: Deadlines,
    orders: VecDeque<DeskOrder>,
}

impl Desks {
    /// What to do next.
    pub fn next_order(&mut self) -> Option<DeskOrder> {
        self.orders.pop_front()
    }

    /// When [`Desks::expire`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// The workers of a vhost, in no particular order.
    #[must_use]
    pub fn workers(&self, vhost: VhostId) -> Vec<WorkerInfo> {
        let Some(desk) = self.desks.get(&vhost) else { return Vec::new() };
        desk.workers().map(|worker| self.workers[worker.slot].info(worker)).collect()
    }

    /// How many triggers wait at a vhost's desk, and how many bytes they count for.
    #[must_use]
    pub fn waiting(&self, vhost: VhostId) -> (usize, usize) {
        self.desks.get(&vhost).map_or((0, 0), Desk::waiting)
    }

    /// A vhost came, or its limits changed.
    pub fn put_vhost(&mut self, vhost: VhostId, limits: QueueLimits) {
        self.desks.entry(vhost).or_insert_with(|| Desk::new(vhost, limits)).limits = limits;
    }

    /// A vhost is gone, and all that waits there; its workers are dismissed.
    pub fn remove_vhost(&mut self, vhost: VhostId) {
        let Some(desk) = self.desks.remove(&vhost) else { return };
        for worker in desk.workers() {
            self.workers.remove(worker.slot, worker.generation);
            self.orders.push_back(DeskOrder::Dismiss(worker));
        }
    }

    /// Places a trigger. `streamed`: a stream subscriber receives it; that counts as handled
    /// while the vhost has no worker at all.
    ///
    /// # Errors
    /// [`AssignationFailed`]
    pub fn place(
        &mut self,
        vhost: VhostId,
        trigger: Trigger,
        streamed: bool,
    ) -> Result<(), AssignationFailed> {
        let desk = self.desks.get_mut(&vhost).ok_or(AssignationFailed)?;
        if desk.workers().next().is_none() {
            return if streamed { Ok(()) } else { Err(AssignationFailed) };
        }
        desk.place(&mut self.workers, trigger, &mut self.orders)
    }

    /// A worker is ready. `window`: how many triggers it takes without having acknowledged them;
    /// `None`: it acknowledges none. Returns `None` if there is no such vhost.
    pub fn ready(
        &mut self,
        now: Instant,
        vhost: VhostId,
        filter: Filter,
        window: Option<u32>,
    ) -> Option<WorkerRef> {
        let desk = self.desks.get_mut(&vhost)?;
        let (slot, generation) = self.workers.insert(Worker::new(now, vhost, filter, window));
        let worker = WorkerRef { slot, generation };
        self.deadlines.push(now + SILENCE_MAX, slot, generation);
        desk.join(&mut self.workers, worker, &mut self.orders);
        Some(worker)
    }

    /// A worker gives a sign of life. `false` if it is none any more.
    pub fn heard(&mut self, now: Instant, worker: WorkerRef) -> bool {
        let entry = self.workers.entry(worker.slot, worker.generation);
        entry.map(|entry| entry.heard = now).is_some()
    }

    /// A worker has handled a trigger. One that it does not have is ignored.
    pub fn acknowledge(&mut self, worker: WorkerRef, id: TriggerId) {
        let Some(desk) = desk_of(&self.workers, &mut self.desks, worker) else { return };
        if self.workers[worker.slot].outstanding.remove(&id).is_some() {
            desk.serve(&mut self.workers, worker, &mut self.orders);
        }
    }

    /// A worker gives a trigger back: somebody else shall have it, if there is somebody.
    pub fn refuse(&mut self, worker: WorkerRef, id: TriggerId) {
        let Some(desk) = desk_of(&self.workers, &mut self.desks, worker) else { return };
        if let Some(waiting) = self.workers[worker.slot].outstanding.remove(&id) {
            desk.take_back(&mut self.workers, id, waiting, Some(worker), &mut self.orders);
            desk.serve(&mut self.workers, worker, &mut self.orders);
        }
    }

    /// The way to a worker is full, or has room again: while it is full, the worker gets nothing.
    pub fn set_congested(&mut self, worker: WorkerRef, congested: bool) {
        let Some(desk) = desk_of(&self.workers, &mut self.desks, worker) else { return };
        self.workers[worker.slot].congested = congested;
        desk.serve(&mut self.workers, worker, &mut self.orders);
    }

    /// A worker leaves, or has died: others get what it has not acknowledged.
    pub fn leave(&mut self, worker: WorkerRef) {
        let Some(desk) = desk_of(&self.workers, &mut self.desks, worker) else { return };
        desk.leave(&mut self.workers, worker, &mut self.orders);
    }

    /// Dismisses workers that have been silent for too long.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, slot, generation)) = self.deadlines.pop_due(now) {
            let Some(entry) = self.workers.entry(slot, generation) else { continue };
            let until = entry.heard + SILENCE_MAX;
            if now < until {
                self.deadlines.push(until, slot, generation);
                continue;
            }
            let worker = WorkerRef { slot, generation };
            self.orders.push_back(DeskOrder::Dismiss(worker));
            self.leave(worker);
        }
    }
}

/// The desk at which a worker stands, unless the worker is gone.
fn desk_of<'a>(
    workers: &Slots<Worker>,
    desks: &'a mut BTreeMap<VhostId, Desk>,
    worker: WorkerRef,
) -> Option<&'a mut Desk> {
    let vhost = workers.peek(worker.slot, worker.generation)?.vhost;
    Some(desks.get_mut(&vhost).expect("workers go with their vhost"))
}
