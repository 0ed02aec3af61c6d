//! What the server says in the classic dialect, taken apart without the server's own types.

use serde_json::Value;

use crate::workload::CHANNELS;

/// A text message of the server that is no event of a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `authenticated`, `subscribed`, `unsubscribed`, `broadcasted`, `channelOpened`, `channelClosed`: of what.
    Done(String, String),
    /// `{"loggedOut":true}`
    LoggedOut,
    /// `{"err":…}`
    Error {
        /// Its id.
        id: String,
        /// The unknown event.
        event: Option<String>,
        /// The limit that was hit.
        reason: Option<String>,
    },
    /// `{":presence":…}`
    Presence {
        /// Of which channel.
        channel: String,
        /// Who is present.
        uids: Vec<String>,
    },
    /// `{":memberJoined":…}` or `{":memberLeft":…}`
    Member {
        /// On which channel.
        channel: String,
        /// Who.
        uid: String,
        /// Whether it joined.
        joined: bool,
    },
}

/// Takes a message apart; `None` if the dialect knows no such message.
#[must_use]
pub fn parse(text: &str) -> Option<Answer> {
    let value: Value = serde_json::from_str(text).ok()?;
    let object = value.as_object()?;
    let string = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    if let Some(id) = string("err") {
        let (event, reason) = (string("event"), string("reason"));
        let members = 1 + usize::from(event.is_some()) + usize::from(reason.is_some());
        return (object.len() == members).then_some(Answer::Error { id, event, reason });
    }
    let (key, value) = object.iter().next().filter(|_| object.len() == 1)?;
    let member = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    match &**key {
        "authenticated" | "subscribed" | "unsubscribed" | "broadcasted" | "channelOpened"
        | "channelClosed" => Some(Answer::Done(key.clone(), value.as_str()?.to_owned())),
        "loggedOut" => (*value == Value::Bool(true)).then_some(Answer::LoggedOut),
        ":presence" => {
            let list = value.get("subscribers")?.as_array()?;
            let uids = list.iter().map(|one| one.get("uid")?.as_str().map(str::to_owned));
            Some(Answer::Presence { channel: member("channel")?, uids: uids.collect::<Option<_>>()? })
        }
        ":memberJoined" | ":memberLeft" => Some(Answer::Member {
            channel: member("channel")?,
            uid: member("uid")?,
            joined: key == ":memberJoined",
        }),
        _ => None,
    }
}

/// The channel of that name among those that are asked for.
#[must_use]
pub fn channel(name: &str) -> Option<&'static str> {
    CHANNELS.into_iter().find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_every_sort() {
        let done = |key: &str| Some(Answer::Done(key.to_owned(), "a".to_owned()));
        assert_eq!(parse(r#"{"subscribed":"a"}"#), done("subscribed"));
        assert_eq!(parse(r#"{"subscribed":"a","x":1}"#), None);
        assert_eq!(parse(r#"{"loggedOut":true}"#), Some(Answer::LoggedOut));
        let error = Answer::Error { id: "X".to_owned(), event: Some("e".to_owned()), reason: None };
        assert_eq!(parse(r#"{"err":"X","event":"e"}"#), Some(error));
        assert_eq!(parse(r#"{"unknown":1}"#), None);
    }
}
