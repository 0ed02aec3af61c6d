//! The classic browser dialect: its requests by name, and its answers byte for byte.
//!
//! Answers that carry nothing but a valid name are written without escaping, for names cannot
//! need it; texts that come from elsewhere are escaped.
//!
//! Source: docs/protocol.md, "Classic".

use crate::{
    frame::{self, Opcode},
    presence::quoted,
    reply::{Present, Reply},
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

/// Appends a reply as text frames: one, or two where a list of those present follows.
pub fn encode(out: &mut Vec<u8>, reply: &Reply<'_>) {
    match *reply {
        Reply::Authenticated(who) => pieces(out, &["{\"authenticated\":", &quoted(who), "}"]),
        Reply::Subscribed { channel, present, .. } => {
            named(out, "subscribed", channel.as_str());
            if let Some(present) = present {
                presence(out, channel.as_str(), present);
            }
        }
        Reply::Unsubscribed(channel) => named(out, "unsubscribed", channel.as_str()),
        Reply::Broadcasted(channel) => named(out, "broadcasted", channel.as_str()),
        Reply::Triggered(event) => pieces(out, &["{\"triggered\":", event, "}"]),
        Reply::ChannelOpened(channel) => named(out, "channelOpened", channel.as_str()),
        Reply::ChannelClosed(channel) => named(out, "channelClosed", channel.as_str()),
        Reply::Error(status) => match status.reason() {
            None => named(out, "err", status.classic_id()),
            Some(reason) => {
                pieces(out, &["{\"err\":\"", status.classic_id(), "\",\"reason\":\"", reason, "\"}"]);
            }
        },
        Reply::UndefinedEvent(event) => {
            let id = Status::UndefinedEvent.classic_id();
            pieces(out, &["{\"err\":\"", id, "\",\"event\":", &quoted(event), "}"]);
        }
    }
}

/// Appends `{"loggedOut":true}`: the session is anonymous again.
pub fn encode_logged_out(out: &mut Vec<u8>) {
    pieces(out, &["{\"loggedOut\":true}"]);
}

fn presence(out: &mut Vec<u8>, channel: &str, present: Present<'_>) {
    let total = present.total.map_or_else(String::new, |total| format!(",\"total\":{total}"));
    let list =
        ["{\":presence\":{\"channel\":\"", channel, "\",\"subscribers\":[", present.list, "]", &total, "}}"];
    pieces(out, &list);
}

/// `{"<event>":"<name>"}`; `name` needs no escaping.
fn named(out: &mut Vec<u8>, event: &str, name: &str) {
    pieces(out, &["{\"", event, "\":\"", name, "\"}"]);
}

fn pieces(out: &mut Vec<u8>, pieces: &[&str]) {
    frame::encode_pieces(out, Opcode::Text, pieces);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ChannelName;

    fn texts(reply: Reply<'_>) -> Vec<String> {
        let mut out = Vec::new();
        encode(&mut out, &reply);
        frame::tests::texts(&out)
    }

    #[test]
    fn replies_byte_for_byte() {
        let channel: ChannelName = "world".parse().unwrap();
        for (reply, expected) in [
            (Reply::Authenticated("joe"), r#"{"authenticated":"joe"}"#),
            (Reply::Authenticated("j\"ö"), r#"{"authenticated":"j\"ö"}"#),
            (
                Reply::Subscribed { channel: &channel, uid: Some("joe"), present: None },
                r#"{"subscribed":"world"}"#,
            ),
            (Reply::Unsubscribed(&channel), r#"{"unsubscribed":"world"}"#),
            (Reply::Broadcasted(&channel), r#"{"broadcasted":"world"}"#),
            (Reply::Triggered("\"hello\""), r#"{"triggered":"hello"}"#),
            (Reply::ChannelOpened(&channel), r#"{"channelOpened":"world"}"#),
            (Reply::ChannelClosed(&channel), r#"{"channelClosed":"world"}"#),
            (Reply::Error(Status::AccessDenied), r#"{"err":"ACCESS_DENIED"}"#),
            (Reply::UndefinedEvent("f\"oo"), r#"{"err":"UNDEFINED_EVENT","event":"f\"oo"}"#),
            (
                Reply::Error(Status::ChannelLimit),
                r#"{"err":"ACCESS_DENIED","reason":"channel limit reached"}"#,
            ),
        ] {
            assert_eq!(texts(reply), [expected]);
        }
    }

    #[test]
    fn presence_lists_follow() {
        let channel: ChannelName = "presence-a".parse().unwrap();
        let list = r#"{"uid":"joe"},{"uid":"ann"}"#;
        let subscribed = |total| {
            let present = Some(Present { list, total });
            texts(Reply::Subscribed { channel: &channel, uid: None, present })
        };
        let whole = r#"{":presence":{"channel":"presence-a","subscribers":[{"uid":"joe"},{"uid":"ann"}]}}"#;
        assert_eq!(subscribed(None), [r#"{"subscribed":"presence-a"}"#, whole]);
        let cut = whole.replace("]}}", "],\"total\":3}}");
        assert_eq!(subscribed(Some(3)), [r#"{"subscribed":"presence-a"}"#, &cut]);
    }

    #[test]
    fn requests_by_name() {
        assert_eq!(Request::named("broadcast"), Some(Request::Broadcast));
        assert_eq!(Request::named("Broadcast"), None);
    }
}
