//! A browser's connection as its shard holds it.

use std::{net::IpAddr, sync::Arc, time::Instant};

use smallvec::SmallVec;
use uuid::Uuid;
use webrocket_wire::{Rights, handshake::Dialect};

use crate::{answers::Answers, connection::Connection, message::Identity, rate::Rate, vhost::Vhost};

/// Everything about one connection.
#[derive(Debug)]
pub struct Session {
    /// Frames, the closing handshake, and bytes that wait for this session alone.
    pub connection: Connection,
    /// Where it comes from.
    pub peer: IpAddr,
    /// What others know it by.
    pub sid: Uuid,
    /// How it speaks.
    pub dialect: Dialect,
    /// Its vhost, once the handshake is complete.
    pub vhost: Option<Arc<Vhost>>,
    /// Who it is.
    pub identity: Identity,
    /// Its rights on open channels, and for users on all.
    pub rights: Rights,
    /// Its open requests, while there are any.
    pub answers: Option<Box<Answers>>,
    /// The number of its next request while none is open.
    pub next_request: u32,
    /// Why it is not read.
    pub pause: Pause,
    /// Input that it sent while it was not to be read.
    pub parked: Option<Box<Parked>>,
    /// Whether it is counted among the connections of its address.
    pub is_counted: bool,
    /// Its rate limits, where the vhost sets any.
    pub rate: Option<Box<Rate>>,
    /// What it receives from channels.
    pub inbox: Inbox,
    /// When its entry among the deadlines is due.
    pub scheduled: Instant,
}

/// Why a session is not read; several reasons may hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pause {
    /// As many requests are open as may be, or a request waits until earlier ones are answered.
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

/// What a session receives from channels.
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
    pub view: u32,
    /// The index in the view's list.
    pub at: u32,
}

/// A cursor into a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The view whose log it is.
    pub view: u32,
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
            sid: Uuid::nil(),
            dialect: Dialect::Classic,
            vhost: None,
            identity: Identity::Anonymous,
            rights: Rights::NONE,
            answers: None,
            next_request: 0,
            pause: Pause::default(),
            parked: None,
            is_counted: false,
            rate: None,
            inbox: Inbox::default(),
            scheduled,
        }
    }

    /// The open requests, made where there were none.
    pub fn answers(&mut self) -> &mut Answers {
        let next = self.next_request;
        self.answers.get_or_insert_with(|| Box::new(Answers::new(next)))
    }

    /// How many requests are open.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.answers.as_ref().map_or(0, |answers| answers.len())
    }
}
