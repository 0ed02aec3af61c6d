//! What all browsers and backends wrote down, and what was found wrong with it.
//!
//! Here is what concerns broadcasts and subscriptions; `presence`, `backend` and `triggers` write down the rest.

use std::collections::{BTreeSet, HashMap, HashSet};

use webrocket_state::SessionRef;

use super::{
    broadcast::{Broadcast, Fate, Place, is_backend},
    guarantee::{Guarantee, Violation, shorten},
    members::{Knowledge, Tab},
    message::Message,
    token::Token,
    triggers::Triggers,
    window::{Asked, End, Fact, Subscriber, Window},
};
use crate::{time::Micros, workload::Shape};

/// What all browsers wrote down.
#[derive(Debug, Default)]
pub struct Ledger {
    /// All broadcasts.
    pub broadcasts: Vec<Broadcast>,
    /// All subscriptions.
    pub windows: Vec<Window>,
    /// All tokens.
    pub tokens: Vec<Token>,
    /// All direct messages.
    pub messages: Vec<Message>,
    /// All triggers.
    pub triggers: Triggers,
    /// Sessions, and channels that they have read to have left: their owners must know that already.
    pub leaves_read: Vec<(SessionRef, &'static str)>,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// Session identifiers, and whose they are.
    pub sids: Vec<(String, usize)>,
    by_sid: HashMap<String, usize>,
    /// By browser.
    vhosts: Vec<usize>,
    pub(super) newest_message: HashMap<usize, usize>,
    pub(super) departed: HashSet<usize>,
    pub(super) tabs: Vec<Tab>,
    pub(super) farewells: usize,
    /// Data, and as whose they were seen.
    pub(super) shown: BTreeSet<(usize, String)>,
    /// Data, and with which farewell they were seen to leave.
    pub(super) left: BTreeSet<(usize, Option<usize>)>,
    /// Words that may be said again.
    pub(super) alike: HashMap<String, usize>,
    /// Events of broadcasts that arrived.
    pub deliveries: u64,
    /// Broadcasts that arrived with their position.
    pub positions_seen: u64,
    /// Which broadcast stands at a position of a channel.
    positions: HashMap<(Place, (u64, u64)), usize>,
    /// Where a broadcast stands.
    position_of: HashMap<usize, (u64, u64)>,
    /// Presence events that arrived.
    pub presence_events: u64,
    /// Answers that carried a `ref`.
    pub named_answers: u64,
    /// Presence lists that were compared with what was known already.
    pub lists_compared: u64,
    /// Answers that clients over ZeroMQ received.
    pub client_answers: u64,
}

/// After so many violations the rest is noise.
const VIOLATIONS_MAX: usize = 12;

impl Ledger {
    /// Judges something at once.
    pub fn check(&mut self, at: Micros, guarantee: Guarantee, wrong: impl FnOnce() -> Option<String>) {
        if let Some(detail) = wrong() {
            self.violate(at, guarantee, detail);
        }
    }

    /// Notes a promise that was not kept.
    pub fn violate(&mut self, at: Micros, guarantee: Guarantee, detail: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { guarantee, at, detail });
        }
    }

    /// The next browser comes, to this vhost.
    pub fn arrive(&mut self, vhost: usize) {
        self.vhosts.push(vhost);
    }

    /// Which vhost a browser came to.
    #[must_use]
    pub fn vhost_of(&self, browser: usize) -> usize {
        self.vhosts[browser]
    }

    /// A broadcast is put together; its number.
    pub fn compose(
        &mut self,
        at: Micros,
        browser: usize,
        place: Place,
        (shape, pad): (Shape, usize),
    ) -> usize {
        let fate = Fate::Open;
        self.broadcasts.push(Broadcast { browser, place, composed: at, fate, shape, pad });
        self.broadcasts.len() - 1
    }

    /// The channel and the data of a broadcast, as they are sent.
    #[must_use]
    pub fn content(&self, number: usize) -> (&'static str, String) {
        let Broadcast { shape, pad, place: (_, channel), .. } = self.broadcasts[number];
        let pad = "x".repeat(pad);
        let data = match shape {
            Shape::Object => format!(r#"{{"id":{number},"pad":"{pad}"}}"#),
            Shape::Forged => format!(r#"{{"sid":"me","id":{number},"ch\u0061nnel":[1],"pad":"{pad}"}}"#),
            Shape::Scalar => number.to_string(),
        };
        (channel, data)
    }

    /// The event that a subscriber sees, up to the sender's identifier.
    fn event_head(&self, number: usize) -> Option<String> {
        let Broadcast { shape, pad, place: (_, channel), .. } = self.broadcasts.get(number)?;
        let data = match shape {
            Shape::Object | Shape::Forged => format!(r#""id":{number},"pad":"{}""#, "x".repeat(*pad)),
            Shape::Scalar => format!(r#""data":{number}"#),
        };
        Some(format!(r#"{{"ev":{{{data},"channel":"{channel}""#))
    }

    /// The event that subscribers see of a broadcast of the backend.
    #[must_use]
    pub fn backend_event(&self, number: usize) -> String {
        self.event_head(number).expect("a broadcast that was composed") + "}}"
    }

    /// Reads an event of a broadcast; its number and channel if it is one.
    pub fn read_event(&mut self, at: Micros, text: &str) -> Option<(usize, &'static str)> {
        let rest = text.strip_prefix(r#"{"ev":{"id":"#).or_else(|| text.strip_prefix(r#"{"ev":{"data":"#));
        let digits = rest.map(|rest| &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()]);
        let number: Option<usize> = digits.and_then(|digits| digits.parse().ok());
        let head = number.and_then(|number| self.event_head(number));
        let rest = head.and_then(|head| text.strip_prefix(&*head)?.strip_suffix("}}"));
        let (Some(number), Some(rest)) = (number, rest) else {
            self.violate(at, Guarantee::EventsArriveAsSent, shorten(text));
            return None;
        };
        let Broadcast { browser, place: (_, channel), .. } = self.broadcasts[number];
        let sid = rest.strip_prefix(r#","sid":""#).and_then(|rest| rest.strip_suffix('"'));
        if is_backend(browser) != rest.is_empty() || rest.is_empty() != sid.is_none() {
            self.violate(at, Guarantee::EventsArriveAsSent, shorten(text));
        }
        if let Some(sid) = sid {
            self.meet(at, sid, browser);
        }
        Some((number, channel))
    }

    /// A session identifier was seen to be this browser's.
    pub fn meet(&mut self, at: Micros, sid: &str, browser: usize) {
        let known = *self.by_sid.entry(sid.to_owned()).or_insert_with(|| {
            self.sids.push((sid.to_owned(), browser));
            browser
        });
        self.check(at, Guarantee::EventsArriveAsSent, || {
            (known != browser || sid.len() != 36)
                .then(|| format!("{sid} names browser {known} and browser {browser}"))
        });
    }

    /// A subscription begins; its index.
    pub fn open_window(
        &mut self,
        at: Micros,
        browser: usize,
        place: Place,
        asked: Asked,
        subscriber: Subscriber,
    ) -> usize {
        let shows = || subscriber.uid.clone().filter(|_| !subscriber.is_hidden);
        let knowledge = place.1.starts_with("presence-").then(|| Knowledge::new(shows()));
        self.windows.push(Window {
            browser,
            place,
            asked,
            started: at,
            seen: Vec::new(),
            end: End::Open,
            subscriber,
            knowledge,
            position: None,
        });
        self.windows.len() - 1
    }

    /// A broadcast came through a subscription.
    pub fn see(&mut self, window: usize, number: usize) {
        self.deliveries += 1;
        self.windows[window].seen.push(Fact::Broadcast(number));
    }

    /// A broadcast came through a subscription that is told positions: an epoch and an offset.
    pub fn see_position(&mut self, at: Micros, window: usize, number: usize, position: (u64, u64)) {
        self.positions_seen += 1;
        let place = self.windows[window].place;
        let before = self.windows[window].position.replace(position);
        let (epoch, offset) = position;
        let is_next = before.is_none_or(|(of, last)| of == epoch && last + 1 == offset);
        let known = *self.positions.entry((place, position)).or_insert(number);
        let is_same = known == number && *self.position_of.entry(number).or_insert(position) == position;
        self.check(at, Guarantee::PositionsHaveNoGaps, || {
            let is_wrong = !is_next || !is_same || offset == 0;
            is_wrong.then(|| {
                format!("broadcast {number} at {position:?} behind {before:?}, where {known} stands")
            })
        });
    }
}
