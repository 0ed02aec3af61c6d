//! One shard's side of the ways to the others and to the exchange.
//!
//! What a shard says to itself, as the owner of a channel of its own sessions, goes into a queue of its own. The shard
//! empties it behind each message of a session and each other input, so it holds no more than one of those causes.
//!
//! Nothing blocks on a push: what the queue has no room for waits here. It stays bounded because
//! those who cause messages are stopped, and only those: a session that would send a request
//! waits while the link is congested or too many requests of this shard are open at the other,
//! and a broadcast that adds to a congested link is acknowledged only when its message has left,
//! so its publisher runs out of credits. Answers, leaves, fences and broadcasts whose triggers have
//! been placed are never held back; there are no more of them than open requests and subscriptions.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    ids::{RequestRef, SessionRef, ShardId},
    message::{Answer, OwnerEvent, OwnerRequest, Publisher, ShardMessage},
};

/// With more messages waiting than this, the link is congested.
pub const CONGESTED_MESSAGES: usize = 1024;

/// The most requests of this shard that are open at the other.
pub const OPEN_REQUESTS_MAX: usize = 8192;

/// The most bytes of broadcasts or triggers in open requests.
pub const OPEN_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A broadcast's acknowledgement that waits until the broadcast has left.
#[derive(Debug)]
pub struct Deferred {
    /// Who waits for it.
    pub publisher: Publisher,
    /// Other congested links on which it must have left too, with the message's number there.
    pub others: Vec<(ShardId, u64)>,
    /// The broadcast's bytes.
    pub bytes: usize,
}

/// The way to one other shard, or to the exchange.
#[derive(Debug, Default)]
pub struct Link {
    waiting: VecDeque<ShardMessage>,
    /// How many messages were ever pushed, and how many have left.
    pushed: u64,
    left: u64,
    deferred: BTreeMap<(u64, u64), Deferred>,
    open_requests: usize,
    open_bytes: usize,
    /// Sessions that are not read until there is room again.
    stopped: Vec<SessionRef>,
}

impl Link {
    /// Queues a message; returns its number.
    pub fn push(&mut self, message: ShardMessage) -> u64 {
        self.waiting.push_back(message);
        self.pushed += 1;
        self.pushed
    }

    /// The next message to hand over.
    pub fn next_message(&mut self) -> Option<ShardMessage> {
        let message = self.waiting.pop_front()?;
        self.left += 1;
        Some(message)
    }

    /// How many messages wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether message `number` has left.
    #[must_use]
    pub fn has_left(&self, number: u64) -> bool {
        self.left >= number
    }

    /// Whether so many messages wait that those who cause more must be stopped.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.waiting.len() > CONGESTED_MESSAGES
    }

    /// Whether a session of this shard may send a request.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.is_congested() && self.open_requests < OPEN_REQUESTS_MAX && self.open_bytes < OPEN_BYTES_MAX
    }

    /// A request with a broadcast or trigger of `bytes` was sent.
    pub fn request_opened(&mut self, bytes: usize) {
        self.open_requests += 1;
        self.open_bytes += bytes;
    }

    /// It was answered.
    pub fn request_closed(&mut self, bytes: usize) {
        self.open_requests -= 1;
        self.open_bytes -= bytes;
    }

    /// `session` is not read until there is room.
    pub fn stop(&mut self, session: SessionRef) {
        self.stopped.push(session);
    }

    /// The sessions to read again, once there is room. Half of the bound must be free, so that
    /// sessions are not stopped and started in turns.
    pub fn take_resumed(&mut self) -> Vec<SessionRef> {
        let has_room = self.waiting.len() <= CONGESTED_MESSAGES / 2
            && self.open_requests <= OPEN_REQUESTS_MAX / 2
            && self.open_bytes <= OPEN_BYTES_MAX / 2;
        if has_room { std::mem::take(&mut self.stopped) } else { Vec::new() }
    }

    /// Whether sessions are stopped.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        !self.stopped.is_empty()
    }

    /// Keeps an acknowledgement until message `number` has left.
    pub fn defer(&mut self, number: u64, deferred: Deferred) {
        let mut order = 0;
        while self.deferred.contains_key(&(number, order)) {
            order += 1;
        }
        self.deferred.insert((number, order), deferred);
    }

    /// The next acknowledgement whose message has left.
    pub fn next_deferred(&mut self) -> Option<Deferred> {
        let entry = self.deferred.first_entry()?;
        (entry.key().0 <= self.left).then(|| entry.remove())
    }
}

/// The ways of a shard to all shards, itself included, and to the exchange.
#[derive(Debug)]
pub struct Links {
    here: ShardId,
    /// By shard, the exchange's behind them; the one to itself stays empty.
    links: Vec<Link>,
    /// What the shard says to itself.
    own: VecDeque<ShardMessage>,
}

impl Links {
    /// The ways of shard `here` to all up to `exchange`.
    #[must_use]
    pub fn new(here: ShardId, exchange: ShardId) -> Self {
        Self { here, links: (0..=exchange.0).map(|_| Link::default()).collect(), own: VecDeque::new() }
    }

    /// The shard whose ways these are.
    #[must_use]
    pub fn here(&self) -> ShardId {
        self.here
    }

    /// All other shards.
    pub fn other_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let (here, exchange) = (self.here, self.links.len() - 1);
        let all = (0..exchange).map(|index| ShardId(u16::try_from(index).expect("made from one")));
        all.filter(move |shard| *shard != here)
    }

    /// The way to a shard or to the exchange.
    pub fn to(&mut self, shard: ShardId) -> &mut Link {
        &mut self.links[shard.index()]
    }

    /// The way to a shard or to the exchange.
    #[must_use]
    pub fn peek(&self, shard: ShardId) -> &Link {
        &self.links[shard.index()]
    }

    /// Asks or tells an owner.
    pub fn ask(&mut self, owner: ShardId, request: OwnerRequest) {
        if owner == self.here {
            return self.own.push_back(ShardMessage::Request(request));
        }
        let link = self.to(owner);
        if let Some(bytes) = request.open_bytes() {
            link.request_opened(bytes);
        }
        link.push(ShardMessage::Request(request));
    }

    /// Answers a request, in which `bytes` of a broadcast were open.
    pub fn answer(&mut self, request: RequestRef, answer: Answer, bytes: usize) {
        let shard = request.session.shard;
        if shard == self.here {
            return self.own.push_back(ShardMessage::Answer { request, answer, bytes });
        }
        self.to(shard).push(ShardMessage::Answer { request, answer, bytes });
    }

    /// Tells a shard something as an owner. If the way there is congested: the message's number.
    pub fn tell(&mut self, shard: ShardId, event: OwnerEvent) -> Option<u64> {
        if shard == self.here {
            self.own.push_back(ShardMessage::Event(event));
            return None;
        }
        let link = self.to(shard);
        let number = link.push(ShardMessage::Event(event));
        link.is_congested().then_some(number)
    }

    /// A request of this shard, in which `bytes` of a broadcast or trigger were open, has been answered.
    pub fn answered(&mut self, from: ShardId, bytes: usize) {
        if from != self.here {
            self.to(from).request_closed(bytes);
        }
    }

    /// Whether a session of this shard may send a request to `owner`.
    #[must_use]
    pub fn has_room(&self, owner: ShardId) -> bool {
        owner == self.here || self.peek(owner).has_room()
    }

    /// Whether this shard has nothing to say to itself.
    #[must_use]
    pub fn is_own_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// The next message of this shard to itself.
    pub fn next_own(&mut self) -> Option<ShardMessage> {
        self.own.pop_front()
    }

    /// How many messages wait for other shards and the exchange.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.iter().map(Link::len).sum()
    }

    /// Whether no message waits for others.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
