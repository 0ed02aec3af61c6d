//! One shard's driver: what a turn does.
//!
//! A turn takes what happened, gives it to the machine, does what the machine asks, and sends.
//! It never blocks, and each of its steps is bounded, so that none starves the others:
//! what is left over makes the next turn follow at once. Which thread calls it, and how that sleeps
//! between turns, is the [host](super::host)'s business.

use std::{
    collections::VecDeque,
    net::TcpStream,
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use crossbeam::queue::ArrayQueue;
use rustix::io::{self, Errno};
use webrocket_state::{Action, Input, Machine, SessionRef, ShardId, slots::SessionSlot};

use super::{
    connections::Connections,
    control::ControlLine,
    listener::Listener,
    mailbox::HandOff,
    poller::{Event, Events, Poller, Timer, Token, Wait},
    queues::Port,
    sender::Sender,
    socket,
    turns::{Share, TurnWatch},
};

/// The one read buffer; also the most that a session is read in a turn.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// How long a turn reads, over all sessions.
const READ_TIME_PER_TURN: Duration = Duration::from_millis(1);

/// The most commands of the control thread that one turn takes.
const COMMANDS_PER_TURN: usize = 256;

/// How long a turn accepts connections.
const ACCEPT_TIME_PER_TURN: Duration = Duration::from_millis(1);

/// How long a turn sends; the batch that is under way then is finished. Who asks something waits for so long
/// while a crowd is served.
const SEND_TIME_PER_TURN: Duration = Duration::from_millis(1);

/// How many bytes are read or sent between two looks at the clock. A send over the loopback may pay for what
/// the system has to do for others, so there are not many of them between two looks.
const BYTES_PER_LOOK: usize = 64 * 1024;

/// With so many bytes offered a batch of sends is full.
const BATCH_BYTES: usize = 512 * 1024;

/// What a system call costs, in bytes that it might have carried.
const CALL_BYTES: usize = 8 * 1024;

/// What the host shall do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Take the next turn at once: work is left.
    Turn,
    /// Sleep until the epoll set has events.
    Sleep,
    /// End: the machine has stopped.
    Stop,
}

/// Where a shard's figures go after each turn.
pub type Publish = Arc<dyn Fn(ShardId, &[u64]) + Send + Sync>;

/// What a shard is made of, apart from its machine; made before its thread.
pub(super) struct Parts<M: Machine> {
    pub(super) id: ShardId,
    pub(super) poller: Poller,
    pub(super) timer: Timer,
    pub(super) listener: Listener,
    pub(super) port: Port<M::Message>,
    pub(super) mailbox: Arc<ArrayQueue<M::Command>>,
    pub(super) control: ControlLine<M::Report>,
    pub(super) publish: Publish,
    pub(super) accept_pauses: Arc<AtomicU64>,
    pub(super) turns: TurnWatch,
}

/// Drives one machine.
pub(super) struct Driver<M: Machine> {
    parts: Parts<M>,
    machine: M,
    events: Events,
    connections: Connections,
    /// Sessions to read in this turn or the next. Each stands here at most once.
    ready: VecDeque<SessionRef>,
    buffer: Box<[u8]>,
    sender: Sender,
    /// Sessions that are sent to at once, and how many bytes each is offered.
    batch: Vec<(SessionRef, usize)>,
    /// What came of each of its sends.
    outcomes: Vec<io::Result<usize>>,
    /// The last flush was cut short.
    has_more_to_send: bool,
}

impl<M: Machine> Driver<M> {
    /// A driver of `machine` that sends by `sender`.
    pub(super) fn new(parts: Parts<M>, machine: M, sender: Sender) -> Self {
        Self {
            parts,
            machine,
            events: Events::new(),
            connections: Connections::default(),
            ready: VecDeque::new(),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            sender,
            batch: Vec::new(),
            outcomes: Vec::new(),
            has_more_to_send: false,
        }
    }

    /// Takes events for the next turn.
    pub(super) fn poll(&mut self, wait: Wait) {
        self.parts.poller.poll(wait, &mut self.events);
    }

    /// Whether there are events for the next turn.
    pub(super) fn has_events(&self) -> bool {
        self.events.len() > 0
    }

    /// One turn. After [`Next::Sleep`] the shard counts as asleep: whoever pushes to its queues wakes it.
    pub(super) fn turn(&mut self) -> Next {
        self.parts.port.awake();
        let now = Instant::now();
        self.take_events(now);
        self.read_ready(now);
        self.take_messages(now);
        self.take_commands(now);
        self.work(now);
        if self.act() || self.accept(now) {
            return self.stop();
        }
        // What other shards wait for need not wait for our sends.
        self.parts.port.send_from(now, &mut self.machine);
        self.flush(Instant::now());
        self.parts.port.send_from(now, &mut self.machine);
        self.parts.control.report_from(&mut self.machine);
        if self.act() {
            return self.stop();
        }
        (self.parts.publish)(self.parts.id, self.machine.figures());
        self.parts.turns.note(now, Instant::now());
        self.next(now)
    }

    fn take_events(&mut self, now: Instant) {
        for index in 0..self.events.len() {
            let event = self.events.at(index);
            match event.token {
                Token::Session { slot, generation } => {
                    let session = SessionRef { shard: self.parts.id, slot: SessionSlot(slot), generation };
                    self.take_event(now, session, event);
                }
                Token::Listener => self.parts.listener.note_waiting(),
                Token::Wake => {}
                Token::Timer => self.parts.timer.fired(),
            }
        }
    }

    fn take_event(&mut self, now: Instant, session: SessionRef, event: Event) {
        let Some(connection) = self.connections.find(session) else { return };
        if event.is_readable() && connection.note_readable(event.is_hangup()) {
            self.ready.push_back(session);
        }
        if event.is_writable() && connection.is_full {
            connection.is_full = false;
            self.machine.handle(now, Input::Writable { session });
        }
    }

    /// Reads each session of the ready list once, in turn; what that leaves is read in the next turn.
    fn read_ready(&mut self, now: Instant) {
        let mut share = Share::new(READ_TIME_PER_TURN, BYTES_PER_LOOK);
        for _ in 0..self.ready.len() {
            let Some(session) = self.ready.pop_front() else { break };
            let read = self.read(now, session);
            if share.is_used_up(read + CALL_BYTES) || self.machine.wants_flush() {
                break;
            }
        }
    }

    /// Reads one session, at most a buffer full; how many bytes came.
    fn read(&mut self, now: Instant, session: SessionRef) -> usize {
        let Some(connection) = self.connections.find(session) else { return 0 };
        connection.is_listed = false;
        if !self.machine.wants_input(session) {
            // It stays readable; `Action::Resume` brings it back.
            return 0;
        }
        match socket::receive(connection.socket(), &mut self.buffer) {
            Ok(0) => self.disconnected(now, session),
            Ok(count) => {
                // A read that leaves room has emptied the socket: what comes later is a new
                // edge, unless the end has already come.
                connection.is_readable = count == self.buffer.len() || connection.is_hung_up;
                if connection.is_readable {
                    connection.is_listed = true;
                    self.ready.push_back(session);
                }
                let bytes = &mut self.buffer[..count];
                self.machine.handle(now, Input::Received { session, bytes });
                return count;
            }
            Err(Errno::AGAIN) => connection.is_readable = false,
            Err(Errno::INTR) => {
                connection.is_listed = true;
                self.ready.push_back(session);
            }
            Err(_) => self.disconnected(now, session),
        }
        0
    }

    /// The stream is at its end, or broken: nothing is read any more, and the machine knows.
    fn disconnected(&mut self, now: Instant, session: SessionRef) {
        if let Some(connection) = self.connections.find(session) {
            connection.is_readable = false;
            connection.is_at_end = true;
        }
        self.machine.handle(now, Input::Disconnected { session });
    }

    fn take_messages(&mut self, now: Instant) {
        let machine = &mut self.machine;
        self.parts.port.receive(|from, message| {
            machine.handle(now, Input::Message { from, message });
            if machine.wants_flush() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    fn take_commands(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = self.parts.mailbox.pop() else { break };
            self.machine.handle(now, Input::Command(command));
        }
    }

    fn work(&mut self, now: Instant) {
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.machine.handle(now, Input::Deadline);
        }
        if self.machine.has_work() {
            self.machine.handle(now, Input::Proceed);
        }
    }

    /// Does what the machine asks; whether it asks to stop.
    fn act(&mut self) -> bool {
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Resume(session) => self.resume(session),
                Action::ShutdownWrite(session) => {
                    if let Some(connection) = self.connections.find(session) {
                        socket::shut_down_write(connection.socket());
                    }
                }
                Action::Close(session) => drop(self.connections.remove(session)),
                Action::HandOff { session, head } => self.hand_off(session, head),
                Action::Stop => return true,
            }
        }
        false
    }

    fn resume(&mut self, session: SessionRef) {
        let Some(connection) = self.connections.find(session) else { return };
        if connection.is_readable && !connection.is_listed {
            connection.is_listed = true;
            self.ready.push_back(session);
        }
    }

    fn hand_off(&mut self, session: SessionRef, head: Vec<u8>) {
        let Some(socket) = self.connections.remove(session) else { return };
        if self.parts.poller.remove(socket.as_fd()).is_err() {
            return;
        }
        let stream = TcpStream::from(socket);
        // A peer that is gone has no address any more, and no use for an answer.
        if let Ok(peer) = stream.peer_addr() {
            self.parts.control.hand_off(HandOff { stream, peer, head });
        }
    }

    /// Accepts what waits, so much as a turn may; whether the machine asks to stop.
    fn accept(&mut self, now: Instant) -> bool {
        if !self.machine.wants_connections() {
            return false;
        }
        let mut share = Share::new(ACCEPT_TIME_PER_TURN, 0);
        while let Some((socket, peer)) = self.parts.listener.accept(now, &self.parts.accept_pauses) {
            let session = self.machine.accept(now, peer);
            debug_assert_eq!(session.shard, self.parts.id, "a machine names its own sessions");
            let token = Token::Session { slot: session.slot.0, generation: session.generation };
            let connection = self.connections.insert(session, socket);
            if self.parts.poller.add(connection.socket(), token).is_err() {
                // The system's limit of watched descriptors: without events there is no session.
                self.disconnected(now, session);
            }
            // A session that is closed at once leaves its slot to the next one.
            if self.act() {
                return true;
            }
            if share.is_used_up(CALL_BYTES) {
                break;
            }
        }
        false
    }

    /// One send for each session that has bytes waiting, while the turn lasts.
    fn flush(&mut self, now: Instant) {
        self.has_more_to_send = true;
        let mut share = Share::new(SEND_TIME_PER_TURN, BYTES_PER_LOOK);
        while let Some(sent) = self.send_batch(now) {
            if share.is_used_up(sent + self.batch.len() * CALL_BYTES) {
                return;
            }
        }
        self.has_more_to_send = false;
    }

    /// Sends to the next sessions that have bytes waiting, if there are any; how many the kernel took.
    fn send_batch(&mut self, now: Instant) -> Option<usize> {
        self.batch.clear();
        let mut bytes = 0;
        while self.batch.len() < self.sender.batch_max() && bytes < BATCH_BYTES {
            let Some(session) = self.machine.next_flush(now) else { break };
            let offered = self.machine.pending(session).len();
            bytes += offered;
            self.batch.push((session, offered));
        }
        if self.batch.is_empty() {
            return None;
        }
        let (batch, mut outcomes) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.outcomes));
        let sends = batch.iter().map(|(session, _)| {
            let socket = self.connections.socket(*session).expect("a session that sends has a socket");
            (socket, self.machine.pending(*session))
        });
        self.sender.send(sends, &mut outcomes);
        let sent = self.sent(now, &batch, &outcomes);
        outcomes.clear();
        (self.batch, self.outcomes) = (batch, outcomes);
        Some(sent)
    }

    /// Tells the machine what came of a batch: those that are gone last, because others are told of that.
    fn sent(&mut self, now: Instant, batch: &[(SessionRef, usize)], outcomes: &[io::Result<usize>]) -> usize {
        let mut all = 0;
        for ((session, offered), outcome) in batch.iter().zip(outcomes) {
            if let (Ok(sent), Some(connection)) = (outcome, self.connections.find(*session)) {
                connection.is_full = sent < offered;
                self.machine.handle(now, Input::Sent { session: *session, bytes: *sent });
                all += sent;
            }
        }
        let failed = batch.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_err());
        let failed: Vec<SessionRef> = failed.map(|((session, _), _)| *session).collect();
        let gone: Vec<SessionRef> = failed.into_iter().filter(|session| !self.retry(now, *session)).collect();
        for session in gone {
            self.disconnected(now, session);
        }
        all
    }

    /// Sends once more by a call of its own, for it may be the system that failed and not the connection; whether
    /// that went better.
    fn retry(&mut self, now: Instant, session: SessionRef) -> bool {
        let Some(connection) = self.connections.find(session) else { return false };
        let bytes = self.machine.pending(session);
        let Ok(sent) = socket::send(connection.socket(), bytes) else { return false };
        connection.is_full = sent < bytes.len();
        self.machine.handle(now, Input::Sent { session, bytes: sent });
        true
    }

    /// What to do next; sets the timer and says that the shard sleeps if it will.
    fn next(&mut self, now: Instant) -> Next {
        let parts = &mut self.parts;
        let deadline = self.machine.next_deadline();
        let is_busy = self.events.is_full()
            || !self.ready.is_empty()
            || self.has_more_to_send
            || self.machine.has_work()
            || parts.listener.is_busy() && self.machine.wants_connections()
            || deadline.is_some_and(|deadline| deadline <= now);
        self.events.clear();
        if is_busy {
            return Next::Turn;
        }
        parts.port.prepare_sleep();
        if parts.port.has_input() || parts.port.can_send_from(&self.machine) || !parts.mailbox.is_empty() {
            return Next::Turn;
        }
        let deadlines = [deadline, parts.listener.deadline(), parts.control.deadline(now)];
        if let Some(deadline) = deadlines.into_iter().flatten().min() {
            parts.timer.set(deadline);
        }
        Next::Sleep
    }

    /// The last turn: tells what is left to tell. Dropping the driver closes all sockets.
    fn stop(&mut self) -> Next {
        self.parts.control.report_from(&mut self.machine);
        (self.parts.publish)(self.parts.id, self.machine.figures());
        Next::Stop
    }
}

impl<M: Machine> AsFd for Driver<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.parts.poller.as_fd()
    }
}
