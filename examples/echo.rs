//! A bare WebSocket echo server on the connection code of the broker: same driver, same
//! handshake, framing and close, no vhosts and no channels. Conformance suites are pointed at it.
//!
//! `cargo run --release --example echo -- 127.0.0.1:9001`

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use webrocket::driver::{self, DriverOptions};
use webrocket_state::{
    Action, Input, Machine, Party, SessionRef, ShardId,
    connection::{Connection, Due, Event, Limits, Timeouts},
    slots::{SessionSlot, Slots},
};
use webrocket_wire::frame::{self, Message, Opcode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The longest message that is echoed.
const MESSAGE_BYTES_MAX: u32 = 64 << 20;

const TIMEOUTS: Timeouts = Timeouts { handshake: Duration::from_secs(10), close: Duration::from_secs(5) };

const LIMITS: Limits = Limits {
    message_bytes_max: MESSAGE_BYTES_MAX,
    ping_interval_ms: 30_000,
    idle_timeout_ms: 90_000,
    stall_timeout_ms: 30_000,
};

fn main() -> anyhow::Result<()> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:9001").parse()?;
    let running = driver::start(&DriverOptions::new(address, 1), Echo::new)?;
    println!("echoing at ws://{} on {}", running.address, running.io);
    running.join();
    Ok(())
}

/// A shard that knows nobody and echoes everything.
struct Echo {
    id: ShardId,
    connections: Slots<SessionSlot, Connection>,
    actions: VecDeque<Action>,
    /// Sessions with bytes to send.
    flush: VecDeque<SessionRef>,
    deadlines: VecDeque<(Instant, SessionRef)>,
}

impl Echo {
    fn new(id: ShardId) -> Self {
        Self {
            id,
            connections: Slots::default(),
            actions: VecDeque::new(),
            flush: VecDeque::new(),
            deadlines: VecDeque::new(),
        }
    }

    fn receive(&mut self, now: Instant, session: SessionRef, bytes: &mut [u8]) {
        let Some(connection) = self.connections.entry(session.slot, session.generation) else { return };
        let mut input = bytes;
        while let Some(event) = connection.receive(now, &mut input, &TIMEOUTS) {
            match event {
                Event::Upgrade(upgrade) => connection.open(now, &upgrade, LIMITS),
                Event::Message(Message::Text(text)) => {
                    frame::encode(connection.out.frames(), Opcode::Text, text.as_bytes());
                }
                Event::Message(Message::Binary(bytes)) => {
                    frame::encode(connection.out.frames(), Opcode::Binary, &bytes);
                }
                Event::Http(_) => {
                    self.actions.push_back(Action::Close(session));
                    self.connections.remove(session.slot, session.generation);
                    return;
                }
                Event::Refused(_) | Event::Closed { .. } | Event::Finished => {}
            }
        }
        self.flush.push_back(session);
    }

    fn end(&mut self, session: SessionRef) {
        if self.connections.remove(session.slot, session.generation).is_some() {
            self.actions.push_back(Action::Close(session));
        }
    }

    fn sent(&mut self, now: Instant, session: SessionRef, bytes: usize) {
        let Some(connection) = self.connections.entry(session.slot, session.generation) else { return };
        connection.out.advance(bytes);
        connection.sent(now, bytes, !connection.out.is_empty());
        if connection.take_shutdown() {
            self.actions.push_back(Action::ShutdownWrite(session));
        }
        if connection.out.pending().len() <= MESSAGE_BYTES_MAX as usize {
            self.actions.push_back(Action::Resume(session));
        }
    }

    /// Looks at every connection once a second.
    fn check_deadlines(&mut self, now: Instant) {
        while let Some((at, session)) = self.deadlines.front().copied() {
            if at > now {
                return;
            }
            self.deadlines.pop_front();
            let Some(connection) = self.connections.entry(session.slot, session.generation) else { continue };
            match connection.due(now, &TIMEOUTS) {
                Due::At(_) => {}
                Due::Pinged => self.flush.push_back(session),
                Due::Handshake | Due::Idle | Due::Stalled | Due::CloseOverdue => {
                    self.end(session);
                    continue;
                }
            }
            self.deadlines.push_back((now + Duration::from_secs(1), session));
        }
    }
}

impl Party for Echo {
    type Message = ();
    type Command = ();
    type Report = ();

    fn next_message(&mut self, _: Instant, _: ShardId) -> Option<()> {
        None
    }

    fn has_message(&self, _: ShardId) -> bool {
        false
    }

    fn next_report(&mut self) -> Option<()> {
        None
    }
}

impl Machine for Echo {
    fn accept(&mut self, now: Instant, _: SocketAddr) -> SessionRef {
        let (slot, generation) = self.connections.insert(Connection::new(now));
        let session = SessionRef { shard: self.id, slot, generation };
        self.deadlines.push_back((now + Duration::from_secs(1), session));
        session
    }

    fn handle(&mut self, now: Instant, input: Input<'_, (), ()>) {
        match input {
            Input::Received { session, bytes } => self.receive(now, session, bytes),
            Input::Sent { session, bytes } => self.sent(now, session, bytes),
            Input::Writable { session } => {
                if let Some(connection) = self.connections.entry(session.slot, session.generation) {
                    connection.sent(now, 0, false);
                    self.flush.push_back(session);
                }
            }
            Input::Disconnected { session } => self.end(session),
            Input::Deadline => self.check_deadlines(now),
            Input::Message { .. } | Input::Command(()) | Input::Proceed => {}
        }
    }

    fn wants_input(&self, session: SessionRef) -> bool {
        self.connections
            .peek(session.slot, session.generation)
            .is_some_and(|connection| connection.out.pending().len() <= MESSAGE_BYTES_MAX as usize)
    }

    fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn next_flush(&mut self, _: Instant) -> Option<SessionRef> {
        let waits = |connections: &Slots<SessionSlot, Connection>, session: SessionRef| {
            connections
                .peek(session.slot, session.generation)
                .is_some_and(|connection| !connection.out.is_empty() && !connection.is_stalled())
        };
        loop {
            let session = self.flush.pop_front()?;
            if waits(&self.connections, session) {
                // It may have been queued several times, but is named once.
                self.flush.retain(|other| *other != session);
                return Some(session);
            }
        }
    }

    fn pending(&self, session: SessionRef) -> &[u8] {
        self.connections[session.slot].out.pending()
    }

    fn has_work(&self) -> bool {
        !self.flush.is_empty()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, _)| *at)
    }

    fn figures(&mut self) -> &[u64] {
        &[]
    }
}
