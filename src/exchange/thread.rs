//! The exchange's thread: what a turn does.
//!
//! A turn takes what happened, gives it to the machine, and does what the machine orders. It never blocks, and
//! each of its steps is bounded, so that none starves the others: what is left over makes the next
//! turn follow at once.

use std::{
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam::queue::ArrayQueue;
use tokio::sync::mpsc::{Sender, error::TrySendError};
use webrocket_state::{
    Exchange, Party, ShardMessage,
    exchange::{ExchangeCommand, ExchangeFigure, ExchangeInput, ExchangeOrder, ExchangeReport, PeerMessage},
};
use zmq::{PollEvents, PollItem, Socket};

use super::{
    connections::{Connections, Number},
    entrance::Entrance,
    peers::{Peers, Sent},
    sockets::Sockets,
    streams::Streams,
    zap::{Admission, Credentials, Question},
};
use crate::driver::{Port, descriptors};

/// The most commands of the control thread that one turn takes.
const COMMANDS_PER_TURN: usize = 256;

/// The most connections that one turn lets in.
const QUESTIONS_PER_TURN: usize = 64;

/// The most triggers that were given up that the log names between two looks. Further ones are counted.
const GIVEN_UP_NAMED_MAX: u64 = 10;

/// How often is looked for peers whose bytes are not read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who begins a turn so much later than it should, or has something to read for so long, knows of nobody
/// that he is silent.
const DELAY_MAX: Duration = Duration::from_millis(500);

/// When to try again after the line to the control thread was full: nobody tells when it has room.
const RETRY: Duration = Duration::from_millis(1);

/// Gets the machine's figures after each turn.
type Publish = Box<dyn Fn(&[u64]) + Send>;

/// What the thread is made of, apart from its machine.
pub(super) struct Parts {
    pub(super) sockets: Sockets,
    pub(super) port: Port<ShardMessage>,
    pub(super) commands: Arc<ArrayQueue<ExchangeCommand>>,
    pub(super) reports: Sender<ExchangeReport>,
    pub(super) publish: Publish,
    pub(super) unread_bytes_max: u64,
}

/// What to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Take the next turn at once: work is left.
    Turn,
    /// Sleep until there is something to do, or until then.
    Sleep(Instant),
    /// End: the machine has stopped.
    Stop,
}

/// Which sockets have something to read.
#[derive(Debug, Clone, Copy, Default)]
struct Ready {
    zap: bool,
    monitors: bool,
    router: bool,
    publisher: bool,
}

/// The thread.
pub(super) struct Thread {
    machine: Exchange,
    zap: Socket,
    peers: Peers,
    streams: Streams,
    port: Port<ShardMessage>,
    commands: Arc<ArrayQueue<ExchangeCommand>>,
    reports: Sender<ExchangeReport>,
    publish: Publish,
    unread_bytes_max: u64,
    /// The number of the next connection that is let in.
    next_number: Number,
    ready: Ready,
    /// The line to the control thread was full.
    is_line_full: bool,
    /// When to look for bytes that are not read.
    next_look: Instant,
    /// When the next turn is to begin at the latest.
    due: Instant,
    /// When there was nothing left to read.
    caught_up: Instant,
    /// Triggers that were given up since the last look.
    given_up: u64,
}

impl Thread {
    pub(super) fn new(parts: Parts, machine: Exchange) -> Self {
        let Parts { sockets, port, commands, reports, publish, unread_bytes_max } = parts;
        let Sockets { router, publisher, zap, router_monitor, publisher_monitor, mechanism, .. } = sockets;
        let ceiling = descriptors::ceiling();
        Self {
            machine,
            zap,
            peers: Peers::new(router, Connections::new(router_monitor, ceiling), mechanism),
            streams: Streams::new(publisher, Connections::new(publisher_monitor, ceiling), mechanism),
            port,
            commands,
            reports,
            publish,
            unread_bytes_max,
            next_number: Number(0),
            ready: Ready::default(),
            is_line_full: false,
            next_look: Instant::now() + LOOK_EVERY,
            due: Instant::now() + LOOK_EVERY,
            caught_up: Instant::now(),
            given_up: 0,
        }
    }

    /// Runs the exchange to its end. What was said last has a while to leave when the sockets are dropped.
    pub(super) fn run(mut self) {
        loop {
            match self.turn() {
                Next::Turn => self.poll(Duration::ZERO),
                Next::Sleep(until) => self.poll(until.saturating_duration_since(Instant::now())),
                Next::Stop => return,
            }
        }
    }

    /// One turn. After [`Next::Sleep`] the exchange counts as asleep: whoever pushes to its queues wakes it.
    fn turn(&mut self) -> Next {
        self.port.awake();
        let now = Instant::now();
        self.take_messages(now);
        self.take_commands(now);
        if self.ready.monitors {
            self.peers.follow(self.next_number);
            self.streams.follow(now, &mut self.machine, self.next_number);
        }
        self.let_in(now);
        if self.ready.router || self.peers.has_leaving() {
            self.ready.router = self.peers.receive(now, &mut self.machine, self.next_number);
        }
        if self.ready.publisher {
            self.ready.publisher = self.streams.receive(now, &mut self.machine, self.next_number);
        }
        self.own_delay(now);
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.machine.handle(now, ExchangeInput::Deadline);
        }
        self.look(now);
        let is_over = self.obey(now);
        self.port.send_from(now, &mut self.machine);
        self.report();
        self.publish_figures();
        if is_over || self.reports.is_closed() {
            return Next::Stop;
        }
        let next = self.next(now);
        self.due = if let Next::Sleep(until) = next { until } else { now };
        next
    }

    fn take_messages(&mut self, now: Instant) {
        let machine = &mut self.machine;
        self.port.receive(|from, message| {
            machine.handle(now, ExchangeInput::Message { from, message });
            std::ops::ControlFlow::Continue(())
        });
    }

    fn take_commands(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = self.commands.pop() else { break };
            self.machine.handle(now, ExchangeInput::Command(command));
        }
    }

    /// Answers libzmq's questions whom to let in. Before everything stored is in effect, and when all is
    /// over, they wait: a connection that is refused does not come again.
    fn let_in(&mut self, now: Instant) {
        if !self.ready.zap || !self.machine.is_serving() {
            return;
        }
        for _ in 0..QUESTIONS_PER_TURN {
            let Some(question) = Question::next(&self.zap) else { return };
            let admission = question.credentials().and_then(|(entrance, credentials)| {
                let pass = match credentials {
                    Credentials::Plain { user, password } => self.machine.authenticate(user, password),
                    Credentials::Curve { key } => self.machine.authenticate_key(key),
                };
                Some((entrance, pass?))
            });
            let admission = admission.map(|(entrance, pass)| {
                // Heard before the number is given: see `connections`.
                match entrance {
                    Entrance::Exchange => self.peers.follow(self.next_number),
                    Entrance::Stream => self.streams.follow(now, &mut self.machine, self.next_number),
                }
                let number = self.next_number;
                self.next_number = Number(number.0 + 1);
                Admission { pass, number }
            });
            let figure =
                if admission.is_some() { ExchangeFigure::ZapAccepted } else { ExchangeFigure::ZapRefused };
            self.machine.figures_mut().add(figure, 1);
            question.answer(&self.zap, admission);
        }
    }

    /// Tells the machine when peers may have spoken without being heard.
    fn own_delay(&mut self, now: Instant) {
        if !self.ready.router {
            self.caught_up = now;
        }
        let since = self.due.min(self.caught_up);
        if now.saturating_duration_since(since) > DELAY_MAX {
            self.machine.handle(now, ExchangeInput::Delayed);
        }
    }

    /// Looks from time to time for peers that send without end, and cuts them off; says what was not logged yet.
    fn look(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        let unnamed = std::mem::take(&mut self.given_up).saturating_sub(GIVEN_UP_NAMED_MAX);
        if unnamed > 0 {
            tracing::warn!(count = unnamed, "further triggers were given up");
        }
        let (next, max) = (self.next_number, self.unread_bytes_max);
        self.peers.cut_unread(next, max);
        self.streams.cut_unread(now, &mut self.machine, next, max);
    }

    /// Does what the machine orders; whether it is over.
    fn obey(&mut self, now: Instant) -> bool {
        while let Some(order) = self.machine.next_order() {
            match order {
                ExchangeOrder::Send { peer, message } => match self.peers.send(&peer, &message) {
                    Sent::Done => {}
                    Sent::Full => {
                        let order = ExchangeOrder::Send { peer, message };
                        self.machine.handle(now, ExchangeInput::Full { order });
                    }
                    // What must be acknowledged comes back when the peer is gone.
                    Sent::Unreachable => {
                        if matches!(message, PeerMessage::Trigger { is_acknowledged: false, .. }) {
                            let order = ExchangeOrder::Send { peer, message };
                            self.machine.handle(now, ExchangeInput::Full { order });
                        }
                    }
                },
                ExchangeOrder::Stream { vhost, trigger } => {
                    let has_dropped = self.streams.publish(&vhost, &trigger);
                    self.machine.figures_mut().add(ExchangeFigure::CopiesDropped, u64::from(has_dropped));
                }
                ExchangeOrder::CutStreams { vhost } => {
                    self.streams.cut_revoked(now, &mut self.machine, self.next_number, vhost);
                }
                ExchangeOrder::GiveUp { vhost, event } => {
                    self.given_up += 1;
                    if self.given_up <= GIVEN_UP_NAMED_MAX {
                        tracing::warn!(%vhost, %event, "a trigger is given up: too many workers had it in vain");
                    }
                }
                ExchangeOrder::Stop => return true,
            }
        }
        false
    }

    /// Passes reports on, as far as there is room.
    fn report(&mut self) {
        self.is_line_full = false;
        loop {
            match self.reports.try_reserve() {
                Ok(permit) => match self.machine.next_report() {
                    Some(report) => permit.send(report),
                    None => return,
                },
                Err(TrySendError::Full(())) => {
                    self.is_line_full = true;
                    return;
                }
                Err(TrySendError::Closed(())) => return,
            }
        }
    }

    fn publish_figures(&mut self) {
        let connected = self.peers.connections().len() + self.streams.connections().len();
        let cut = self.peers.take_cuts() + self.streams.take_cuts();
        if cut > 0 {
            tracing::warn!(cut, "ZeroMQ peers were cut off: revoked, out of bounds, or too many");
        }
        let figures = self.machine.figures_mut();
        figures.set(ExchangeFigure::PeersConnected, connected as u64);
        figures.add(ExchangeFigure::PeersCut, cut);
        (self.publish)(self.machine.figures());
    }

    /// What to do next; says that the exchange sleeps if it will.
    fn next(&mut self, now: Instant) -> Next {
        let deadline = self.machine.next_deadline();
        let is_busy = self.ready.router
            || self.ready.publisher
            || self.peers.has_leaving()
            || deadline.is_some_and(|deadline| deadline <= now);
        if is_busy {
            return Next::Turn;
        }
        self.port.prepare_sleep();
        if self.port.has_input() || self.port.can_send_from(&self.machine) || !self.commands.is_empty() {
            return Next::Turn;
        }
        let retry = self.is_line_full.then(|| now + RETRY);
        let until = [deadline, retry].into_iter().flatten().fold(self.next_look, Instant::min);
        Next::Sleep(until)
    }

    /// Waits at most so long until there is something to do, and sees what.
    fn poll(&mut self, timeout: Duration) {
        // Rounded up, so that the deadline is reached when it is over.
        let timeout_ms = i64::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i64::MAX);
        let asked = if self.machine.is_serving() { PollEvents::POLLIN } else { PollEvents::empty() };
        let wake = Arc::clone(self.port.wake());
        let mut items = [
            self.zap.as_poll_item(asked),
            self.peers.connections().socket().as_poll_item(PollEvents::POLLIN),
            self.streams.connections().socket().as_poll_item(PollEvents::POLLIN),
            self.peers.socket().as_poll_item(PollEvents::POLLIN),
            self.streams.socket().as_poll_item(PollEvents::POLLIN),
            PollItem::from_fd(wake.as_fd().as_raw_fd(), PollEvents::POLLIN),
        ];
        match zmq::poll(&mut items, timeout_ms) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => panic!("the exchange cannot wait for its sockets: {error}"),
        }
        let [zap, router_monitor, publisher_monitor, router, publisher, is_woken] =
            items.map(|item| item.is_readable());
        self.ready = Ready { zap, monitors: router_monitor || publisher_monitor, router, publisher };
        if is_woken {
            wake.drain();
        }
    }
}
