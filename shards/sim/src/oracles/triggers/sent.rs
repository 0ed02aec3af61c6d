//! What the exchange sends of triggers, and whether it may.

use std::collections::BTreeSet;

use webrocket_state::{VhostId, exchange::TriggerId};

use super::{Place, Taker, event, matches};
use crate::{
    oracles::{Guarantee, Ledger},
    time::Micros,
};

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
