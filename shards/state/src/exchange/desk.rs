//! One vhost's desk: who is given which trigger.
//!
//! Workers with the same filter form a class. A trigger's event is matched once against each class
//! when it is placed or waits, never against each worker.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use webrocket_wire::Trigger;

use super::{
    desks::{AssignationFailed, DeskOrder, TriggerId},
    queue::{Queue, QueueLimits, Waiting},
    worker::{Filter, Worker, WorkerRef},
};
use crate::{slots::Slots, vhost::VhostId};

/// A vhost's workers, and what waits for them.
#[derive(Debug)]
pub(super) struct Desk {
    vhost: VhostId,
    pub(super) limits: QueueLimits,
    classes: BTreeMap<Arc<str>, Class>,
    queue: Queue,
    /// How many triggers were ever placed.
    placed: u64,
    /// How many were ever given to a worker.
    given: u64,
}

/// The workers with one filter.
#[derive(Debug)]
struct Class {
    filter: Filter,
    members: BTreeSet<WorkerRef>,
    /// Those with room: the least loaded first, among equals who was served longest ago.
    idle: BTreeSet<(usize, u64, WorkerRef)>,
    /// What they could have.
    waiting: BTreeSet<TriggerId>,
}

impl Desk {
    pub(super) fn new(vhost: VhostId, limits: QueueLimits) -> Self {
        Self { vhost, limits, classes: BTreeMap::new(), queue: Queue::default(), placed: 0, given: 0 }
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerRef> + '_ {
        self.classes.values().flat_map(|class| class.members.iter().copied())
    }

    /// How many triggers wait, and how many bytes they count for.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.bytes())
    }

    pub(super) fn place(
        &mut self,
        workers: &mut Slots<Worker>,
        trigger: Trigger,
        orders: &mut VecDeque<DeskOrder>,
    ) -> Result<(), AssignationFailed> {
        let is_wanted = self.classes.values().any(|class| class.filter.matches(trigger.event()));
        if !is_wanted {
            return Err(AssignationFailed);
        }
        let best = self.best(trigger.event(), None);
        if best.is_none() && !self.queue.has_room(&trigger, &self.limits) {
            return Err(AssignationFailed);
        }
        self.placed += 1;
        let waiting = Waiting { trigger: Arc::new(trigger), deliveries: 0, refused_by: None };
        match best {
            Some(worker) => self.give(workers, worker, TriggerId(self.placed), waiting, orders),
            None => self.wait(TriggerId(self.placed), waiting),
        }
        Ok(())
    }

    /// A worker comes, and takes what waits for it.
    pub(super) fn join(
        &mut self,
        workers: &mut Slots<Worker>,
        worker: WorkerRef,
        orders: &mut VecDeque<DeskOrder>,
    ) {
        let filter = &workers[worker.slot].filter;
        if !self.classes.contains_key(filter.as_str()) {
            let matching = self.queue.iter().filter(|(_, waiting)| filter.matches(waiting.trigger.event()));
            let waiting = matching.map(|(id, _)| id).collect();
            let class =
                Class { filter: filter.clone(), members: BTreeSet::new(), idle: BTreeSet::new(), waiting };
            self.classes.insert(filter.as_str().into(), class);
        }
        self.class_of(&workers[worker.slot]).members.insert(worker);
        self.serve(workers, worker, orders);
    }

    /// A worker may have got room: it takes what waits for it.
    pub(super) fn serve(
        &mut self,
        workers: &mut Slots<Worker>,
        worker: WorkerRef,
        orders: &mut VecDeque<DeskOrder>,
    ) {
        self.refile(workers, worker);
        while workers[worker.slot].has_room()
            && let Some(id) = self.next_for(&workers[worker.slot], worker)
        {
            let waiting = self.queue.remove(id);
            for class in self.classes.values_mut() {
                class.waiting.remove(&id);
            }
            self.give(workers, worker, id, waiting, orders);
        }
    }

    /// A worker goes; what it has not acknowledged is given to others.
    pub(super) fn leave(
        &mut self,
        workers: &mut Slots<Worker>,
        worker: WorkerRef,
        orders: &mut VecDeque<DeskOrder>,
    ) {
        let mut gone = workers.remove(worker.slot, worker.generation).expect("a worker of this desk");
        let class = self.class_of(&gone);
        class.members.remove(&worker);
        if let Some((load, served)) = gone.filed.take() {
            class.idle.remove(&(load, served, worker));
        }
        if class.members.is_empty() {
            self.classes.remove(gone.filter.as_str());
        }
        for (id, waiting) in gone.outstanding {
            self.take_back(workers, id, waiting, None, orders);
        }
    }

    /// A trigger comes back: somebody else has it at once, or it waits in its place, or it has come back too often.
    pub(super) fn take_back(
        &mut self,
        workers: &mut Slots<Worker>,
        id: TriggerId,
        mut waiting: Waiting,
        refused_by: Option<WorkerRef>,
        orders: &mut VecDeque<DeskOrder>,
    ) {
        if waiting.deliveries > self.limits.redeliveries_max {
            orders.push_back(DeskOrder::GiveUp { vhost: self.vhost, trigger: waiting.trigger });
            return;
        }
        waiting.refused_by = refused_by;
        match self.best(waiting.trigger.event(), refused_by) {
            Some(worker) => self.give(workers, worker, id, waiting, orders),
            None => self.wait(id, waiting),
        }
    }

    /// Files a worker under its load if it has room, else nowhere.
    pub(super) fn refile(&mut self, workers: &mut Slots<Worker>, worker: WorkerRef) {
        let entry = &mut workers[worker.slot];
        let filed = entry.has_room().then_some((entry.outstanding.len(), entry.served));
        let before = std::mem::replace(&mut entry.filed, filed);
        let class = self.class_of(&workers[worker.slot]);
        if let Some((load, served)) = before {
            class.idle.remove(&(load, served, worker));
        }
        if let Some((load, served)) = filed {
            class.idle.insert((load, served, worker));
        }
    }

    /// The least loaded worker with room for the event, other than `except`.
    fn best(&self, event: &str, except: Option<WorkerRef>) -> Option<WorkerRef> {
        let matching = self.classes.values().filter(|class| class.filter.matches(event));
        let first =
            matching.filter_map(|class| class.idle.iter().find(|(.., worker)| Some(*worker) != except));
        first.min().map(|(.., worker)| *worker)
    }

    /// The oldest trigger that waits for a worker. What it has refused it gets again only if nobody
    /// else could have it.
    fn next_for(&self, entry: &Worker, worker: WorkerRef) -> Option<TriggerId> {
        let class = &self.classes[entry.filter.as_str()];
        let mut ids = class.waiting.iter().copied();
        ids.find(|id| {
            let waiting = self.queue.get(*id);
            waiting.refused_by != Some(worker) || !self.others_take(waiting.trigger.event(), worker)
        })
    }

    fn others_take(&self, event: &str, worker: WorkerRef) -> bool {
        let has_other = |class: &&Class| class.members.iter().any(|member| *member != worker);
        self.classes.values().filter(has_other).any(|class| class.filter.matches(event))
    }

    fn wait(&mut self, id: TriggerId, waiting: Waiting) {
        for class in self.classes.values_mut() {
            if class.filter.matches(waiting.trigger.event()) {
                class.waiting.insert(id);
            }
        }
        self.queue.insert(id, waiting);
    }

    fn give(
        &mut self,
        workers: &mut Slots<Worker>,
        worker: WorkerRef,
        id: TriggerId,
        mut waiting: Waiting,
        orders: &mut VecDeque<DeskOrder>,
    ) {
        self.given += 1;
        waiting.deliveries += 1;
        let trigger = Arc::clone(&waiting.trigger);
        let entry = &mut workers[worker.slot];
        entry.served = self.given;
        let id = entry.window.map(|_| {
            entry.outstanding.insert(id, waiting);
            id
        });
        orders.push_back(DeskOrder::Deliver { worker, trigger, id });
        self.refile(workers, worker);
    }

    fn class_of(&mut self, worker: &Worker) -> &mut Class {
        self.classes.get_mut(worker.filter.as_str()).expect("a worker is in its filter's class")
    }
}
