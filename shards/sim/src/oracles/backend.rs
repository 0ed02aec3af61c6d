//! Single access tokens and direct messages: what the backend hands out, and who gets it.

use super::{Guarantee, Ledger, Message, guarantee::Wrong};
use crate::time::Micros;

impl Ledger {
    /// A token authenticated a browser.
    pub fn hold_token(&mut self, at: Micros, number: usize, browser: usize) {
        let holders = &mut self.tokens[number].holders;
        holders.push(browser);
        let holders = holders.clone();
        self.check(at, Guarantee::ATokenIsConsumedOnce, || {
            (holders.len() > 1).then(|| format!("token {number} authenticates browsers {holders:?}"))
        });
    }

    /// The backend speaks to one session; the message's number and text.
    pub fn compose_message(&mut self, to: usize, is_addressed: bool, shards: usize) -> (usize, String) {
        let number = self.messages.len();
        self.messages.push(Message { to, is_addressed, unanswered: shards, found: 0, received: 0 });
        (number, format!(r#"{{"dm":{{"id":{number}}}}}"#))
    }

    /// A browser received a direct message.
    pub fn see_message(&mut self, at: Micros, browser: usize, number: usize) {
        let newest = self.newest_message.insert(browser, number);
        let Some(message) = self.messages.get_mut(number) else {
            let detail = format!("browser {browser} receives message {number}, which nobody sent");
            return self.violate(at, Guarantee::ADirectMessageReachesItsSession, detail);
        };
        message.received += 1;
        let fits =
            message.to == browser && message.is_addressed && newest.is_none_or(|newest| newest < number);
        let detail = format!("browser {browser} receives {number}, after {newest:?}: {message:?}");
        self.check(at, Guarantee::ADirectMessageReachesItsSession, || (!fits).then_some(detail));
    }

    /// The browser may miss what is sent to it from now on.
    pub fn depart(&mut self, browser: usize) {
        self.departed.insert(browser);
    }

    pub(super) fn a_direct_message_reaches_its_session(&self, wrong: &mut Wrong) {
        for (number, message) in self.messages.iter().enumerate() {
            let Message { to, is_addressed, found, received, unanswered } = *message;
            let stays = !self.departed.contains(&to);
            let is_right = found <= usize::from(is_addressed)
                && received <= 1
                // Who reads it before the shard's word comes to the control thread is right all the same.
                && (received <= found || unanswered > 0)
                && (!stays || !is_addressed || unanswered > 0 || received == 1);
            if !is_right {
                let detail = format!("message {number}, to a browser that stays: {stays}: {message:?}");
                wrong.push((Guarantee::ADirectMessageReachesItsSession, detail));
            }
        }
    }
}
