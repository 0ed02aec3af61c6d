//! The engine: thousands of connections on one thread and one epoll set.
//!
//! It opens connections in batches, answers pings, and hands every message to a [`Scenario`], which decides what to
//! send. Each connection is read once a turn, so that none starves the others. It does not reconnect: a connection
//! that ends, unless the engine itself closes it, ends the run with an error that says why.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::clock::monotonic_ns;
use crate::connection::{CONNECTIONS_PER_SOURCE, Connection, ConnectionId, Stage, source_address};
use crate::epoll::{Epoll, Interest};
use crate::frames::{self, Frame, Opcode};
use crate::handshake::Handshake;
use crate::progress::{Progress, Standing};
use crate::target::Target;

/// How many connections may be in the making at once; below the usual backlog of a listener (1024).
const OPENING_MAX: usize = 256;
/// How many ready sockets are served a turn.
const READY_MAX: usize = 1024;
/// How many bytes one connection may deliver a turn, when no incomplete frame is larger.
const RECEIVE_BYTES: usize = 256 * 1024;
/// The longest sleep of a turn: the grain of the timeouts.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// How long closing may take before the rest is simply dropped.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// What is done with the connections.
pub(crate) trait Scenario {
    /// `connection` is open: the handshake has succeeded.
    fn opened(&mut self, connection: ConnectionId, outbox: &mut Outbox);

    /// A text message came at `received_ns` (`CLOCK_MONOTONIC`; read from the socket together with its neighbours).
    ///
    /// # Errors
    /// Ends the run: a violated guarantee, or an answer that nobody asked for.
    fn message(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()>;

    /// A binary message came at `received_ns`. A server of ours sends none.
    ///
    /// # Errors
    /// Ends the run.
    fn binary(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        let _ = (received_ns, outbox);
        bail!("{connection} received a binary message of {} bytes where only text is due", message.len())
    }

    /// Does what is due at `now_ns` (`CLOCK_MONOTONIC`). Returns when to be asked again at the latest, if ever;
    /// asked at least once a turn.
    fn tick(&mut self, now_ns: u64, outbox: &mut Outbox) -> Option<u64> {
        let _ = (now_ns, outbox);
        None
    }

    /// Whether everything that was asked for has happened.
    fn finished(&self) -> bool;

    /// A number that grows with everything that brings the scenario nearer to its end.
    fn progress(&self) -> u64;

    /// What is still missing, as the end of a sentence: told when there is no progress.
    fn missing(&self) -> String;

    /// What it is at, for those who watch.
    fn standing(&self) -> Standing {
        Standing { phase: "running", done: self.progress(), due: 0, detail: self.missing() }
    }
}

/// What a scenario wants sent. Frames are masked here; the engine sends them when the scenario returns.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    frames: Vec<(ConnectionId, Range<usize>)>,
    mask: u32,
}

impl Outbox {
    /// Sends a text message.
    pub(crate) fn text(&mut self, connection: ConnectionId, message: &[u8]) {
        self.frame(connection, Opcode::Text, message);
    }

    /// Sends a binary message.
    pub(crate) fn binary(&mut self, connection: ConnectionId, message: &[u8]) {
        self.frame(connection, Opcode::Binary, message);
    }

    fn frame(&mut self, connection: ConnectionId, opcode: Opcode, payload: &[u8]) {
        // Masks protect proxies from forged requests; here they only have to differ.
        self.mask = self.mask.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let start = self.bytes.len();
        frames::encode(&mut self.bytes, opcode, self.mask.to_be_bytes(), payload);
        let end = self.bytes.len();
        match self.frames.last_mut() {
            // One send carries what one connection has to say.
            Some((last, range)) if *last == connection => range.end = end,
            Some(_) | None => self.frames.push((connection, start..end)),
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}

pub(crate) struct Engine {
    target: Target,
    handshake: Handshake,
    epoll: Epoll,
    /// By [`ConnectionId`]; `None` once closed.
    connections: Vec<Option<Connection>>,
    /// How many connections there shall be.
    wanted: usize,
    /// How many connections are in the making.
    opening: usize,
    /// Set while the engine itself closes everything.
    closing: bool,
    outbox: Outbox,
    buffer: Vec<u8>,
    /// How long a run goes on without progress.
    patience: Duration,
    /// Where it is shown what a scenario is at.
    progress: Progress,
}

impl Engine {
    pub(crate) fn new(target: Target, patience: Duration) -> anyhow::Result<Self> {
        Ok(Self {
            handshake: Handshake::new(&target),
            target,
            epoll: Epoll::new(READY_MAX).context("cannot make an epoll set")?,
            connections: Vec::new(),
            wanted: 0,
            opening: 0,
            closing: false,
            outbox: Outbox::default(),
            buffer: vec![0; RECEIVE_BYTES],
            patience,
            progress: Progress::hidden(),
        })
    }

    /// Shows from now on what scenarios are at.
    pub(crate) fn show(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Asks for `count` more connections; the next run opens them.
    pub(crate) fn open(&mut self, count: u32) {
        self.wanted += count as usize;
    }

    /// Where to put what shall be sent when the next run begins.
    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Runs until the scenario is finished.
    ///
    /// # Errors
    /// The scenario's; a connection that failed or was closed; no progress for as long as the engine's patience.
    pub(crate) fn run(&mut self, scenario: &mut impl Scenario) -> anyhow::Result<()> {
        let mut progress = scenario.progress();
        let mut progressed = Instant::now();
        while !scenario.finished() {
            self.turn(scenario, SLEEP_MAX)?;
            if scenario.progress() != progress {
                (progress, progressed) = (scenario.progress(), Instant::now());
            } else if progressed.elapsed() >= self.patience {
                bail!("no progress for {} s: {}", self.patience.as_secs_f64(), scenario.missing());
            }
        }
        Ok(())
    }

    /// Runs for `duration`, whatever the scenario says.
    pub(crate) fn run_for(&mut self, scenario: &mut impl Scenario, duration: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            // Waiting counts whole milliseconds: at least one, or the last of them would spin.
            self.turn(scenario, left.clamp(Duration::from_millis(1), SLEEP_MAX))?;
        }
    }

    /// Closes all connections as a browser does: a close frame, then waiting for the server's end. What is not
    /// closed after a few seconds is dropped.
    pub(crate) fn close(mut self, scenario: &mut impl Scenario) -> anyhow::Result<()> {
        self.closing = true;
        self.wanted = self.connections.len();
        for (index, connection) in self.connections.iter().enumerate() {
            if connection.as_ref().is_some_and(|connection| connection.stage == Stage::Open) {
                self.outbox.frame(ConnectionId(index as u32), Opcode::Close, &1000_u16.to_be_bytes());
            }
        }
        let end = Instant::now() + CLOSING_MAX;
        while self.connections.iter().any(Option::is_some) && Instant::now() < end {
            self.turn(scenario, SLEEP_MAX)?;
        }
        Ok(())
    }

    /// One turn: send what waits, open what is missing, then serve every socket that is ready.
    fn turn(&mut self, scenario: &mut impl Scenario, sleep: Duration) -> anyhow::Result<()> {
        let now_ns = monotonic_ns();
        self.progress.turn(|| scenario.standing());
        let next_ns = scenario.tick(now_ns, &mut self.outbox);
        let sleep =
            next_ns.map_or(sleep, |next| sleep.min(Duration::from_nanos(next.saturating_sub(now_ns))));
        self.send_outbox()?;
        while self.opening < OPENING_MAX && self.connections.len() < self.wanted {
            self.begin()?;
        }
        for index in 0..self.epoll.wait(sleep).context("cannot wait for sockets")? {
            let ready = self.epoll.ready(index);
            let id = ConnectionId(ready.token as u32);
            if ready.writable {
                self.writable(id)?;
            }
            if ready.readable {
                self.readable(id, scenario)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let id = ConnectionId(self.connections.len() as u32);
        let crowded = self.wanted > CONNECTIONS_PER_SOURCE as usize;
        let source = match self.target.address().ip() {
            IpAddr::V4(address) if crowded && address.is_loopback() => Some(source_address(id)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        };
        let connection = Connection::begin(self.target.address(), source).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EADDRNOTAVAIL) => " (the source ports are used up: net.ipv4.ip_local_port_range)",
                Some(libc::EMFILE | libc::ENFILE) => " (file descriptors are used up: ulimit -n)",
                _ => "",
            };
            anyhow!(error).context(format!("{id} cannot reach {}{hint}", self.target))
        })?;
        self.epoll.add(connection.socket(), u64::from(id.0), Interest::Write)?;
        self.connections.push(Some(connection));
        self.opening += 1;
        Ok(())
    }

    /// The socket has room: the connect is done, or the unsent rest may go on.
    fn writable(&mut self, id: ConnectionId) -> anyhow::Result<()> {
        let Some(connection) = &mut self.connections[id.index()] else { return Ok(()) };
        let sent = match connection.stage {
            Stage::Connecting => {
                connection.connected().with_context(|| format!("{id} cannot reach {}", self.target))?;
                connection.stage = Stage::Handshaking;
                connection.send(self.handshake.request())
            }
            Stage::Handshaking | Stage::Open => connection.send_rest(),
        };
        match sent {
            Ok(all) => {
                let interest = if all { Interest::Read } else { Interest::ReadWrite };
                self.epoll.change(connection.socket(), u64::from(id.0), interest)?;
                Ok(())
            }
            Err(error) => self.lost(id, &error),
        }
    }

    /// Bytes have come, or the connection has ended.
    fn readable(&mut self, id: ConnectionId, scenario: &mut impl Scenario) -> anyhow::Result<()> {
        let Some(connection) = &mut self.connections[id.index()] else { return Ok(()) };
        if connection.stage == Stage::Connecting {
            return Ok(());
        }
        let length = match connection.receive(&mut self.buffer) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(()),
            Err(error) => return self.lost(id, &error),
        };
        let received_ns = monotonic_ns();
        let mut bytes = &self.buffer[..length];
        if connection.stage == Stage::Handshaking {
            match self.handshake.verify(bytes).with_context(|| format!("{id} to {} failed", self.target))? {
                None => {
                    connection.keep(bytes);
                    return Ok(());
                }
                Some(head) => bytes = &bytes[head..],
            }
            connection.stage = Stage::Open;
            self.opening -= 1;
            scenario.opened(id, &mut self.outbox);
        }
        while let Some((frame, used)) =
            frames::decode(bytes).with_context(|| format!("{id} received an invalid frame"))?
        {
            bytes = &bytes[used..];
            match frame {
                // The server ends the connection itself once both close frames are through.
                Frame::Text(_) | Frame::Binary(_) | Frame::Close { .. } if self.closing => {}
                Frame::Text(message) => scenario.message(id, message, received_ns, &mut self.outbox)?,
                Frame::Binary(message) => scenario.binary(id, message, received_ns, &mut self.outbox)?,
                Frame::Ping(payload) => self.outbox.frame(id, Opcode::Pong, payload),
                Frame::Pong => {}
                Frame::Close { code, reason } => bail!(
                    "{id} was closed by the server with code {} {:?}",
                    code.map_or_else(|| "(none)".to_owned(), |code| code.to_string()),
                    String::from_utf8_lossy(reason),
                ),
            }
        }
        connection.keep(bytes);
        // At once, because a broadcast's time stamp is already in it.
        self.send_outbox()
    }

    fn send_outbox(&mut self) -> anyhow::Result<()> {
        if self.outbox.frames.is_empty() {
            return Ok(());
        }
        let mut outbox = std::mem::take(&mut self.outbox);
        for (id, range) in &outbox.frames {
            let Some(connection) = &mut self.connections[id.index()] else { continue };
            match connection.send(&outbox.bytes[range.clone()]) {
                Ok(true) => {}
                Ok(false) => {
                    self.epoll.change(connection.socket(), u64::from(id.0), Interest::ReadWrite)?;
                }
                Err(error) => self.lost(*id, &error)?,
            }
        }
        outbox.clear();
        self.outbox = outbox;
        Ok(())
    }

    /// A connection has ended. While the engine closes everything that is what it waits for.
    fn lost(&mut self, id: ConnectionId, error: &io::Error) -> anyhow::Result<()> {
        if self.closing {
            self.connections[id.index()] = None;
            return Ok(());
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => bail!("{id} was ended by the server without a close frame"),
            _ => bail!("{id} was lost: {error}"),
        }
    }
}
