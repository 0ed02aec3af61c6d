//! The classic dialect as a browser speaks it, written apart from the server's.

use serde_json::Value;
use webrocket_wire::Rights;

use crate::{
    answer::{self, Answer, Heard, has_only, text},
    oracles::{Ledger, triggers},
    request::{Fault, Request},
};

const fn fault(text: &'static str, right: Rights, error: &'static str) -> Fault {
    Fault { text, right, error, reason: None }
}

/// Requests that fail because of what they name.
pub const FAULTS: [Fault; 9] = [
    fault(r#"{"subscribe":5}"#, Rights::READ, "INVALID_PAYLOAD"),
    fault(r#"{"subscribe":{}}"#, Rights::READ, "INVALID_CHANNEL_NAME"),
    fault(r#"{"subscribe":{"channel":"a b"}}"#, Rights::READ, "INVALID_CHANNEL_NAME"),
    fault(r#"{"unsubscribe":{"channel":7}}"#, Rights::READ, "INVALID_CHANNEL_NAME"),
    fault(r#"{"broadcast":[]}"#, Rights::WRITE, "INVALID_PAYLOAD"),
    fault(r#"{"broadcast":{"event":":x","channel":"a b"}}"#, Rights::WRITE, "INVALID_EVENT_NAME"),
    fault(r#"{"broadcast":{"event":"err","channel":"alpha"}}"#, Rights::WRITE, "INVALID_EVENT_NAME"),
    fault(r#"{"broadcast":{"event":"x","channel":""}}"#, Rights::WRITE, "INVALID_CHANNEL_NAME"),
    fault(r#"{"openChannel":{"channel":"?"}}"#, Rights::MANAGE, "INVALID_CHANNEL_NAME"),
];

/// A request as a message.
#[must_use]
pub fn message(request: &Request, ledger: &Ledger) -> String {
    let on = |event: &str, channel: &str| format!(r#"{{"{event}":{{"channel":"{channel}"}}}}"#);
    match *request {
        Request::Authenticate(user, None) => format!(r#"{{"authenticate":{{"user":"{user}"}}}}"#),
        Request::Authenticate(user, Some(secret)) => {
            format!(r#"{{"authenticate":{{"user":"{user}","secret":"{secret}"}}}}"#)
        }
        Request::Token(number) => {
            format!(r#"{{"authenticate":{{"token":"{}"}}}}"#, ledger.tokens[number].text)
        }
        Request::WrongToken => format!(r#"{{"authenticate":{{"token":"{}"}}}}"#, "0f".repeat(64)),
        Request::Subscribe { channel, .. } => on("subscribe", channel),
        Request::Unsubscribe { channel, .. } => on("unsubscribe", channel),
        Request::Broadcast(number) => {
            let (channel, data) = ledger.content(number);
            format!(r#"{{"broadcast":{{"event":"ev","channel":"{channel}","data":{data}}}}}"#)
        }
        Request::TriggeringBroadcast { .. } => unreachable!("the dialect knows no such request"),
        Request::Trigger(number) => {
            let event = triggers::event(number);
            format!(r#"{{"trigger":{{"event":"{event}","data":{{"id":{number}}}}}}}"#)
        }
        Request::Open(channel) => on("openChannel", channel),
        Request::Close(channel) => on("closeChannel", channel),
        Request::Logout => r#"{"logout":true}"#.to_owned(),
        Request::Mark(number) => format!(r#"{{"mark{number}":true}}"#),
        Request::Malformed(text) => text.to_owned(),
        Request::Faulty(fault) => fault.text.to_owned(),
        Request::Leave { .. } => r#"{"disconnect":true}"#.to_owned(),
    }
}

/// Takes a message apart; `None` if the dialect knows no such message.
#[must_use]
pub fn parse(message: &str) -> Option<Heard> {
    let value: Value = serde_json::from_str(message).ok()?;
    if let Some(id) = value.get("err").and_then(text) {
        let member = |name| value.get(name).and_then(text);
        let (event, reason) = (member("event"), member("reason"));
        let known = has_only(&value, &["err", "event", "reason"]);
        return known.then_some(Heard::Answer(Answer::Error { id, event, reason }, None));
    }
    let (key, value) = answer::event(message)?;
    let answer = match &*key {
        "authenticated" => Answer::Authenticated(Some(text(&value)?)),
        "subscribed" => Answer::Subscribed { channel: text(&value)?, uid: None, present: None },
        "unsubscribed" => Answer::Unsubscribed(text(&value)?),
        "broadcasted" => Answer::Broadcasted(Some(text(&value)?)),
        "triggered" => Answer::Triggered(Some(text(&value)?)),
        "channelOpened" => Answer::ChannelOpened(text(&value)?),
        "channelClosed" => Answer::ChannelClosed(text(&value)?),
        "loggedOut" if value == Value::Bool(true) => Answer::LoggedOut,
        ":presence" if has_only(&value, &["channel", "subscribers"]) => {
            let present = answer::members(value.get("subscribers")?)?;
            return Some(Heard::Presence(text(value.get("channel")?)?, present));
        }
        _ => return answer::common(&key, &value),
    };
    Some(Heard::Answer(answer, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_every_sort() {
        let answer = |answer| Some(Heard::Answer(answer, None));
        let opened = Answer::ChannelOpened("a".to_owned());
        assert_eq!(parse(r#"{"channelOpened":"a"}"#), answer(opened));
        assert_eq!(parse(r#"{"subscribed":"a","x":1}"#), None);
        assert_eq!(parse(r#"{"loggedOut":true}"#), answer(Answer::LoggedOut));
        let error = Answer::Error { id: "X".to_owned(), event: Some("e".to_owned()), reason: None };
        assert_eq!(parse(r#"{"err":"X","event":"e"}"#), answer(error));
        assert_eq!(parse(r#"{"unknown":1}"#), None);
    }
}
