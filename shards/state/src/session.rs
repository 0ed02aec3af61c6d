//! A browser's connection as its shard holds it.

use std::{net::IpAddr, sync::Arc, time::Instant};

use smallvec::SmallVec;
use uuid::Uuid;
use webrocket_wire::{
    ChannelKind, Rights,
    handshake::{Dialect, Upgrade},
};

use crate::{
    answers::Answers,
    connection::{Connection, Limits},
    encoding::Encoding,
    identity::{Identity, rights_on},
    ids::ShardId,
    rate::Rate,
    slots::ViewSlot,
    vhost::{Vhost, VhostId},
};

/// Everything about one connection.
#[derive(Debug)]
pub struct Session {
    /// Frames, the closing handshake, and bytes that wait for this session alone.
    pub connection: Connection,
    /// Where it comes from.
    pub peer: IpAddr,
    /// Where it is in its life, with what it has there.
    pub state: State,
    /// Why it is not read.
    pub pause: Pause,
    /// Input that it sent while it was not to be read.
    pub parked: Option<Box<Parked>>,
    /// Where it is counted among the connections of its address, if it is.
    pub counted: Option<Counted>,
    /// What it receives from channels.
    pub inbox: Inbox,
    /// When its entry among the deadlines is due.
    pub scheduled: Instant,
}

/// How a session is counted among the connections of its address.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// For which vhost.
    pub vhost: VhostId,
    /// The shard that counts.
    pub counter: ShardId,
}

/// Where a session is in its life.
#[derive(Debug)]
pub enum State {
    /// Its request is not answered yet.
    Handshaking(Option<Box<Waiting>>),
    /// It speaks.
    Open(OpenSession),
    /// Nothing that it asks is answered any more; what waits for it is still sent.
    Closing,
}

/// A valid handshake that waits until the connections of its address are counted.
#[derive(Debug)]
pub struct Waiting {
    /// What was asked.
    pub upgrade: Upgrade,
    /// The vhost that it is for.
    pub vhost: VhostId,
}

/// What a session has between the handshake and the close.
#[derive(Debug)]
pub struct OpenSession {
    /// What others know it by.
    pub sid: Uuid,
    /// How it speaks.
    pub dialect: Dialect,
    /// How it receives what channels say.
    pub encoding: Encoding,
    /// Its vhost.
    pub vhost: Arc<Vhost>,
    /// Who it is.
    pub identity: Identity,
    /// Its rights on open channels, and for users on all.
    pub rights: Rights,
    /// Its open requests, while there are any.
    pub answers: Option<Box<Answers>>,
    /// The number of its next request while none is open.
    pub next_request: u32,
    /// Its rate limits, where the vhost sets any.
    pub rate: Option<Box<Rate>>,
}

/// Why a session is not read; several reasons may hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pause {
    /// As many requests are open as may be, a request waits until earlier ones are answered, or a handshake waits until
    /// the connections of its address are counted.
    pub requests: bool,
    /// Its own answers wait because it does not take them.
    pub output: bool,
    /// The way to the shard that its request concerns is full.
    pub link: bool,
}

impl Pause {
    /// Whether any reason holds.
    #[must_use]
    pub fn any(self) -> bool {
        self.requests || self.output || self.link
    }
}

/// Input of a paused session.
#[derive(Debug, Default)]
pub struct Parked {
    /// A message that could not be acted upon yet.
    pub message: Option<String>,
    /// Bytes behind it.
    pub bytes: Vec<u8>,
    /// Whether the peer has said that nothing more will come.
    pub ended: bool,
}

/// What a session receives from channels: nothing before it is open, and nothing new once it closes.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Its subscriptions.
    pub subscriptions: SmallVec<[Subscription; 2]>,
    /// A log from whose position on everything is for this session, behind its own bytes. Always
    /// there for a session with exactly one subscription; otherwise only while it waits.
    pub tail: Option<Tail>,
    /// Where the session stands among those to be flushed.
    pub queued: Queued,
    /// It was named for the flush, and not answered for yet.
    pub is_offered: bool,
}

/// Where a session stands among those to be flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Queued {
    /// Nowhere, or only where its place is void.
    #[default]
    No,
    /// Among those to whom something was said.
    Urgent,
    /// In the bulk of those who receive broadcasts.
    Bulk,
}

/// One subscription, and where the view lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// The view's slot.
    pub view: ViewSlot,
    /// The index in the view's list.
    pub at: u32,
}

/// A cursor into a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The view whose log it is.
    pub view: ViewSlot,
    /// The next byte to take; a frame boundary.
    pub position: u64,
}

impl Session {
    /// A session on a connection that was just accepted.
    #[must_use]
    pub fn new(now: Instant, peer: IpAddr, scheduled: Instant) -> Self {
        Self {
            connection: Connection::new(now),
            peer,
            state: State::Handshaking(None),
            pause: Pause::default(),
            parked: None,
            counted: None,
            inbox: Inbox::default(),
            scheduled,
        }
    }

    /// What it has while it is open.
    #[must_use]
    pub fn open(&self) -> Option<&OpenSession> {
        match &self.state {
            State::Open(open) => Some(open),
            State::Handshaking(_) | State::Closing => None,
        }
    }

    /// What it has while it is open.
    pub fn open_mut(&mut self) -> Option<&mut OpenSession> {
        match &mut self.state {
            State::Open(open) => Some(open),
            State::Handshaking(_) | State::Closing => None,
        }
    }

    /// Its open requests, if there are any.
    pub fn answers(&mut self) -> Option<&mut Answers> {
        self.open_mut()?.answers.as_deref_mut()
    }

    /// Opens it: `connection` says how the handshake is answered.
    pub fn begin(&mut self, now: Instant, upgrade: &Upgrade, open: OpenSession) {
        self.connection.open(now, upgrade, limits(&open.vhost));
        self.state = State::Open(open);
    }
}

/// What a connection to `vhost` may take.
#[must_use]
pub fn limits(vhost: &Vhost) -> Limits {
    let settings = &vhost.settings;
    Limits {
        message_bytes_max: settings.message_bytes_max,
        ping_interval_ms: settings.ping_interval_ms,
        idle_timeout_ms: settings.idle_timeout_ms,
        stall_timeout_ms: settings.stall_timeout_ms,
    }
}

impl OpenSession {
    /// A session of `vhost` that has not authenticated.
    #[must_use]
    pub fn new(now: Instant, sid: Uuid, dialect: Dialect, encoding: Encoding, vhost: Arc<Vhost>) -> Self {
        Self {
            sid,
            dialect,
            encoding,
            rights: vhost.anonymous_rights(dialect),
            rate: Rate::new(&vhost.settings, now),
            vhost,
            identity: Identity::Anonymous,
            answers: None,
            next_request: 0,
        }
    }

    /// The open requests, made where there were none.
    pub fn answers(&mut self) -> &mut Answers {
        let next = self.next_request;
        self.answers.get_or_insert_with(|| Box::new(Answers::new(next)))
    }

    /// What it may do on a channel.
    #[must_use]
    pub fn rights_on(&self, channel: &str) -> Rights {
        rights_on(&self.identity, self.rights, self.vhost.anonymous_rights(self.dialect), channel)
    }

    /// By what the other subscribers of a channel of this kind know it.
    #[must_use]
    pub fn shown_uid(&self, kind: ChannelKind) -> Option<Arc<str>> {
        match kind {
            ChannelKind::Open => None,
            ChannelKind::Private | ChannelKind::Presence => self.identity.uid(),
        }
    }
}
