//! Who a session is, and what follows from it.

use std::{fmt, sync::Arc};

use webrocket_wire::{ChannelKind, ChannelName, Rights, UserName};

/// Who a session is.
#[derive(Clone, Default)]
pub enum Identity {
    /// Nobody (yet).
    #[default]
    Anonymous,
    /// A user of the vhost.
    User {
        /// The user's name, also the session's `uid`.
        name: UserName,
        /// The user's generation when it authenticated.
        generation: u64,
    },
    /// The holder of a single access token.
    Token(Arc<TokenGrant>),
}

/// What a single access token grants.
pub struct TokenGrant {
    /// The `uid` for which it was issued.
    pub uid: Arc<str>,
    /// The channels on which it grants `READ` and `WRITE`, anchored at both ends. Shared by all sessions
    /// with the same pattern, for what matching takes is many times a session's own memory.
    pub channels: Arc<regex::Regex>,
}

impl Identity {
    /// The session's `uid`, borrowed; see [`Identity::uid`].
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User { name, .. } => Some(name.as_str()),
            Self::Token(grant) => Some(&grant.uid),
        }
    }

    /// The session's `uid`: of a token session the token's, of a user session the user's name.
    #[must_use]
    pub fn uid(&self) -> Option<Arc<str>> {
        match self {
            Self::Anonymous => None,
            Self::User { name, .. } => Some(name.as_str().into()),
            Self::Token(grant) => Some(Arc::clone(&grant.uid)),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::User { name, .. } => write!(f, "User({name})"),
            Self::Token(grant) => write!(f, "Token({:?})", grant.uid),
        }
    }
}

impl fmt::Debug for TokenGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenGrant({:?}, {})", self.uid, self.channels)
    }
}

/// A secret as a peer presented it. Not shown in `Debug`, wiped when dropped.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps `text` as a secret.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The credentials are wrong, for whatever reason: the peer is not told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCredentials;

/// What an identity may do on a channel, given the vhost's anonymous rights.
#[must_use]
pub fn rights_on(identity: &Identity, user_rights: Rights, anonymous: Rights, channel: &str) -> Rights {
    match identity {
        Identity::Anonymous => match ChannelName::kind_of(channel) {
            ChannelKind::Open => anonymous,
            ChannelKind::Private | ChannelKind::Presence => Rights::NONE,
        },
        Identity::User { .. } => user_rights,
        Identity::Token(grant) => {
            let granted = if grant.channels.is_match(channel) { Rights::READ_WRITE } else { Rights::NONE };
            match ChannelName::kind_of(channel) {
                ChannelKind::Open => granted.union(anonymous),
                ChannelKind::Private | ChannelKind::Presence => granted,
            }
        }
    }
}
