//! The desks against a model that keeps account of every trigger.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use webrocket_wire::Trigger;

use super::{filter, number, trigger};
use crate::{
    exchange::{
        desk::{AssignationFailed, DeskOrder},
        desks::{Desks, SILENCE_MAX},
        ids::{TriggerId, WorkerRef},
        queue::{QueueLimits, RETURNED_MAX},
        worker::{Application, Transport},
    },
    vhost::VhostId,
};

const VHOST: VhostId = VhostId(7);
const LIMITS: QueueLimits = QueueLimits { triggers_max: 8, bytes_max: 1 << 20, redeliveries_max: 2 };

/// Desks with one vhost, and where every trigger is.
struct Bench {
    desks: Desks,
    now: Instant,
    workers: BTreeMap<WorkerRef, Known>,
    /// Placed triggers by their payload, which is their number.
    triggers: Vec<Place>,
}

/// What the model knows of a live worker.
struct Known {
    filter: &'static str,
    window: Option<u32>,
    /// What it has: id on the wire, and number.
    has: Vec<(TriggerId, usize)>,
    /// How many more triggers the way to it takes.
    room: usize,
    /// One was too many.
    is_full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waits,
    Given(WorkerRef),
    Done,
    GivenUp,
}

impl Bench {
    fn new() -> Self {
        let mut desks = Desks::default();
        desks.put_vhost(VHOST, LIMITS);
        Self { desks, now: Instant::now(), workers: BTreeMap::new(), triggers: Vec::new() }
    }

    fn ready(&mut self, text: &'static str, window: Option<u32>) -> WorkerRef {
        let application = Application { filter: filter(text), window, transport: Transport::ZeroMq };
        let worker = self.desks.ready(self.now, VHOST, application).unwrap();
        self.workers.insert(
            worker,
            Known { filter: text, window, has: Vec::new(), room: usize::MAX, is_full: false },
        );
        self.settle();
        worker
    }

    /// Places a trigger; its number, if somebody takes it.
    fn place(&mut self, event: &str) -> Option<usize> {
        let number = self.triggers.len();
        let trigger = trigger(event, number);
        self.desks.place(VHOST, Arc::new(trigger), false).ok()?;
        self.triggers.push(Place::Waits);
        self.settle();
        Some(number)
    }

    fn acknowledge(&mut self, worker: WorkerRef, index: usize) {
        let (id, number) = self.workers.get_mut(&worker).unwrap().has.remove(index);
        self.triggers[number] = Place::Done;
        self.desks.acknowledge(worker, id);
        self.settle();
    }

    fn refuse(&mut self, worker: WorkerRef, index: usize) {
        let (id, number) = self.workers.get_mut(&worker).unwrap().has.remove(index);
        self.triggers[number] = Place::Waits;
        self.desks.refuse(worker, id);
        self.settle();
    }

    fn leave(&mut self, worker: WorkerRef) {
        self.forget(worker);
        self.desks.leave(worker);
        self.settle();
    }

    fn forget(&mut self, worker: WorkerRef) {
        for (_, number) in self.workers.remove(&worker).unwrap().has {
            self.triggers[number] = Place::Waits;
        }
    }

    /// Carries out all orders and checks each.
    fn settle(&mut self) {
        while let Some(order) = self.desks.next_order() {
            match order {
                DeskOrder::Deliver { worker, trigger, id } => {
                    if self.desks.sent(worker, id) {
                        self.deliver(worker, trigger, id);
                    }
                }
                DeskOrder::Dismiss(worker) => self.forget(worker),
                DeskOrder::GiveUp { vhost, trigger } => {
                    assert_eq!(vhost, VHOST);
                    let number = number(&trigger);
                    assert_eq!(self.triggers[number], Place::Waits);
                    self.triggers[number] = Place::GivenUp;
                }
            }
        }
        self.check();
    }

    fn deliver(&mut self, worker: WorkerRef, trigger: Arc<Trigger>, id: TriggerId) {
        let number = number(&trigger);
        assert_eq!(self.triggers[number], Place::Waits, "one worker has a trigger at a time");
        let known = self.workers.get_mut(&worker).expect("only live workers are given anything");
        assert!(filter(known.filter).matches(trigger.event()));
        assert!(!known.is_full, "a worker gets nothing while the way to it is full");
        let Some(room) = known.room.checked_sub(1) else {
            known.is_full = true;
            return self.desks.undelivered(worker, id, trigger);
        };
        known.room = room;
        match known.window {
            Some(window) => {
                known.has.push((id, number));
                assert!(known.has.len() <= window as usize, "over the window");
                self.triggers[number] = Place::Given(worker);
            }
            None => self.triggers[number] = Place::Done,
        }
    }

    fn waiting(&self) -> usize {
        self.desks.counts(VHOST).unwrap().waiting.try_into().unwrap()
    }

    fn check(&self) {
        let waits = self.triggers.iter().filter(|place| **place == Place::Waits).count();
        assert_eq!(self.waiting(), waits, "every trigger is accounted for");
        assert_eq!(self.desks.counts(VHOST).as_ref(), Some(self.desks.total()));
        let mut infos = self.desks.workers(VHOST);
        infos.sort_by_key(|info| info.worker);
        let outstanding: usize = infos.iter().map(|info| info.outstanding).sum();
        assert_eq!(self.desks.total().outstanding, outstanding as u64);
        let known: Vec<_> = self.workers.iter().map(|(worker, known)| (*worker, known.has.len())).collect();
        assert_eq!(infos.iter().map(|info| (info.worker, info.outstanding)).collect::<Vec<_>>(), known);
    }
}

#[test]
fn work_is_shared_among_the_least_loaded() {
    let mut bench = Bench::new();
    let workers = [(); 3].map(|()| bench.ready("a", Some(2)));
    for number in 0..6 {
        assert_eq!(bench.place("a"), Some(number));
        assert_eq!(bench.triggers[number], Place::Given(workers[number % 3]));
    }
    assert_eq!(bench.place("a"), Some(6));
    assert_eq!(bench.triggers[6], Place::Waits);
    bench.acknowledge(workers[1], 0);
    assert_eq!(bench.triggers[6], Place::Given(workers[1]));
}

#[test]
fn what_a_dead_worker_had_goes_first_and_in_order() {
    let mut bench = Bench::new();
    let dead = bench.ready("a", Some(3));
    for _ in 0..5 {
        bench.place("a");
    }
    let heir = bench.ready("a|b", Some(1));
    assert_eq!(bench.triggers[3], Place::Given(heir));
    bench.leave(dead);
    let mut order = Vec::new();
    while let Some(&(_, number)) = bench.workers[&heir].has.first() {
        order.push(number);
        bench.acknowledge(heir, 0);
    }
    assert_eq!(order, [3, 0, 1, 2, 4]);
}

#[test]
fn what_workers_had_who_die_together_keeps_its_order() {
    let mut bench = Bench::new();
    // One has the first and the third, the other the second and the fourth.
    bench.ready("a", Some(2));
    bench.ready("a", Some(2));
    for _ in 0..4 {
        bench.place("a").unwrap();
    }
    let heir = bench.ready("a", Some(4));
    bench.now += SILENCE_MAX;
    bench.desks.heard(bench.now, heir);
    assert_eq!(bench.desks.expire(bench.now, None), 2);
    bench.settle();
    let has: Vec<_> = bench.workers[&heir].has.iter().map(|(_, number)| *number).collect();
    assert_eq!(has, [0, 1, 2, 3]);
}

#[test]
fn nobody_and_a_full_queue_are_told() {
    let mut bench = Bench::new();
    assert_eq!(bench.place("a"), None);
    assert_eq!(
        bench.desks.place(VHOST, Arc::new(trigger("a", 0)), true),
        Ok(TriggerId(1)),
        "a stream has it"
    );
    bench.ready("b", Some(1));
    assert_eq!(bench.place("a"), None, "no filter matches");
    assert_eq!(bench.desks.place(VHOST, Arc::new(trigger("a", 0)), true), Err(AssignationFailed));
    for number in 0..=LIMITS.triggers_max {
        assert_eq!(bench.place("b"), Some(number));
    }
    assert_eq!(bench.place("b"), None, "the queue is full");
    assert_eq!(bench.desks.place(VhostId(1), Arc::new(trigger("b", 0)), false), Err(AssignationFailed));
}

#[test]
fn what_comes_back_too_often_is_given_up() {
    let mut bench = Bench::new();
    let workers = [bench.ready("a", Some(1)), bench.ready("a", Some(1))];
    bench.place("a");
    for round in 0..=LIMITS.redeliveries_max as usize {
        assert_eq!(bench.triggers[0], Place::Given(workers[round % 2]), "somebody else has it");
        bench.refuse(workers[round % 2], 0);
    }
    assert_eq!(bench.triggers[0], Place::GivenUp);
}

#[test]
fn what_is_refused_does_not_outgrow_the_queue() {
    let mut bench = Bench::new();
    bench.ready("a", Some(1));
    bench.place("a");
    let refuser = bench.ready("a", Some(4));
    for _ in 0..3 * LIMITS.triggers_max {
        bench.place("a");
        while !bench.workers[&refuser].has.is_empty() {
            bench.refuse(refuser, 0);
        }
        assert!(bench.waiting() <= LIMITS.triggers_max);
    }
    assert!(bench.triggers.contains(&Place::GivenUp), "where it cannot wait it comes back");
}

#[test]
fn what_is_refused_does_not_overtake_what_waits_where_the_queue_is_full() {
    let mut bench = Bench::new();
    let busy = bench.ready("a", Some(1));
    bench.place("a");
    let refuser = bench.ready("a|b", Some(2));
    for _ in 0..2 {
        bench.place("a");
    }
    let dead = bench.ready("b", Some(2));
    for _ in 0..2 {
        bench.place("b");
    }
    for number in 5..5 + LIMITS.triggers_max {
        assert_eq!(bench.place("a"), Some(number));
    }
    bench.acknowledge(refuser, 0);
    bench.leave(dead);
    // The refuser has 2 and 5; 3 and 4 have come back, and 6 and all after it wait.
    assert_eq!(bench.waiting(), LIMITS.triggers_max + 1);
    assert_eq!([2, 5].map(|number| bench.triggers[number]), [Place::Given(refuser); 2]);
    bench.refuse(refuser, 1);
    assert_eq!([3, 5].map(|number| bench.triggers[number]), [Place::Given(refuser), Place::Waits]);
    bench.acknowledge(busy, 0);
    assert_eq!(bench.triggers[5], Place::Given(busy), "before all that were placed later");
}

#[test]
fn what_is_left_behind_does_not_grow_without_end() {
    let Bench { mut desks, now, .. } = Bench::new();
    let most = LIMITS.triggers_max + RETURNED_MAX;
    for round in 0..=most / 1000 + 1 {
        let event = format!("e{round}");
        let application =
            Application { filter: filter(&event), window: Some(1000), transport: Transport::ZeroMq };
        let worker = desks.ready(now, VHOST, application).unwrap();
        for number in 0..1000 {
            let placed = desks.place(VHOST, Arc::new(trigger(&event, number)), false);
            assert_eq!(placed.is_ok(), round * 1000 < most);
        }
        desks.leave(worker);
    }
    assert!(desks.total().waiting < most as u64 + 1000);
}

#[test]
fn the_silent_are_dismissed() {
    let mut bench = Bench::new();
    let (silent, alive) = (bench.ready("a", Some(1)), bench.ready("a", Some(1)));
    bench.place("a");
    bench.now += SILENCE_MAX / 2;
    bench.desks.heard(bench.now, alive);
    bench.now += SILENCE_MAX / 2;
    assert_eq!(bench.desks.next_deadline(), Some(bench.now));
    assert_eq!(bench.desks.expire(bench.now, None), 1);
    bench.settle();
    assert_eq!(bench.triggers[0], Place::Given(alive));
    assert!(!bench.workers.contains_key(&silent));
}

#[derive(Debug, Clone)]
enum Step {
    Ready(&'static str, Option<u32>),
    Place(&'static str),
    Acknowledge(usize, usize),
    Refuse(usize, usize),
    Fill(usize, usize),
    Relieve(usize),
    Leave(usize),
    Pass(u64),
    Hear(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let filters = prop::sample::select(vec!["a", "b", "a|b", ".*"]);
    prop_oneof![
        2 => (filters, prop::option::of(1..4u32)).prop_map(|(filter, window)| Step::Ready(filter, window)),
        8 => prop::sample::select(vec!["a", "b", "c"]).prop_map(Step::Place),
        6 => (0..8usize, 0..4usize).prop_map(|(worker, index)| Step::Acknowledge(worker, index)),
        2 => (0..8usize, 0..4usize).prop_map(|(worker, index)| Step::Refuse(worker, index)),
        2 => (0..8usize, 0..3usize).prop_map(|(worker, room)| Step::Fill(worker, room)),
        2 => (0..8usize).prop_map(Step::Relieve),
        1 => (0..8usize).prop_map(Step::Leave),
        1 => (0..4000u64).prop_map(Step::Pass),
        1 => (0..8usize).prop_map(Step::Hear),
    ]
}

proptest! {
    #[test]
    fn every_trigger_is_in_one_place(steps in proptest::collection::vec(step(), 0..120)) {
        let mut bench = Bench::new();
        for step in steps {
            let nth = |bench: &Bench, nth: usize| {
                let count = bench.workers.len().max(1);
                bench.workers.keys().nth(nth % count).copied()
            };
            let holding = |bench: &Bench, worker: usize, index: usize| {
                let worker = nth(bench, worker)?;
                let held = bench.workers[&worker].has.len();
                (held > 0).then(|| (worker, index % held))
            };
            match step {
                Step::Ready(filter, window) => drop(bench.ready(filter, window)),
                Step::Place(event) => {
                    let wanted = bench.workers.values().any(|known| filter(known.filter).matches(event));
                    let full = bench.waiting() >= LIMITS.triggers_max;
                    let placed = bench.place(event);
                    prop_assert!(wanted || placed.is_none());
                    prop_assert!(!wanted || full || placed.is_some());
                }
                Step::Acknowledge(worker, index) => {
                    if let Some((worker, index)) = holding(&bench, worker, index) {
                        bench.acknowledge(worker, index);
                    }
                }
                Step::Refuse(worker, index) => {
                    if let Some((worker, index)) = holding(&bench, worker, index) {
                        bench.refuse(worker, index);
                    }
                }
                Step::Fill(worker, room) => {
                    if let Some(worker) = nth(&bench, worker) {
                        bench.workers.get_mut(&worker).unwrap().room = room;
                    }
                }
                Step::Relieve(worker) => {
                    if let Some(worker) = nth(&bench, worker) {
                        let known = bench.workers.get_mut(&worker).unwrap();
                        (known.room, known.is_full) = (usize::MAX, false);
                        bench.desks.relieve(worker);
                        bench.settle();
                    }
                }
                Step::Leave(worker) => {
                    if let Some(worker) = nth(&bench, worker) {
                        bench.leave(worker);
                    }
                }
                Step::Pass(ms) => {
                    bench.now += Duration::from_millis(ms);
                    bench.desks.expire(bench.now, None);
                    bench.settle();
                }
                Step::Hear(worker) => {
                    if let Some(worker) = nth(&bench, worker) {
                        bench.desks.heard(bench.now, worker);
                    }
                }
            }
        }
        // Whoever could take anything has taken all: one willing worker drains the desk.
        let last = bench.ready(".*", None);
        prop_assert_eq!(bench.waiting(), 0);
        prop_assert_eq!(bench.desks.total().waiting_bytes, 0);
        bench.leave(last);
    }
}
