//! What shards say to each other and to the control thread.

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    net::IpAddr,
    sync::Arc,
};

use uuid::Uuid;
use webrocket_wire::{
    ChannelKind, ChannelName, Member, MemberData, Position, Rights, SharedPublication, SingleAccessToken,
    Trigger, UserName, presence::PresenceChange,
};

use crate::vhost::{Vhost, VhostId};

/// One shard of this process, counted from 0. The exchange takes part in what shards say to each
/// other under the number after the last one; see [`Directory::exchange`](crate::Directory::exchange).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Names a session. A late message to a session that is gone finds another generation and is
/// ignored, never misdelivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionRef {
    /// The shard that holds the session.
    pub shard: ShardId,
    /// Its slot there.
    pub slot: u32,
    /// Which session in that slot.
    pub generation: u32,
}

/// Names one request of a session, so that its answer finds its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestRef {
    /// The session that asked.
    pub session: SessionRef,
    /// Counted from 0 within the session, wrapping.
    pub number: u32,
}

/// Names a channel at its owner: quicker than by name, and a closed channel's late messages
/// reach no later channel of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelRef {
    /// The owner's slot.
    pub slot: u32,
    /// Which channel in that slot.
    pub generation: u32,
}

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

/// The credentials are wrong, for whatever reason: the peer is not told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCredentials;

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

/// What one shard says to another. Requests go to the channel's owner, the rest comes from it;
/// all of it in order between two shards.
#[derive(Debug)]
pub enum ShardMessage {
    /// To the owner: a session subscribes.
    Subscribe {
        /// The request to answer.
        request: RequestRef,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
        /// Whether the session may create the channel where it does not exist.
        may_create: bool,
        /// Who joins, on presence channels.
        joining: Option<Joining>,
    },
    /// To the owner: does the channel exist?
    Find {
        /// The request to answer.
        request: RequestRef,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
    },
    /// To the owner: order this broadcast and deliver it.
    Publish {
        /// The request to answer.
        request: RequestRef,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
        /// What subscribers receive.
        publication: SharedPublication,
    },
    /// To the exchange: somebody shall handle this.
    Trigger {
        /// The request to answer.
        request: RequestRef,
        /// The session's vhost.
        vhost: VhostId,
        /// What is to be handled.
        trigger: Trigger,
    },
    /// To the shard that counts an address: may one more connection come from there?
    Admit {
        /// The request to answer.
        request: RequestRef,
        /// The vhost that the connection is for.
        vhost: VhostId,
        /// Where it comes from.
        address: IpAddr,
        /// How many there may be.
        max: u32,
    },
    /// To the shard that counts an address: an admitted connection is over.
    Dismiss {
        /// The vhost that the connection was for.
        vhost: VhostId,
        /// Where it came from.
        address: IpAddr,
    },
    /// To the owner: one subscription of the sending shard is over.
    Leave {
        /// The channel.
        channel: ChannelRef,
        /// Whose it was.
        session: SessionRef,
        /// What it said when it left.
        data: MemberData,
    },
    /// Answered by [`ShardMessage::FencePassed`] when everything that the sender said before has been taken.
    Fence(Waiter),
    /// Everything that the receiver said before this fence has been taken.
    FencePassed(Waiter),
    /// From the owner: the answer to a request.
    Answer {
        /// The request.
        request: RequestRef,
        /// What the owner says.
        answer: Answer,
        /// The bytes of the broadcast or trigger that is answered: they are not open any more.
        bytes: usize,
    },
    /// From the owner: tell this your subscribers of the channel.
    Deliver {
        /// The channel.
        channel: ChannelRef,
        /// What they are told.
        event: ChannelEvent,
    },
    /// From the owner: the channel is closed; its subscribers are no more.
    Closed {
        /// The channel.
        channel: ChannelRef,
    },
}

/// What the subscribers of a channel are told, in the order that its owner gives to all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// A broadcast, and its place among those of the channel.
    Published(Position, SharedPublication),
    /// Somebody has come or gone.
    Presence(PresenceChange),
}

impl ChannelEvent {
    /// Appends the frame that subscribers receive, header included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Published(_, publication) => publication.encode(out),
            Self::Presence(change) => change.encode(out),
        }
    }
}

/// What waits until another shard has taken everything that was said to it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter {
    /// A request of a session.
    Request(RequestRef),
    /// A command of the control thread.
    Command(Ticket<()>),
}

/// An owner's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The session is counted as a subscriber; what follows from the owner is for it too.
    Subscribed {
        /// The channel.
        channel: ChannelRef,
        /// On presence channels: those present before, and how many there are in all.
        present: Option<Present>,
    },
    /// The channel exists.
    Found,
    /// The broadcast has its place in the channel's order, and every shard concerned has room for it.
    Published,
    /// There is no such channel.
    ChannelNotFound,
    /// The vhost has as many channels as its settings allow.
    ChannelLimit,
    /// The connection is counted; [`ShardMessage::Dismiss`] takes it back.
    Admitted {
        /// The vhost that it is for.
        vhost: VhostId,
        /// Where it comes from.
        address: IpAddr,
    },
    /// There are as many connections from the address as may be.
    TooManyConnections,
    /// A worker has the trigger, or it waits for one.
    Triggered,
    /// No worker can take the trigger.
    AssignationFailed,
}

/// Who joins a presence channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// By what others know the subscriber.
    pub uid: Arc<str>,
    /// What it shows of itself.
    pub data: MemberData,
    /// Whether nobody is to know.
    pub hidden: bool,
}

/// Who is present, at most 1,000 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The visible subscribers in order of joining, as JSON objects separated by commas. Shared by all who
    /// are given the same list.
    pub list: Arc<str>,
    /// How many there are, if the list is cut.
    pub total: Option<u64>,
}

impl Present {
    /// As a reply names them.
    #[must_use]
    pub fn as_reply(&self) -> webrocket_wire::Present<'_> {
        webrocket_wire::Present { list: &self.list, total: self.total }
    }
}

/// Who broadcasts, and is told when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// A session.
    Session(RequestRef),
    /// A backend, through the control thread.
    Backend(Ticket<Found>),
}

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
