//! What the exchange is told of triggers and workers.

use webrocket_state::{VhostId, exchange::TriggerId};

use super::{Expected, Place, Taker, Trigger, Worker, matches};
use crate::{
    oracles::{Guarantee, Ledger},
    time::Micros,
};

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
