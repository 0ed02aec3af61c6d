//! The one table of statuses that all protocols share.
//!
//! Every map from a status to a protocol's own code stands here and is exhaustive, so that a new
//! status cannot be forgotten in one of them.
//!
//! Source: docs/protocol.md, "Statuses".

/// What can go wrong with a request of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The message or its payload has the wrong shape.
    InvalidPayload,
    /// The message's event is unknown.
    UndefinedEvent,
    /// A user's name is missing or invalid.
    InvalidUserName,
    /// There is no such user.
    UserNotFound,
    /// The secret or token is wrong.
    InvalidCredentials,
    /// The session may not do that.
    AccessDenied,
    /// A channel's name is missing or invalid.
    InvalidChannelName,
    /// An event's name is missing or invalid.
    InvalidEventName,
    /// There is no such channel.
    ChannelNotFound,
    /// The session does not subscribe the channel.
    NotSubscribed,
    /// The vhost has as many channels as it may.
    ChannelLimit,
    /// The session has as many subscriptions as it may.
    SubscriptionLimit,
    /// The data of a subscriber is longer than it may be.
    DataTooLong,
    /// No worker can take the trigger.
    AssignationFailed,
    /// There is no such session.
    SessionNotFound,
    /// The backend has more requests open than it may.
    TooManyRequests,
    /// The server failed; nothing changed.
    Internal,
}

impl Status {
    /// All statuses.
    pub const ALL: [Self; 17] = [
        Self::InvalidPayload,
        Self::UndefinedEvent,
        Self::InvalidUserName,
        Self::UserNotFound,
        Self::InvalidCredentials,
        Self::AccessDenied,
        Self::InvalidChannelName,
        Self::InvalidEventName,
        Self::ChannelNotFound,
        Self::NotSubscribed,
        Self::ChannelLimit,
        Self::SubscriptionLimit,
        Self::DataTooLong,
        Self::AssignationFailed,
        Self::SessionNotFound,
        Self::TooManyRequests,
        Self::Internal,
    ];

    /// The error id of the classic dialect.
    #[must_use]
    pub const fn classic_id(self) -> &'static str {
        match self {
            Self::InvalidPayload | Self::DataTooLong => "INVALID_PAYLOAD",
            Self::UndefinedEvent => "UNDEFINED_EVENT",
            Self::InvalidUserName => "INVALID_USER_NAME",
            Self::UserNotFound => "USER_NOT_FOUND",
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::AccessDenied | Self::ChannelLimit | Self::SubscriptionLimit => "ACCESS_DENIED",
            Self::InvalidChannelName => "INVALID_CHANNEL_NAME",
            Self::InvalidEventName => "INVALID_EVENT_NAME",
            Self::ChannelNotFound => "CHANNEL_NOT_FOUND",
            Self::NotSubscribed => "NOT_SUBSCRIBED",
            Self::AssignationFailed => "ASSIGNATION_FAILED",
            Self::SessionNotFound => "SESSION_NOT_FOUND",
            Self::TooManyRequests => "TOO_MANY_REQUESTS",
            Self::Internal => "INTERNAL_ERROR",
        }
    }

    /// The code of WWFP and WBP.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::InvalidPayload
            | Self::UndefinedEvent
            | Self::InvalidUserName
            | Self::InvalidEventName
            | Self::DataTooLong => 400,
            Self::UserNotFound | Self::InvalidCredentials => 402,
            Self::AccessDenied | Self::ChannelLimit | Self::SubscriptionLimit => 403,
            Self::InvalidChannelName => 451,
            Self::NotSubscribed => 453,
            Self::ChannelNotFound => 454,
            Self::SessionNotFound => 404,
            Self::AssignationFailed | Self::TooManyRequests => 503,
            Self::Internal => 597,
        }
    }

    /// The words that go with [`Status::code`].
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::InvalidPayload
            | Self::UndefinedEvent
            | Self::InvalidUserName
            | Self::InvalidEventName
            | Self::DataTooLong => "Bad request",
            Self::UserNotFound | Self::InvalidCredentials => "Unauthorized",
            Self::AccessDenied | Self::ChannelLimit | Self::SubscriptionLimit => "Forbidden",
            Self::InvalidChannelName => "Invalid channel name",
            Self::NotSubscribed => "Not subscribed",
            Self::ChannelNotFound => "Channel not found",
            Self::SessionNotFound => "Session not found",
            Self::AssignationFailed | Self::TooManyRequests => "Service unavailable",
            Self::Internal => "Internal error",
        }
    }

    /// What the peer is told beside the code: the limit that was reached.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::ChannelLimit => Some("channel limit reached"),
            Self::SubscriptionLimit => Some("subscription limit reached"),
            Self::DataTooLong => Some("data too long"),
            Self::InvalidPayload
            | Self::UndefinedEvent
            | Self::InvalidUserName
            | Self::UserNotFound
            | Self::InvalidCredentials
            | Self::AccessDenied
            | Self::InvalidChannelName
            | Self::InvalidEventName
            | Self::ChannelNotFound
            | Self::NotSubscribed
            | Self::AssignationFailed
            | Self::SessionNotFound
            | Self::TooManyRequests
            | Self::Internal => None,
        }
    }

    /// The HTTP status with which the control API answers the same.
    #[must_use]
    pub const fn http(self) -> u16 {
        match self {
            Self::InvalidPayload
            | Self::UndefinedEvent
            | Self::InvalidUserName
            | Self::InvalidChannelName
            | Self::InvalidEventName
            | Self::DataTooLong => 400,
            Self::InvalidCredentials => 401,
            Self::AccessDenied | Self::ChannelLimit | Self::SubscriptionLimit => 403,
            Self::UserNotFound | Self::ChannelNotFound | Self::SessionNotFound => 404,
            Self::NotSubscribed => 409,
            Self::AssignationFailed | Self::TooManyRequests => 503,
            Self::Internal => 500,
        }
    }
}

/// Why the server closes a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1000: the client asked for it.
    Normal,
    /// 1002: the peer broke RFC 6455.
    ProtocolError,
    /// 1003: a binary message.
    Unsupported,
    /// 1007: text that is not UTF-8.
    InvalidUtf8,
    /// 1008: over a rate limit.
    PolicyViolation,
    /// 1009: a message over the size limit.
    TooBig,
    /// 1012: the server shuts down.
    Restart,
    /// 4004: the vhost is gone.
    VhostClosed,
    /// 4008: the session took its bytes too slowly.
    SlowConsumer,
    /// 4009: nothing came from the session for too long.
    IdleTimeout,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::ProtocolError => 1002,
            Self::Unsupported => 1003,
            Self::InvalidUtf8 => 1007,
            Self::PolicyViolation => 1008,
            Self::TooBig => 1009,
            Self::Restart => 1012,
            Self::VhostClosed => 4004,
            Self::SlowConsumer => 4008,
            Self::IdleTimeout => 4009,
        }
    }

    /// The reason that goes with it, at most 123 bytes.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::ProtocolError => "protocol error",
            Self::Unsupported => "text frames only",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::PolicyViolation => "rate limit",
            Self::TooBig => "message too big",
            Self::Restart => "shutting down",
            Self::VhostClosed => "vhost closed",
            Self::SlowConsumer => "slow consumer",
            Self::IdleTimeout => "idle",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_status_is_told_from_others() {
        let ids: HashSet<_> =
            Status::ALL.iter().map(|status| (status.classic_id(), status.reason())).collect();
        assert_eq!(ids.len(), Status::ALL.len());
        let codes: HashSet<_> = Status::ALL.iter().map(|status| status.code()).collect();
        let phrases: HashSet<_> = Status::ALL.iter().map(|status| (status.code(), status.phrase())).collect();
        assert_eq!(codes.len(), phrases.len(), "one phrase for each code");
    }
}
