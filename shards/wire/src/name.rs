//! The names of the domain, each valid wherever it is seen.
//!
//! Every type here is made only by [`FromStr`], so code that holds one never checks it
//! again. Cloning is cheap: the text is shared.
//!
//! Source: docs/protocol.md, "Names, rights, tokens".

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("the name is empty")]
    Empty,
    /// The text is longer than the kind allows.
    #[error("the name is longer than {max} bytes")]
    TooLong {
        /// The longest allowed length, in bytes.
        max: usize,
    },
    /// A character that the kind does not allow, at this byte offset.
    #[error("the character at byte {at} is not allowed")]
    Character {
        /// Byte offset of the character.
        at: usize,
    },
    /// The name belongs to the server.
    #[error("the name is reserved")]
    Reserved,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether `text` is such a name.
            ///
            /// # Errors
            /// The first rule that `text` breaks.
            pub fn check(text: &str) -> Result<(), NameError> {
                $check(text)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// A vhost's path, `/seg(/seg)*`: segments of 1 to 64 of `[A-Za-z0-9_-]`, at most 170 bytes.
    ///
    /// No segment is `channels`, `token`, `events` or `sessions`: those are resources of the
    /// HTTP Backend API.
    VhostPath,
    check_vhost_path
);
name_type!(
    /// A channel's name, `[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}`.
    ChannelName,
    check_channel_name
);
name_type!(
    /// An event's name: 1 to 200 bytes without control characters that nobody can take for the
    /// server's own voice.
    EventName,
    check_event_name
);
name_type!(
    /// A user's name, `[A-Za-z0-9_][A-Za-z0-9_.@-]{0,127}`.
    UserName,
    check_user_name
);

/// The three types of channels, told apart by the name's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// Any name without a special prefix.
    Open,
    /// `private-…`: joined only with a matching token or a user's rights.
    Private,
    /// `presence-…`: private, and it tracks its subscribers.
    Presence,
}

impl ChannelName {
    /// The type of the channel that this name means.
    #[must_use]
    pub fn kind(&self) -> ChannelKind {
        Self::kind_of(self.as_str())
    }

    /// The type of channel that `name` would be.
    #[must_use]
    pub fn kind_of(name: &str) -> ChannelKind {
        if name.starts_with("private-") {
            ChannelKind::Private
        } else if name.starts_with("presence-") {
            ChannelKind::Presence
        } else {
            ChannelKind::Open
        }
    }
}

const VHOST_PATH_MAX: usize = 170;
const VHOST_SEGMENT_MAX: usize = 64;
const CHANNEL_NAME_MAX: usize = 200;
const EVENT_NAME_MAX: usize = 200;
const USER_NAME_MAX: usize = 128;

/// Path segments that name resources of the HTTP Backend API.
const RESERVED_SEGMENTS: [&str; 4] = ["channels", "token", "events", "sessions"];

/// The classic dialect's own answers, which no event may imitate.
const RESERVED_EVENTS: [&str; 9] = [
    "authenticated",
    "subscribed",
    "unsubscribed",
    "broadcasted",
    "triggered",
    "loggedOut",
    "channelOpened",
    "channelClosed",
    "err",
];

fn check_vhost_path(path: &str) -> Result<(), NameError> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(if path.is_empty() { NameError::Empty } else { NameError::Character { at: 0 } });
    };
    if path.len() > VHOST_PATH_MAX {
        return Err(NameError::TooLong { max: VHOST_PATH_MAX });
    }
    let mut at = 1;
    for segment in rest.split('/') {
        if segment.is_empty() {
            return Err(NameError::Empty);
        }
        check_characters(segment, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            .map_err(|error| match error {
                NameError::Character { at: within } => NameError::Character { at: at + within },
                other => other,
            })?;
        if segment.len() > VHOST_SEGMENT_MAX {
            return Err(NameError::TooLong { max: VHOST_SEGMENT_MAX });
        }
        if RESERVED_SEGMENTS.contains(&segment) {
            return Err(NameError::Reserved);
        }
        at += segment.len() + 1;
    }
    Ok(())
}

fn check_channel_name(name: &str) -> Result<(), NameError> {
    check_identifier(name, CHANNEL_NAME_MAX, |byte| matches!(byte, b'.' | b'-'))
}

fn check_user_name(name: &str) -> Result<(), NameError> {
    check_identifier(name, USER_NAME_MAX, |byte| matches!(byte, b'.' | b'@' | b'-'))
}

fn check_event_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > EVENT_NAME_MAX {
        return Err(NameError::TooLong { max: EVENT_NAME_MAX });
    }
    if let Some((at, _)) = name.char_indices().find(|(_, character)| character.is_control()) {
        return Err(NameError::Character { at });
    }
    if name.starts_with(':') || name.starts_with("__") || RESERVED_EVENTS.contains(&name) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// `[A-Za-z0-9_]` first, then these and what `also` allows; 1 to `max` bytes.
fn check_identifier(name: &str, max: usize, also: impl Fn(u8) -> bool) -> Result<(), NameError> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let Some(&first) = name.as_bytes().first() else {
        return Err(NameError::Empty);
    };
    if name.len() > max {
        return Err(NameError::TooLong { max });
    }
    if !word(first) {
        return Err(NameError::Character { at: 0 });
    }
    check_characters(name, |byte| word(byte) || also(byte))
}

fn check_characters(text: &str, allowed: impl Fn(u8) -> bool) -> Result<(), NameError> {
    match text.bytes().position(|byte| !allowed(byte)) {
        Some(at) => Err(NameError::Character { at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vhost_paths() {
        for good in ["/a", "/world", "/a/b-c/D_9", &format!("/{}", "x".repeat(64))] {
            assert_eq!(VhostPath::check(good), Ok(()), "{good}");
        }
        assert_eq!(VhostPath::check(""), Err(NameError::Empty));
        assert_eq!(VhostPath::check("/"), Err(NameError::Empty));
        assert_eq!(VhostPath::check("/a//b"), Err(NameError::Empty));
        assert_eq!(VhostPath::check("/a/"), Err(NameError::Empty));
        assert_eq!(VhostPath::check("a"), Err(NameError::Character { at: 0 }));
        assert_eq!(VhostPath::check("/a/b c"), Err(NameError::Character { at: 4 }));
        assert_eq!(VhostPath::check("/a/channels"), Err(NameError::Reserved));
        assert_eq!(VhostPath::check("/token/x"), Err(NameError::Reserved));
        assert_eq!(VhostPath::check(&format!("/{}", "x".repeat(65))), Err(NameError::TooLong { max: 64 }));
        let long = "/abcdefghi".repeat(17);
        assert_eq!(long.len(), 170);
        assert_eq!(VhostPath::check(&long), Ok(()));
        assert_eq!(VhostPath::check(&format!("{long}x")), Err(NameError::TooLong { max: 170 }));
    }

    #[test]
    fn channel_names() {
        for good in ["a", "_", "9", "private-x", "a.b-c_d", &"x".repeat(200)] {
            assert_eq!(ChannelName::check(good), Ok(()), "{good}");
        }
        assert_eq!(ChannelName::check(""), Err(NameError::Empty));
        assert_eq!(ChannelName::check("-a"), Err(NameError::Character { at: 0 }));
        assert_eq!(ChannelName::check("a/b"), Err(NameError::Character { at: 1 }));
        assert_eq!(ChannelName::check("é"), Err(NameError::Character { at: 0 }));
        assert_eq!(ChannelName::check("a\0"), Err(NameError::Character { at: 1 }));
        assert_eq!(ChannelName::check(&"x".repeat(201)), Err(NameError::TooLong { max: 200 }));
    }

    #[test]
    fn channel_kinds() {
        let kind = |name: &str| name.parse::<ChannelName>().unwrap().kind();
        assert_eq!(kind("lobby"), ChannelKind::Open);
        assert_eq!(kind("private-a"), ChannelKind::Private);
        assert_eq!(kind("presence-a"), ChannelKind::Presence);
        assert_eq!(kind("privateer"), ChannelKind::Open);
    }

    #[test]
    fn event_names() {
        for good in ["a", "héllo", "with space", "_x", "subscribed2", &"x".repeat(200)] {
            assert_eq!(EventName::check(good), Ok(()), "{good}");
        }
        assert_eq!(EventName::check(""), Err(NameError::Empty));
        assert_eq!(EventName::check("a\nb"), Err(NameError::Character { at: 1 }));
        assert_eq!(EventName::check("a\u{85}"), Err(NameError::Character { at: 1 }));
        for reserved in RESERVED_EVENTS.iter().chain(&[":x", "__x"]) {
            assert_eq!(EventName::check(reserved), Err(NameError::Reserved), "{reserved}");
        }
        assert_eq!(EventName::check(&"é".repeat(101)), Err(NameError::TooLong { max: 200 }));
    }

    #[test]
    fn user_names() {
        assert_eq!(UserName::check("joe.doe@example-1.org"), Ok(()));
        assert_eq!(UserName::check("@joe"), Err(NameError::Character { at: 0 }));
        assert_eq!(UserName::check("joe doe"), Err(NameError::Character { at: 3 }));
        assert_eq!(UserName::check(&"x".repeat(129)), Err(NameError::TooLong { max: 128 }));
    }
}
