//! What the server says, taken apart without the server's own types.

use serde_json::{Map, Value};

use crate::scenario::CHANNELS;

/// A text message of the server that is no event of a broadcast.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// `{":connected":…}`: the session's identifier.
    Connected(String),
    /// The answer to a request, or a word about the session's own subscriptions, with its `ref` as written.
    Answer(Answer, Option<String>),
    /// `{":presence":…}`: who is present on which channel.
    Presence(String, Vec<Member>),
    /// `{":memberJoined":…}` or `{":memberLeft":…}`
    Moved(Moved),
    /// A direct message of the backend: its number.
    Message(usize),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// As whom, where the dialect says so.
    Authenticated(Option<String>),
    /// The session subscribes a channel.
    Subscribed {
        /// Which one.
        channel: String,
        /// Who the session is there, where the dialect says so.
        uid: Option<String>,
        /// Who was present before, where the dialect says so here.
        present: Option<Vec<Member>>,
    },
    /// The session does not subscribe the channel (any more).
    Unsubscribed(String),
    /// Where to, where the dialect says so.
    Broadcasted(Option<String>),
    /// What, where the dialect says so.
    Triggered(Option<String>),
    /// The channel is open.
    ChannelOpened(String),
    /// The channel is closed.
    ChannelClosed(String),
    /// The session is anonymous again.
    LoggedOut,
    /// The session of this identifier is over.
    Closed(String),
    /// It failed.
    Error {
        /// The error, as the dialect names it.
        id: String,
        /// The unknown event.
        event: Option<String>,
        /// The limit that was hit.
        reason: Option<String>,
    },
}

/// Somebody who is present.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// By what it is known.
    pub uid: String,
    /// What it shows of itself.
    pub data: Data,
}

/// The members of a subscriber's data.
pub type Data = Map<String, Value>;

/// Somebody who joined or left.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// On which channel.
    pub channel: String,
    /// Who, and what is shown of it.
    pub member: Member,
    /// Whether it joined.
    pub joined: bool,
}

/// Takes apart what both dialects have in common: the only key, and its value.
#[must_use]
pub fn event(text: &str) -> Option<(String, Value)> {
    let Value::Object(object) = serde_json::from_str(text).ok()? else { return None };
    let count = object.len();
    object.into_iter().next().filter(|_| count == 1)
}

/// What both dialects say alike: of members, and of the backend.
#[must_use]
pub fn common(key: &str, value: &Value) -> Option<Heard> {
    match key {
        ":memberJoined" | ":memberLeft" => {
            let mut data = value.as_object()?.clone();
            let channel = text(&data.remove("channel")?)?;
            let uid = text(&data.remove("uid")?)?;
            let joined = key == ":memberJoined";
            Some(Heard::Moved(Moved { channel, member: Member { uid, data }, joined }))
        }
        "dm" => {
            let number = value.get("id")?.as_u64()?;
            has_only(value, &["id"]).then_some(Heard::Message(usize::try_from(number).ok()?))
        }
        _ => None,
    }
}

/// A list of those present.
#[must_use]
pub fn members(list: &Value) -> Option<Vec<Member>> {
    list.as_array()?.iter().map(member).collect()
}

/// An entry of a list.
#[must_use]
pub fn member(entry: &Value) -> Option<Member> {
    let mut data = entry.as_object()?.clone();
    let uid = text(&data.remove("uid")?)?;
    Some(Member { uid, data })
}

/// A string's text.
#[must_use]
pub fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Whether an object has no other members.
#[must_use]
pub fn has_only(value: &Value, names: &[&str]) -> bool {
    value.as_object().is_some_and(|object| object.keys().all(|name| names.contains(&&**name)))
}

/// The channel of that name among those that are asked for.
#[must_use]
pub fn channel(name: &str) -> Option<&'static str> {
    CHANNELS.into_iter().find(|known| *known == name)
}
