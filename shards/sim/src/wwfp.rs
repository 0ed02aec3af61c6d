//! WWFP as a browser speaks it, written apart from the server's.

use webrocket_wire::Rights;

use crate::{
    answer::{self, Answer, Heard, has_only, text},
    oracles::{Ledger, triggers},
    request::{Fault, Request},
};

const fn fault(text: &'static str, error: &'static str) -> Fault {
    Fault { text, right: Rights::NONE, error, reason: None }
}

const fn too_long(text: &'static str) -> Fault {
    Fault { text, right: Rights::NONE, error: "400", reason: Some("data too long") }
}

/// Requests that fail because of what they name.
pub const FAULTS: [Fault; 22] = [
    fault(r#"{"subscribe":5}"#, "400"),
    fault(r#"{"subscribe":{}}"#, "400"),
    fault(r#"{"subscribe":{"channel":"alpha","ref":1.5}}"#, "400"),
    fault(r#"{"broadcast":{"channel":"alpha","event":"x","ref":null}}"#, "400"),
    fault(r#"{"subscribe":{"channel":"a b"@}}"#, "454"),
    fault(r#"{"subscribe":{"channel":""@}}"#, "400"),
    fault(r#"{"subscribe":{"channel":"alpha","hidden":1@}}"#, "400"),
    fault(r#"{"subscribe":{"channel":"alpha","data":[1]@}}"#, "400"),
    fault(r#"{"unsubscribe":{"channel":7@}}"#, "400"),
    fault(r#"{"unsubscribe":{"channel":"?"@}}"#, "454"),
    fault(r#"{"broadcast":{"channel":"alpha"@}}"#, "400"),
    fault(r#"{"broadcast":{"channel":"alpha","event":":x"@}}"#, "400"),
    fault(r#"{"broadcast":{"channel":"?","event":"x"@}}"#, "454"),
    fault(r#"{"auth":{"user":"ann","token":5@}}"#, "400"),
    fault(r#"{"auth":{"token":"nonsense"@}}"#, "402"),
    fault(r#"{"trigger":{"event":"err"@}}"#, "400"),
    fault(r#"{"authenticate":{"user":"ann"@}}"#, "400"),
    fault(r#"{"close":"now"}"#, "400"),
    too_long(
        r#"{"subscribe":{"channel":"alpha","data":{"pad":"0123456789012345678901234567890123456789012345678901234567890123456789"}@}}"#,
    ),
    too_long(
        r#"{"unsubscribe":{"channel":"alpha","data":{"pad":"0123456789012345678901234567890123456789012345678901234567890123456789"}@}}"#,
    ),
    too_long(
        r#"{"close":{"pad":"0123456789012345678901234567890123456789012345678901234567890123456789"@}}"#,
    ),
    Fault { text: r#"{"openChannel":{"channel":"?"@}}"#, right: Rights::MANAGE, error: "451", reason: None },
];

/// Errors by code.
const STATUSES: [(u64, &str); 8] = [
    (400, "Bad request"),
    (402, "Unauthorized"),
    (403, "Forbidden"),
    (451, "Invalid channel name"),
    (453, "Not subscribed"),
    (454, "Channel not found"),
    (503, "Service unavailable"),
    (597, "Internal error"),
];

/// Whether the request may carry a `ref`.
#[must_use]
pub fn takes_reference(request: &Request) -> bool {
    match request {
        Request::Malformed(_) => false,
        Request::Faulty(fault) => fault.text.contains('@'),
        _ => true,
    }
}

/// Whether the request is answered only if it fails.
#[must_use]
pub fn is_silent(request: &Request, reference: Option<&str>) -> bool {
    matches!(request, Request::Broadcast(_)) && reference.is_none()
}

/// A request as a message.
#[must_use]
pub fn message(request: &Request, reference: Option<&str>, ledger: &Ledger) -> String {
    let (event, mut members) = match *request {
        Request::Malformed(text) => return text.to_owned(),
        Request::Faulty(fault) => {
            let reference = reference.map(|reference| format!(r#","ref":{reference}"#)).unwrap_or_default();
            return fault.text.replace('@', &reference);
        }
        Request::Mark(number) => (format!("mark{number}"), String::new()),
        _ => known(request, ledger),
    };
    if let Some(reference) = reference {
        let comma = if members.is_empty() { "" } else { "," };
        members = format!(r#"{members}{comma}"ref":{reference}"#);
    }
    format!(r#"{{"{event}":{{{members}}}}}"#)
}

/// A request's event, and its members without `ref`.
fn known(request: &Request, ledger: &Ledger) -> (String, String) {
    let on = |channel: &str| format!(r#""channel":"{channel}""#);
    let (event, members) = match *request {
        Request::Authenticate(user, None) => ("auth", format!(r#""user":"{user}""#)),
        Request::Authenticate(user, Some(secret)) => {
            ("auth", format!(r#""user":"{user}","secret":"{secret}""#))
        }
        Request::Token(number) => ("auth", format!(r#""token":"{}""#, ledger.tokens[number].text)),
        Request::WrongToken => ("auth", format!(r#""token":"{}""#, "0f".repeat(64))),
        Request::Subscribe { channel, tab, hidden } => {
            let data = tab.map(|tab| format!(r#","data":{}"#, joining(tab))).unwrap_or_default();
            let hidden = if hidden { r#","hidden":true"# } else { "" };
            ("subscribe", format!("{}{data}{hidden}", on(channel)))
        }
        Request::Unsubscribe { channel, farewell } => {
            let data = farewell.map(|farewell| format!(r#","data":{{{}}}"#, leaving(farewell)));
            ("unsubscribe", on(channel) + &data.unwrap_or_default())
        }
        Request::Broadcast(number) => {
            let (channel, data) = ledger.content(number);
            ("broadcast", format!(r#"{},"event":"ev","data":{data}"#, on(channel)))
        }
        Request::TriggeringBroadcast { broadcast, trigger } => {
            let (channel, data) = ledger.content(broadcast);
            let trigger = triggers::event(trigger);
            ("broadcast", format!(r#"{},"event":"ev","trigger":"{trigger}","data":{data}"#, on(channel)))
        }
        Request::Trigger(number) => {
            let event = triggers::event(number);
            ("trigger", format!(r#""event":"{event}","data":{{"id":{number}}}"#))
        }
        Request::Open(channel) => ("openChannel", on(channel)),
        Request::Close(channel) => ("closeChannel", on(channel)),
        Request::Leave { farewell } => ("close", farewell.map(leaving).unwrap_or_default()),
        Request::Logout | Request::Mark(_) | Request::Malformed(_) | Request::Faulty(_) => {
            unreachable!("the dialect knows no such request")
        }
    };
    (event.to_owned(), members)
}

/// The data with which somebody joins, as sent; now and then it claims to be somebody else.
fn joining(tab: usize) -> String {
    if tab.is_multiple_of(3) {
        format!(r#"{{"uid":"boss","tab":{tab},"ch\u0061nnel":[],"mood":"new"}}"#)
    } else {
        format!(r#"{{"tab":{tab},"mood":"new"}}"#)
    }
}

/// The members of the data with which somebody leaves, as sent; now and then they overlay what it joined with.
fn leaving(farewell: usize) -> String {
    if farewell.is_multiple_of(2) {
        format!(r#""left":{farewell}"#)
    } else {
        format!(r#""mo\u006fd":"gone","left":{farewell}"#)
    }
}

/// The data with which somebody joins, as others are shown it.
#[must_use]
pub fn shown_joining(tab: usize) -> answer::Data {
    answer::Data::from_iter([("tab".to_owned(), tab.into()), ("mood".to_owned(), "new".into())])
}

/// The data with which somebody leaves, as others are shown it, apart from what it joined with.
#[must_use]
pub fn shown_leaving(farewell: usize) -> answer::Data {
    let mut data = answer::Data::from_iter([("left".to_owned(), farewell.into())]);
    if !farewell.is_multiple_of(2) {
        data.insert("mood".to_owned(), "gone".into());
    }
    data
}

/// Takes a message apart; `None` if the dialect knows no such message.
#[must_use]
pub fn parse(message: &str) -> Option<Heard> {
    let (key, value) = answer::event(message)?;
    let member = |name: &str| value.get(name).and_then(text);
    let only = |names: &[&str]| has_only(&value, names).then_some(());
    let answer = match &*key {
        ":connected" => {
            only(&["sid"])?;
            return Some(Heard::Connected(member("sid")?));
        }
        ":authenticated" => {
            only(&["ref"])?;
            Answer::Authenticated(None)
        }
        ":subscribed" => {
            only(&["channel", "uid", "subscribers", "ref"])?;
            let present = value.get("subscribers").map(|list| answer::members(list).ok_or(()));
            let present = present.transpose().ok()?;
            Answer::Subscribed { channel: member("channel")?, uid: member("uid"), present }
        }
        ":unsubscribed" | ":channelOpened" | ":channelClosed" => {
            only(&["channel", "ref"])?;
            let channel = member("channel")?;
            match &*key {
                ":unsubscribed" => Answer::Unsubscribed(channel),
                ":channelOpened" => Answer::ChannelOpened(channel),
                _ => Answer::ChannelClosed(channel),
            }
        }
        ":closed" => {
            only(&["sid", "ref"])?;
            Answer::Closed(member("sid")?)
        }
        ":ok" => {
            only(&["code", "status", "ref"])?;
            value.get("ref")?;
            match (value["code"].as_u64()?, value["status"].as_str()?) {
                (204, "Broadcasted") => Answer::Broadcasted(None),
                (205, "Triggered") => Answer::Triggered(None),
                _ => return None,
            }
        }
        ":error" => {
            only(&["code", "status", "reason", "ref"])?;
            let (code, status) = (value.get("code")?.as_u64()?, member("status")?);
            STATUSES.contains(&(code, &*status)).then_some(())?;
            Answer::Error { id: code.to_string(), event: None, reason: member("reason") }
        }
        _ => return answer::common(&key, &value),
    };
    let has_reference = value.get("ref").is_some();
    let reference = if has_reference { Some(last_reference(message)?.to_owned()) } else { None };
    Some(Heard::Answer(answer, reference))
}

/// The `ref` as it is written; it stands last.
fn last_reference(message: &str) -> Option<&str> {
    let (_, behind) = message.rsplit_once(r#""ref":"#)?;
    behind.strip_suffix("}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_every_sort() {
        let answer =
            |answer, reference: Option<&str>| Some(Heard::Answer(answer, reference.map(str::to_owned)));
        assert_eq!(
            parse(r#"{":authenticated":{"ref":"\u0061"}}"#),
            answer(Answer::Authenticated(None), Some(r#""\u0061""#))
        );
        assert_eq!(
            parse(r#"{":ok":{"code":204,"status":"Broadcasted","ref":7}}"#),
            answer(Answer::Broadcasted(None), Some("7"))
        );
        assert_eq!(
            parse(r#"{":ok":{"code":204,"status":"Broadcasted"}}"#),
            None,
            "only who gave a ref is told"
        );
        assert_eq!(parse(r#"{":error":{"code":403,"status":"Not subscribed"}}"#), None);
        let unsubscribed = Answer::Unsubscribed("a".to_owned());
        assert_eq!(parse(r#"{":unsubscribed":{"channel":"a"}}"#), answer(unsubscribed, None));
        assert_eq!(parse(r#"{":unsubscribed":{"channel":"a","x":1}}"#), None);
        assert_ne!(
            parse(r#"{":unsubscribed":{"ref":7,"channel":"a"}}"#),
            parse(r#"{":unsubscribed":{"channel":"a","ref":7}}"#),
            "the ref stands last"
        );
    }

    #[test]
    fn what_is_shown_is_what_was_sent_without_claims() {
        for tab in 0..4 {
            let mut sent: answer::Data = serde_json::from_str(&joining(tab)).unwrap();
            sent.remove("uid");
            sent.remove("channel");
            assert_eq!(sent, shown_joining(tab));
            let sent: answer::Data = serde_json::from_str(&format!("{{{}}}", leaving(tab))).unwrap();
            assert_eq!(sent, shown_leaving(tab));
        }
    }
}
