//! The engine: thousands of connections on one thread and one epoll set.
//!
//! It opens connections in batches, answers pings, and hands every message to a [`Scenario`], which decides what to
//! send, and which connections to open and to close. Each connection is read once a turn, so that none starves the
//! others. It does not reconnect: a connection that ends though nobody wanted it to ends the run with an error that
//! says why.
//!
//! Nearly all of its time is the kernel's: `cargo bench -p webrocket-loadtest --bench engine` tells how much of it.

mod outbox;
#[cfg(test)]
mod tests;

pub(crate) use outbox::{Closing, Outbox};

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::io::Errno;

use crate::clock::monotonic_ns;
use crate::connection::{Connection, ConnectionId, Stage, source_address};
use crate::epoll::{Epoll, Interest};
use crate::frames::{self, Frame, Opcode};
use crate::handshake::Handshake;
use crate::interrupt;
use crate::progress::{Progress, Standing};
use crate::target::Target;

/// How many connections may be in the making at once, unless more are asked for; below the usual backlog of a
/// listener (1024).
const OPENING_MAX: usize = 256;
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
    /// asked at least once a turn, and in long turns between two connections.
    fn tick(&mut self, now_ns: u64, outbox: &mut Outbox) -> Option<u64> {
        let _ = (now_ns, outbox);
        None
    }

    /// `connection`, which was to be closed, has ended. Its number is given to the next one that is opened.
    fn closed(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        let _ = (connection, outbox);
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

pub(crate) struct Engine {
    target: Target,
    handshake: Handshake,
    epoll: Epoll,
    /// By [`ConnectionId`]; `None` once closed.
    connections: Vec<Option<Connection>>,
    /// How many connections are in the making, and how many may be.
    opening: usize,
    opening_max: usize,
    /// Connections that have ended as they were to, which is not told yet.
    ended: Vec<ConnectionId>,
    /// When the scenario wants to be asked again.
    tick_ns: Option<u64>,
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
            epoll: Epoll::new().context("cannot make an epoll set")?,
            connections: Vec::new(),
            opening: 0,
            opening_max: OPENING_MAX,
            ended: Vec::new(),
            tick_ns: None,
            outbox: Outbox::default(),
            buffer: vec![0; RECEIVE_BYTES],
            patience,
            progress: Progress::hidden(),
        })
    }

    /// Lets up to `count` connections be in the making at once.
    pub(crate) fn open_at_once(&mut self, count: u32) {
        self.opening_max = count as usize;
    }

    /// Shows from now on what scenarios are at.
    pub(crate) fn show(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Asks for `count` more connections; the next run opens them.
    pub(crate) fn open(&mut self, count: u32) {
        for _ in 0..count {
            self.outbox.open();
        }
    }

    /// Where to put what shall be done when the next run begins.
    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Runs until the scenario is finished.
    ///
    /// # Errors
    /// The scenario's; a connection that failed or was closed; no progress for as long as the engine's patience;
    /// the load test was told to stop.
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
            self.turn(scenario, left.min(SLEEP_MAX))?;
        }
    }

    /// Runs until `is_reached`.
    ///
    /// # Panics
    /// The scenario fails, or hangs.
    #[cfg(test)]
    pub(crate) fn run_until<S: Scenario>(&mut self, scenario: &mut S, is_reached: impl Fn(&S) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_reached(scenario) {
            assert!(Instant::now() < deadline, "it hangs: {}", scenario.missing());
            self.turn(scenario, SLEEP_MAX).expect("nothing is wrong");
        }
    }

    /// Closes all connections as a browser does. What is not closed after a few seconds is dropped.
    pub(crate) fn close(mut self, scenario: &mut impl Scenario) -> anyhow::Result<()> {
        for number in 0..self.outbox.given() {
            self.outbox.close(ConnectionId(number), Closing::Clean);
        }
        let end = Instant::now() + CLOSING_MAX;
        while self.connections.iter().any(Option::is_some) && Instant::now() < end {
            self.turn(scenario, SLEEP_MAX)?;
        }
        Ok(())
    }

    /// One turn: do what is due and what is wanted, then serve every socket that is ready.
    fn turn(&mut self, scenario: &mut impl Scenario, sleep: Duration) -> anyhow::Result<()> {
        interrupt::check()?;
        let now_ns = monotonic_ns();
        self.progress.turn(|| scenario.standing());
        self.tick(scenario, now_ns)?;
        while self.opening < self.opening_max {
            let Some(id) = self.outbox.next_to_begin() else { break };
            self.begin(id)?;
        }
        let due_in = self.tick_ns.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(now_ns)));
        let sleep = due_in.map_or(sleep, |due_in| sleep.min(due_in));
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
        for id in self.ended.drain(..) {
            // Only now: no event of this turn can be taken for one of the number's next connection.
            self.outbox.free(id);
            scenario.closed(id, &mut self.outbox);
        }
        Ok(())
    }

    /// Lets the scenario do what is due, and does what it wants.
    fn tick(&mut self, scenario: &mut impl Scenario, now_ns: u64) -> anyhow::Result<()> {
        self.tick_ns = scenario.tick(now_ns, &mut self.outbox);
        self.serve_outbox()
    }

    fn begin(&mut self, id: ConnectionId) -> anyhow::Result<()> {
        let source = match self.target.address().ip() {
            IpAddr::V4(address) if address.is_loopback() => Some(source_address(id)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        };
        let connection = Connection::begin(self.target.address(), source).map_err(|error| {
            let hint = match Errno::from_io_error(&error) {
                Some(Errno::ADDRNOTAVAIL) => " (the source ports are used up: net.ipv4.ip_local_port_range)",
                Some(Errno::MFILE | Errno::NFILE) => " (file descriptors are used up: ulimit -n)",
                _ => "",
            };
            anyhow!(error).context(format!("{id} cannot reach {}{hint}", self.target))
        })?;
        self.epoll.add(connection.socket(), u64::from(id.0), Interest::Write)?;
        if self.connections.len() <= id.index() {
            self.connections.resize_with(id.index() + 1, || None);
        }
        self.connections[id.index()] = Some(connection);
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
            Stage::Handshaking | Stage::Open | Stage::Closing => connection.send_rest(),
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
                _ if connection.stage == Stage::Closing => {}
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
        if self.tick_ns.is_some_and(|due_ns| due_ns <= received_ns) {
            return self.tick(scenario, received_ns);
        }
        // At once, because a broadcast's time stamp is already in it.
        self.serve_outbox()
    }

    /// Sends and closes what is to be sent and closed.
    fn serve_outbox(&mut self) -> anyhow::Result<()> {
        if self.outbox.is_idle() {
            return Ok(());
        }
        let (bytes, frames) = self.outbox.take_frames();
        for (id, range) in &frames {
            self.send(*id, &bytes[range.clone()])?;
        }
        self.outbox.give_back(bytes, frames);
        for (id, how) in self.outbox.take_closings() {
            self.end(id, how)?;
        }
        Ok(())
    }

    fn send(&mut self, id: ConnectionId, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(connection) = self.connections.get_mut(id.index()).and_then(Option::as_mut) else {
            return Ok(());
        };
        if connection.stage != Stage::Open {
            return Ok(());
        }
        match connection.send(bytes) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.epoll.change(connection.socket(), u64::from(id.0), Interest::ReadWrite)?;
                Ok(())
            }
            Err(error) => self.lost(id, &error),
        }
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.index())?.as_mut()
    }

    /// Drops a connection that was to end.
    fn gone(&mut self, id: ConnectionId) {
        self.connections[id.index()] = None;
        self.ended.push(id);
    }

    /// Begins to close a connection, or has it closed at once.
    fn end(&mut self, id: ConnectionId, how: Closing) -> anyhow::Result<()> {
        let Some(connection) = self.connection(id) else {
            // It may not have been begun yet.
            if self.outbox.withdraw(id) {
                self.ended.push(id);
            }
            return Ok(());
        };
        match (connection.stage, how) {
            (Stage::Closing, Closing::Clean) => return Ok(()),
            (Stage::Open, Closing::Clean) => {
                let mut frame = Vec::new();
                frames::encode(&mut frame, Opcode::Close, [0; 4], &1000_u16.to_be_bytes());
                self.send(id, &frame)?;
                if let Some(connection) = self.connection(id) {
                    connection.stage = Stage::Closing;
                }
                return Ok(());
            }
            (Stage::Connecting | Stage::Handshaking, _) => {
                connection.reset().with_context(|| format!("{id} cannot be reset"))?;
                self.opening -= 1;
            }
            (Stage::Open | Stage::Closing, Closing::Abrupt) => {
                connection.reset().with_context(|| format!("{id} cannot be reset"))?;
            }
        }
        self.gone(id);
        Ok(())
    }

    /// A connection has ended: as it was to, or against the scenario's will.
    fn lost(&mut self, id: ConnectionId, error: &io::Error) -> anyhow::Result<()> {
        if self.connections[id.index()].as_ref().is_some_and(|it| it.stage == Stage::Closing) {
            self.gone(id);
            return Ok(());
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => bail!("{id} was ended by the server without a close frame"),
            _ => bail!("{id} was lost: {error}"),
        }
    }
}
