//! What lies between the actors: sockets, queues, and virtual time.
//!
//! A socket is two pipes of small capacity; a queue between shards is bounded, first in, first
//! out, and each message takes its time. Nothing here decides anything but how long things take.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use webrocket_state::{
    Command, Report, SessionRef, ShardMessage,
    event::ChannelEvent,
    exchange::{ExchangeCommand, ExchangeReport},
    ids::RequestRef,
    message::{Answer, OwnerEvent, OwnerRequest, Present, Waiter},
};

use crate::{
    chance::Chance,
    scenario::{CHANNELS, Theme, VHOSTS},
    wires::Wires,
};

/// Virtual time, in microseconds since the simulation began.
pub type Micros = u64;

/// Somebody who takes turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A shard with its driver.
    Shard(usize),
    /// A browser.
    Browser(usize),
    /// The control thread.
    Control,
    /// The exchange with its driver.
    Exchange,
    /// The backends that are connected to the exchange.
    Peers,
}

/// One direction of a socket.
#[derive(Debug)]
pub struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// The writer has said that nothing more will come.
    pub is_ended: bool,
}

impl Pipe {
    fn new(capacity: usize) -> Self {
        Self { bytes: VecDeque::new(), capacity, is_ended: false }
    }

    /// Takes as much of `bytes` as there is room for.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.capacity - self.bytes.len());
        self.bytes.extend(&bytes[..count]);
        count
    }

    /// At most `most` bytes.
    pub fn pull(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.bytes.len());
        let bytes = self.bytes.make_contiguous()[..count].to_vec();
        self.bytes.drain(..count);
        bytes
    }

    /// How many bytes stand in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Loses what stands in it.
    pub fn lose(&mut self) {
        self.bytes.clear();
    }
}

/// A connection between a browser and a shard.
#[derive(Debug)]
pub struct Socket {
    /// Whose.
    pub browser: usize,
    /// With whom.
    pub shard: usize,
    /// From the browser to the server.
    pub to_server: Pipe,
    /// From the server to the browser.
    pub to_browser: Pipe,
    /// The session, while the shard's driver holds the socket.
    pub session: Option<SessionRef>,
    /// The browser reset the connection: reading and writing fail.
    pub is_reset: bool,
    /// The server has closed its socket.
    pub is_closed: bool,
    /// A send was cut short; room is to be told.
    pub is_full: bool,
    /// Edges that the driver has not seen.
    pub is_readable: bool,
    /// Edges that the driver has not seen.
    pub is_writable: bool,
    is_listed: bool,
}

/// First in, first out, bounded, and each entry takes its time.
#[derive(Debug)]
pub struct Queue<T> {
    entries: VecDeque<(Micros, T)>,
    capacity: usize,
    last: Micros,
}

impl<T> Queue<T> {
    fn new(capacity: usize) -> Self {
        Self { entries: VecDeque::new(), capacity, last: 0 }
    }

    /// Whether one more entry fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.entries.len() < self.capacity
    }

    /// Whether nothing stands in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends an entry that arrives at `at`, or when the one before it does.
    pub fn push(&mut self, at: Micros, entry: T) -> Micros {
        assert!(self.has_room(), "a full queue was pushed to");
        self.last = self.last.max(at);
        self.entries.push_back((self.last, entry));
        self.last
    }

    /// The next entry that has arrived.
    pub fn pop(&mut self, now: Micros) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.entries.pop_front().map(|(_, entry)| entry)
    }

    /// When the next entry arrives.
    #[must_use]
    pub fn next(&self) -> Option<Micros> {
        self.entries.front().map(|(at, _)| *at)
    }
}

impl Queue<ShardMessage> {
    /// Where the youngest leave of `session` waits.
    fn leave_of(&self, session: SessionRef) -> Option<usize> {
        self.entries.iter().rposition(
            |(_, message)| matches!(message, ShardMessage::Request(OwnerRequest::Leave { session: of, .. }) if *of == session),
        )
    }
}

/// How much later a late leave arrives: long after its session has read that it left.
const LATE: Micros = 5_000_000;

/// A fault put in on purpose: the oracles must notice it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Canary {
    /// Two neighbours in one queue between shards change places.
    Swap,
    /// An entry of one queue is lost.
    Drop,
    /// An entry of one queue arrives twice.
    Double,
    /// The word that a member left does not reach one shard.
    LostLeave,
    /// The word that a member joined reaches one shard twice.
    DoubledJoin,
    /// The list that a session of another shard is given misses a member.
    ShortList,
    /// A channel's owner says that it has taken what was said to it before, but takes one leave of it later.
    LateLeave,
    /// A single access token is given away twice.
    TokenTwice,
    /// A trigger that comes to its next worker is lost, and taken for handled.
    LostRedelivery,
    /// A trigger is sent to a worker without window twice.
    DoubledTrigger,
}

impl Canary {
    /// What the run must be about for the fault to be noticed: where everybody stays and listens, or where
    /// some do while others come and go.
    #[must_use]
    pub fn theme(self) -> Theme {
        match self {
            Self::Swap | Self::Drop | Self::Double => Theme::Calm,
            Self::LostLeave | Self::DoubledJoin | Self::ShortList | Self::LateLeave | Self::TokenTwice => {
                Theme::Churn
            }
            Self::LostRedelivery | Self::DoubledTrigger => Theme::Work,
        }
    }

    /// At which of the opportunities it is put in, at the earliest.
    #[must_use]
    pub fn patience(self) -> (u64, u64) {
        match self {
            Self::Swap | Self::Drop | Self::Double => (40, 100),
            Self::LostLeave
            | Self::DoubledJoin
            | Self::ShortList
            | Self::LateLeave
            | Self::TokenTwice
            | Self::LostRedelivery
            | Self::DoubledTrigger => (1, 10),
        }
    }
}

/// How things went, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Turns of all actors.
    pub turns: u64,
    /// Bytes that browsers received.
    pub bytes_received: u64,
    /// Sends that the socket took only a part of.
    pub partial_sends: u64,
    /// Messages that went from shard to shard.
    pub shard_messages: u64,
    /// Turns at whose end a way to another shard was congested.
    pub congested_turns: u64,
    /// The longest wait before a queue, in messages.
    pub waiting_most: u64,
    /// Connections that went to the HTTP server.
    pub hand_offs: u64,
    /// Turns that a shard came to late because it was not scheduled.
    pub pauses: u64,
    /// Faults that were put in.
    pub faults: u64,
}

/// Everything between the actors.
#[derive(Debug)]
pub struct Net {
    /// Now.
    pub now: Micros,
    base: Instant,
    /// By number; a browser's next connection gets a new one.
    pub sockets: Vec<Socket>,
    /// From each shard to each other, and the exchange, which stands behind the last one.
    pub queues: Vec<Vec<Queue<ShardMessage>>>,
    /// To each shard.
    pub commands: Vec<Queue<Command>>,
    /// From each shard.
    pub reports: Vec<Queue<Report>>,
    /// To the exchange.
    pub exchange_commands: Queue<ExchangeCommand>,
    /// From the exchange.
    pub exchange_reports: Queue<ExchangeReport>,
    /// The backends' connections.
    pub wires: Wires,
    /// The access tokens that backends know, by vhost.
    pub access: Vec<Option<String>>,
    /// Sockets with edges, by shard.
    pub edges: Vec<VecDeque<usize>>,
    /// Sockets that wait to be accepted, by shard.
    pub backlog: Vec<VecDeque<usize>>,
    /// Who is to take a turn, and when; the world schedules it.
    pub wakes: Vec<(Actor, Micros)>,
    /// The most that a message between shards takes.
    pub delay_max: Micros,
    /// How things went.
    pub counters: Counters,
    canary: Option<(Canary, u64)>,
    /// The shard of each browser that goes on listening, and its subscriptions: where nobody listens no
    /// fault can be noticed.
    pub listeners: BTreeMap<usize, (usize, Vec<&'static str>)>,
    /// Browsers that keep what they subscribe from now on.
    pub stayers: BTreeSet<usize>,
    /// Browsers that subscribe nothing but presence channels.
    pub members: BTreeSet<usize>,
    trace: u64,
}

impl Net {
    /// Shards without connections.
    #[must_use]
    pub fn new(
        shards: usize,
        queue_capacity: usize,
        delay_max: Micros,
        canary: Option<(Canary, u64)>,
    ) -> Self {
        let queues = |_| (0..=shards).map(|_| Queue::new(queue_capacity)).collect();
        Self {
            now: 0,
            base: Instant::now(),
            sockets: Vec::new(),
            queues: (0..=shards).map(queues).collect(),
            commands: (0..shards).map(|_| Queue::new(usize::MAX)).collect(),
            reports: (0..shards).map(|_| Queue::new(usize::MAX)).collect(),
            exchange_commands: Queue::new(usize::MAX),
            exchange_reports: Queue::new(usize::MAX),
            wires: Wires::default(),
            access: vec![None; VHOSTS.len()],
            edges: vec![VecDeque::new(); shards],
            backlog: vec![VecDeque::new(); shards],
            wakes: Vec::new(),
            delay_max,
            counters: Counters::default(),
            canary,
            listeners: BTreeMap::new(),
            stayers: BTreeSet::new(),
            members: BTreeSet::new(),
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Now, as the machines are told it.
    #[must_use]
    pub fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    /// How far off an instant of a machine is, in virtual time.
    #[must_use]
    pub fn micros(&self, instant: Instant) -> Micros {
        let since = instant.saturating_duration_since(self.base);
        // Rounded up: a deadline is due when it has been reached.
        Micros::try_from(since.as_nanos().div_ceil(1000)).unwrap_or(Micros::MAX)
    }

    /// Who takes part in what shards say to each other, by number.
    #[must_use]
    pub fn party(&self, number: usize) -> Actor {
        if number == self.commands.len() { Actor::Exchange } else { Actor::Shard(number) }
    }

    /// Asks for a turn after `delay`.
    pub fn wake(&mut self, actor: Actor, delay: Micros) {
        self.wakes.push((actor, self.now + delay));
    }

    /// Notes something in the trace, by which two runs are compared.
    pub fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5);
    }

    /// Notes bytes in the trace.
    pub fn note_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.note(u64::from_le_bytes(word));
        }
    }

    /// The hash of everything that was noted.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// A browser connects; the shard has yet to accept.
    pub fn connect(&mut self, browser: usize, shard: usize, capacities: (usize, usize)) -> usize {
        let (to_server, to_browser) = (Pipe::new(capacities.0), Pipe::new(capacities.1));
        self.sockets.push(Socket {
            browser,
            shard,
            to_server,
            to_browser,
            session: None,
            is_reset: false,
            is_closed: false,
            is_full: false,
            is_readable: false,
            is_writable: false,
            is_listed: false,
        });
        let socket = self.sockets.len() - 1;
        self.backlog[shard].push_back(socket);
        self.wake(Actor::Shard(shard), 1);
        socket
    }

    /// Something can be read from the socket, bytes or the end.
    pub fn readable(&mut self, socket: usize) {
        self.sockets[socket].is_readable = true;
        self.edge(socket);
    }

    /// There is room in a socket that was full.
    pub fn writable(&mut self, socket: usize) {
        self.sockets[socket].is_writable = true;
        self.edge(socket);
    }

    fn edge(&mut self, socket: usize) {
        let entry = &mut self.sockets[socket];
        let shard = entry.shard;
        if !entry.is_listed {
            entry.is_listed = true;
            self.edges[shard].push_back(socket);
        }
        self.wake(Actor::Shard(shard), 1);
    }

    /// The next socket with edges.
    pub fn next_edge(&mut self, shard: usize) -> Option<usize> {
        let socket = self.edges[shard].pop_front()?;
        self.sockets[socket].is_listed = false;
        Some(socket)
    }

    /// A browser takes at most `most` bytes.
    pub fn take(&mut self, socket: usize, most: usize) -> Vec<u8> {
        let bytes = self.sockets[socket].to_browser.pull(most);
        if !bytes.is_empty() && self.sockets[socket].is_full {
            self.sockets[socket].is_full = false;
            self.writable(socket);
        }
        self.counters.bytes_received += bytes.len() as u64;
        self.note(self.now);
        self.note_bytes(&bytes);
        bytes
    }

    /// Sends a message from shard to shard; its queue has room.
    pub fn send(&mut self, chance: &mut Chance, from: usize, to: usize, message: ShardMessage) {
        self.counters.shard_messages += 1;
        let at = self.now + chance.between(0, self.delay_max);
        if let Some(canary) = self.fault(from, to, &message) {
            return self.send_faulty(canary, from, to, at, message);
        }
        self.queues[from][to].push(at, message);
        self.wakes.push((self.party(to), at));
    }

    /// Whether a fault is still to be put in.
    #[must_use]
    pub fn has_canary(&self) -> bool {
        self.canary.is_some()
    }

    /// The fault to put in at this message, if it is its turn, it may be put in here, and somebody
    /// would notice.
    fn fault(&mut self, from: usize, to: usize, message: &ShardMessage) -> Option<Canary> {
        let (canary, countdown) = self.canary?;
        let queue = &self.queues[from][to];
        let has_room = queue.entries.len() + 2 <= queue.capacity;
        if canary == Canary::LateLeave {
            return self.delays_leave(from, to, message).then_some(canary);
        }
        let (channel, listener) = match (canary, message) {
            (Canary::Drop, ShardMessage::Event(OwnerEvent::Deliver { event, .. })) => {
                (broadcast_on(event)?, None)
            }
            (Canary::Double, ShardMessage::Event(OwnerEvent::Deliver { event, .. })) if has_room => {
                (broadcast_on(event)?, None)
            }
            (Canary::Swap, ShardMessage::Event(OwnerEvent::Deliver { channel, event, .. })) => {
                let is_behind_another = queue.entries.back().is_some_and(|(_, before)| {
                    matches!(before, ShardMessage::Event(OwnerEvent::Deliver { channel: of, event, .. })
                        if of == channel && broadcast_on(event).is_some())
                });
                (broadcast_on(event).filter(|_| is_behind_another)?, None)
            }
            (Canary::LostLeave, ShardMessage::Event(OwnerEvent::Deliver { event, .. })) => {
                (presence_on(event, false)?, None)
            }
            (Canary::DoubledJoin, ShardMessage::Event(OwnerEvent::Deliver { event, .. })) if has_room => {
                (presence_on(event, true)?, None)
            }
            (Canary::ShortList, ShardMessage::Answer { request, answer, .. }) => {
                shortened(answer)?;
                let socket = self.sockets.iter().find(|socket| socket.session == Some(request.session))?;
                ("", Some(socket.browser))
            }
            _ => return None,
        };
        self.canary = Some((canary, countdown.saturating_sub(1)));
        let listens = |here: bool| {
            self.listeners.values().any(|(shard, own)| (*shard == to) == here && own.contains(&channel))
        };
        let is_noticed = match listener {
            Some(browser) => self.stayers.contains(&browser),
            // What is missing, or has changed places, shows beside what others were told.
            None if matches!(canary, Canary::Swap | Canary::Drop | Canary::LostLeave) => {
                listens(true) && listens(false)
            }
            None => listens(true),
        };
        (countdown <= 1 && is_noticed).then(|| {
            self.canary = None;
            self.counters.faults += 1;
            canary
        })
    }

    /// Whether a leave that waits in the queue is to arrive behind this fence.
    fn delays_leave(&mut self, from: usize, to: usize, message: &ShardMessage) -> bool {
        let ShardMessage::Request(OwnerRequest::Fence(Waiter::Request(RequestRef { session, .. }))) = message
        else {
            return false;
        };
        let socket = self.sockets.iter().find(|socket| socket.session == Some(*session));
        let is_member = socket.is_some_and(|socket| self.members.contains(&socket.browser));
        is_member && self.queues[from][to].leave_of(*session).is_some() && self.misdirects(Canary::LateLeave)
    }

    /// Whether this fault is to be put in at this opportunity.
    pub fn misdirects(&mut self, fault: Canary) -> bool {
        let Some((canary, countdown)) = self.canary.filter(|(canary, _)| *canary == fault) else {
            return false;
        };
        let is_now = countdown <= 1;
        self.canary = (!is_now).then_some((canary, countdown.saturating_sub(1)));
        self.counters.faults += u64::from(is_now);
        is_now
    }

    fn send_faulty(&mut self, canary: Canary, from: usize, to: usize, at: Micros, message: ShardMessage) {
        let queue = &mut self.queues[from][to];
        match (canary, message) {
            (Canary::Drop | Canary::LostLeave, _) => {}
            (
                Canary::Double | Canary::DoubledJoin,
                ShardMessage::Event(OwnerEvent::Deliver { channel, event, made }),
            ) => {
                let again = ShardMessage::Event(OwnerEvent::Deliver {
                    channel,
                    event: event.clone(),
                    made: made.clone(),
                });
                queue.push(at, again);
                queue.push(at, ShardMessage::Event(OwnerEvent::Deliver { channel, event, made }));
            }
            (Canary::ShortList, ShardMessage::Answer { request, answer, bytes }) => {
                let answer = shortened(&answer).unwrap_or(answer);
                queue.push(at, ShardMessage::Answer { request, answer, bytes });
            }
            (Canary::LateLeave, ShardMessage::Request(OwnerRequest::Fence(Waiter::Request(request)))) => {
                let leave = queue.leave_of(request.session).and_then(|index| queue.entries.remove(index));
                let (_, leave) = leave.expect("a leave that waits");
                queue.push(at, ShardMessage::Request(OwnerRequest::Fence(Waiter::Request(request))));
                self.wakes.push((Actor::Shard(to), at));
                let at = queue.push(at + LATE, leave);
                return self.wakes.push((Actor::Shard(to), at));
            }
            (_, message) => {
                queue.push(at, message);
                let last = queue.entries.len() - 1;
                let (earlier, later) = (queue.entries[last - 1].0, queue.entries[last].0);
                queue.entries.swap(last - 1, last);
                (queue.entries[last - 1].0, queue.entries[last].0) = (earlier, later);
            }
        }
        self.wakes.push((Actor::Shard(to), at));
    }
}

/// The channel of a broadcast.
fn broadcast_on(event: &ChannelEvent) -> Option<&'static str> {
    match event {
        ChannelEvent::Published(_, publication) => {
            CHANNELS.into_iter().find(|channel| channel.as_bytes() == publication.parts().channel())
        }
        ChannelEvent::Presence(_) => None,
    }
}

/// The channel to which somebody has come, or from which somebody has gone.
fn presence_on(event: &ChannelEvent, joined: bool) -> Option<&'static str> {
    match event {
        ChannelEvent::Presence(change) if change.has_joined == joined => {
            CHANNELS.into_iter().find(|channel| *channel == change.channel.as_str())
        }
        ChannelEvent::Presence(_) | ChannelEvent::Published(..) => None,
    }
}

/// An answer whose list misses its last member, if there is one.
fn shortened(answer: &Answer) -> Option<Answer> {
    let Answer::Subscribed { channel, encoding, present: Some(present) } = answer else { return None };
    let start = present.list.rfind(r#"{"uid":"#)?;
    let list = present.list[..start].trim_end_matches(',').into();
    let present = Some(Box::new(Present { list, ..Present::clone(present) }));
    Some(Answer::Subscribed { channel: *channel, encoding: *encoding, present })
}
