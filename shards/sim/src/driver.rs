//! A shard with its driver, as `machine` wants it driven, with turns of any size and order.

use std::collections::VecDeque;

use webrocket_state::{
    Action, Input, Machine, Party, SessionRef, Shard, ShardId, ShardMessage,
    link::CONGESTED_MESSAGES,
    message::{OwnerEvent, OwnerRequest},
};

use crate::{
    chance::Chance,
    net::{Actor, Net},
    oracles::{Guarantee, Ledger},
    scenario::Scenario,
    time::Micros,
};

/// From so many addresses browsers come.
pub const ADDRESSES: usize = 5;

/// The longest close frame; it may be added to whatever waits.
const CLOSE_BYTES_MAX: u64 = 127;

/// The most that one turn adds to what waits for a session, in the scenarios that there are.
const TURN_BYTES_MAX: u64 = 1024 * 1024;

/// A socket as the driver holds it.
#[derive(Debug)]
struct Connection {
    session: SessionRef,
    socket: usize,
    is_readable: bool,
    is_listed: bool,
    is_at_end: bool,
    /// What waited after the last whole flush, if the socket has been full ever since.
    lag_while_full: Option<u64>,
    /// It grew beyond the limit since then: allowed once, in the turn in which the session closes.
    has_grown: bool,
}

/// Drives one shard.
#[derive(Debug)]
pub struct Driver {
    id: usize,
    /// All shards, and the exchange.
    others: Vec<ShardId>,
    /// The real thing.
    pub shard: Shard,
    /// By slot.
    connections: Vec<Option<Connection>>,
    /// Sessions to read; each stands here at most once.
    ready: VecDeque<SessionRef>,
    has_more_to_send: bool,
    /// The machine asked to stop.
    pub is_stopped: bool,
}

impl Driver {
    /// A driver of `shard`.
    #[must_use]
    pub fn new(id: usize, shards: usize, shard: Shard) -> Self {
        Self {
            id,
            others: (0..=shards).map(|shard| ShardId(u16::try_from(shard).expect("few shards"))).collect(),
            shard,
            connections: Vec::new(),
            ready: VecDeque::new(),
            has_more_to_send: false,
            is_stopped: false,
        }
    }

    /// Whether the shard has nothing to do and nothing to tell another.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.shard.has_work() && self.others.iter().all(|party| !self.shard.has_message(*party))
    }

    /// One turn; when the next one is due at the latest.
    pub fn turn(
        &mut self,
        net: &mut Net,
        chance: &mut Chance,
        scenario: &Scenario,
        ledger: &mut Ledger,
    ) -> Option<Micros> {
        if self.is_stopped {
            return None;
        }
        self.take_edges(net);
        let first = chance.below(3);
        for step in 0..3 {
            match (first + step) % 3 {
                0 => self.read_ready(net, chance, scenario),
                1 => self.take_messages(net, chance),
                _ => self.take_commands(net),
            }
        }
        self.work(net);
        self.act(net, chance, ledger);
        if !self.is_stopped {
            self.accept(net, chance, ledger);
        }
        if self.is_stopped {
            return None;
        }
        self.send_messages(net, chance, scenario, ledger);
        self.flush(net, chance, scenario, ledger);
        self.send_messages(net, chance, scenario, ledger);
        self.report(net, chance);
        self.act(net, chance, ledger);
        self.next(net, chance)
    }

    fn find(&mut self, session: SessionRef) -> Option<&mut Connection> {
        let place = self.connections.get_mut(session.slot.index())?.as_mut()?;
        (place.session == session).then_some(place)
    }

    fn take_edges(&mut self, net: &mut Net) {
        while let Some(socket) = net.next_edge(self.id) {
            let entry = &mut net.sockets[socket];
            let readable = std::mem::take(&mut entry.is_readable);
            let writable = std::mem::take(&mut entry.is_writable);
            let Some(session) = entry.session else { continue };
            let Some(connection) = self.find(session) else { continue };
            if writable {
                connection.lag_while_full = None;
            }
            if readable && !connection.is_at_end {
                connection.is_readable = true;
                if !connection.is_listed {
                    connection.is_listed = true;
                    self.ready.push_back(session);
                }
            }
            if writable {
                self.shard.handle(net.instant(), Input::Writable { session });
            }
        }
    }

    fn read_ready(&mut self, net: &mut Net, chance: &mut Chance, scenario: &Scenario) {
        let most = chance.between(1, 1 + self.ready.len() as u64);
        for _ in 0..most {
            let Some(session) = self.ready.pop_front() else { break };
            self.read(net, chance, scenario, session);
            if self.shard.wants_flush() {
                break;
            }
        }
    }

    fn read(&mut self, net: &mut Net, chance: &mut Chance, scenario: &Scenario, session: SessionRef) {
        let now = net.instant();
        let wants_input = self.shard.wants_input(session);
        let Some(connection) = self.find(session) else { return };
        connection.is_listed = false;
        if !wants_input {
            return;
        }
        let socket = &mut net.sockets[connection.socket];
        let most = usize::try_from(chance.small(scenario.read_max)).expect("small");
        let mut bytes = if socket.is_reset { Vec::new() } else { socket.to_server.pull(most) };
        let has_ended = socket.is_reset || socket.to_server.is_ended;
        if bytes.is_empty() {
            connection.is_readable = false;
            if has_ended {
                connection.is_at_end = true;
                self.shard.handle(now, Input::Disconnected { session });
            }
            return;
        }
        connection.is_readable = !socket.to_server.is_empty() || has_ended;
        if connection.is_readable {
            connection.is_listed = true;
            self.ready.push_back(session);
        }
        let browser = socket.browser;
        net.wake(Actor::Browser(browser), 1);
        self.shard.handle(now, Input::Received { session, bytes: &mut bytes });
    }

    fn take_messages(&mut self, net: &mut Net, chance: &mut Chance) {
        let parties = net.queues.len();
        let first = chance.below(parties);
        let most = if chance.percent(80) { u64::MAX } else { chance.small(64) };
        for step in 0..parties {
            let from = (first + step) % parties;
            for _ in 0..most {
                let Some(message) = net.queues[from][self.id].pop(net.now) else { break };
                net.note(tag(&message));
                net.wake(net.party(from), 1);
                let from = self.others[from];
                self.shard.handle(net.instant(), Input::Message { from, message });
                if self.shard.wants_flush() {
                    return;
                }
            }
        }
    }

    fn take_commands(&mut self, net: &mut Net) {
        while let Some(command) = net.commands[self.id].pop(net.now) {
            self.shard.handle(net.instant(), Input::Command(command));
        }
    }

    fn work(&mut self, net: &Net) {
        let now = net.instant();
        if self.shard.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.shard.handle(now, Input::Deadline);
        }
        if self.shard.has_work() {
            self.shard.handle(now, Input::Proceed);
        }
    }

    fn act(&mut self, net: &mut Net, chance: &mut Chance, ledger: &mut Ledger) {
        while let Some(action) = self.shard.next_action() {
            match action {
                Action::Resume(session) => {
                    let Some(connection) = self.find(session) else { continue };
                    if connection.is_readable && !connection.is_listed {
                        connection.is_listed = true;
                        self.ready.push_back(session);
                    }
                }
                Action::ShutdownWrite(session) => {
                    let Some(connection) = self.find(session) else { continue };
                    let socket = &mut net.sockets[connection.socket];
                    socket.to_browser.is_ended = true;
                    let browser = socket.browser;
                    net.wake(Actor::Browser(browser), 1);
                }
                Action::Close(session) => self.close(net, chance, ledger, session),
                Action::HandOff { session, head } => {
                    net.counters.hand_offs += 1;
                    ledger.check(net.now, Guarantee::HttpIsHandedOverWhole, || {
                        let whole = head.starts_with(b"GET / HTTP/1.1\r\n") && head.ends_with(b"\r\n\r\n");
                        (!whole).then(|| format!("{} bytes of a request", head.len()))
                    });
                    self.close(net, chance, ledger, session);
                }
                Action::Stop => self.is_stopped = true,
            }
        }
    }

    fn close(&mut self, net: &mut Net, chance: &mut Chance, ledger: &mut Ledger, session: SessionRef) {
        let known = self.find(session).map(|connection| connection.socket);
        ledger.check(net.now, Guarantee::TheContractIsKept, || {
            known.is_none().then(|| format!("closes {session:?}, which has no socket"))
        });
        let Some(socket) = known else { return };
        self.connections[session.slot.index()] = None;
        let socket = &mut net.sockets[socket];
        socket.is_closed = true;
        socket.to_browser.is_ended = true;
        socket.session = None;
        if !socket.to_server.is_empty() && chance.percent(50) {
            // A close with unread input is a reset, which may overtake what was sent.
            socket.to_browser.lose();
        }
        let browser = socket.browser;
        net.wake(Actor::Browser(browser), 1);
    }

    fn accept(&mut self, net: &mut Net, chance: &mut Chance, ledger: &mut Ledger) {
        while !self.is_stopped
            && let Some(socket) = net.backlog[self.id].pop_front()
        {
            let address = u8::try_from(socket % ADDRESSES).expect("few addresses");
            let peer = ([10, 0, 0, address], 1000).into();
            let session = self.shard.accept(net.instant(), peer);
            let slot = session.slot.index();
            if self.connections.len() <= slot {
                self.connections.resize_with(slot + 1, || None);
            }
            ledger.check(net.now, Guarantee::TheContractIsKept, || {
                self.connections[slot].is_some().then(|| format!("gives slot {slot} to two sessions"))
            });
            let entry = &mut net.sockets[socket];
            entry.session = Some(session);
            self.connections[slot] = Some(Connection {
                session,
                socket,
                is_readable: true,
                is_listed: true,
                is_at_end: false,
                lag_while_full: None,
                has_grown: false,
            });
            self.ready.push_back(session);
            self.act(net, chance, ledger);
        }
    }

    fn send_messages(
        &mut self,
        net: &mut Net,
        chance: &mut Chance,
        scenario: &Scenario,
        ledger: &mut Ledger,
    ) {
        for to in 0..net.queues.len() {
            let shard = self.others[to];
            while net.queues[self.id][to].has_room() {
                let Some(message) = self.shard.next_message(net.instant(), shard) else { break };
                net.send(chance, self.id, to, message);
            }
            let waiting = self.shard.waiting_messages(shard);
            net.counters.waiting_most = net.counters.waiting_most.max(waiting as u64);
            net.counters.congested_turns += u64::from(waiting > CONGESTED_MESSAGES);
            ledger.check(net.now, Guarantee::QueuesAreBounded, || {
                let most = scenario.waiting_max();
                (waiting > most).then(|| {
                    format!("{waiting} messages wait before queue {} to {to}, bound {most}", self.id)
                })
            });
        }
    }

    fn flush(&mut self, net: &mut Net, chance: &mut Chance, scenario: &Scenario, ledger: &mut Ledger) {
        self.has_more_to_send = false;
        let most = if chance.percent(85) { u64::MAX } else { chance.small(32) };
        let now = net.instant();
        for _ in 0..most {
            let batch_most = chance.small(16).max(1);
            let mut batch = Vec::new();
            while (batch.len() as u64) < batch_most
                && let Some(session) = self.shard.next_flush(now)
            {
                batch.push(session);
            }
            if batch.is_empty() {
                return self.check_flushed(net, scenario, ledger);
            }
            self.send_batch(net, chance, ledger, &batch);
        }
        self.has_more_to_send = true;
    }

    /// Sends to all that were named; those whose sockets are gone are told last.
    fn send_batch(&mut self, net: &mut Net, chance: &mut Chance, ledger: &mut Ledger, batch: &[SessionRef]) {
        let now = net.instant();
        let mut gone = Vec::new();
        // All is taken before anything is answered, as a driver does that submits it at once.
        let offers: Vec<_> = batch.iter().map(|session| self.shard.pending(*session).to_vec()).collect();
        for (index, (&session, bytes)) in batch.iter().zip(&offers).enumerate() {
            let unchanged = self.shard.pending(session) == bytes;
            ledger.check(net.now, Guarantee::TheContractIsKept, || {
                (!unchanged).then(|| format!("changed while it was offered: {session:?}"))
            });
            ledger.check(net.now, Guarantee::TheContractIsKept, || {
                batch[..index].contains(&session).then(|| format!("named twice: {session:?}"))
            });
            let place = self.connections.get(session.slot.index()).and_then(Option::as_ref);
            let place = place.filter(|place| place.session == session);
            ledger.check(net.now, Guarantee::TheContractIsKept, || {
                (bytes.is_empty() || place.is_none())
                    .then(|| format!("flushes nothing, or to nobody: {session:?}"))
            });
            let Some(place) = place else { return };
            let socket = &mut net.sockets[place.socket];
            if socket.is_reset {
                gone.push(session);
                continue;
            }
            let offered = bytes.len();
            let cut_short = chance.percent(4);
            let most = if cut_short { chance.below(offered + 1) } else { offered };
            let sent = socket.to_browser.push(&bytes[..most]);
            socket.is_full = sent < offered;
            let (number, browser) = (place.socket, socket.browser);
            if sent < offered {
                net.counters.partial_sends += 1;
                if sent == most {
                    // There is room already: a new edge.
                    net.sockets[number].is_full = false;
                    net.writable(number);
                }
            }
            net.wake(Actor::Browser(browser), chance.between(1, 50));
            self.shard.handle(now, Input::Sent { session, bytes: sent });
        }
        for session in gone {
            self.shard.handle(now, Input::Disconnected { session });
        }
    }

    /// After a whole flush nothing waits for those whose sockets take it. For the others may wait
    /// what the limit allows, and what one turn adds before it is judged.
    fn check_flushed(&mut self, net: &Net, scenario: &Scenario, ledger: &mut Ledger) {
        for connection in self.connections.iter_mut().flatten() {
            let socket = &net.sockets[connection.socket];
            if socket.is_reset {
                continue;
            }
            let (session, lag) = (connection.session, self.shard.lag(connection.session));
            let is_full = socket.is_full || socket.is_writable;
            let before = std::mem::replace(&mut connection.lag_while_full, is_full.then_some(lag));
            ledger.check(net.now, Guarantee::NobodyIsForgotten, || {
                (!is_full && lag > 0).then(|| format!("{lag} bytes wait for {session:?}"))
            });
            let most = u64::from(scenario.settings.lag_bytes_max);
            let grows = before.is_some_and(|before| lag > before.max(most) + CLOSE_BYTES_MAX);
            let had_grown = connection.has_grown;
            connection.has_grown = before.is_some() && (had_grown || grows);
            let grows = grows && had_grown;
            ledger.check(net.now, Guarantee::QueuesAreBounded, || {
                let is_over = grows || lag > most + TURN_BYTES_MAX;
                is_over
                    .then(|| format!("{session:?} lags by {lag} bytes, before by {before:?}, limit {most}"))
            });
        }
    }

    fn report(&mut self, net: &mut Net, chance: &mut Chance) {
        while let Some(report) = self.shard.next_report() {
            let at = net.now + chance.between(1, 500);
            let at = net.reports[self.id].push(at, report);
            net.wakes.push((Actor::Control, at));
        }
    }

    fn next(&mut self, net: &Net, chance: &mut Chance) -> Option<Micros> {
        let is_busy = !self.ready.is_empty() || self.has_more_to_send || self.shard.has_work();
        let soon = is_busy.then(|| net.now + chance.between(1, 40));
        let messages = net.queues.iter().filter_map(|queues| queues[self.id].next()).min();
        let deadline = self.shard.next_deadline().map(|deadline| net.micros(deadline));
        [soon, messages, net.commands[self.id].next(), deadline].into_iter().flatten().min()
    }
}

/// What stands for a message in the trace.
pub(crate) fn tag(message: &ShardMessage) -> u64 {
    match message {
        ShardMessage::Request(OwnerRequest::Subscribe { .. }) => 1,
        ShardMessage::Request(OwnerRequest::Find { .. }) => 2,
        ShardMessage::Request(OwnerRequest::Publish { .. }) => 3,
        ShardMessage::Request(OwnerRequest::Leave { .. }) => 4,
        ShardMessage::Answer { .. } => 5,
        ShardMessage::Event(OwnerEvent::Deliver { .. }) => 6,
        ShardMessage::Event(OwnerEvent::Closed { .. }) => 7,
        ShardMessage::Request(OwnerRequest::Admit { .. }) => 8,
        ShardMessage::Request(OwnerRequest::Dismiss { .. }) => 9,
        ShardMessage::Request(OwnerRequest::Trigger { .. }) => 10,
        ShardMessage::Request(OwnerRequest::Fence(_)) => 11,
        ShardMessage::Event(OwnerEvent::FencePassed(_)) => 12,
    }
}
