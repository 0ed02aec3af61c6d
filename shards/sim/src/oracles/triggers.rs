//! Triggers: who was given which, told from outside the exchange, by what it was told and what it sent.

use std::collections::{BTreeMap, BTreeSet};

use webrocket_state::{VhostId, exchange::TriggerId};

use super::{Guarantee, Ledger};
use crate::time::Micros;

/// Somebody who is given triggers: a connection over ZeroMQ, or a taker over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taker {
    /// By the wire's number.
    Wire(usize),
    /// By the control thread's number.
    Source(u64),
}

/// Where a trigger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On its way to the exchange, or waiting for a worker, given back by this one last.
    Waits(Option<Taker>),
    /// A worker has it and is to acknowledge it.
    With(Taker),
    /// A worker without window was sent it.
    Sent,
    Acknowledged,
    /// Only streams were there for it.
    Streamed,
    GivenUp,
    /// Its vhost was removed.
    Dropped,
}

/// A trigger.
#[derive(Debug)]
struct Trigger {
    browser: usize,
    /// By its index.
    vhost: usize,
    /// As the exchange was told it; `None` until then.
    id: Option<VhostId>,
    /// Whether the exchange said that it was placed.
    is_placed: Option<bool>,
    place: Place,
    /// How many workers were given it.
    had: u32,
    /// A worker was to be given it, but its wire was full.
    was_tried: bool,
    /// What it says besides its number is the data of a broadcast.
    has_own_data: bool,
    /// A stream over ZeroMQ subscribed it when the exchange was told it.
    is_published: bool,
}

/// A ready worker, as the exchange was told.
#[derive(Debug)]
struct Worker {
    vhost: VhostId,
    filter: usize,
    window: Option<u32>,
    has: BTreeMap<TriggerId, usize>,
    /// The newest trigger that it had as the first one.
    newest: Option<TriggerId>,
    newest_of: BTreeMap<usize, usize>,
}

/// The filters that workers have.
pub const FILTERS: [&str; 4] = [".*", "a.*", "b\\d+", "[ab]\\d*"];

/// Whether an event of this number matches a filter.
fn matches(filter: usize, number: usize) -> bool {
    match filter {
        0 => true,
        1 => number.is_multiple_of(3),
        2 => number % 3 == 1,
        _ => number % 3 < 2,
    }
}

/// What may come of a trigger that the exchange is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// A worker's filter matches.
    is_wanted: bool,
    /// There is no worker, but a stream.
    is_streamed: bool,
}

/// All triggers, and who works on them.
#[derive(Debug, Default)]
pub struct Triggers {
    all: Vec<Trigger>,
    workers: BTreeMap<Taker, Worker>,
    /// Streams over HTTP, with their filters.
    streams: BTreeMap<u64, (VhostId, usize)>,
    /// What was given back and waits, by its vhost and place in the order.
    returned: BTreeMap<(VhostId, TriggerId), usize>,
    /// How many were given to a worker after another one had them.
    pub redelivered: u64,
    /// How many were acknowledged.
    pub acknowledged: u64,
}

/// The event of a trigger.
#[must_use]
pub fn event(number: usize) -> String {
    format!("{}{number}", ["a", "b", "c"][number % 3])
}

/// The number of the trigger with this event.
#[must_use]
pub fn number(event: &str) -> Option<usize> {
    event.get(1..)?.parse().ok()
}

impl Triggers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether somebody is a ready worker.
    #[must_use]
    pub fn works(&self, taker: Taker) -> bool {
        self.workers.contains_key(&taker)
    }

    /// Whether a stream over HTTP takes a trigger.
    #[must_use]
    pub fn is_streamed(&self, vhost: VhostId, number: usize) -> bool {
        self.streams.values().any(|(of, filter)| *of == vhost && matches(*filter, number))
    }

    /// Whether a trigger was had by a worker already.
    #[must_use]
    pub fn was_had(&self, number: usize) -> bool {
        self.all.get(number).is_some_and(|trigger| trigger.had > 0)
    }

    /// Whether a worker says what it has handled.
    #[must_use]
    pub fn acknowledges(&self, taker: Taker) -> bool {
        self.workers.get(&taker).is_some_and(|worker| worker.window.is_some())
    }
}

/// What the exchange is told.
impl Ledger {
    /// A browser triggers; the number. `has_own_data`: it comes with a broadcast.
    pub fn compose_trigger(&mut self, browser: usize, vhost: usize, has_own_data: bool) -> usize {
        let place = Place::Waits(None);
        let (id, is_placed) = (None, None);
        self.triggers.all.push(Trigger {
            browser,
            vhost,
            id,
            is_placed,
            place,
            had: 0,
            was_tried: false,
            has_own_data,
            is_published: false,
        });
        self.triggers.all.len() - 1
    }

    /// The exchange is told of a trigger; what may come of it.
    pub fn trigger_arrives(
        &mut self,
        at: Micros,
        number: usize,
        vhost: VhostId,
        is_published: bool,
    ) -> Expected {
        let is_streamed = is_published || self.triggers.is_streamed(vhost, number);
        let workers = || self.triggers.workers.values().filter(|worker| worker.vhost == vhost);
        let is_wanted = workers().any(|worker| matches(worker.filter, number));
        let is_streamed = is_streamed && workers().next().is_none();
        let trigger = &mut self.triggers.all[number];
        let before = trigger.id.replace(vhost);
        trigger.is_published = is_published;
        if is_streamed {
            trigger.place = Place::Streamed;
        }
        self.check(at, Guarantee::NothingCrossesVhosts, || {
            before.is_some().then(|| format!("trigger {number} comes twice, to {before:?} and {vhost:?}"))
        });
        Expected { is_wanted, is_streamed }
    }

    /// The exchange has answered.
    pub fn trigger_answered(
        &mut self,
        at: Micros,
        number: usize,
        expected: Expected,
        is_placed: bool,
        is_bounded: bool,
    ) {
        let Expected { is_wanted, is_streamed } = expected;
        let trigger = &mut self.triggers.all[number];
        trigger.is_placed = Some(is_placed);
        let (place, had) = (trigger.place, trigger.had);
        let fits =
            if is_placed { is_wanted || is_streamed } else { is_bounded || !is_wanted && !is_streamed };
        self.check(at, Guarantee::TriggersAreRefusedForAReason, || {
            (!fits).then(|| format!("trigger {number}: placed: {is_placed}, but {expected:?}"))
        });
        // The answer may leave late, when the vhost has been removed, with all that nobody had.
        let is_untouched = had == 0 && matches!(place, Place::Waits(None) | Place::Dropped);
        let was_given = !is_placed && !is_untouched;
        self.check(at, Guarantee::NothingRefusedIsDelivered, || {
            was_given.then(|| format!("trigger {number} is refused, but {place:?}, had by {had}"))
        });
    }

    /// A browser hears what came of its trigger.
    pub fn trigger_heard(&mut self, at: Micros, number: usize, is_placed: bool) {
        let told = self.triggers.all[number].is_placed;
        self.check(at, Guarantee::AnswersComeInTheOrderOfRequests, || {
            (told.unwrap_or(false) != is_placed).then(|| {
                format!("trigger {number} is heard to be placed: {is_placed}, the exchange said {told:?}")
            })
        });
    }

    /// Somebody becomes a worker, as the exchange is told.
    pub fn worker_comes(&mut self, taker: Taker, vhost: VhostId, filter: usize, window: Option<u32>) {
        self.worker_goes(taker);
        let (has, newest_of) = Default::default();
        let worker = Worker { vhost, filter, window, has, newest: None, newest_of };
        self.triggers.workers.insert(taker, worker);
    }

    /// Somebody takes copies over HTTP.
    pub fn stream_comes(&mut self, source: u64, vhost: VhostId, filter: usize) {
        self.triggers.streams.insert(source, (vhost, filter));
    }

    /// All workers and streams over HTTP of a vhost go.
    pub fn all_go(&mut self, vhost: VhostId) {
        self.triggers.streams.retain(|_, (of, _)| *of != vhost);
        let workers = self.triggers.workers.iter().filter(|(_, worker)| worker.vhost == vhost);
        let takers: Vec<_> = workers.map(|(taker, _)| *taker).collect();
        for taker in takers {
            self.worker_goes(taker);
        }
    }

    /// Somebody is a worker no more; what it had waits.
    pub fn worker_goes(&mut self, taker: Taker) {
        if let Taker::Source(source) = taker {
            self.triggers.streams.remove(&source);
        }
        let Some(worker) = self.triggers.workers.remove(&taker) else { return };
        for (id, number) in worker.has {
            self.triggers.all[number].place = Place::Waits(None);
            self.triggers.returned.insert((worker.vhost, id), number);
        }
    }

    /// A worker says that it has handled a trigger, or gives it back.
    pub fn trigger_handled(&mut self, taker: Taker, id: TriggerId, is_handled: bool) {
        let triggers = &mut self.triggers;
        let Some(worker) = triggers.workers.get_mut(&taker).filter(|worker| worker.window.is_some()) else {
            return;
        };
        let Some(number) = worker.has.remove(&id) else { return };
        if is_handled {
            triggers.acknowledged += 1;
            triggers.all[number].place = Place::Acknowledged;
        } else {
            triggers.all[number].place = Place::Waits(Some(taker));
            triggers.returned.insert((worker.vhost, id), number);
        }
    }

    /// A vhost is removed, and what waits there.
    pub fn triggers_dropped(&mut self, vhost: VhostId) {
        self.triggers.returned.retain(|(of, _), _| *of != vhost);
        for trigger in self.triggers.all.iter_mut().filter(|trigger| trigger.id == Some(vhost)) {
            if matches!(trigger.place, Place::Waits(_) | Place::With(_)) {
                trigger.place = Place::Dropped;
            }
        }
    }
}

/// What the exchange sends.
impl Ledger {
    /// A worker is given a trigger. `in_order`: nothing came between that could have changed the order.
    pub fn trigger_given(&mut self, at: Micros, taker: Taker, id: TriggerId, number: usize, in_order: bool) {
        let Some(worker) = self.triggers.workers.get(&taker) else {
            let detail = format!("{taker:?} is given trigger {number}, but is no worker");
            return self.violate(at, Guarantee::TheContractIsKept, detail);
        };
        let Some(trigger) = self.triggers.all.get(number) else {
            return self.violate(
                at,
                Guarantee::EventsArriveAsSent,
                format!("trigger {number} was never sent"),
            );
        };
        let crosses = trigger.id != Some(worker.vhost);
        let (place, had, browser) = (trigger.place, trigger.had, trigger.browser);
        let is_refused = trigger.is_placed == Some(false);
        let is_strange = !matches(worker.filter, number);
        let is_over = worker.window.is_some_and(|window| worker.has.len() >= window as usize);
        let is_first = had == 0 && !trigger.was_tried && in_order;
        let overtakes = worker.newest.is_some_and(|newest| newest >= id)
            || worker.newest_of.get(&browser).is_some_and(|newest| *newest >= number);
        let overtakes = is_first && overtakes;
        let vhost = worker.vhost;
        let earlier = self.triggers.returned.range((vhost, TriggerId(0))..(vhost, id));
        let passed_over = earlier.map(|(_, earlier)| *earlier).find(|earlier| {
            matches(worker.filter, *earlier) && self.triggers.all[*earlier].place != Place::Waits(Some(taker))
        });
        let said =
            |wrong: bool, what: &str| wrong.then(|| format!("{taker:?} is given trigger {number}: {what}"));
        self.check(at, Guarantee::NothingCrossesVhosts, || said(crosses, "another vhost's"));
        self.check(at, Guarantee::NothingRefusedIsDelivered, || {
            said(is_refused, "its session was told that nobody is")
        });
        self.check(at, Guarantee::WorkersGetWhatTheyTake, || said(is_strange, "its filter does not match"));
        self.check(at, Guarantee::WorkersGetWhatTheyTake, || {
            said(is_over, "it has as many as its window allows")
        });
        self.check(at, Guarantee::AtMostOnceWithoutAWindow, || {
            said(place == Place::Sent, "it was sent already")
        });
        let is_elsewhere = !matches!(place, Place::Waits(_) | Place::Sent);
        self.check(at, Guarantee::OneWorkerHasATriggerAtATime, || {
            said(is_elsewhere, &format!("it is {place:?}"))
        });
        self.check(at, Guarantee::TriggersKeepTheirOrder, || said(overtakes, "after a later one"));
        self.check(at, Guarantee::RedeliveredInOrder, || {
            passed_over
                .filter(|_| in_order)
                .and_then(|earlier| said(true, &format!("before {earlier}, which waits")))
        });
        self.note_given(taker, id, number);
    }

    fn note_given(&mut self, taker: Taker, id: TriggerId, number: usize) {
        let triggers = &mut self.triggers;
        let trigger = &mut triggers.all[number];
        let worker = triggers.workers.get_mut(&taker).expect("looked at before");
        if trigger.had == 0 {
            worker.newest = Some(id);
            worker.newest_of.insert(trigger.browser, number);
        }
        triggers.redelivered += u64::from(trigger.had > 0);
        trigger.had += 1;
        trigger.place = Place::Sent;
        if worker.window.is_some() {
            trigger.place = Place::With(taker);
            worker.has.insert(id, number);
        }
        triggers.returned.remove(&(worker.vhost, id));
    }

    /// The way to a worker of this vhost is full: what it was to be given may go to another one that has had
    /// later triggers.
    pub fn order_is_broken(&mut self, vhost: VhostId) {
        let waiting = self.triggers.all.iter_mut().filter(|trigger| trigger.id == Some(vhost));
        waiting.for_each(|trigger| trigger.was_tried = true);
    }

    /// What a worker is given says what was sent.
    pub fn trigger_says(&mut self, at: Micros, number: usize, payload: &str) {
        let Some(trigger) = self.triggers.all.get(number) else { return };
        let browser = trigger.browser;
        let own = if trigger.has_own_data { String::new() } else { format!(r#""id":{number},"#) };
        let head = format!(r#"{{"{}":{{{own}"#, event(number));
        let sid =
            payload.rsplit_once(r#""sid":""#).and_then(|(_, behind)| behind.get(..36)).map(str::to_owned);
        self.check(at, Guarantee::EventsArriveAsSent, || {
            (!payload.starts_with(&head) || sid.is_none()).then(|| format!("trigger {number}: {payload}"))
        });
        if let Some(sid) = sid {
            self.meet(at, &sid, browser);
        }
    }

    /// A stream is sent a copy. Who subscribed it may have gone since it was decided.
    pub fn trigger_streamed(&mut self, at: Micros, number: usize, is_subscribed: bool) {
        let was_subscribed = self.triggers.all.get(number).is_some_and(|trigger| trigger.is_published);
        self.check(at, Guarantee::NothingCrossesVhosts, || {
            (!is_subscribed && !was_subscribed)
                .then(|| format!("trigger {number} is published, but nobody subscribes it"))
        });
    }

    /// A trigger is given up, and reported.
    pub fn trigger_given_up(&mut self, at: Micros, number: usize, redeliveries_max: u32) {
        let Some(trigger) = self.triggers.all.get_mut(number) else { return };
        let fits = matches!(trigger.place, Place::Waits(_)) && trigger.had <= redeliveries_max + 1;
        let detail = format!("trigger {number} is given up: {trigger:?}");
        trigger.place = Place::GivenUp;
        self.triggers.returned.retain(|_, returned| *returned != number);
        self.check(at, Guarantee::ATriggerIsAcknowledgedOrReported, || (!fits).then_some(detail));
    }

    /// When everybody who works is willing, nothing that was placed is left.
    pub fn every_trigger_is_accounted_for(&mut self, at: Micros) {
        let lost = self.triggers.all.iter().enumerate().filter(|(_, trigger)| {
            trigger.is_placed == Some(true) && matches!(trigger.place, Place::Waits(_) | Place::With(_))
        });
        let lost: BTreeSet<_> = lost.map(|(number, trigger)| format!("{number}: {trigger:?}")).collect();
        self.check(at, Guarantee::ATriggerIsAcknowledgedOrReported, || {
            let first = lost.first()?;
            Some(format!("{} triggers are lost, among them {first}", lost.len()))
        });
    }

    /// The vhost, by its index, to which a trigger belongs.
    #[must_use]
    pub fn vhost_of_trigger(&self, number: usize) -> Option<usize> {
        self.triggers.all.get(number).map(|trigger| trigger.vhost)
    }
}

#[cfg(test)]
mod tests;
