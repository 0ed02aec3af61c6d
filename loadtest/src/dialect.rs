//! How a server is spoken to: what is sent to subscribe and to broadcast, and what comes back.
//!
//! One place for all scenarios. Messages are compared with what is due, byte for byte, and never parsed: what a
//! server says is known beforehand but for a few fields.
//!
//! Sources: docs/protocol.md, "Classic" and "WWFP"; the Engine.IO protocol, version 4, and the Socket.IO protocol,
//! version 5; for NATS see [`nats`]. The bare protocol is this program's own, for servers that have none above
//! frames: `S<channel>` subscribes and is answered `subscribed <channel>`, `P<channel> <data>` sends `<data>` to all
//! subscribers. What Socket.IO leaves to its users, how a room is joined and an event sent to it, is written in
//! `loadtest/peers/socketio.mjs`.

mod nats;

use std::io::Write;

use clap::ValueEnum;

use crate::target::Target;
pub(crate) use nats::Streams;

/// A protocol above WebSocket frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// WebRocket's classic dialect: each broadcast is acknowledged
    Classic,
    /// WWFP, with which broadcasts are not acknowledged unless that is asked for
    #[default]
    Wwfp,
    /// No protocol to speak of: for the floor, and for servers that only know frames
    Bare,
    /// Socket.IO over WebSocket alone, a channel being a room
    #[value(name = "socketio")]
    SocketIo,
    /// NATS over WebSocket, a channel being a subject
    Nats,
}

/// What a server says that is neither a delivery nor the answer to a request, by what is due for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Nothing is due.
    Information,
    /// The server waits for this answer.
    Question(&'static [u8]),
    /// From now on requests are taken.
    Welcome,
}

impl Dialect {
    /// The name of the dialect.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Wwfp => "WWFP",
            Self::Bare => "bare",
            Self::SocketIo => "Socket.IO",
            Self::Nats => "NATS",
        }
    }

    /// The address to connect to.
    pub(crate) fn target(self, target: &Target) -> Target {
        match self {
            Self::Wwfp => target.in_wwfp(),
            Self::Classic | Self::Bare | Self::SocketIo | Self::Nats => target.clone(),
        }
    }

    /// Whether channels must have been opened before anybody subscribes.
    pub(crate) fn needs_open_channels(self) -> bool {
        self == Self::Wwfp
    }

    /// Whether each broadcast is acknowledged to who sent it.
    pub(crate) fn acknowledges(self) -> bool {
        self == Self::Classic
    }

    /// Whether requests have to wait for the server's [`Notice::Welcome`].
    pub(crate) fn awaits_welcome(self) -> bool {
        self == Self::SocketIo
    }

    /// Whether messages are a stream of bytes in binary frames, which [`Streams`] takes apart, instead of a text
    /// frame each.
    pub(crate) fn is_stream(self) -> bool {
        self == Self::Nats
    }

    /// Appends the request to subscribe.
    pub(crate) fn write_subscribe(self, out: &mut Vec<u8>, channel: &str) {
        match self {
            Self::Classic | Self::Wwfp => write!(out, r#"{{"subscribe":{{"channel":"{channel}"}}}}"#),
            Self::Bare => write!(out, "S{channel}"),
            Self::SocketIo => write!(out, r#"42["subscribe","{channel}"]"#),
            Self::Nats => write!(out, "{}SUB {channel} {}\r\nPING\r\n", nats::CONNECT, nats::SUBSCRIPTION),
        }
        .expect(INFALLIBLE);
    }

    /// What a message is that the server says of its own accord, apart from deliveries.
    pub(crate) fn notice(self, message: &[u8]) -> Option<Notice> {
        let notices: &[(&[u8], Notice)] = match self {
            Self::Classic | Self::Bare => &[],
            Self::Wwfp => &[(br#"{":connected":"#, Notice::Information)],
            Self::SocketIo => {
                &[(b"0{", Notice::Question(b"40")), (b"40{", Notice::Welcome), (b"2", Notice::Question(b"3"))]
            }
            Self::Nats => &[(b"INFO ", Notice::Information), (b"PING\r\n", Notice::Question(b"PONG\r\n"))],
        };
        notices.iter().find(|(beginning, _)| message.starts_with(beginning)).map(|(_, notice)| *notice)
    }

    /// The answer to a subscription.
    pub(crate) fn subscribed(self, channel: &str) -> Vec<u8> {
        match self {
            Self::Classic => format!(r#"{{"subscribed":"{channel}"}}"#),
            Self::Wwfp => format!(r#"{{":subscribed":{{"channel":"{channel}"}}}}"#),
            Self::Bare => format!("subscribed {channel}"),
            Self::SocketIo => format!(r#"42["subscribed","{channel}"]"#),
            Self::Nats => "PONG\r\n".to_owned(),
        }
        .into_bytes()
    }

    /// The answer to a broadcast, where there is one.
    pub(crate) fn acknowledgement(self, channel: &str) -> Vec<u8> {
        format!(r#"{{"broadcasted":"{channel}"}}"#).into_bytes()
    }

    /// Appends what comes before `data`, which has `data_bytes`, in the request to broadcast.
    pub(crate) fn open_broadcast(self, out: &mut Vec<u8>, channel: &str, data_bytes: usize) {
        match self {
            Self::Classic | Self::Wwfp => {
                write!(out, r#"{{"broadcast":{{"event":"load","channel":"{channel}","data":"#)
            }
            Self::Bare => write!(out, "P{channel} "),
            Self::SocketIo => write!(out, r#"42["broadcast","{channel}","#),
            Self::Nats => write!(out, "PUB {channel} {data_bytes}\r\n"),
        }
        .expect(INFALLIBLE);
    }

    /// Appends what comes after it.
    pub(crate) fn close_broadcast(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Classic | Self::Wwfp => b"}}",
            Self::Bare => b"",
            Self::SocketIo => b"]",
            Self::Nats => b"\r\n",
        });
    }

    /// A delivery from `data` on; `None` if the message begins like none.
    pub(crate) fn data_and_rest(self, message: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Classic | Self::Wwfp => message.strip_prefix(br#"{"load":"#.as_slice()),
            Self::Bare => Some(message),
            Self::SocketIo => message.strip_prefix(br#"42["load","#.as_slice()),
            Self::Nats => nats::payload_and_end(message),
        }
    }

    /// Whether a delivery on `channel` is as it must be around the members of `data`, which are not looked at:
    /// `head` comes before `data`, `data_bytes` is the length of `data` with its closing brace, with which `end`
    /// begins. The sender's `sid` may be any; Socket.IO does not tell the channel.
    pub(crate) fn surrounds_delivery(
        self,
        head: &[u8],
        data_bytes: usize,
        end: &[u8],
        channel: &str,
    ) -> bool {
        match self {
            Self::Classic | Self::Wwfp => is_end_with_sid(end, channel),
            Self::Bare => end == b"}",
            Self::SocketIo => end == b"}]",
            Self::Nats => end == b"}\r\n" && nats::is_head(head, channel, data_bytes),
        }
    }
}

/// Whether a delivery of WebRocket's ends with `end`.
fn is_end_with_sid(end: &[u8], channel: &str) -> bool {
    let rest = end.strip_prefix(br#","channel":""#.as_slice());
    let rest = rest.and_then(|rest| rest.strip_prefix(channel.as_bytes()));
    let rest = rest.and_then(|rest| rest.strip_prefix(br#"","sid":""#.as_slice()));
    let Some((sid, end)) = rest.and_then(|rest| rest.split_at_checked(SID_BYTES)) else { return false };
    sid.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-') && end == b"\"}}"
}

/// The length of a session's identifier, a UUID.
const SID_BYTES: usize = 36;
const INFALLIBLE: &str = "writing into a Vec succeeds";

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(dialect: Dialect) -> String {
        let mut request = Vec::new();
        dialect.write_subscribe(&mut request, "a");
        String::from_utf8(request).expect("text")
    }

    fn broadcast(dialect: Dialect, data: &str) -> String {
        let mut request = Vec::new();
        dialect.open_broadcast(&mut request, "a", data.len());
        request.extend_from_slice(data.as_bytes());
        dialect.close_broadcast(&mut request);
        String::from_utf8(request).expect("text")
    }

    #[test]
    fn requests_are_json_where_json_is_spoken() {
        for dialect in [Dialect::Classic, Dialect::Wwfp] {
            let value: serde_json::Value = serde_json::from_str(&subscribe(dialect)).expect("JSON");
            assert_eq!(value["subscribe"]["channel"], "a");
            let answer: serde_json::Value = serde_json::from_slice(&dialect.subscribed("a")).expect("JSON");
            assert!(answer.is_object());
        }
    }

    #[test]
    fn a_delivery_ends_with_channel_and_sid() {
        let end = br#","channel":"a","sid":"01234567-89ab-cdef-0123-456789abcdef"}}"#;
        assert!(Dialect::Wwfp.surrounds_delivery(b"", 9, end, "a"));
        assert!(!Dialect::Wwfp.surrounds_delivery(b"", 9, end, "b"));
        assert!(!Dialect::Wwfp.surrounds_delivery(b"", 9, &end[..end.len() - 1], "a"));
        assert!(Dialect::Bare.surrounds_delivery(b"", 9, b"}", "a"));
        assert!(!Dialect::Bare.surrounds_delivery(b"", 9, b"}}", "a"));
    }

    #[test]
    fn socket_io_is_spoken_as_packets() {
        let dialect = Dialect::SocketIo;
        assert_eq!(subscribe(dialect), r#"42["subscribe","a"]"#);
        assert_eq!(broadcast(dialect, r#"{"x":1}"#), r#"42["broadcast","a",{"x":1}]"#);
        assert_eq!(dialect.data_and_rest(br#"42["load",{"x":1}]"#), Some(br#"{"x":1}]"#.as_slice()));
        assert!(dialect.surrounds_delivery(br#"42["load","#, 7, b"}]", "a"));
        assert!(!dialect.surrounds_delivery(br#"42["load","#, 7, b"}]]", "a"));
        assert_eq!(dialect.data_and_rest(&dialect.subscribed("a")), None, "an answer is no delivery");
    }

    #[test]
    fn socket_io_asks_for_the_namespace_and_for_life() {
        let notice = |message: &str| Dialect::SocketIo.notice(message.as_bytes());
        assert_eq!(notice(r#"0{"sid":"x","pingInterval":25000}"#), Some(Notice::Question(b"40")));
        assert_eq!(notice(r#"40{"sid":"y"}"#), Some(Notice::Welcome));
        assert_eq!(notice("2"), Some(Notice::Question(b"3")));
        for other in [r#"42["subscribed","a"]"#, r#"44{"message":"not authorized"}"#, "41"] {
            assert_eq!(notice(other), None, "{other}");
        }
    }

    #[test]
    fn nats_is_spoken_in_lines() {
        let dialect = Dialect::Nats;
        let text = subscribe(dialect);
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        let ["SUB a 1", "PING"] = lines[1..] else { panic!("{text}") };
        let options: serde_json::Value =
            serde_json::from_str(lines[0].strip_prefix("CONNECT ").expect("comes first")).expect("JSON");
        assert_eq!(options["verbose"], false, "else each request would be answered");
        assert_eq!(broadcast(dialect, r#"{"x":1}"#), "PUB a 7\r\n{\"x\":1}\r\n");
        assert_eq!(dialect.notice(b"INFO {}\r\n"), Some(Notice::Information));
        assert_eq!(dialect.notice(b"PING\r\n"), Some(Notice::Question(b"PONG\r\n")));
        assert_eq!(dialect.notice(b"-ERR 'Slow Consumer'\r\n"), None);
        let delivery = b"MSG a 1 7\r\n{\"x\":1}\r\n";
        let body = dialect.data_and_rest(delivery).expect("a delivery");
        assert_eq!(body, b"{\"x\":1}\r\n");
        assert!(dialect.surrounds_delivery(&delivery[..11], 7, b"}\r\n", "a"));
    }
}
