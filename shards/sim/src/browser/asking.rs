//! What a browser asks, in its dialect, without waiting for answers.

use std::collections::BTreeSet;

use webrocket_wire::Rights;

use super::{Browser, Kind, Pending, Surroundings, identity::Who, stage::Stage};
use crate::{
    classic, frames,
    net::Actor,
    oracles::Asked,
    request::Request,
    theme::Theme,
    workload::{self, Shape, Wish},
    wwfp,
};

/// Of so many tokens, the newest, a browser tries any.
const TOKENS_TRIED: usize = 8;

impl Browser {
    /// Broadcasts to every channel that it subscribes, so that it shows whether anybody is forgotten.
    pub fn call_the_roll(&mut self, around: &mut Surroundings<'_>) {
        let channels: Vec<_> = self.windows.keys().copied().collect();
        for channel in channels {
            if self.may(around.scenario, around.ledger, Rights::WRITE, Some(channel)) != Some(false) {
                self.broadcast(around, channel, (Shape::Object, 1));
            }
        }
        self.end_silence(around);
        around.net.wake(Actor::Browser(self.id), 1);
    }

    /// Makes some requests; whether it wants to make more.
    pub(super) fn compose(&mut self, around: &mut Surroundings<'_>) -> bool {
        let may_ask = match self.stage {
            Stage::Open => true,
            Stage::Connecting => self.is_eager && self.kind == Kind::Browser,
            Stage::Leaving(_) | Stage::Closed | Stage::Ended => false,
        };
        if !may_ask || !around.mood.is_loading {
            return false;
        }
        let burst = around.chance.small(around.scenario.burst_max);
        for _ in 0..burst {
            if *around.requests_left == 0 || self.pending.len() as u64 >= around.scenario.pipeline_max {
                self.end_silence(around);
                return false;
            }
            *around.requests_left -= 1;
            self.ask_something(around);
        }
        self.end_silence(around);
        true
    }

    fn ask_something(&mut self, around: &mut Surroundings<'_>) {
        let settled = self.windows.len() + self.subscriptions_asked > 1;
        let is_to_be_known = self.vhost == 1 || around.scenario.theme == Theme::Churn;
        let anonymous = self.identity == Who::Nobody && is_to_be_known;
        let own = self.own_channels();
        let wish = workload::wish(around.chance, around.scenario, anonymous, &own, settled, self.is_resident);
        let wish = if self.is_resident { self.stay(wish) } else { wish };
        let request = match wish {
            Wish::Ask(Request::Logout) if self.is_wwfp() => self.some_trigger(around, &own),
            Wish::Trigger => self.some_trigger(around, &own),
            Wish::Ask(request) => request,
            Wish::Token => self.some_token(around),
            Wish::Subscribe(channel) => return self.ask_to_subscribe(around, channel),
            Wish::Unsubscribe(channel) => {
                let speaks = self.is_wwfp() && around.chance.percent(60);
                Request::Unsubscribe { channel, farewell: speaks.then(|| around.ledger.compose_farewell()) }
            }
            Wish::Broadcast(channel, content) => {
                let is_own = !self.is_wwfp() || own.contains(&channel) || around.chance.percent(10);
                let channel = match own.first() {
                    _ if is_own => channel,
                    Some(_) => *around.chance.pick(&own),
                    None => return self.ask_to_subscribe(around, channel),
                };
                return self.broadcast(around, channel, content);
            }
            Wish::Fail if self.is_wwfp() => Request::Faulty(around.chance.pick(&wwfp::FAULTS)),
            Wish::Fail => Request::Faulty(around.chance.pick(&classic::FAULTS)),
            Wish::Ping => {
                self.pings += 1;
                return self.control(around, frames::PING, b"there?");
            }
        };
        self.ask(around, request);
    }

    /// A trigger; in WWFP now and then with a broadcast.
    fn some_trigger(&self, around: &mut Surroundings<'_>, own: &[&'static str]) -> Request {
        let comes_with_a_broadcast = self.is_wwfp() && around.chance.percent(40);
        let trigger = around.ledger.compose_trigger(self.id, self.vhost, comes_with_a_broadcast);
        if !comes_with_a_broadcast {
            return Request::Trigger(trigger);
        }
        let channel = own.first().copied().unwrap_or("alpha");
        let content = workload::content(around.chance, around.scenario);
        let broadcast = around.ledger.compose(around.net.now, self.id, (self.vhost, channel), content);
        Request::TriggeringBroadcast { broadcast, trigger }
    }

    /// A resident that is somebody stays that, and keeps what it subscribes.
    fn stay(&self, wish: Wish) -> Wish {
        match wish {
            Wish::Unsubscribe(channel) => Wish::Subscribe(channel),
            Wish::Token | Wish::Ask(Request::Authenticate(..)) if self.identity != Who::Nobody => Wish::Ping,
            other => other,
        }
    }

    /// One of the newest tokens, spent or not; now and then another vhost's.
    fn some_token(&self, around: &mut Surroundings<'_>) -> Request {
        let vhost = if around.chance.percent(5) { 1 - self.vhost } else { self.vhost };
        let tokens = around.ledger.tokens.iter().enumerate().rev();
        let tokens = tokens.filter(|(_, token)| token.vhost == vhost && (self.is_shy || !token.is_shy));
        let numbers: Vec<_> = tokens.map(|(number, _)| number).take(TOKENS_TRIED).collect();
        if numbers.is_empty() { Request::WrongToken } else { Request::Token(*around.chance.pick(&numbers)) }
    }

    /// The channels that it subscribes; in WWFP, where nobody else may broadcast, also those that it has asked
    /// for.
    fn own_channels(&self) -> Vec<&'static str> {
        let asked = self.pending.iter().filter(|_| self.is_wwfp() && self.subscriptions_asked > 0);
        let asked = asked.filter_map(|pending| match pending.request {
            Request::Subscribe { channel, .. } => Some(channel),
            _ => None,
        });
        let all: BTreeSet<_> = self.windows.keys().copied().chain(asked).collect();
        all.into_iter().collect()
    }

    fn ask_to_subscribe(&mut self, around: &mut Surroundings<'_>, channel: &'static str) {
        let speaks = self.is_wwfp() && around.chance.percent(70);
        let hidden = self.is_wwfp() && (self.is_shy || around.chance.percent(15));
        let place = (self.vhost, channel);
        let tab = speaks.then(|| around.ledger.compose_tab(place, hidden));
        self.ask(around, Request::Subscribe { channel, tab, hidden });
    }

    /// Broadcasts to a channel.
    fn broadcast(&mut self, around: &mut Surroundings<'_>, channel: &'static str, content: (Shape, usize)) {
        let number = around.ledger.compose(around.net.now, self.id, (self.vhost, channel), content);
        self.ask(around, Request::Broadcast(number));
    }

    /// Makes a request.
    pub(super) fn ask(&mut self, around: &mut Surroundings<'_>, request: Request) {
        let reference = self.reference(around, &request);
        let is_silent = self.is_wwfp() && wwfp::is_silent(&request, reference.as_deref());
        if reference.is_none() && !is_silent {
            self.end_silence(around);
        }
        let text = if self.is_wwfp() {
            wwfp::message(&request, reference.as_deref(), around.ledger)
        } else {
            classic::message(&request, around.ledger)
        };
        self.subscriptions_asked += usize::from(matches!(request, Request::Subscribe { .. }));
        let mut bytes = Vec::new();
        self.pings += frames::message(&mut bytes, around.chance, text.as_bytes());
        self.outgoing.extend(bytes);
        let asked = Asked { at: around.net.now, broadcasts: around.ledger.broadcasts.len() };
        self.pending.push_back(Pending { request, reference, asked });
        if matches!(request, Request::Unsubscribe { .. }) && !self.is_wwfp() {
            // So that an answer can be told from an `unsubscribed` that nobody asked for.
            let mark = Request::Mark(around.chance.between(0, 1 << 40));
            self.ask(around, mark);
        }
    }

    /// What to call a request, if anything. Where a subscription may end by itself, only a name
    /// tells the answer to `unsubscribe` from that.
    fn reference(&mut self, around: &mut Surroundings<'_>, request: &Request) -> Option<String> {
        if !self.is_wwfp() || !wwfp::takes_reference(request) {
            return None;
        }
        let must = match request {
            // Of several that have no name nobody could tell which one was placed.
            Request::Mark(_) | Request::Trigger(_) | Request::TriggeringBroadcast { .. } => true,
            Request::Unsubscribe { .. } => around.scenario.takes_away(),
            _ => false,
        };
        if !must && around.chance.percent(40) {
            return None;
        }
        self.references += 1;
        let number = self.references;
        Some(match around.chance.between(0, 3) {
            0 => format!("-{number}"),
            1 => format!(r#""r\u0065f {number}""#),
            2 => format!(r#""{number}""#),
            _ => number.to_string(),
        })
    }

    /// Makes sure that an answer follows what is answered only if it fails.
    fn end_silence(&mut self, around: &mut Surroundings<'_>) {
        let is_silent = self.pending.back().is_some_and(Pending::is_silent);
        if self.is_wwfp() && is_silent {
            let mark = Request::Mark(around.chance.between(0, 1 << 40));
            self.ask(around, mark);
        }
    }
}

impl Pending {
    /// Whether it is answered only if it fails, in WWFP.
    pub(super) fn is_silent(&self) -> bool {
        wwfp::is_silent(&self.request, self.reference.as_deref())
    }
}
