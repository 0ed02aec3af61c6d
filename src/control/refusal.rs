//! Why the control API and the HTTP server of the WebSocket port refuse a request, each in one sentence.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use webrocket_wire::{BackendKey, ChannelName, UserName, VhostPath};

use super::tokens::TokenError;

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The cookie is missing or wrong.
    #[error("the header X-WebRocket-Cookie must carry this node's cookie")]
    Unauthorized,
    /// A backend's credentials are missing or wrong.
    #[error(
        "the request must carry Basic credentials: the user wr, and the vhost's access token as password"
    )]
    NoBackend,
    /// The request has the wrong shape.
    #[error("{0}")]
    Invalid(String),
    /// The body is too long.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// The body did not arrive in time.
    #[error("the body takes too long to arrive")]
    SlowBody,
    /// There is nothing at this address.
    #[error("there is no such resource")]
    NoResource,
    /// The resource does not know the method.
    #[error("the resource does not have this method")]
    NoMethod,
    /// There is no such vhost.
    #[error("there is no vhost {0}")]
    NoVhost(VhostPath),
    /// There is no such user.
    #[error("the vhost has no user {0}")]
    NoUser(UserName),
    /// There is no such key.
    #[error("the vhost has no key {0}")]
    NoKey(BackendKey),
    /// There is no such channel.
    #[error("the vhost has no channel {0}")]
    NoChannel(ChannelName),
    /// There is no such session.
    #[error("the vhost has no session {0}")]
    NoSession(String),
    /// There is such a vhost already.
    #[error("there is a vhost {0} already")]
    VhostExists(VhostPath),
    /// There is such a user already.
    #[error("the vhost has a user {0} already")]
    UserExists(UserName),
    /// There is such a key already.
    #[error("the vhost has the key {0} already")]
    KeyExists(BackendKey),
    /// A key says which vhost a backend belongs to.
    #[error("the key {0} is another vhost's; make another one")]
    KeyElsewhere(BackendKey),
    /// The channel is open already.
    #[error("the channel {0} is open already")]
    ChannelExists(ChannelName),
    /// The vhost is full.
    #[error("the vhost has as many channels as its setting channels_max allows")]
    ChannelLimit,
    /// The vhost has too many keys.
    #[error("the vhost has {0} keys, and cannot have more")]
    KeyLimit(usize),
    /// There are too many tokens.
    #[error("{0}")]
    TokenLimit(TokenError),
    /// There are too many event streams.
    #[error("there are too many event streams; try again later")]
    TooManySources,
    /// There are too many connections.
    #[error("there are too many connections; try again later")]
    TooManyConnections,
    /// A WebSocket was asked for on a connection that served HTTP before.
    #[error("a WebSocket needs a new connection")]
    NeedsNewConnection,
    /// The change could not be stored; nothing changed.
    #[error("the change could not be stored, so nothing changed; the server's log says why")]
    StoreFailed,
    /// The server is about to end.
    #[error("the server is stopping")]
    Stopping,
}

impl Refusal {
    /// The HTTP status that goes with it.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized | Self::NoBackend => StatusCode::UNAUTHORIZED,
            Self::Invalid(_) | Self::NeedsNewConnection => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::NoResource
            | Self::NoVhost(_)
            | Self::NoUser(_)
            | Self::NoKey(_)
            | Self::NoChannel(_)
            | Self::NoSession(_) => StatusCode::NOT_FOUND,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::VhostExists(_)
            | Self::UserExists(_)
            | Self::KeyExists(_)
            | Self::KeyElsewhere(_)
            | Self::ChannelExists(_) => StatusCode::CONFLICT,
            Self::ChannelLimit | Self::KeyLimit(_) => StatusCode::FORBIDDEN,
            Self::TokenLimit(_) | Self::TooManySources | Self::TooManyConnections | Self::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::StoreFailed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Full(_) => Self::TokenLimit(error),
            TokenError::Uid | TokenError::Ttl | TokenError::Pattern(_) => Self::Invalid(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(json!({ "error": self.to_string() }))).into_response();
        let headers = response.headers_mut();
        if matches!(self, Self::NeedsNewConnection | Self::TooManyConnections | Self::SlowBody) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(self, Self::NoBackend) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"webrocket\""));
        }
        response
    }
}
