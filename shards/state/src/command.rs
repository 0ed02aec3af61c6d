//! What the control thread and the shards say to each other.
//!
//! A command's ticket carries the type of its reply. A report of a shard asks something, or replies to a command.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    net::IpAddr,
    sync::Arc,
};

use uuid::Uuid;
use webrocket_wire::{ChannelKind, ChannelName, Member, SharedPublication, SingleAccessToken, UserName};

use crate::{
    identity::{Identity, InvalidCredentials, Secret},
    ids::RequestRef,
    vhost::{Vhost, VhostId},
};

/// A command of the control thread to one shard.
#[derive(Debug)]
pub enum Command {
    /// A vhost was added or changed. Acts at once on live sessions; replied when all of it has taken effect.
    PutVhost {
        /// Names this command in its reply.
        ticket: Ticket<()>,
        /// The new snapshot.
        vhost: Arc<Vhost>,
    },
    /// A vhost is gone: its sessions are closed with 4004, its channels removed.
    RemoveVhost {
        /// Names this command in its reply.
        ticket: Ticket<()>,
        /// Which one.
        vhost: VhostId,
    },
    /// Opens a channel, which may be open already; sent to its owner only.
    OpenChannel {
        /// Names this command in its reply.
        ticket: Ticket<Opened>,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
    },
    /// Closes a channel; sent to its owner only.
    CloseChannel {
        /// Names this command in its reply.
        ticket: Ticket<Found>,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
    },
    /// A backend broadcasts; sent to the channel's owner only. Replied once the broadcast has its place in the
    /// channel's order.
    Publish {
        /// Names this command in its reply.
        ticket: Ticket<Found>,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
        /// What subscribers receive.
        publication: SharedPublication,
    },
    /// A backend speaks to one session; sent to all shards, because none but its own knows where it is.
    DirectMessage {
        /// Names this command in its reply.
        ticket: Ticket<Heard>,
        /// The session's vhost.
        vhost: VhostId,
        /// The session.
        sid: Uuid,
        /// What it receives.
        message: SharedPublication,
    },
    /// Asks for all channels of a vhost that this shard owns, by name, without members.
    ListChannels {
        /// Names this command in its reply.
        ticket: Ticket<Vec<ChannelInfo>>,
        /// The vhost.
        vhost: VhostId,
    },
    /// Asks for one channel, with its members; sent to its owner only.
    DescribeChannel {
        /// Names this command in its reply.
        ticket: Ticket<Described>,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
    },
    /// The answer to [`Report::VerifySecret`] or [`Report::ConsumeToken`].
    Authenticated {
        /// The request that asked.
        request: RequestRef,
        /// Who the session is now, or that the credentials are wrong.
        identity: Result<Identity, InvalidCredentials>,
    },
    /// The answer to [`Report::OpenChannel`] or [`Report::CloseChannel`].
    ChannelChanged {
        /// The request that asked.
        request: RequestRef,
        /// What came of it.
        outcome: Changed,
    },
    /// The shard knows all that is stored: it may accept connections. Not replied.
    Serve,
    /// Close all sessions with 1012, accept no more, then stop. Not replied.
    Shutdown,
}

/// Names a command, so that its reply can be told from others. `R` is what is replied.
pub struct Ticket<R> {
    number: u64,
    replied: PhantomData<fn() -> R>,
}

impl<R> Ticket<R> {
    /// The ticket of that number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self { number, replied: PhantomData }
    }

    /// Its number. Whoever gives tickets gives none twice, whatever is replied.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }
}

// Derived, these would ask the same of the reply.
impl<R> Clone for Ticket<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Ticket<R> {}

impl<R> PartialEq for Ticket<R> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<R> Eq for Ticket<R> {}

impl<R> Hash for Ticket<R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl<R> fmt::Debug for Ticket<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({})", self.number)
    }
}

/// There is no such vhost (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VhostNotFound;

/// There is no such channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelNotFound;

/// There is no such session on this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionNotFound;

/// Why a channel cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOpened {
    /// There is no such vhost (any more).
    VhostNotFound,
    /// The vhost has as many channels as its settings allow.
    ChannelLimit,
}

/// Why a channel was not opened or closed for somebody who asked the control thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotChanged {
    /// There is no such vhost (any more).
    VhostNotFound,
    /// There is no such channel.
    ChannelNotFound,
    /// The vhost has as many channels as its settings allow.
    ChannelLimit,
    /// The change could not be stored; nothing changed.
    StoreFailed,
}

impl From<NotOpened> for NotChanged {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::VhostNotFound => Self::VhostNotFound,
            NotOpened::ChannelLimit => Self::ChannelLimit,
        }
    }
}

impl From<ChannelNotFound> for NotChanged {
    fn from(ChannelNotFound: ChannelNotFound) -> Self {
        Self::ChannelNotFound
    }
}

/// Replied to [`Command::OpenChannel`].
pub type Opened = Result<(), NotOpened>;

/// Replied to [`Command::CloseChannel`] and [`Command::Publish`].
pub type Found = Result<(), ChannelNotFound>;

/// Replied to [`Command::DirectMessage`].
pub type Heard = Result<(), SessionNotFound>;

/// Replied to [`Command::DescribeChannel`].
pub type Described = Result<ChannelInfo, ChannelNotFound>;

/// What came of a change of a channel that somebody asked the control thread for.
pub type Changed = Result<(), NotChanged>;

/// A shard's reply to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandReply {
    /// To [`Command::PutVhost`] or [`Command::RemoveVhost`]: it is in effect.
    Applied(Ticket<()>),
    /// To [`Command::OpenChannel`].
    Opened(Ticket<Opened>, Opened),
    /// To [`Command::CloseChannel`] or [`Command::Publish`].
    Found(Ticket<Found>, Found),
    /// To [`Command::DirectMessage`].
    Heard(Ticket<Heard>, Heard),
    /// To [`Command::ListChannels`].
    Listed(Ticket<Vec<ChannelInfo>>, Vec<ChannelInfo>),
    /// To [`Command::DescribeChannel`].
    Described(Ticket<Described>, Described),
}

/// A channel as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub name: ChannelName,
    /// Whether it was opened explicitly; otherwise it goes with its last subscriber.
    pub opened: bool,
    /// Sessions that subscribe it, over all shards.
    pub subscribers: u64,
    /// Presence channels only, and not in lists: all visible subscribers in order of joining.
    pub members: Option<Vec<Member>>,
}

impl ChannelInfo {
    /// The channel's type.
    #[must_use]
    pub fn kind(&self) -> ChannelKind {
        self.name.kind()
    }
}

/// A shard's word to the control thread. A session has at most one question open.
#[derive(Debug)]
pub enum Report {
    /// A command was carried out.
    Replied(CommandReply),
    /// Is this the user's secret? Answered by [`Command::Authenticated`].
    VerifySecret {
        /// The request that asks.
        request: RequestRef,
        /// The session's vhost.
        vhost: VhostId,
        /// The user, who exists and has a secret.
        user: UserName,
        /// What the peer presented.
        secret: Secret,
        /// The peer, for throttling.
        peer: IpAddr,
    },
    /// Is this token valid? It is not, ever again. Answered by [`Command::Authenticated`].
    ConsumeToken {
        /// The request that asks.
        request: RequestRef,
        /// The session's vhost.
        vhost: VhostId,
        /// What the peer presented.
        token: SingleAccessToken,
    },
    /// A session with MANAGE opens a channel. Answered by [`Command::ChannelChanged`].
    OpenChannel {
        /// The request that asks.
        request: RequestRef,
        /// The session's vhost.
        vhost: VhostId,
        /// The channel.
        channel: ChannelName,
    },
    /// A session with MANAGE closes a channel. Answered by [`Command::ChannelChanged`].
    CloseChannel {
        /// The request that asks.
        request: RequestRef,
        /// The session's vhost.
        vhost: VhostId,
        /// The channel.
        channel: ChannelName,
    },
}
