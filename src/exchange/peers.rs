//! Clients and workers: the peers of the ROUTER socket.
//!
//! A peer's name is its routing id, which libzmq never gives to two connections at a time. The peer is gone when
//! its connection is, but only once all that it said before has been read: what it acknowledged last counts.

use std::{
    array,
    collections::HashMap,
    os::fd::RawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use webrocket_state::{
    Exchange,
    exchange::{ExchangeInput, PeerMessage, PeerName},
};
use webrocket_wire::wbp::FRAMES_MAX;
use zmq::{DONTWAIT, Message, SNDMORE, Socket};

use super::{
    connections::{Connections, Number},
    sockets::Mechanism,
    zap::Admission,
};

/// The most messages that one turn reads.
const MESSAGES_PER_TURN: usize = 256;

/// After so long a turn reads no further message: libzmq gives each peer its turn, but what one says may take
/// long, as a filter does that is to be compiled.
const READING_MAX: Duration = Duration::from_millis(5);

/// The most bytes that may wait for a peer before it is given more. Whoever has more on its way is full.
const UNSENT_BYTES_MAX: u64 = 64 << 20;

/// What became of a message to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way.
    Done,
    /// There is no room on the way; it was not sent.
    Full,
    /// There is no such peer any more.
    Unreachable,
}

/// All peers.
pub(super) struct Peers {
    socket: Socket,
    mechanism: Mechanism,
    /// Each with its peer's name, once that has said anything.
    connections: Connections<Option<PeerName>>,
    known: HashMap<PeerName, Peer, ahash::RandomState>,
    /// Whose connections are over. What they said before may wait to be read.
    leaving: Vec<(PeerName, Number)>,
    /// The message that was read last.
    frames: [Message; FRAMES_MAX + 1],
}

struct Peer {
    number: Number,
    /// Its connection, if that stood when it spoke first.
    fd: Option<RawFd>,
    /// How many bytes of its connection have been read.
    bytes_read: u64,
    /// How many bytes it has been given.
    bytes_given: u64,
    /// How many of them its kernel had when this was looked up last.
    bytes_acknowledged: u64,
}

/// What is known of a message apart from its frames.
struct Envelope {
    name: Message,
    admission: Option<Admission>,
    /// How many frames there are to look at.
    frames: usize,
    /// How many bytes it took on its connection.
    bytes: u64,
}

impl Peers {
    pub(super) fn new(
        socket: Socket,
        connections: Connections<Option<PeerName>>,
        mechanism: Mechanism,
    ) -> Self {
        Self {
            socket,
            mechanism,
            connections,
            known: HashMap::default(),
            leaving: Vec::new(),
            frames: array::from_fn(|_| Message::new()),
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn connections(&self) -> &Connections<Option<PeerName>> {
        &self.connections
    }

    /// Takes how many connections that had been cut were over since this was asked last.
    pub(super) fn take_cuts(&mut self) -> u64 {
        self.connections.take_cuts()
    }

    /// Hears which connections are over.
    pub(super) fn follow(&mut self, next: Number) {
        let Self { connections, known, leaving, .. } = self;
        connections.follow(next, |name| {
            let Some(name) = name else { return };
            if let Some(peer) = known.get(&name) {
                leaving.push((name, peer.number));
            }
        });
    }

    /// Whether some are over and what they said is to be read.
    pub(super) fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Reads messages, a bounded number and for a bounded time; whether there may be more.
    pub(super) fn receive(&mut self, now: Instant, machine: &mut Exchange, next: Number) -> bool {
        let until = Instant::now() + READING_MAX;
        for _ in 0..MESSAGES_PER_TURN {
            let Some(envelope) = self.read() else {
                self.dismiss_leaving(now, machine);
                return false;
            };
            let Some(admission) = envelope.admission else { continue };
            self.note(now, machine, &envelope, admission.number, next);
            let mut frames = [&b""[..]; FRAMES_MAX + 1];
            for (slice, frame) in frames.iter_mut().zip(&self.frames) {
                *slice = frame;
            }
            machine.handle(
                now,
                ExchangeInput::Received {
                    peer: &envelope.name,
                    pass: admission.pass,
                    frames: &frames[..envelope.frames],
                },
            );
            if Instant::now() >= until {
                break;
            }
        }
        true
    }

    /// Reads one message into `frames`; those that no message has are dropped.
    fn read(&mut self) -> Option<Envelope> {
        let mut name = Message::new();
        self.socket.recv(&mut name, DONTWAIT).ok()?;
        let mut envelope = Envelope { name, admission: None, frames: 0, bytes: 0 };
        let mut has_more = envelope.name.get_more();
        let mut surplus = Message::new();
        while has_more {
            let frame = self.frames.get_mut(envelope.frames).unwrap_or(&mut surplus);
            self.socket.recv(frame, DONTWAIT).expect("the frames of a message come together");
            has_more = frame.get_more();
            envelope.bytes += self.mechanism.bytes_on_the_wire(frame);
            envelope.frames = (envelope.frames + 1).min(FRAMES_MAX + 1);
        }
        // Without a frame, what stands there is another message's.
        let first = self.frames[..envelope.frames].first_mut();
        envelope.admission = first.and_then(|frame| frame.gets("User-Id")?.parse().ok());
        Some(envelope)
    }

    /// Takes note of a message: whose connection it came from.
    fn note(
        &mut self,
        now: Instant,
        machine: &mut Exchange,
        envelope: &Envelope,
        number: Number,
        next: Number,
    ) {
        if let Some(peer) = self.known.get_mut(&envelope.name[..])
            && peer.number == number
        {
            peer.bytes_read += envelope.bytes;
            return;
        }
        let name = PeerName::from(&envelope.name[..]);
        let fd = self.descriptor();
        let bytes_read = envelope.bytes;
        let peer = Peer { number, fd, bytes_read, bytes_given: 0, bytes_acknowledged: 0 };
        if self.known.insert(Arc::clone(&name), peer).is_some() {
            // The one that was called so has ended, or libzmq would not have given the name anew.
            machine.handle(now, ExchangeInput::Gone { peer: &name });
        }
        self.follow(next);
        match fd.and_then(|fd| self.connections.find(fd, number)) {
            Some(connection) => connection.owned = Some(name),
            None => self.leaving.push((name, number)),
        }
    }

    /// The descriptor of the connection that the message came from.
    fn descriptor(&mut self) -> Option<RawFd> {
        self.frames[0].gets("__fd")?.parse().ok()
    }

    /// All that those who leave said has been read: they are gone.
    fn dismiss_leaving(&mut self, now: Instant, machine: &mut Exchange) {
        for (name, number) in self.leaving.drain(..) {
            if self.known.get(&name).is_some_and(|peer| peer.number == number) {
                self.known.remove(&name);
                machine.handle(now, ExchangeInput::Gone { peer: &name });
            }
        }
    }

    /// Sends a message. Never blocks.
    pub(super) fn send(&mut self, name: &PeerName, message: &PeerMessage) -> Sent {
        if !self.has_room(name) {
            return Sent::Full;
        }
        match self.socket.send(&name[..], DONTWAIT | SNDMORE) {
            Ok(()) => {}
            Err(zmq::Error::EAGAIN) => return Sent::Full,
            Err(_) => {
                self.note_unreachable(name);
                return Sent::Unreachable;
            }
        }
        // The way was found, so the rest of the message has room on it.
        let mut last: Option<Message> = None;
        let mut bytes = 0;
        message.on_the_wire().encode(|frame| {
            bytes += self.mechanism.bytes_on_the_wire(frame);
            if let Some(before) = last.replace(Message::from(frame)) {
                let _ = self.socket.send(before, DONTWAIT | SNDMORE);
            }
        });
        let _ = self.socket.send(last.expect("a message has frames"), DONTWAIT);
        if let Some(peer) = self.known.get_mut(name) {
            peer.bytes_given += bytes;
        }
        Sent::Done
    }

    /// Whether more bytes may wait for a peer: libzmq counts messages only. What the kernel and libzmq
    /// add of their own makes it look as if a little less waited.
    fn has_room(&mut self, name: &PeerName) -> bool {
        let Some(peer) = self.known.get_mut(name) else { return true };
        if peer.bytes_given.saturating_sub(peer.bytes_acknowledged) <= UNSENT_BYTES_MAX {
            return true;
        }
        let connection = peer.fd.and_then(|fd| self.connections.find(fd, peer.number));
        let Some(traffic) = connection.and_then(|connection| connection.traffic()) else { return true };
        peer.bytes_acknowledged = traffic.acknowledged;
        peer.bytes_given.saturating_sub(traffic.acknowledged) <= UNSENT_BYTES_MAX
    }

    fn note_unreachable(&mut self, name: &PeerName) {
        if let Some(peer) = self.known.get(name) {
            self.leaving.push((Arc::clone(name), peer.number));
        }
    }

    /// Cuts off who has sent more than `max` bytes that are not read yet: libzmq keeps all of a message in
    /// memory until it is complete. Heartbeats of libzmq's own count as such for ever, but take months
    /// to add up to much.
    pub(super) fn cut_unread(&mut self, next: Number, max: u64) {
        self.follow(next);
        let known = &self.known;
        let read = |name: &PeerName| known.get(name).map_or(0, |peer| peer.bytes_read);
        self.connections.cut_where(|connection| {
            let read = connection.owned.as_ref().map_or(0, read);
            connection.bytes_received().saturating_sub(read) > max
        });
    }
}
