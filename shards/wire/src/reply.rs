//! What the server says to one client, before a dialect gives it its bytes.

use crate::{name::ChannelName, status::Status};

/// The answer to a request, or a word about the session's own subscriptions. Each dialect encodes
/// it in its own way.
#[derive(Debug, Clone, Copy)]
pub enum Reply<'a> {
    /// The session is this user, or the holder of a token for this `uid`, now.
    Authenticated(&'a str),
    /// The session subscribes the channel.
    Subscribed {
        /// Which one.
        channel: &'a ChannelName,
        /// Who the session is on a private or presence channel.
        uid: Option<&'a str>,
        /// On presence channels, who was present before.
        present: Option<Present<'a>>,
    },
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
    /// The request failed.
    Error(Status),
    /// There is no such request; its name unescaped.
    UndefinedEvent(&'a str),
}

/// Who is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present<'a> {
    /// The visible subscribers in order of joining: [a list](crate::presence::list) without brackets.
    pub list: &'a str,
    /// How many there are in all, if the list is cut.
    pub total: Option<u64>,
}

impl Reply<'_> {
    /// Whether it says nothing but that a request was carried out: in WWFP only to who gave a `ref`.
    #[must_use]
    pub fn is_acknowledgement(&self) -> bool {
        matches!(self, Self::Broadcasted(_) | Self::Triggered(_))
    }

    /// Whether it says that a request failed.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_) | Self::UndefinedEvent(_))
    }
}
