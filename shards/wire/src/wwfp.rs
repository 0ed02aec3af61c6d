//! WWFP, the WebRocket WebSockets Frontend Protocol: its requests by name, and its answers byte for byte.
//!
//! Server events start with `:`. A request may carry a `ref`; its answer carries the same as last
//! member, and comes in any case. Without one, requests that have no answer of their own get none.
//!
//! Source: docs/protocol.md, "WWFP".

use uuid::Uuid;

use crate::{
    frame::{self, Opcode},
    json::Json,
    presence::quoted,
    reply::Reply,
    status::Status,
};

/// The longest `ref`, in bytes as written.
pub const REFERENCE_BYTES_MAX: usize = 128;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// `{"auth":{"token":T}}` or `{"auth":{"user":U,"secret":S}}`
    Auth,
    /// `{"subscribe":{"channel":C,"data":{…},"hidden":bool}}`
    Subscribe,
    /// `{"unsubscribe":{"channel":C,"data":{…}}}`
    Unsubscribe,
    /// `{"broadcast":{"channel":C,"event":E,"data":D,"trigger":T}}`
    Broadcast,
    /// `{"trigger":{"event":E,"data":D}}`
    Trigger,
    /// `{"openChannel":{"channel":C}}`
    OpenChannel,
    /// `{"closeChannel":{"channel":C}}`
    CloseChannel,
    /// `{"close":{…}}`
    Close,
}

impl Request {
    /// The request that the first key of a message names.
    #[must_use]
    pub fn named(event: &str) -> Option<Self> {
        Some(match event {
            "broadcast" => Self::Broadcast,
            "subscribe" => Self::Subscribe,
            "unsubscribe" => Self::Unsubscribe,
            "auth" => Self::Auth,
            "trigger" => Self::Trigger,
            "openChannel" => Self::OpenChannel,
            "closeChannel" => Self::CloseChannel,
            "close" => Self::Close,
            _ => return None,
        })
    }
}

/// What a client calls a request: a JSON string or integer, echoed as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(Box<str>);

impl Reference {
    /// The `ref` of a request.
    ///
    /// # Errors
    /// [`Status::InvalidPayload`] if it is neither a string nor an integer, or too long.
    pub fn new(json: Json<'_>) -> Result<Self, Status> {
        let text = json.text();
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_integer = digits.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() <= REFERENCE_BYTES_MAX && (is_integer || json.string().is_some()) {
            Ok(Self(text.into()))
        } else {
            Err(Status::InvalidPayload)
        }
    }
}

/// Appends a reply as one text frame, or nothing where the request has no answer of its own and
/// no `ref`.
pub fn encode(out: &mut Vec<u8>, reply: &Reply<'_>, reference: Option<&Reference>) {
    if reply.is_acknowledgement() && reference.is_none() {
        return;
    }
    match *reply {
        Reply::Authenticated(_) => answer(out, ":authenticated", &[], reference),
        Reply::Subscribed { channel, uid, present } => {
            let quoted_uid = uid.map(quoted);
            let total = present.and_then(|present| present.total).map(|total| format!(",\"total\":{total}"));
            let mut members = vec!["\"channel\":\"", channel.as_str(), "\""];
            if let Some(uid) = &quoted_uid {
                members.extend([",\"uid\":", uid]);
            }
            if let Some(present) = present {
                members.extend([",\"subscribers\":[", present.list, "]"]);
            }
            members.extend(total.as_deref());
            answer(out, ":subscribed", &members, reference);
        }
        Reply::Unsubscribed(channel) => on_channel(out, ":unsubscribed", channel.as_str(), reference),
        Reply::Broadcasted(_) => done(out, "204", "Broadcasted", reference),
        Reply::Triggered(_) => done(out, "205", "Triggered", reference),
        Reply::ChannelOpened(channel) => on_channel(out, ":channelOpened", channel.as_str(), reference),
        Reply::ChannelClosed(channel) => on_channel(out, ":channelClosed", channel.as_str(), reference),
        Reply::Error(status) => error(out, status, reference),
        Reply::UndefinedEvent(_) => error(out, Status::UndefinedEvent, reference),
    }
}

/// Appends `{":connected":{"sid":…}}`, the greeting.
pub fn encode_connected(out: &mut Vec<u8>, sid: Uuid) {
    named_session(out, ":connected", sid, None);
}

/// Appends `{":closed":{"sid":…}}`, the last word before the close frame.
pub fn encode_closed(out: &mut Vec<u8>, sid: Uuid, reference: Option<&Reference>) {
    named_session(out, ":closed", sid, reference);
}

fn named_session(out: &mut Vec<u8>, event: &str, sid: Uuid, reference: Option<&Reference>) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let sid = sid.hyphenated().encode_lower(&mut text);
    answer(out, event, &["\"sid\":\"", sid, "\""], reference);
}

fn on_channel(out: &mut Vec<u8>, event: &str, channel: &str, reference: Option<&Reference>) {
    answer(out, event, &["\"channel\":\"", channel, "\""], reference);
}

fn done(out: &mut Vec<u8>, code: &str, status: &str, reference: Option<&Reference>) {
    answer(out, ":ok", &["\"code\":", code, ",\"status\":\"", status, "\""], reference);
}

fn error(out: &mut Vec<u8>, status: Status, reference: Option<&Reference>) {
    let code = status.code().to_string();
    let mut members = vec!["\"code\":", &code, ",\"status\":\"", status.phrase(), "\""];
    if let Some(reason) = status.reason() {
        members.extend([",\"reason\":\"", reason, "\""]);
    }
    answer(out, ":error", &members, reference);
}

/// `{"<event>":{<members>,"ref":…}}`
fn answer(out: &mut Vec<u8>, event: &str, members: &[&str], reference: Option<&Reference>) {
    let mut pieces = vec!["{\"", event, "\":{"];
    pieces.extend(members);
    if let Some(Reference(reference)) = reference {
        pieces.push(if members.is_empty() { "\"ref\":" } else { ",\"ref\":" });
        pieces.push(reference);
    }
    pieces.push("}}");
    frame::encode_pieces(out, Opcode::Text, &pieces);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{name::ChannelName, reply::Present};

    fn reference(text: &str) -> Result<Reference, Status> {
        Reference::new(Json::parse(text).unwrap())
    }

    fn text(reply: Reply<'_>, reference: Option<&Reference>) -> Option<String> {
        let mut out = Vec::new();
        encode(&mut out, &reply, reference);
        frame::tests::texts(&out).pop()
    }

    #[test]
    fn replies_byte_for_byte() {
        let channel: ChannelName = "presence-a".parse().unwrap();
        let list = r#"{"uid":"ann","a":1}"#;
        let subscribed = |uid, present| Reply::Subscribed { channel: &channel, uid, present };
        for (reply, plain, answered) in [
            (
                Reply::Authenticated("joe"),
                Some(r#"{":authenticated":{}}"#),
                r#"{":authenticated":{"ref":7}}"#,
            ),
            (
                subscribed(None, None),
                Some(r#"{":subscribed":{"channel":"presence-a"}}"#),
                r#"{":subscribed":{"channel":"presence-a","ref":7}}"#,
            ),
            (
                subscribed(Some("joe"), Some(Present { list, total: Some(2) })),
                Some(
                    r#"{":subscribed":{"channel":"presence-a","uid":"joe","subscribers":[{"uid":"ann","a":1}],"total":2}}"#,
                ),
                r#"{":subscribed":{"channel":"presence-a","uid":"joe","subscribers":[{"uid":"ann","a":1}],"total":2,"ref":7}}"#,
            ),
            (Reply::Broadcasted(&channel), None, r#"{":ok":{"code":204,"status":"Broadcasted","ref":7}}"#),
            (Reply::Triggered("\"e\""), None, r#"{":ok":{"code":205,"status":"Triggered","ref":7}}"#),
            (
                Reply::Error(Status::NotSubscribed),
                Some(r#"{":error":{"code":453,"status":"Not subscribed"}}"#),
                r#"{":error":{"code":453,"status":"Not subscribed","ref":7}}"#,
            ),
            (
                Reply::Error(Status::ChannelLimit),
                Some(r#"{":error":{"code":403,"status":"Forbidden","reason":"channel limit reached"}}"#),
                r#"{":error":{"code":403,"status":"Forbidden","reason":"channel limit reached","ref":7}}"#,
            ),
            (
                Reply::UndefinedEvent("x"),
                Some(r#"{":error":{"code":400,"status":"Bad request"}}"#),
                r#"{":error":{"code":400,"status":"Bad request","ref":7}}"#,
            ),
        ] {
            assert_eq!(text(reply, None).as_deref(), plain);
            assert_eq!(text(reply, Some(&reference("7").unwrap())).as_deref(), Some(answered));
        }
    }

    #[test]
    fn references_are_strings_and_integers() {
        for good in ["0", "-12", "\"\"", "\"a\\u0062\"", &"9".repeat(REFERENCE_BYTES_MAX)] {
            assert_eq!(reference(good), Ok(Reference(good.into())));
        }
        let long = format!("\"{}\"", "x".repeat(REFERENCE_BYTES_MAX));
        for bad in ["1.5", "1e3", "null", "true", "[1]", "{}", "\"\\ud800\"", &long] {
            assert_eq!(reference(bad), Err(Status::InvalidPayload), "{bad}");
        }
    }

    #[test]
    fn requests_by_name() {
        assert_eq!(Request::named("auth"), Some(Request::Auth));
        assert_eq!(Request::named("authenticate"), None);
    }
}
