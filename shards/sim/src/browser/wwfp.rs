//! What a request of WWFP may be answered.

use webrocket_wire::Rights;

use super::{Browser, identity::Who, rights::is_open};
use crate::{
    answer::Answer,
    oracles::Ledger,
    request::{Fault, Request},
    scenario::{Scenario, USERS},
};

fn is_error(answer: &Answer, wanted: &str) -> bool {
    matches!(answer, Answer::Error { id, event: None, reason: None } if id == wanted)
}

fn is_limit(answer: &Answer, wanted: &str) -> bool {
    matches!(answer, Answer::Error { id, reason: Some(reason), .. } if id == "403" && reason == wanted)
}

impl Browser {
    /// Whether the answer may be the request's. [`Answer::Broadcasted`] stands for no answer too.
    pub(super) fn may_be_answered_in_wwfp(
        &self,
        scenario: &Scenario,
        ledger: &Ledger,
        request: &Request,
        answer: &Answer,
    ) -> bool {
        let error = |wanted: &str| is_error(answer, wanted);
        let manages = |granted: &dyn Fn() -> bool| match self.may(scenario, ledger, Rights::MANAGE, None) {
            Some(true) => granted(),
            Some(false) => error("403"),
            None => error("403") || granted(),
        };
        match *request {
            Request::Authenticate(name, secret) => {
                let user = USERS.iter().find(|user| user.name == name);
                let is_right = user.is_some_and(|user| user.secret.is_none() || user.secret == secret);
                is_right && *answer == Answer::Authenticated(None)
                    || (!is_right || scenario.users_change) && error("402")
            }
            Request::Token(number) => {
                let token = &ledger.tokens[number];
                let spent = token.is_spent_for(self.vhost) || scenario.vhosts_change;
                token.vhost == self.vhost && *answer == Answer::Authenticated(None) || spent && error("402")
            }
            Request::WrongToken => error("402"),
            Request::Subscribe { channel, .. } => {
                self.may_subscribe_in_wwfp(scenario, ledger, channel, answer)
            }
            Request::Unsubscribe { channel, .. } => {
                self.may_unsubscribe_in_wwfp(scenario, ledger, channel, answer)
            }
            Request::Broadcast(number) => {
                let (_, channel) = ledger.broadcasts[number].place;
                self.may_broadcast(scenario, ledger, channel, false, answer)
            }
            Request::TriggeringBroadcast { broadcast, .. } => {
                let (_, channel) = ledger.broadcasts[broadcast].place;
                self.may_broadcast(scenario, ledger, channel, true, answer)
            }
            Request::Trigger(_) => {
                self.may_trigger(scenario, ledger, answer, &|| *answer == Answer::Triggered(None))
            }
            Request::Open(channel) => manages(&|| {
                *answer == Answer::ChannelOpened(channel.to_owned())
                    || scenario.has_few_channels() && is_limit(answer, "channel limit reached")
                    || scenario.vhosts_change && error("454")
            }),
            Request::Close(channel) => manages(&|| {
                channel != "never" && *answer == Answer::ChannelClosed(channel.to_owned()) || error("454")
            }),
            Request::Mark(_) | Request::Malformed(_) => error("400"),
            Request::Faulty(Fault { right: Rights::NONE, error, reason, .. }) => matches!(
                answer,
                Answer::Error { id, event: None, reason: why } if id == error && why.as_deref() == *reason
            ),
            Request::Faulty(fault) => manages(&|| error(fault.error)),
            Request::Leave { .. } => {
                matches!(answer, Answer::Closed(sid) if Some(sid) == self.sid.as_ref())
            }
            Request::Logout => false,
        }
    }

    fn may_subscribe_in_wwfp(
        &self,
        scenario: &Scenario,
        ledger: &Ledger,
        channel: &str,
        answer: &Answer,
    ) -> bool {
        let denied = is_error(answer, "403");
        let absent = !self.exists(scenario, channel) && is_error(answer, "454");
        let granted = || {
            let is_answer = match answer {
                Answer::Subscribed { channel: of, uid, present } => {
                    let known = self.identity.uid(ledger).filter(|_| !is_open(channel));
                    of == channel && *uid == known && present.is_some() == channel.starts_with("presence-")
                }
                _ => false,
            };
            let settings = &scenario.settings;
            is_answer
                || absent
                || settings.subscriptions_max < 100 && is_limit(answer, "subscription limit reached")
        };
        match self.may(scenario, ledger, Rights::READ, Some(channel)) {
            Some(true) => granted(),
            Some(false) => denied || is_open(channel) && absent,
            None => granted() || denied || absent,
        }
    }

    fn may_unsubscribe_in_wwfp(
        &self,
        scenario: &Scenario,
        ledger: &Ledger,
        channel: &str,
        answer: &Answer,
    ) -> bool {
        let not_subscribed = is_error(answer, "453");
        let known = || {
            let absent = !self.exists(scenario, channel) && is_error(answer, "454");
            let subscribes = self.windows.contains_key(channel);
            let done = subscribes && *answer == Answer::Unsubscribed(channel.to_owned());
            done || absent || (!subscribes || scenario.takes_away()) && not_subscribed
        };
        match self.is_secret(scenario, ledger, channel) {
            Some(true) => not_subscribed,
            Some(false) => known(),
            None => known() || not_subscribed,
        }
    }

    /// A subscription that ends by itself may do so before or after the broadcast is judged.
    fn may_broadcast(
        &self,
        scenario: &Scenario,
        ledger: &Ledger,
        channel: &str,
        triggers: bool,
        answer: &Answer,
    ) -> bool {
        let takes_away = scenario.takes_away();
        let subscribes = self.windows.contains_key(channel);
        let absent = !self.exists(scenario, channel) && is_error(answer, "454");
        let subscribed = || {
            let done = *answer == Answer::Broadcasted(None) || absent;
            if triggers {
                return self.may_trigger(scenario, ledger, answer, &|| done);
            }
            match self.may(scenario, ledger, Rights::WRITE, Some(channel)) {
                Some(true) => done,
                Some(false) => is_error(answer, "403"),
                None => done || is_error(answer, "403"),
            }
        };
        let not_subscribed = || {
            let secret = self.is_secret(scenario, ledger, channel);
            is_error(answer, "453") || secret != Some(true) && absent
        };
        (subscribes || takes_away) && subscribed() || (!subscribes || takes_away) && not_subscribed()
    }

    fn may_trigger(
        &self,
        scenario: &Scenario,
        ledger: &Ledger,
        answer: &Answer,
        done: &dyn Fn() -> bool,
    ) -> bool {
        let denied = is_error(answer, "403");
        let judged = || is_error(answer, "503") || done();
        match self.identity {
            Who::Nobody => denied,
            Who::Token(_) => judged(),
            Who::User(_) => match self.may(scenario, ledger, Rights::WRITE, None) {
                Some(true) => judged(),
                Some(false) => denied,
                None => denied || judged(),
            },
        }
    }
}
