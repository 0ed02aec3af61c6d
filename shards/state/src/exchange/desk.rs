//! One vhost's desk: who is given which trigger.
//!
//! Workers with the same filter form a class. A trigger's event is matched against each class, not
//! against each worker, and what came of it is remembered by the event's name.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use webrocket_wire::Trigger;

use super::{
    ids::{TriggerId, WorkerRef},
    queue::{Queue, QueueInfo, QueueLimits, Waiting},
    worker::{Filter, Worker, WorkerInfo},
};
use crate::{
    slots::{Slots, WorkerSlot},
    vhost::VhostId,
};

/// Of so many events it is remembered which classes take them; then it begins anew.
const ROUTES_MAX: usize = 1_024;

/// Nobody can take the trigger: no worker's filter matches, or the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssignationFailed;

/// What is to be done for a desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeskOrder {
    /// Send a trigger to a worker, if it [still shall be sent](super::desks::Desks::sent).
    Deliver {
        /// Whom to.
        worker: WorkerRef,
        /// What.
        trigger: Arc<Trigger>,
        /// Which one.
        id: TriggerId,
    },
    /// Tell a worker that it is one no more.
    Dismiss(WorkerRef),
    /// A trigger was given to so many workers in vain that it is given up: to be logged.
    GiveUp {
        /// The vhost.
        vhost: VhostId,
        /// What nobody handled.
        trigger: Arc<Trigger>,
    },
}

/// What all desks share.
#[derive(Debug, Default)]
pub(super) struct Floor {
    pub(super) workers: Slots<WorkerSlot, Worker>,
    pub(super) orders: VecDeque<DeskOrder>,
    /// What the desks of all vhosts count, removed ones included.
    pub(super) total: QueueInfo,
}

/// A vhost's workers, and what waits for them.
#[derive(Debug)]
pub(super) struct Desk {
    vhost: VhostId,
    pub(super) limits: QueueLimits,
    /// A class keeps its place; an empty one is given anew.
    classes: Vec<Option<Class>>,
    by_filter: HashMap<Arc<str>, u32, ahash::RandomState>,
    /// Which classes take an event.
    routes: HashMap<Box<str>, Arc<[u32]>, ahash::RandomState>,
    queue: Queue,
    counts: QueueInfo,
    /// The last trigger's number.
    last: u64,
    /// How many triggers were ever given to a worker.
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
        Self {
            vhost,
            limits,
            classes: Vec::new(),
            by_filter: HashMap::default(),
            routes: HashMap::default(),
            queue: Queue::default(),
            counts: QueueInfo::default(),
            last: 0,
            given: 0,
        }
    }

    pub(super) fn counts(&self) -> QueueInfo {
        self.counts
    }

    /// The vhost's workers, in the order in which they came.
    pub(super) fn infos(&self, floor: &Floor) -> Vec<WorkerInfo> {
        let mut workers = self.workers();
        workers.sort_by_key(|worker| floor.workers[worker.slot].number);
        workers.into_iter().map(|worker| floor.workers[worker.slot].info(worker)).collect()
    }

    pub(super) fn workers(&self) -> Vec<WorkerRef> {
        self.classes.iter().flatten().flat_map(|class| class.members.iter().copied()).collect()
    }

    /// The filter with this text, if a worker here has it.
    pub(super) fn filter(&self, text: &str) -> Option<&Filter> {
        self.by_filter.get(text).map(|class| &self.class(*class).filter)
    }

    /// How many different filters the workers here have.
    pub(super) fn filters(&self) -> usize {
        self.by_filter.len()
    }

    pub(super) fn place(
        &mut self,
        floor: &mut Floor,
        trigger: Arc<Trigger>,
        streamed: bool,
    ) -> Result<TriggerId, AssignationFailed> {
        let route = self.route(trigger.event());
        let best = self.best(&route, None).filter(|_| !self.queue.is_flooded(&self.limits));
        let is_handled_by_streams = streamed && self.counts.workers == 0;
        let may_wait = !route.is_empty() && self.queue.has_room(&trigger, &self.limits);
        if best.is_none() && !may_wait && !is_handled_by_streams {
            self.count(floor, |counts| counts.refused += 1);
            return Err(AssignationFailed);
        }
        self.count(floor, |counts| counts.placed += 1);
        self.last += 1;
        let id = TriggerId(self.last);
        let waiting = Waiting { trigger, deliveries: 0, refused_by: None };
        match best {
            Some(worker) => self.give(floor, worker, id, waiting),
            None if is_handled_by_streams => {}
            None => self.wait(floor, id, waiting, &route),
        }
        Ok(id)
    }

    /// A worker comes, and takes what waits for it.
    pub(super) fn join(&mut self, floor: &mut Floor, worker: WorkerRef) {
        let filter = &floor.workers[worker.slot].application.filter;
        let class = match self.by_filter.get(filter.as_str()) {
            Some(class) => *class,
            None => self.open_class(filter.clone()),
        };
        floor.workers[worker.slot].class = class;
        self.class_mut(class).members.insert(worker);
        self.count(floor, |counts| counts.workers += 1);
        self.serve(floor, worker);
    }

    /// A worker may have got room: it takes what waits for it.
    pub(super) fn serve(&mut self, floor: &mut Floor, worker: WorkerRef) {
        self.refile(floor, worker);
        while floor.workers[worker.slot].has_room()
            && let Some(id) = self.next_for(&floor.workers[worker.slot], worker)
        {
            let waiting = self.take(floor, id);
            self.give(floor, worker, id, waiting);
        }
    }

    /// A worker has handled a trigger. One that it does not have is ignored.
    pub(super) fn acknowledge(&mut self, floor: &mut Floor, worker: WorkerRef, id: TriggerId) {
        if self.answered(floor, worker, id).is_some() {
            self.serve(floor, worker);
        }
    }

    /// A worker gives a trigger back. One that it does not have is ignored.
    pub(super) fn refuse(&mut self, floor: &mut Floor, worker: WorkerRef, id: TriggerId) {
        if let Some(waiting) = self.answered(floor, worker, id) {
            self.refile(floor, worker);
            self.take_back(floor, id, waiting, Some(worker));
            self.serve(floor, worker);
        }
    }

    /// A trigger is handed over to the way to its worker: `false` if it shall not be.
    pub(super) fn sent(&mut self, floor: &mut Floor, worker: WorkerRef, id: TriggerId) -> bool {
        let entry = &mut floor.workers[worker.slot];
        if entry.unsent.front() != Some(&id) {
            return false;
        }
        entry.unsent.pop_front();
        if entry.application.window.is_none() {
            let waiting = self.end(floor, worker, id);
            floor.workers[worker.slot].last_sent = waiting.map(|waiting| (id, waiting));
            self.serve(floor, worker);
        }
        true
    }

    /// A trigger was not sent after all, because the way is full: what is not sent yet waits in
    /// its place, and the worker gets nothing until there is room again.
    pub(super) fn undelivered(
        &mut self,
        floor: &mut Floor,
        worker: WorkerRef,
        id: TriggerId,
        trigger: Arc<Trigger>,
    ) {
        let entry = &mut floor.workers[worker.slot];
        entry.is_congested = true;
        let mut unsent = std::mem::take(&mut entry.unsent);
        let is_acknowledged = entry.application.window.is_some();
        let last_sent = entry.last_sent.take().filter(|(last, _)| *last == id);
        self.refile(floor, worker);
        if is_acknowledged {
            unsent.push_front(id);
        } else {
            let deliveries = last_sent.map_or(0, |(_, waiting)| waiting.deliveries - 1);
            self.take_back(floor, id, Waiting { trigger, deliveries, refused_by: None }, None);
        }
        for id in unsent {
            if let Some(mut waiting) = self.end(floor, worker, id) {
                waiting.deliveries -= 1;
                self.take_back(floor, id, waiting, None);
            }
        }
    }

    /// Workers go, all at once; what they have not acknowledged is given to those who stay.
    pub(super) fn leave(&mut self, floor: &mut Floor, workers: &[WorkerRef]) {
        let mut left = Vec::new();
        for worker in workers {
            let mut gone =
                floor.workers.remove(worker.slot, worker.generation).expect("a worker of this desk");
            self.close(*worker, &mut gone);
            for id in gone.unsent {
                gone.outstanding.get_mut(&id).expect("what is not sent is outstanding").deliveries -= 1;
            }
            let outstanding = gone.outstanding.len() as u64;
            self.count(floor, |counts| {
                counts.workers -= 1;
                counts.outstanding -= outstanding;
            });
            left.extend(gone.outstanding);
        }
        left.sort_unstable_by_key(|(id, _)| *id);
        for (id, waiting) in left {
            self.take_back(floor, id, waiting, None);
        }
        self.serve_idle(floor);
    }

    /// All workers go, and what waits is dropped; how many triggers.
    pub(super) fn remove(mut self, floor: &mut Floor) -> u64 {
        for worker in self.workers() {
            floor.workers.remove(worker.slot, worker.generation);
            floor.orders.push_back(DeskOrder::Dismiss(worker));
        }
        let counts = self.counts;
        self.count(floor, |total| {
            total.workers -= counts.workers;
            total.outstanding -= counts.outstanding;
            total.waiting -= counts.waiting;
            total.waiting_bytes -= counts.waiting_bytes;
        });
        counts.waiting
    }

    /// A trigger comes back: somebody else has it at once, or it waits in its place, or it has come back too often.
    fn take_back(
        &mut self,
        floor: &mut Floor,
        id: TriggerId,
        mut waiting: Waiting,
        refused_by: Option<WorkerRef>,
    ) {
        if waiting.deliveries > self.limits.redeliveries_max {
            self.count(floor, |counts| counts.dead += 1);
            floor.orders.push_back(DeskOrder::GiveUp { vhost: self.vhost, trigger: waiting.trigger });
            return;
        }
        waiting.refused_by = refused_by;
        let route = self.route(waiting.trigger.event());
        let is_full = !self.queue.has_room(&waiting.trigger, &self.limits);
        // Where it cannot wait for somebody else, who refused it gets it again, but not before what waits longer.
        let again = || refused_by.filter(|worker| is_full && self.is_next_for(floor, *worker, id));
        match self.best(&route, refused_by).or_else(again) {
            Some(worker) => self.give(floor, worker, id, waiting),
            None => self.wait(floor, id, waiting, &route),
        }
    }

    /// Those with room for whom something waits take it: they had refused it in favour of somebody who is gone.
    fn serve_idle(&mut self, floor: &mut Floor) {
        let waited_for = self.classes.iter().flatten().filter(|class| !class.waiting.is_empty());
        let idle: Vec<_> =
            waited_for.flat_map(|class| class.idle.iter().map(|(.., worker)| *worker)).collect();
        for worker in idle {
            self.serve(floor, worker);
        }
    }

    /// Files a worker under its load if it has room, else nowhere.
    pub(super) fn refile(&mut self, floor: &mut Floor, worker: WorkerRef) {
        let entry = &mut floor.workers[worker.slot];
        let filed = entry.has_room().then_some((entry.outstanding.len(), entry.served));
        if entry.filed == filed {
            return;
        }
        let before = std::mem::replace(&mut entry.filed, filed);
        let class = self.class_mut(entry.class);
        if let Some((load, served)) = before {
            class.idle.remove(&(load, served, worker));
        }
        if let Some((load, served)) = filed {
            class.idle.insert((load, served, worker));
        }
    }

    /// The least loaded worker with room, other than `except`.
    fn best(&self, route: &[u32], except: Option<WorkerRef>) -> Option<WorkerRef> {
        let first = route
            .iter()
            .filter_map(|class| self.class(*class).idle.iter().find(|(.., worker)| Some(*worker) != except));
        first.min().map(|(.., worker)| *worker)
    }

    /// The oldest trigger that waits for a worker. What it has refused it gets again only if nobody
    /// else could have it.
    fn next_for(&self, entry: &Worker, worker: WorkerRef) -> Option<TriggerId> {
        self.class(entry.class).waiting.iter().copied().find(|id| {
            let waiting = self.queue.get(*id);
            waiting.refused_by != Some(worker) || !self.others_take(waiting.trigger.event(), worker)
        })
    }

    /// Whether a worker has room for a trigger, and nothing that was placed before waits for it.
    fn is_next_for(&self, floor: &Floor, worker: WorkerRef, id: TriggerId) -> bool {
        let entry = &floor.workers[worker.slot];
        entry.has_room() && self.next_for(entry, worker).is_none_or(|next| next > id)
    }

    fn others_take(&self, event: &str, worker: WorkerRef) -> bool {
        let has_other = |class: &&Class| class.members.iter().any(|member| *member != worker);
        self.classes.iter().flatten().filter(has_other).any(|class| class.filter.matches(event))
    }

    fn wait(&mut self, floor: &mut Floor, id: TriggerId, waiting: Waiting, route: &[u32]) {
        for class in route {
            self.class_mut(*class).waiting.insert(id);
        }
        let bytes = waiting.trigger.bytes() as u64;
        self.count(floor, |counts| {
            counts.waiting += 1;
            counts.waiting_bytes += bytes;
        });
        self.queue.insert(id, waiting);
    }

    /// Takes a trigger out of the queue.
    fn take(&mut self, floor: &mut Floor, id: TriggerId) -> Waiting {
        let waiting = self.queue.remove(id);
        for class in &*self.route(waiting.trigger.event()) {
            self.class_mut(*class).waiting.remove(&id);
        }
        let bytes = waiting.trigger.bytes() as u64;
        self.count(floor, |counts| {
            counts.waiting -= 1;
            counts.waiting_bytes -= bytes;
        });
        waiting
    }

    fn give(&mut self, floor: &mut Floor, worker: WorkerRef, id: TriggerId, mut waiting: Waiting) {
        self.given += 1;
        let is_again = waiting.deliveries > 0;
        self.count(floor, |counts| {
            counts.outstanding += 1;
            counts.redelivered += u64::from(is_again);
        });
        waiting.deliveries += 1;
        let trigger = Arc::clone(&waiting.trigger);
        let entry = &mut floor.workers[worker.slot];
        entry.served = self.given;
        entry.outstanding.insert(id, waiting);
        entry.unsent.push_back(id);
        floor.orders.push_back(DeskOrder::Deliver { worker, trigger, id });
        self.refile(floor, worker);
    }

    /// Takes a trigger from a worker that speaks of it: it can know only what it was sent.
    fn answered(&mut self, floor: &mut Floor, worker: WorkerRef, id: TriggerId) -> Option<Waiting> {
        let entry = &floor.workers[worker.slot];
        if entry.application.window.is_none() || entry.unsent.contains(&id) {
            return None;
        }
        self.end(floor, worker, id)
    }

    /// Takes a trigger from a worker that has it.
    fn end(&mut self, floor: &mut Floor, worker: WorkerRef, id: TriggerId) -> Option<Waiting> {
        let waiting = floor.workers[worker.slot].outstanding.remove(&id)?;
        self.count(floor, |counts| counts.outstanding -= 1);
        Some(waiting)
    }

    fn count(&mut self, floor: &mut Floor, change: impl Fn(&mut QueueInfo)) {
        change(&mut self.counts);
        change(&mut floor.total);
    }

    /// Which classes take an event.
    fn route(&mut self, event: &str) -> Arc<[u32]> {
        if let Some(route) = self.routes.get(event) {
            return Arc::clone(route);
        }
        let classes = (0..).zip(&self.classes);
        let matching =
            classes.filter(|(_, class)| class.as_ref().is_some_and(|class| class.filter.matches(event)));
        let route: Arc<[u32]> = matching.map(|(place, _)| place).collect();
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(event.into(), Arc::clone(&route));
        route
    }

    fn open_class(&mut self, filter: Filter) -> u32 {
        let waiting = self.queue.iter().filter(|(_, waiting)| filter.matches(waiting.trigger.event()));
        let waiting = waiting.map(|(id, _)| id).collect();
        let text = filter.text();
        let class = Class { filter, members: BTreeSet::new(), idle: BTreeSet::new(), waiting };
        let place = self.classes.iter().position(Option::is_none).unwrap_or_else(|| {
            self.classes.push(None);
            self.classes.len() - 1
        });
        self.classes[place] = Some(class);
        let place = u32::try_from(place).expect("fewer than 2^32 classes");
        self.by_filter.insert(text, place);
        self.routes.clear();
        place
    }

    /// Takes a worker that goes out of its class, and the class with its last worker.
    fn close(&mut self, worker: WorkerRef, gone: &mut Worker) {
        let class = self.class_mut(gone.class);
        class.members.remove(&worker);
        if let Some((load, served)) = gone.filed.take() {
            class.idle.remove(&(load, served, worker));
        }
        if class.members.is_empty() {
            self.by_filter.remove(gone.application.filter.as_str());
            self.classes[gone.class as usize] = None;
            self.routes.clear();
        }
    }

    fn class(&self, place: u32) -> &Class {
        self.classes[place as usize].as_ref().expect("a class is there while it has workers")
    }

    fn class_mut(&mut self, place: u32) -> &mut Class {
        self.classes[place as usize].as_mut().expect("a class is there while it has workers")
    }
}
