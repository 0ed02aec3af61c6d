//! What a request of the classic dialect may be answered.

use webrocket_wire::Rights;

use super::{Browser, identity::Who, rights::is_open};
use crate::{
    answer::Answer,
    oracles::{Ledger, triggers},
    request::Request,
    scenario::{Scenario, USERS},
};

fn is_error(answer: &Answer, wanted: &str) -> bool {
    matches!(answer, Answer::Error { id, event: None, reason: None } if id == wanted)
}

fn is_limit(answer: &Answer, wanted: &str) -> bool {
    matches!(answer, Answer::Error { id, event: None, reason: Some(reason) }
        if id == "ACCESS_DENIED" && reason == wanted)
}

impl Browser {
    /// Whether the answer may be the request's.
    pub(super) fn may_be_answered_in_classic(
        &self,
        scenario: &Scenario,
        ledger: &Ledger,
        request: &Request,
        answer: &Answer,
    ) -> bool {
        let error = |wanted: &str| is_error(answer, wanted);
        // With the right, `granted`; without it, denied; where nobody knows, either.
        let with =
            |needed, channel, granted: &dyn Fn() -> bool| match self.may(scenario, ledger, needed, channel) {
                Some(true) => granted(),
                Some(false) => error("ACCESS_DENIED"),
                None => error("ACCESS_DENIED") || granted(),
            };
        let few = scenario.has_few_channels();
        match *request {
            Request::Authenticate(name, secret) => authenticates(scenario, name, secret, answer),
            Request::Token(number) => {
                let token = &ledger.tokens[number];
                let uid = &*token.grant.uid;
                let granted = matches!(answer, Answer::Authenticated(Some(who)) if who == uid);
                let spent = token.is_spent_for(self.vhost) || scenario.vhosts_change;
                granted && token.vhost == self.vhost || spent && error("INVALID_CREDENTIALS")
            }
            Request::WrongToken => error("INVALID_CREDENTIALS"),
            Request::Subscribe { channel, .. } => {
                with(Rights::READ, Some(channel), &|| self.may_subscribe(scenario, ledger, channel, answer))
            }
            Request::Unsubscribe { channel, .. } => with(Rights::READ, Some(channel), &|| {
                let absent = !self.exists(scenario, channel) && error("CHANNEL_NOT_FOUND");
                *answer == Answer::Unsubscribed(channel.to_owned()) || absent
            }),
            Request::Broadcast(number) => {
                let (_, channel) = ledger.broadcasts[number].place;
                with(Rights::WRITE, Some(channel), &|| {
                    let absent = !self.exists(scenario, channel) && error("CHANNEL_NOT_FOUND");
                    *answer == Answer::Broadcasted(Some(channel.to_owned())) || absent
                })
            }
            Request::Trigger(number) => with(Rights::WRITE, None, &|| {
                *answer == Answer::Triggered(Some(triggers::event(number))) || error("ASSIGNATION_FAILED")
            }),
            Request::Open(channel) => with(Rights::MANAGE, None, &|| {
                *answer == Answer::ChannelOpened(channel.to_owned())
                    || few && is_limit(answer, "channel limit reached")
                    || scenario.vhosts_change && error("CHANNEL_NOT_FOUND")
            }),
            Request::Close(channel) => with(Rights::MANAGE, None, &|| {
                channel != "never" && *answer == Answer::ChannelClosed(channel.to_owned())
                    || error("CHANNEL_NOT_FOUND")
            }),
            Request::Logout if self.identity == Who::Nobody => error("ACCESS_DENIED"),
            Request::Logout => {
                *answer == Answer::LoggedOut || scenario.users_change && error("ACCESS_DENIED")
            }
            Request::Mark(number) => {
                matches!(answer, Answer::Error { id, event: Some(event), reason: None }
                    if id == "UNDEFINED_EVENT" && *event == format!("mark{number}"))
            }
            Request::Malformed(_) => error("INVALID_PAYLOAD"),
            Request::Faulty(fault) => with(fault.right, None, &|| error(fault.error)),
            Request::Leave { .. } | Request::TriggeringBroadcast { .. } => false,
        }
    }

    /// Whether this may answer the subscription of a channel that the session may read.
    fn may_subscribe(&self, scenario: &Scenario, ledger: &Ledger, channel: &str, answer: &Answer) -> bool {
        let may_create = is_open(channel) || self.may(scenario, ledger, Rights::MANAGE, None) == Some(true);
        let exists = self.exists(scenario, channel);
        let subscribed = Answer::Subscribed { channel: channel.to_owned(), uid: None, present: None };
        *answer == subscribed
            || (!exists && !may_create || scenario.vhosts_change) && is_error(answer, "ACCESS_DENIED")
            || scenario.has_few_channels() && !exists && is_limit(answer, "channel limit reached")
            || scenario.settings.subscriptions_max < 100 && is_limit(answer, "subscription limit reached")
    }
}

fn authenticates(scenario: &Scenario, name: &str, secret: Option<&str>, answer: &Answer) -> bool {
    let error = |wanted: &str| is_error(answer, wanted);
    let changed = || scenario.users_change && (error("USER_NOT_FOUND") || error("INVALID_CREDENTIALS"));
    match USERS.iter().find(|user| user.name == name) {
        None if name == "no name" => error("INVALID_USER_NAME"),
        None => error("USER_NOT_FOUND"),
        Some(user) if user.secret.is_none() || user.secret == secret => {
            *answer == Answer::Authenticated(Some(name.to_owned())) || changed()
        }
        Some(_) => error("INVALID_CREDENTIALS") || changed(),
    }
}
