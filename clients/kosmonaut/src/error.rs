//! What can go wrong.

use std::time::Duration;

/// Why a request, or a worker, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none of a vhost. It is not repeated, for it may hold a token.
    #[error("the URL must look like wr://TOKEN@host:port/vhost: {0}")]
    Url(&'static str),
    /// The server refused: 400 bad request, 402 wrong token or no such vhost, 403 a limit is reached, 404 no such
    /// session, 451 no valid channel name, 454 no such channel, 503 too much at once, 597 the server failed.
    #[error("{code} {status}")]
    Refused {
        /// What, as a number.
        code: u16,
        /// What, in words.
        status: String,
    },
    /// No answer came in time. The request may have been carried out or may still be.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke. A request that was under way may have been carried out.
    #[error("the connection is lost: {0}")]
    ConnectionLost(&'static str),
    /// The data of an event cannot be written as JSON, or an answer is none.
    #[error("data cannot be written or read as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// ZeroMQ failed; the host of the URL, for one, cannot be found.
    #[error("ZeroMQ: {0}")]
    ZeroMq(#[from] zmq::Error),
}

impl Error {
    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Url(_) | Self::Timeout(_) | Self::ConnectionLost(_) | Self::Json(_) | Self::ZeroMq(_) => {
                None
            }
        }
    }

    pub(crate) fn unauthorized() -> Self {
        Self::Refused { code: 402, status: "Unauthorized".to_owned() }
    }
}
