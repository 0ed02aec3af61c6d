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
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use webrocket_wire::Trigger;

use super::{
    desk::{AssignationFailed, Desk, DeskOrder, Floor},
    ids::{TriggerId, WorkerRef},
    queue::{QueueInfo, QueueLimits},
    worker::{Application, Filter, Transport, Worker, WorkerInfo},
};
use crate::{deadlines::Deadlines, slots::WorkerSlot, vhost::VhostId};

/// A worker over ZeroMQ that is silent for so long is dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);

/// The desks of all vhosts.
#[derive(Debug, Default)]
pub(super) struct Desks {
    desks: HashMap<VhostId, Desk, ahash::RandomState>,
    floor: Floor,
    deadlines: Deadlines<WorkerSlot>,
    /// How many workers ever came.
    came: u64,
}

impl Desks {
    /// What to do next.
    pub(super) fn next_order(&mut self) -> Option<DeskOrder> {
        self.floor.orders.pop_front()
    }

    /// When [`Desks::expire`] is due at the latest.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// The workers of a vhost, in the order in which they came.
    #[must_use]
    pub(super) fn workers(&self, vhost: VhostId) -> Vec<WorkerInfo> {
        self.desks.get(&vhost).map_or_else(Vec::new, |desk| desk.infos(&self.floor))
    }

    /// What a vhost's desk has counted; streams are not its business.
    #[must_use]
    pub(super) fn counts(&self, vhost: VhostId) -> Option<QueueInfo> {
        self.desks.get(&vhost).map(Desk::counts)
    }

    /// What the desks of all vhosts have counted, removed ones included.
    #[must_use]
    pub(super) fn total(&self) -> &QueueInfo {
        &self.floor.total
    }

    /// The filter with this text, if a worker of the vhost has it.
    #[must_use]
    pub(super) fn filter(&self, vhost: VhostId, text: &str) -> Option<&Filter> {
        self.desks.get(&vhost)?.filter(text)
    }

    /// How many different filters the vhost's workers have.
    #[must_use]
    pub(super) fn filters(&self, vhost: VhostId) -> usize {
        self.desks.get(&vhost).map_or(0, Desk::filters)
    }

    /// A vhost came, or its limits changed.
    pub(super) fn put_vhost(&mut self, vhost: VhostId, limits: QueueLimits) {
        self.desks.entry(vhost).or_insert_with(|| Desk::new(vhost, limits)).limits = limits;
    }

    /// A vhost is gone; its workers are dismissed. Returns how many triggers waited there.
    pub(super) fn remove_vhost(&mut self, vhost: VhostId) -> u64 {
        self.desks.remove(&vhost).map_or(0, |desk| desk.remove(&mut self.floor))
    }

    /// Places a trigger. `streamed`: a stream receives it; that counts as handled while the vhost
    /// has no worker at all.
    ///
    /// # Errors
    /// [`AssignationFailed`]
    pub(super) fn place(
        &mut self,
        vhost: VhostId,
        trigger: Arc<Trigger>,
        streamed: bool,
    ) -> Result<TriggerId, AssignationFailed> {
        let desk = self.desks.get_mut(&vhost).ok_or(AssignationFailed)?;
        desk.place(&mut self.floor, trigger, streamed)
    }

    /// A worker is ready. Returns `None` if there is no such vhost.
    pub(super) fn ready(
        &mut self,
        now: Instant,
        vhost: VhostId,
        application: Application,
    ) -> Option<WorkerRef> {
        let desk = self.desks.get_mut(&vhost)?;
        let is_heard_of = application.transport == Transport::ZeroMq;
        self.came += 1;
        let (slot, generation) = self.floor.workers.insert(Worker::new(now, vhost, application, self.came));
        let worker = WorkerRef { slot, generation };
        if is_heard_of {
            self.deadlines.push(now + SILENCE_MAX, slot, generation);
        }
        desk.join(&mut self.floor, worker);
        Some(worker)
    }

    /// A worker gives a sign of life.
    pub(super) fn heard(&mut self, now: Instant, worker: WorkerRef) {
        if let Some(entry) = self.floor.workers.entry(worker.slot, worker.generation) {
            entry.heard = now;
        }
    }

    /// A worker has handled a trigger. One that it does not have is ignored.
    pub(super) fn acknowledge(&mut self, worker: WorkerRef, id: TriggerId) {
        if let Some((desk, floor)) = self.desk_of(worker) {
            desk.acknowledge(floor, worker, id);
        }
    }

    /// A worker gives a trigger back: somebody else shall have it, if there is somebody.
    pub(super) fn refuse(&mut self, worker: WorkerRef, id: TriggerId) {
        if let Some((desk, floor)) = self.desk_of(worker) {
            desk.refuse(floor, worker, id);
        }
    }

    /// A [`DeskOrder::Deliver`] is to be carried out now: `false` if it is not to be any more, because the
    /// worker has gone or the way to it is full. Who has no window is done with the trigger.
    pub(super) fn sent(&mut self, worker: WorkerRef, id: TriggerId) -> bool {
        self.desk_of(worker).is_some_and(|(desk, floor)| desk.sent(floor, worker, id))
    }

    /// A trigger that was [`Desks::sent`] found the way to its worker full. It waits in its place
    /// again, with all that was to be sent behind it, and the worker gets nothing until [`Desks::relieve`].
    pub(super) fn undelivered(&mut self, worker: WorkerRef, id: TriggerId, trigger: Arc<Trigger>) {
        if let Some((desk, floor)) = self.desk_of(worker) {
            desk.undelivered(floor, worker, id, trigger);
        }
    }

    /// The way to a worker may have room again.
    pub(super) fn relieve(&mut self, worker: WorkerRef) {
        if let Some((desk, floor)) = self.desk_of(worker) {
            floor.workers[worker.slot].is_congested = false;
            desk.serve(floor, worker);
        }
    }

    /// A worker leaves, or has died: others get what it has not acknowledged.
    pub(super) fn leave(&mut self, worker: WorkerRef) {
        if let Some((desk, floor)) = self.desk_of(worker) {
            desk.leave(floor, &[worker]);
        }
    }

    /// Dismisses all workers of a vhost; what they have not acknowledged waits for those who come.
    pub(super) fn dismiss_all(&mut self, vhost: VhostId) {
        let Some(desk) = self.desks.get_mut(&vhost) else { return };
        let workers = desk.workers();
        self.floor.orders.extend(workers.iter().copied().map(DeskOrder::Dismiss));
        desk.leave(&mut self.floor, &workers);
    }

    /// Dismisses workers that have been silent for too long, all at once, so that none of them
    /// inherits from another; how many. What was said before `delayed` may not have been heard.
    pub(super) fn expire(&mut self, now: Instant, delayed: Option<Instant>) -> u64 {
        let mut silent: BTreeMap<VhostId, Vec<WorkerRef>> = BTreeMap::new();
        let mut count = 0;
        while let Some((_, slot, generation)) = self.deadlines.pop_due(now) {
            let Some(entry) = self.floor.workers.entry(slot, generation) else { continue };
            let heard = delayed.map_or(entry.heard, |delayed| entry.heard.max(delayed));
            let until = heard + SILENCE_MAX;
            if now < until {
                self.deadlines.push(until, slot, generation);
            } else {
                silent.entry(entry.vhost).or_default().push(WorkerRef { slot, generation });
                count += 1;
            }
        }
        for (vhost, workers) in silent {
            self.floor.orders.extend(workers.iter().copied().map(DeskOrder::Dismiss));
            let desk = self.desks.get_mut(&vhost).expect("workers go with their vhost");
            desk.leave(&mut self.floor, &workers);
        }
        count
    }

    /// The desk at which a worker stands, unless the worker is gone.
    fn desk_of(&mut self, worker: WorkerRef) -> Option<(&mut Desk, &mut Floor)> {
        let vhost = self.floor.workers.peek(worker.slot, worker.generation)?.vhost;
        let desk = self.desks.get_mut(&vhost).expect("workers go with their vhost");
        Some((desk, &mut self.floor))
    }
}
