//! How a server is spoken to: what is sent to subscribe and to broadcast, and what comes back.
//!
//! One place for all scenarios. Messages are compared with what is due, byte for byte, and never parsed: what a
//! server says is known beforehand but for a few fields.
//!
//! Source: docs/protocol.md, "Classic" and "WWFP". The bare protocol is this program's own, for servers that have
//! none above frames: `S<channel>` subscribes and is answered `subscribed <channel>`, `P<channel> <data>` sends
//! `<data>` to all subscribers.

use std::io::Write;

use clap::ValueEnum;

use crate::target::Target;

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
}

impl Dialect {
    /// The name of the dialect.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Wwfp => "WWFP",
            Self::Bare => "bare",
        }
    }

    /// The address to connect to.
    pub(crate) fn target(self, target: &Target) -> Target {
        match self {
            Self::Wwfp => target.in_wwfp(),
            Self::Classic | Self::Bare => target.clone(),
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

    /// Appends the request to subscribe.
    pub(crate) fn write_subscribe(self, out: &mut Vec<u8>, channel: &str) {
        match self {
            Self::Classic | Self::Wwfp => write!(out, r#"{{"subscribe":{{"channel":"{channel}"}}}}"#),
            Self::Bare => write!(out, "S{channel}"),
        }
        .expect(INFALLIBLE);
    }

    /// Whether a message is the server's first word, which answers nothing.
    pub(crate) fn is_greeting(self, message: &[u8]) -> bool {
        self == Self::Wwfp && message.starts_with(br#"{":connected":"#)
    }

    /// The answer to a subscription.
    pub(crate) fn subscribed(self, channel: &str) -> Vec<u8> {
        match self {
            Self::Classic => format!(r#"{{"subscribed":"{channel}"}}"#),
            Self::Wwfp => format!(r#"{{":subscribed":{{"channel":"{channel}"}}}}"#),
            Self::Bare => format!("subscribed {channel}"),
        }
        .into_bytes()
    }

    /// The answer to a broadcast, where there is one.
    pub(crate) fn acknowledgement(self, channel: &str) -> Vec<u8> {
        format!(r#"{{"broadcasted":"{channel}"}}"#).into_bytes()
    }

    /// What comes before `data` in the request to broadcast.
    pub(crate) fn open_broadcast(self, out: &mut Vec<u8>, channel: &str) {
        match self {
            Self::Classic | Self::Wwfp => {
                write!(out, r#"{{"broadcast":{{"event":"load","channel":"{channel}","data":"#)
            }
            Self::Bare => write!(out, "P{channel} "),
        }
        .expect(INFALLIBLE);
    }

    /// What comes after it.
    pub(crate) fn close_broadcast(self, out: &mut Vec<u8>) {
        match self {
            Self::Classic | Self::Wwfp => out.extend_from_slice(b"}}"),
            Self::Bare => {}
        }
    }

    /// What every delivery begins with, before `data`; nothing else that a server sends does.
    pub(crate) fn delivery_prefix(self) -> &'static [u8] {
        match self {
            Self::Classic | Self::Wwfp => br#"{"load":"#,
            Self::Bare => b"",
        }
    }

    /// Whether `rest`, what follows all members of `data` in a delivery on `channel`, is as it must be.
    /// The sender's `sid` may be any.
    pub(crate) fn is_end_of_delivery(self, rest: &[u8], channel: &str) -> bool {
        if self == Self::Bare {
            return rest == b"}";
        }
        let rest = rest.strip_prefix(br#","channel":""#.as_slice());
        let rest = rest.and_then(|rest| rest.strip_prefix(channel.as_bytes()));
        let rest = rest.and_then(|rest| rest.strip_prefix(br#"","sid":""#.as_slice()));
        let Some((sid, end)) = rest.and_then(|rest| rest.split_at_checked(SID_BYTES)) else { return false };
        sid.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-') && end == b"\"}}"
    }
}

/// The length of a session's identifier, a UUID.
const SID_BYTES: usize = 36;
const INFALLIBLE: &str = "writing into a Vec succeeds";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_json_where_json_is_spoken() {
        for dialect in [Dialect::Classic, Dialect::Wwfp] {
            let mut subscribe = Vec::new();
            dialect.write_subscribe(&mut subscribe, "a");
            let value: serde_json::Value = serde_json::from_slice(&subscribe).expect("JSON");
            assert_eq!(value["subscribe"]["channel"], "a");
            let answer: serde_json::Value = serde_json::from_slice(&dialect.subscribed("a")).expect("JSON");
            assert!(answer.is_object());
        }
    }

    #[test]
    fn a_delivery_ends_with_channel_and_sid() {
        let end = br#","channel":"a","sid":"01234567-89ab-cdef-0123-456789abcdef"}}"#;
        assert!(Dialect::Wwfp.is_end_of_delivery(end, "a"));
        assert!(!Dialect::Wwfp.is_end_of_delivery(end, "b"));
        assert!(!Dialect::Wwfp.is_end_of_delivery(&end[..end.len() - 1], "a"));
        assert!(Dialect::Bare.is_end_of_delivery(b"}", "a"));
        assert!(!Dialect::Bare.is_end_of_delivery(b"}}", "a"));
    }
}
