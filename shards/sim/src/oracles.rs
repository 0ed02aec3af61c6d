//! What must hold, whatever happens: facts that browsers write down, and judgements of them.
//!
//! What can be judged at once is judged at once ([`Ledger::check`]); what several browsers must
//! agree upon is judged at the end ([`Ledger::judge`]), from nothing but what they sent and saw.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

use crate::{net::Micros, workload::Shape};

/// What the broker promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guarantee {
    /// All subscribers of a channel see one sequence of broadcasts, each a stretch of it without gaps
    /// from `subscribed` to the end of its subscription.
    SubscribersSeeOneOrder,
    /// What one session broadcasts on one channel arrives in the order in which it was sent, and
    /// nothing acknowledged is missing between two that arrive.
    SendersKeepTheirOwnOrder,
    /// No event of a channel follows the answer `unsubscribed`, nor an `unsubscribed` unasked.
    NothingAfterUnsubscribeIsAcknowledged,
    /// No event of a channel comes before `subscribed`, and none that had been acknowledged to its
    /// sender before the subscription was asked for.
    NothingBeforeSubscribed,
    /// No session sees an event of a channel or vhost that it never subscribed.
    NothingToStrangers,
    /// A broadcast that is acknowledged reaches exactly once everybody who was told `subscribed`
    /// before it was sent and stays.
    NothingIsLostOrDoubled,
    /// A broadcast that was refused reaches nobody.
    NothingRefusedIsDelivered,
    /// What arrives are the sender's own bytes, with the server's `channel` and `sid`.
    EventsArriveAsSent,
    /// Answers come in the order of requests, to each the right one where that is determined.
    AnswersComeInTheOrderOfRequests,
    /// Every ping is answered by its pong.
    PingsAreAnswered,
    /// What waits before a queue or for a session stays below its bound.
    QueuesAreBounded,
    /// After a whole flush nothing waits for a session whose socket takes bytes.
    NobodyIsForgotten,
    /// List, joins and leaves of a presence channel fit together without gap or double.
    PresenceFitsTogether,
    /// When everybody has left there is no session, subscription, implicit channel, or log.
    EverythingIsFreed,
    /// When the load is over and everybody reads, every request is answered in bounded time.
    EveryRequestIsAnswered,
    /// The server closes only whom it has a reason to close, with the code that says which.
    NobodyIsClosedWithoutReason,
    /// A server's bytes are valid WebSocket frames, and nothing follows a close frame.
    FramesAreValid,
    /// A machine and its driver keep to their contract.
    TheContractIsKept,
    /// A request that is no handshake goes to the HTTP server with all its bytes.
    HttpIsHandedOverWhole,
    /// A shutdown tells everybody and comes to its end.
    ShutdownEnds,
    /// No assertion of the machine fails.
    NoInvariantIsBroken,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}");
        for (index, letter) in name.char_indices() {
            if letter.is_ascii_uppercase() && index > 0 {
                f.write_str("_")?;
            }
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub guarantee: Guarantee,
    /// When it was noticed.
    pub at: Micros,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} µs: {}", self.guarantee, self.at, self.detail)
    }
}

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
    /// The sender.
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

/// One subscription, from `subscribed` to its end.
#[derive(Debug)]
pub struct Window {
    /// Whose.
    pub browser: usize,
    /// Of what.
    pub place: Place,
    asked: Micros,
    started: Micros,
    /// The broadcasts that came, in order.
    seen: Vec<usize>,
    /// How it ended.
    pub end: End,
    /// Who is present, once the list has come.
    pub members: Option<BTreeSet<String>>,
    /// The session's own `uid`, whose joining must be the first that it is told.
    own_join: Option<String>,
}

/// What all browsers wrote down.
#[derive(Debug, Default)]
pub struct Ledger {
    /// All broadcasts.
    pub broadcasts: Vec<Broadcast>,
    /// All subscriptions.
    pub windows: Vec<Window>,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// Whose session identifier this is.
    sids: HashMap<String, usize>,
    /// Events of broadcasts that arrived.
    pub deliveries: u64,
    /// Presence events that arrived.
    pub presence_events: u64,
    /// Presence lists that were compared with what was known already.
    pub lists_compared: u64,
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

    /// A browser puts a broadcast together; its number, and its text.
    pub fn compose(
        &mut self,
        at: Micros,
        browser: usize,
        place: Place,
        shape: Shape,
        pad: usize,
    ) -> (usize, String) {
        let number = self.broadcasts.len();
        let fate = Fate::Open;
        self.broadcasts.push(Broadcast { browser, place, composed: at, fate, shape, pad });
        let (_, channel) = place;
        let data = match shape {
            Shape::Object => format!(r#"{{"id":{number},"pad":"{}"}}"#, "x".repeat(pad)),
            Shape::Forged => {
                let pad = "x".repeat(pad);
                format!(r#"{{"sid":"me","id":{number},"ch\u0061nnel":[1],"pad":"{pad}"}}"#)
            }
            Shape::Scalar => number.to_string(),
        };
        (number, format!(r#"{{"broadcast":{{"event":"ev","channel":"{channel}","data":{data}}}}}"#))
    }

    /// The event that a subscriber sees, up to the sender's identifier.
    fn event_head(&self, number: usize) -> Option<String> {
        let Broadcast { shape, pad, place: (_, channel), .. } = self.broadcasts.get(number)?;
        let data = match shape {
            Shape::Object | Shape::Forged => format!(r#""id":{number},"pad":"{}""#, "x".repeat(*pad)),
            Shape::Scalar => format!(r#""data":{number}"#),
        };
        Some(format!(r#"{{"ev":{{{data},"channel":"{channel}","sid":""#))
    }

    /// Reads an event of a broadcast; its number and channel if it is one.
    pub fn read_event(&mut self, at: Micros, text: &str) -> Option<(usize, &'static str)> {
        let digits = text.strip_prefix(r#"{"ev":{"id":"#).or_else(|| text.strip_prefix(r#"{"ev":{"data":"#));
        let digits = digits.map(|rest| rest.bytes().take_while(u8::is_ascii_digit).count()).map(|count| {
            let start = text.find(|letter: char| letter.is_ascii_digit()).unwrap_or(0);
            &text[start..start + count]
        });
        let number: Option<usize> = digits.and_then(|digits| digits.parse().ok());
        let head = number.and_then(|number| self.event_head(number));
        let sid = head.and_then(|head| Some(text.strip_prefix(&*head)?.strip_suffix("\"}}")?.to_owned()));
        let (Some(number), Some(sid)) = (number, sid) else {
            self.violate(at, Guarantee::EventsArriveAsSent, shorten(text));
            return None;
        };
        let Broadcast { browser, place: (_, channel), .. } = self.broadcasts[number];
        let known = *self.sids.entry(sid.clone()).or_insert(browser);
        self.check(at, Guarantee::EventsArriveAsSent, || {
            (known != browser || sid.len() != 36)
                .then(|| format!("{sid} names browser {known} and browser {browser}"))
        });
        Some((number, channel))
    }

    /// A subscription begins; its index.
    pub fn open_window(
        &mut self,
        at: Micros,
        browser: usize,
        place: Place,
        asked: Micros,
        uid: Option<String>,
    ) -> usize {
        self.windows.push(Window {
            browser,
            place,
            asked,
            started: at,
            seen: Vec::new(),
            end: End::Open,
            members: None,
            own_join: uid.filter(|_| place.1.starts_with("presence-")),
        });
        self.windows.len() - 1
    }

    /// A broadcast came through a subscription.
    pub fn see(&mut self, window: usize, number: usize) {
        self.deliveries += 1;
        self.windows[window].seen.push(number);
    }

    /// A presence list came, right after `subscribed`.
    pub fn see_list(&mut self, at: Micros, window: usize, uids: Vec<String>) {
        let count = uids.len();
        let list: BTreeSet<String> = uids.into_iter().collect();
        let doubled = list.len() != count;
        let entry = &mut self.windows[window];
        let mut wrong = doubled.then(|| format!("a list names somebody twice: {list:?}"));
        match &entry.members {
            None => {
                if entry.own_join.as_ref().is_some_and(|uid| list.contains(uid)) {
                    entry.own_join = None;
                }
                entry.members = Some(list);
            }
            Some(known) => {
                self.lists_compared += 1;
                if *known != list {
                    wrong = Some(format!("the list says {list:?}, joins and leaves amount to {known:?}"));
                }
            }
        }
        let browser = entry.browser;
        if let Some(wrong) = wrong {
            self.violate(at, Guarantee::PresenceFitsTogether, format!("browser {browser}: {wrong}"));
        }
    }

    /// Somebody joined or left.
    pub fn see_member(&mut self, at: Micros, window: usize, uid: &str, joined: bool) {
        self.presence_events += 1;
        let entry = &mut self.windows[window];
        let (browser, channel) = (entry.browser, entry.place.1);
        let Some(members) = &mut entry.members else {
            let detail = format!("browser {browser}: {uid} joins or leaves {channel} before the list");
            return self.violate(at, Guarantee::PresenceFitsTogether, detail);
        };
        let fits = if joined { members.insert(uid.to_owned()) } else { members.remove(uid) };
        let own = entry.own_join.take();
        let own_is_first = own.as_ref().is_none_or(|own| joined && own == uid);
        self.check(at, Guarantee::PresenceFitsTogether, || {
            let what = if joined { "joins" } else { "leaves" };
            (!fits).then(|| {
                format!("browser {browser}: {uid} {what} {channel}, which does not fit what it knows")
            })
        });
        self.check(at, Guarantee::PresenceFitsTogether, || {
            (!own_is_first)
                .then(|| format!("browser {browser}: {uid} comes before its own joining of {channel}"))
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
        for (guarantee, detail) in wrong {
            self.violate(at, guarantee, detail);
        }
    }

    /// If every subscription shows a stretch of one order, then whatever follows a broadcast in
    /// one of them follows it in all, and nothing follows in a circle.
    fn subscribers_see_one_order(&self, wrong: &mut Vec<(Guarantee, String)>) {
        let guarantee = Guarantee::SubscribersSeeOneOrder;
        let mut next: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        let mut previous: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for window in &self.windows {
            for pair in window.seen.windows(2) {
                let (a, b, browser) = (pair[0], pair[1], window.browser);
                let (of, other) = *next.entry(a).or_insert((b, browser));
                let (before, another) = *previous.entry(b).or_insert((a, browser));
                if of != b {
                    let detail = format!("after {a} browser {other} sees {of}, browser {browser} sees {b}");
                    wrong.push((guarantee, detail));
                } else if before != a {
                    let detail =
                        format!("before {b} browser {another} sees {before}, browser {browser} sees {a}");
                    wrong.push((guarantee, detail));
                }
            }
        }
        let firsts = next.keys().filter(|number| !previous.contains_key(number)).copied();
        let mut reached = 0;
        for first in firsts {
            let mut at = first;
            while let Some((following, _)) = next.get(&at) {
                reached += 1;
                at = *following;
                if reached > next.len() {
                    break;
                }
            }
        }
        if wrong.is_empty() && reached != next.len() {
            wrong.push((guarantee, "broadcasts follow each other in a circle".to_owned()));
        }
    }

    fn senders_keep_their_own_order(&self, wrong: &mut Vec<(Guarantee, String)>) {
        let guarantee = Guarantee::SendersKeepTheirOwnOrder;
        let mut acknowledged: HashMap<(usize, Place), Vec<usize>> = HashMap::new();
        for (number, broadcast) in self.broadcasts.iter().enumerate() {
            if matches!(broadcast.fate, Fate::Acknowledged(_)) {
                acknowledged.entry((broadcast.browser, broadcast.place)).or_default().push(number);
            }
        }
        for window in &self.windows {
            let mut last: HashMap<usize, usize> = HashMap::new();
            for number in &window.seen {
                let sender = self.broadcasts[*number].browser;
                let Some(before) = last.insert(sender, *number) else { continue };
                let receiver = window.browser;
                if before > *number {
                    let detail =
                        format!("browser {receiver} sees {number} of sender {sender} after its {before}");
                    wrong.push((guarantee, detail));
                    continue;
                }
                let all = acknowledged.get(&(sender, window.place)).map_or(&[][..], Vec::as_slice);
                let start = all.partition_point(|one| *one <= before);
                if let Some(missing) = all[start..].first().filter(|missing| **missing < *number) {
                    let detail = format!(
                        "browser {receiver} sees {before} and {number} of sender {sender}, but not {missing}"
                    );
                    wrong.push((guarantee, detail));
                }
            }
        }
    }

    fn nothing_before_subscribed(&self, wrong: &mut Vec<(Guarantee, String)>) {
        for window in &self.windows {
            for number in &window.seen {
                if let Fate::Acknowledged(at) = self.broadcasts[*number].fate
                    && at < window.asked
                {
                    let (browser, asked) = (window.browser, window.asked);
                    let detail =
                        format!("browser {browser} asked at {asked} µs and sees {number} of {at} µs");
                    wrong.push((Guarantee::NothingBeforeSubscribed, detail));
                }
            }
        }
    }

    fn nothing_is_lost_or_doubled(&self, wrong: &mut Vec<(Guarantee, String)>) {
        let guarantee = Guarantee::NothingIsLostOrDoubled;
        let mut by_place: HashMap<Place, Vec<usize>> = HashMap::new();
        for (number, broadcast) in self.broadcasts.iter().enumerate() {
            by_place.entry(broadcast.place).or_default().push(number);
        }
        for window in &self.windows {
            let seen: HashSet<usize> = window.seen.iter().copied().collect();
            let browser = window.browser;
            if seen.len() != window.seen.len() {
                wrong.push((guarantee, format!("browser {browser} sees something twice")));
            }
            let until = match window.end {
                End::Open => Micros::MAX,
                End::Asked(at) => at,
                End::Otherwise => continue,
            };
            for number in by_place.get(&window.place).into_iter().flatten() {
                let broadcast = &self.broadcasts[*number];
                let Fate::Acknowledged(at) = broadcast.fate else { continue };
                if broadcast.composed > window.started && at < until && !seen.contains(number) {
                    let detail = format!(
                        "browser {browser}, subscribed to {:?} since {} µs, misses {number} of {} µs",
                        window.place, window.started, broadcast.composed
                    );
                    wrong.push((guarantee, detail));
                }
            }
        }
    }

    fn nothing_refused_is_delivered(&self, wrong: &mut Vec<(Guarantee, String)>) {
        for window in &self.windows {
            for number in &window.seen {
                if self.broadcasts[*number].fate == Fate::Refused {
                    let detail = format!("browser {} sees {number}", window.browser);
                    wrong.push((Guarantee::NothingRefusedIsDelivered, detail));
                }
            }
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
            ledger.compose(10 * number, 9, (0, "alpha"), Shape::Object, 1);
            ledger.broadcasts[number as usize].fate = Fate::Acknowledged(10 * number + 5);
        }
        for (browser, seen) in windows.iter().enumerate() {
            let window = ledger.open_window(0, browser, (0, "alpha"), 0, None);
            ledger.windows[window].seen = seen.to_vec();
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
    fn names_of_guarantees() {
        assert_eq!(Guarantee::SubscribersSeeOneOrder.to_string(), "subscribers_see_one_order");
    }
}
