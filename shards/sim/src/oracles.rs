//! What must hold, whatever happens: facts that browsers write down, and judgements of them.
//!
//! What can be judged at once is judged at once ([`Ledger::check`]); what several browsers must
//! agree upon is judged at the end ([`Ledger::judge`]), from nothing but what they sent and saw.

mod backend;
mod guarantee;
mod order;
mod presence;
pub mod triggers;

use std::collections::{BTreeSet, HashMap, HashSet};

pub use backend::{Message, Token};
pub use guarantee::{Guarantee, Violation};
pub use presence::{Audience, Audiences, Knowledge, Present, SHY, Tab};
pub use triggers::Triggers;

use webrocket_state::SessionRef;

use crate::{time::Micros, workload::Shape};

/// The backend behind the control thread, where a sender is named.
pub const BACKEND: usize = usize::MAX;

/// The first of the backends' connections over ZeroMQ, where a sender is named.
pub const FIRST_CLIENT: usize = usize::MAX / 2;

/// Whether a sender is a backend, so that what it broadcasts is from no session.
#[must_use]
pub fn is_backend(sender: usize) -> bool {
    sender >= FIRST_CLIENT
}

/// Promises that were not kept, and what was seen.
type Wrong = Vec<(Guarantee, String)>;

/// What came of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not known.
    Open,
    /// Its sender read the acknowledgement then.
    Acknowledged(Micros),
    /// It was refused.
    Refused,
}

/// A broadcast as its sender knows it.
#[derive(Debug)]
pub struct Broadcast {
    /// The sender: a browser, [`BACKEND`], or a connection from [`FIRST_CLIENT`] on.
    pub browser: usize,
    /// Where to.
    pub place: Place,
    /// When it was put together; sent then or later.
    pub composed: Micros,
    /// What came of it.
    pub fate: Fate,
    shape: Shape,
    pad: usize,
}

/// A vhost, by its index, and a channel.
pub type Place = (usize, &'static str);

/// How a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Open,
    /// By a request, put together then.
    Asked(Micros),
    /// Otherwise: nothing is promised about its last events.
    Otherwise,
}

/// Something that all subscribers of a channel see in one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// A broadcast, by its number.
    Broadcast(usize),
    /// A member joined with these data.
    Joined(u64),
    /// A member left with these data.
    Left(u64),
    /// A member joined or left, in words that may be said again.
    Alike(usize),
}

impl Fact {
    fn happens_once(self) -> bool {
        !matches!(self, Self::Alike(_))
    }
}

/// When something was asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// At what time.
    pub at: Micros,
    /// After how many broadcasts.
    pub broadcasts: usize,
}

/// What a subscriber is, apart from where.
#[derive(Debug, Default)]
pub struct Subscriber {
    /// By what others know it, on private and presence channels.
    pub uid: Option<String>,
    /// Whether it shows itself to nobody.
    pub is_hidden: bool,
    /// What it shows of itself.
    pub tab: Option<usize>,
}

/// One subscription, from `subscribed` to its end.
#[derive(Debug)]
pub struct Window {
    /// Whose.
    pub browser: usize,
    /// Of what.
    pub place: Place,
    asked: Asked,
    started: Micros,
    /// What came, in order.
    seen: Vec<Fact>,
    /// How it ended.
    pub end: End,
    /// Who subscribes.
    pub subscriber: Subscriber,
    /// Who is present, on presence channels.
    pub knowledge: Option<Knowledge>,
    /// The epoch and offset of the broadcast that came last, where they are told.
    position: Option<(u64, u64)>,
}

impl Window {
    fn broadcasts(&self) -> impl Iterator<Item = usize> + '_ {
        self.seen.iter().filter_map(|fact| match fact {
            Fact::Broadcast(number) => Some(*number),
            Fact::Joined(_) | Fact::Left(_) | Fact::Alike(_) => None,
        })
    }
}

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
    newest_message: HashMap<usize, usize>,
    departed: HashSet<usize>,
    tabs: Vec<Tab>,
    farewells: usize,
    /// Data, and as whose they were seen.
    shown: BTreeSet<(usize, String)>,
    /// Data, and with which farewell they were seen to leave.
    left: BTreeSet<(usize, Option<usize>)>,
    /// Words that may be said again.
    alike: HashMap<String, usize>,
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

    /// Judges what all browsers wrote down together.
    pub fn judge(&mut self, at: Micros) {
        let mut wrong = Vec::new();
        self.subscribers_see_one_order(&mut wrong);
        self.senders_keep_their_own_order(&mut wrong);
        self.nothing_before_subscribed(&mut wrong);
        self.nothing_is_lost_or_doubled(&mut wrong);
        self.nothing_refused_is_delivered(&mut wrong);
        self.a_direct_message_reaches_its_session(&mut wrong);
        self.members_show_their_own_data(&mut wrong);
        for (guarantee, detail) in wrong {
            self.violate(at, guarantee, detail);
        }
    }
}

/// A text for a message to a human, not longer than he reads.
#[must_use]
pub fn shorten(text: &str) -> String {
    if text.len() <= 160 {
        text.to_owned()
    } else {
        format!("{}… ({} bytes)", &text[..text.floor_char_boundary(150)], text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(windows: &[&[usize]]) -> Ledger {
        let mut ledger = Ledger::default();
        for number in 0..6 {
            ledger.compose(10 * number, 9, (0, "alpha"), (Shape::Object, 1));
            ledger.broadcasts[number as usize].fate = Fate::Acknowledged(10 * number + 5);
        }
        for (browser, seen) in windows.iter().enumerate() {
            let window =
                ledger.open_window(0, browser, (0, "alpha"), Asked::default(), Subscriber::default());
            ledger.windows[window].seen = seen.iter().map(|number| Fact::Broadcast(*number)).collect();
            ledger.windows[window].end = End::Otherwise;
        }
        ledger
    }

    fn judged(mut ledger: Ledger) -> Vec<Guarantee> {
        ledger.judge(0);
        ledger.violations.iter().map(|violation| violation.guarantee).collect()
    }

    #[test]
    fn stretches_of_one_order_are_in_order() {
        assert_eq!(judged(ledger(&[&[0, 1, 2, 3], &[2, 3, 4], &[], &[5]])), []);
    }

    #[test]
    fn gaps_exchanges_and_doubles_are_seen() {
        assert!(judged(ledger(&[&[0, 1, 2], &[0, 2]])).contains(&Guarantee::SubscribersSeeOneOrder));
        assert!(judged(ledger(&[&[0, 1], &[1, 0]])).contains(&Guarantee::SubscribersSeeOneOrder));
        assert!(judged(ledger(&[&[0, 2]])).contains(&Guarantee::SendersKeepTheirOwnOrder));
        assert!(judged(ledger(&[&[1, 1]])).contains(&Guarantee::NothingIsLostOrDoubled));
    }

    #[test]
    fn what_is_lost_at_the_edge_is_seen() {
        let mut ledger = ledger(&[&[1, 2, 3, 4]]);
        ledger.windows[0].end = End::Open;
        assert_eq!(judged(ledger), [Guarantee::NothingIsLostOrDoubled]);
    }

    #[test]
    fn who_is_there_to_the_end_has_seen_what_others_saw() {
        let ends = |end| {
            let mut ledger = ledger(&[&[1, 2, 3], &[1, 2]]);
            ledger.broadcasts.iter_mut().for_each(|broadcast| broadcast.fate = Fate::Open);
            ledger.windows[1].end = end;
            judged(ledger)
        };
        assert_eq!(ends(End::Otherwise), []);
        assert_eq!(ends(End::Open), [Guarantee::SubscribersSeeOneOrder]);
    }

    #[test]
    fn words_that_may_be_said_again_have_their_place_too() {
        let order = |seen: &[&[Fact]]| {
            let mut ledger = ledger(&vec![&[][..]; seen.len()]);
            for (window, seen) in ledger.windows.iter_mut().zip(seen) {
                window.seen = seen.to_vec();
            }
            judged(ledger)
        };
        let (one, two, alike) = (Fact::Broadcast(0), Fact::Joined(0), Fact::Alike(0));
        let other = Fact::Alike(1);
        assert_eq!(order(&[&[one, alike, two], &[alike, two], &[one, alike], &[one]]), []);
        let wrong = [Guarantee::SubscribersSeeOneOrder];
        assert_eq!(order(&[&[one, alike], &[one, other]]), wrong);
        assert_eq!(order(&[&[one, alike, two], &[other, two]]), wrong);
        assert!(order(&[&[one, alike, two], &[one, two]]).starts_with(&wrong));
    }

    #[test]
    fn names_of_guarantees() {
        assert_eq!(Guarantee::SubscribersSeeOneOrder.to_string(), "subscribers_see_one_order");
    }
}
