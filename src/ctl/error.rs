//! Why a command fails.

use crate::exchange::KeyPairError;

/// Why a command failed, in one sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum CtlError {
    /// The cookie's file cannot be read.
    #[error(
        "the cookie file {file} cannot be read: {source}; name the node's cookie with --cookie-file, or give it with --cookie"
    )]
    CookieFile {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nobody answers.
    #[error(
        "no node answers at {url} ({reason}); start webrocket-server, or name the node with --control-url"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// The URL is none.
    #[error("{0:?} is no control URL; it looks like http://127.0.0.1:9773")]
    Url(String),
    /// The node refused.
    #[error("{0}")]
    Refused(String),
    /// What answers is no node.
    #[error("what answers at {url} is no WebRocket node's control API")]
    NoNode {
        /// Where.
        url: String,
    },
    /// There is no key pair to be had.
    #[error(transparent)]
    KeyPair(#[from] KeyPairError),
    /// The secret cannot be read.
    #[error("the secret cannot be read from standard input: {0}")]
    Secret(std::io::Error),
    /// The result cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
}
