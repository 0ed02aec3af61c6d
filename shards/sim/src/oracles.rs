//! What must hold, whatever happens: facts that browsers write down, and judgements of them.
//!
//! What can be judged at once is judged at once ([`Ledger::check`]); what several browsers must
//! agree upon is judged at the end ([`Ledger::judge`]), from nothing but what they sent and saw.
//!
//! `ledger` is all that was written down: `broadcast`, `window`, `members`, `token`, `message` and [`triggers`] are
//! the facts. `order`, `presence`, `backend` and the parts of [`triggers`] judge them, by each [`Guarantee`].

mod backend;
mod broadcast;
mod guarantee;
mod ledger;
mod members;
mod message;
mod order;
mod presence;
mod token;
pub mod triggers;
mod window;

pub use broadcast::{BACKEND, Broadcast, FIRST_CLIENT, Fate, Place, is_backend};
pub use guarantee::{Guarantee, Violation, shorten};
pub use ledger::Ledger;
pub use members::{Audience, Audiences, Knowledge, Present, SHY, Tab};
pub use message::Message;
pub use token::Token;
pub use triggers::Triggers;
pub use window::{Asked, End, Fact, Subscriber, Window};

use crate::time::Micros;

impl Ledger {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Shape;

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
