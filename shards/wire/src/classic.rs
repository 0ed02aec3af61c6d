//! The classic browser dialect: its requests by name, and its answers byte for byte.
//!
//! Answers that carry nothing but a valid name are written without escaping, for names cannot
//! need it; texts that come from elsewhere are escaped.
//!
//! Source: docs/protocol.md, "Classic".

use std::sync::Arc;

use crate::{
    frame::{self, Opcode},
    name::{ChannelName, UserName},
    status::Status,
};

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// `{"authenticate":{"user":U,"secret":S}}` or `{"authenticate":{"token":T}}`
    Authenticate,
    /// `{"subscribe":{"channel":C}}`
    Subscribe,
    /// `{"unsubscribe":{"channel":C}}`
    Unsubscribe,
    /// `{"broadcast":{"event":E,"channel":C,"data":D}}`
    Broadcast,
    /// `{"trigger":{"event":E,"data":D}}`
    Trigger,
    /// `{"openChannel":{"channel":C}}`
    OpenChannel,
    /// `{"closeChannel":{"channel":C}}`
    CloseChannel,
    /// `{"logout":true}`
    Logout,
    /// `{"disconnect":true}`
    Disconnect,
}

impl Request {
    /// The request that the first key of a message names.
    #[must_use]
    pub fn named(event: &str) -> Option<Self> {
        Some(match event {
            "broadcast" => Self::Broadcast,
            "subscribe" => Self::Subscribe,
            "unsubscribe" => Self::Unsubscribe,
            "authenticate" => Self::Authenticate,
            "trigger" => Self::Trigger,
            "openChannel" => Self::OpenChannel,
            "closeChannel" => Self::CloseChannel,
            "logout" => Self::Logout,
            "disconnect" => Self::Disconnect,
            _ => return None,
        })
    }
}

/// What the server says to one client.
#[derive(Debug, Clone, Copy)]
pub enum Reply<'a> {
    /// The session is this user now.
    Authenticated(&'a UserName),
    /// The session is this token's `uid` now.
    AuthenticatedUid(&'a str),
    /// The session subscribes the channel.
    Subscribed(&'a ChannelName),
    /// The session does not subscribe the channel (any more).
    Unsubscribed(&'a ChannelName),
    /// The broadcast has its place in the channel's order.
    Broadcasted(&'a ChannelName),
    /// The trigger was placed; its name as a raw JSON string.
    Triggered(&'a str),
    /// The channel is open.
    ChannelOpened(&'a ChannelName),
    /// The channel is closed.
    ChannelClosed(&'a ChannelName),
    /// The session is anonymous again.
    LoggedOut,
    /// The request failed.
    Error(Status),
    /// No such request; its name unescaped.
    UndefinedEvent(&'a str),
    /// The request failed at a limit.
    Limit(Limit),
    /// Who was present before, and how many there are if the list is cut.
    Presence {
        /// The presence channel.
        channel: &'a ChannelName,
        /// The visible `uid`s in order of joining.
        uids: &'a [Arc<str>],
        /// How many there are in all.
        total: u64,
    },
}

/// A limit at which a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The vhost has as many channels as it may.
    Channels,
    /// The session has as many subscriptions as it may.
    Subscriptions,
}

impl Limit {
    /// The reason on the wire.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Channels => "channel limit reached",
            Self::Subscriptions => "subscription limit reached",
        }
    }
}

impl Reply<'_> {
    /// Appends the reply as a text frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Authenticated(user) => named(out, "authenticated", user.as_str()),
            Self::AuthenticatedUid(uid) => pieces(out, &["{\"authenticated\":", &quoted(uid), "}"]),
            Self::Subscribed(channel) => named(out, "subscribed", channel.as_str()),
            Self::Unsubscribed(channel) => named(out, "unsubscribed", channel.as_str()),
            Self::Broadcasted(channel) => named(out, "broadcasted", channel.as_str()),
            Self::Triggered(event) => pieces(out, &["{\"triggered\":", event, "}"]),
            Self::ChannelOpened(channel) => named(out, "channelOpened", channel.as_str()),
            Self::ChannelClosed(channel) => named(out, "channelClosed", channel.as_str()),
            Self::LoggedOut => pieces(out, &["{\"loggedOut\":true}"]),
            Self::Error(status) => named(out, "err", status.classic_id()),
            Self::UndefinedEvent(event) => {
                let id = Status::UndefinedEvent.classic_id();
                pieces(out, &["{\"err\":\"", id, "\",\"event\":", &quoted(event), "}"]);
            }
            Self::Limit(limit) => {
                let id = Status::AccessDenied.classic_id();
                pieces(out, &["{\"err\":\"", id, "\",\"reason\":\"", limit.reason(), "\"}"]);
            }
            Self::Presence { channel, uids, total } => presence(out, channel, uids, total),
        }
    }
}

/// Appends `{":memberJoined":{"uid":…,"channel":C}}`.
pub fn encode_member_joined(out: &mut Vec<u8>, uid: &str, channel: &ChannelName) {
    member(out, ":memberJoined", uid, channel);
}

/// Appends `{":memberLeft":{"uid":…,"channel":C}}`.
pub fn encode_member_left(out: &mut Vec<u8>, uid: &str, channel: &ChannelName) {
    member(out, ":memberLeft", uid, channel);
}

fn member(out: &mut Vec<u8>, event: &str, uid: &str, channel: &ChannelName) {
    let uid = quoted(uid);
    pieces(out, &["{\"", event, "\":{\"uid\":", &uid, ",\"channel\":\"", channel.as_str(), "\"}}"]);
}

fn presence(out: &mut Vec<u8>, channel: &ChannelName, uids: &[Arc<str>], total: u64) {
    let list: Vec<String> = uids.iter().map(|uid| format!("{{\"uid\":{}}}", quoted(uid))).collect();
    let list = list.join(",");
    let total = if total > uids.len() as u64 { format!(",\"total\":{total}") } else { String::new() };
    pieces(
        out,
        &[
            "{\":presence\":{\"channel\":\"",
            channel.as_str(),
            "\",\"subscribers\":[",
            &list,
            "]",
            &total,
            "}}",
        ],
    );
}

/// `{"<event>":"<name>"}`; `name` needs no escaping.
fn named(out: &mut Vec<u8>, event: &str, name: &str) {
    pieces(out, &["{\"", event, "\":\"", name, "\"}"]);
}

fn pieces(out: &mut Vec<u8>, pieces: &[&str]) {
    let length = pieces.iter().map(|piece| piece.len()).sum();
    out.reserve(length + 10);
    frame::encode_header(out, Opcode::Text, length);
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: Reply<'_>) -> String {
        let mut out = Vec::new();
        reply.encode(&mut out);
        assert_eq!(out[0], 0x81);
        assert_eq!(frame::encoded_length(&out), out.len());
        String::from_utf8(out[if out[1] < 126 { 2 } else { 4 }..].to_vec()).unwrap()
    }

    #[test]
    fn replies_byte_for_byte() {
        let channel: ChannelName = "world".parse().unwrap();
        let user: UserName = "joe".parse().unwrap();
        assert_eq!(text(Reply::Authenticated(&user)), r#"{"authenticated":"joe"}"#);
        assert_eq!(text(Reply::AuthenticatedUid("j\"ö")), r#"{"authenticated":"j\"ö"}"#);
        assert_eq!(text(Reply::Subscribed(&channel)), r#"{"subscribed":"world"}"#);
        assert_eq!(text(Reply::Unsubscribed(&channel)), r#"{"unsubscribed":"world"}"#);
        assert_eq!(text(Reply::Broadcasted(&channel)), r#"{"broadcasted":"world"}"#);
        assert_eq!(text(Reply::Triggered("\"hello\"")), r#"{"triggered":"hello"}"#);
        assert_eq!(text(Reply::ChannelOpened(&channel)), r#"{"channelOpened":"world"}"#);
        assert_eq!(text(Reply::ChannelClosed(&channel)), r#"{"channelClosed":"world"}"#);
        assert_eq!(text(Reply::LoggedOut), r#"{"loggedOut":true}"#);
        assert_eq!(text(Reply::Error(Status::AccessDenied)), r#"{"err":"ACCESS_DENIED"}"#);
        assert_eq!(text(Reply::UndefinedEvent("f\"oo")), r#"{"err":"UNDEFINED_EVENT","event":"f\"oo"}"#);
        assert_eq!(
            text(Reply::Limit(Limit::Channels)),
            r#"{"err":"ACCESS_DENIED","reason":"channel limit reached"}"#
        );
    }

    #[test]
    fn presence_lists() {
        let channel: ChannelName = "presence-a".parse().unwrap();
        let uids = ["joe".into(), "ann".into()];
        let list = Reply::Presence { channel: &channel, uids: &uids, total: 2 };
        assert_eq!(
            text(list),
            r#"{":presence":{"channel":"presence-a","subscribers":[{"uid":"joe"},{"uid":"ann"}]}}"#
        );
        let cut = Reply::Presence { channel: &channel, uids: &uids[..1], total: 2 };
        assert_eq!(
            text(cut),
            r#"{":presence":{"channel":"presence-a","subscribers":[{"uid":"joe"}],"total":2}}"#
        );
        let mut out = Vec::new();
        encode_member_joined(&mut out, "joe", &channel);
        assert_eq!(&out[2..], br#"{":memberJoined":{"uid":"joe","channel":"presence-a"}}"#);
    }

    #[test]
    fn requests_by_name() {
        assert_eq!(Request::named("broadcast"), Some(Request::Broadcast));
        assert_eq!(Request::named("Broadcast"), None);
    }
}
