//! Judgements of what all browsers saw together: order, loss, doubles.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{End, Fact, Fate, Guarantee, Ledger, Place, Window, guarantee::Wrong};
use crate::time::Micros;

/// A fact that happens once on a channel, and the channel.
type Anchor = (Place, Fact);

/// What one subscription saw next to a fact: those that may happen twice, then one that does not.
type Neighbour = (Vec<Fact>, Anchor, usize);

/// Facts that may happen twice, at the edge of what a subscription saw, and whose that is.
type Edge = (Anchor, Vec<Fact>, usize);

/// An edge behind which a subscription saw nothing more, and whether it was there until everything was quiet.
type Tail = (Edge, bool);

/// The one order of facts, as far as it was put together.
#[derive(Default)]
struct Order {
    next: BTreeMap<Anchor, Neighbour>,
    previous: BTreeMap<Anchor, Neighbour>,
    heads: Vec<Edge>,
    tails: Vec<Tail>,
}

impl Order {
    /// Fits in what one subscription saw; what contradicts others goes to `wrong`.
    fn fit(&mut self, window: &Window, wrong: &mut Wrong) {
        let Window { browser, place, seen, end, .. } = window;
        let (browser, place) = (*browser, *place);
        let mut before: Option<Anchor> = None;
        let mut between = Vec::new();
        for fact in seen {
            if !fact.happens_once() {
                between.push(*fact);
                continue;
            }
            let (anchor, run) = ((place, *fact), std::mem::take(&mut between));
            match before {
                None => self.heads.push((anchor, run, browser)),
                Some(before) => {
                    let after = self.next.entry(before).or_insert_with(|| (run.clone(), anchor, browser));
                    Self::compare("after", before, after, &(run.clone(), anchor, browser), wrong);
                    let other = self.previous.entry(anchor).or_insert_with(|| (run.clone(), before, browser));
                    Self::compare("before", anchor, other, &(run, before, browser), wrong);
                }
            }
            before = Some(anchor);
        }
        if let Some(before) = before {
            self.tails.push(((before, between, browser), matches!(end, End::Open)));
        }
    }

    fn compare(side: &str, of: Anchor, known: &Neighbour, seen: &Neighbour, wrong: &mut Wrong) {
        if (&known.0, known.1) != (&seen.0, seen.1) {
            let detail = format!(
                "{side} {of:?} browser {} sees {:?} and {:?}, browser {} sees {:?} and {:?}",
                known.2, known.0, known.1.1, seen.2, seen.0, seen.1.1
            );
            wrong.push((Guarantee::SubscribersSeeOneOrder, detail));
        }
    }

    /// What a subscription saw at its edges must be a part of what others saw there.
    fn fit_edges(&self, wrong: &mut Wrong) {
        let mut judge = |side: &str, of: Anchor, fits: bool, browser: usize, run: &[Fact]| {
            if !fits {
                let detail = format!("{side} {of:?} browser {browser} sees {run:?}, unlike others");
                wrong.push((Guarantee::SubscribersSeeOneOrder, detail));
            }
        };
        for (anchor, run, browser) in &self.heads {
            let fits = self.previous.get(anchor).is_none_or(|(whole, ..)| whole.ends_with(run));
            judge("before", *anchor, fits, *browser, run);
        }
        let mut longest: HashMap<Anchor, &[Fact]> = HashMap::new();
        for ((anchor, run, browser), is_open) in &self.tails {
            let fits = match self.next.get(anchor) {
                // Once everything is quiet, who is still there has seen all that anybody saw.
                Some(_) if *is_open => false,
                Some((whole, ..)) => whole.starts_with(run),
                None => {
                    let whole = longest.entry(*anchor).or_insert(run);
                    let fits = whole.starts_with(run) || run.starts_with(whole);
                    if run.len() > whole.len() {
                        *whole = run;
                    }
                    fits
                }
            };
            judge("after", *anchor, fits, *browser, run);
        }
    }

    /// Whether nothing follows in a circle.
    fn is_straight(&self) -> bool {
        let firsts = self.next.keys().filter(|anchor| !self.previous.contains_key(anchor)).copied();
        let mut reached = 0;
        for first in firsts {
            let mut at = first;
            while let Some((_, following, _)) = self.next.get(&at) {
                reached += 1;
                at = *following;
                if reached > self.next.len() {
                    return false;
                }
            }
        }
        reached == self.next.len()
    }
}

impl Ledger {
    /// If every subscription shows a stretch of one order, then whatever follows a fact in one of
    /// them follows it in all, and nothing follows in a circle.
    pub(super) fn subscribers_see_one_order(&self, wrong: &mut Wrong) {
        let mut order = Order::default();
        for window in &self.windows {
            order.fit(window, wrong);
        }
        order.fit_edges(wrong);
        if wrong.is_empty() && !order.is_straight() {
            let detail = "broadcasts follow each other in a circle".to_owned();
            wrong.push((Guarantee::SubscribersSeeOneOrder, detail));
        }
    }

    pub(super) fn senders_keep_their_own_order(&self, wrong: &mut Wrong) {
        let guarantee = Guarantee::SendersKeepTheirOwnOrder;
        let mut acknowledged: HashMap<(usize, Place), Vec<usize>> = HashMap::new();
        for (number, broadcast) in self.broadcasts.iter().enumerate() {
            if matches!(broadcast.fate, Fate::Acknowledged(_)) {
                acknowledged.entry((broadcast.browser, broadcast.place)).or_default().push(number);
            }
        }
        for window in &self.windows {
            let mut last: HashMap<usize, usize> = HashMap::new();
            for number in window.broadcasts() {
                let sender = self.broadcasts[number].browser;
                let Some(before) = last.insert(sender, number) else { continue };
                let receiver = window.browser;
                if before > number {
                    let detail =
                        format!("browser {receiver} sees {number} of sender {sender} after its {before}");
                    wrong.push((guarantee, detail));
                    continue;
                }
                let all = acknowledged.get(&(sender, window.place)).map_or(&[][..], Vec::as_slice);
                let start = all.partition_point(|one| *one <= before);
                if let Some(missing) = all[start..].first().filter(|missing| **missing < number) {
                    let detail = format!(
                        "browser {receiver} sees {before} and {number} of sender {sender}, but not {missing}"
                    );
                    wrong.push((guarantee, detail));
                }
            }
        }
    }

    pub(super) fn nothing_before_subscribed(&self, wrong: &mut Wrong) {
        for window in &self.windows {
            for number in window.broadcasts() {
                if let Fate::Acknowledged(at) = self.broadcasts[number].fate
                    && at < window.asked.at
                {
                    let (browser, asked) = (window.browser, window.asked.at);
                    let detail =
                        format!("browser {browser} asked at {asked} µs and sees {number} of {at} µs");
                    wrong.push((Guarantee::NothingBeforeSubscribed, detail));
                }
            }
        }
    }

    pub(super) fn nothing_is_lost_or_doubled(&self, wrong: &mut Wrong) {
        let guarantee = Guarantee::NothingIsLostOrDoubled;
        let mut by_place: HashMap<Place, Vec<usize>> = HashMap::new();
        for (number, broadcast) in self.broadcasts.iter().enumerate() {
            by_place.entry(broadcast.place).or_default().push(number);
        }
        for window in &self.windows {
            let seen: HashSet<usize> = window.broadcasts().collect();
            let browser = window.browser;
            if seen.len() != window.broadcasts().count() {
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
                // What it sends itself behind its wish to subscribe comes after that.
                let is_later = broadcast.composed > window.started
                    || broadcast.browser == browser && *number >= window.asked.broadcasts;
                if is_later && at < until && !seen.contains(number) {
                    let detail = format!(
                        "browser {browser}, subscribed to {:?} since {} µs, misses {number} of {} µs",
                        window.place, window.started, broadcast.composed
                    );
                    wrong.push((guarantee, detail));
                }
            }
        }
    }

    pub(super) fn nothing_refused_is_delivered(&self, wrong: &mut Wrong) {
        for window in &self.windows {
            for number in window.broadcasts() {
                if self.broadcasts[number].fate == Fate::Refused {
                    let detail = format!("browser {} sees {number}", window.browser);
                    wrong.push((Guarantee::NothingRefusedIsDelivered, detail));
                }
            }
        }
    }
}
