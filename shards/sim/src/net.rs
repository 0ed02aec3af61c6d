//! What lies between the actors: sockets, queues, and virtual time.
//!
//! A socket is two pipes of small capacity; a queue between shards is bounded, first in, first
//! out, and each message takes its time. Nothing here decides anything but how long things take; `faults`
//! puts in the one fault that a run may have.

mod faults;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use webrocket_state::{
    Command, Report, SessionRef, ShardMessage,
    exchange::{ExchangeCommand, ExchangeReport},
};

use crate::{canary::Canary, chance::Chance, scenario::VHOSTS, time::Micros, wires::Wires};

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
}
