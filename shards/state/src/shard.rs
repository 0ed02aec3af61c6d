//! The broker's state machine: one shard.
//!
//! Holds its sessions, the channels that hash here, and its view of every channel that one of its
//! sessions subscribes. `browser` turns what a browser sends into requests, the dialects `classic`
//! and `wwfp` check them, `request` and `trigger` carry them out, `owner` is the channel owner's half,
//! `control` the control thread's word.
//!
//! Invariants:
//!
//! - Effects on a channel happen at its owner, in the order in which requests reach it; what the
//!   owner says arrives at a shard in the order in which it said it.
//! - A session's subscription begins exactly when its `subscribed` is put into its bytes, and has ended
//!   when its `unsubscribed` is.
//! - A session is removed in one place, [`Shard::end_session`], which tells every owner.

mod admission;
mod browser;
mod classic;
mod control;
mod leaving;
mod owner;
mod request;
#[cfg(test)]
mod tests;
mod trigger;
mod wwfp;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};
use webrocket_wire::{CloseCode, MemberData, VhostPath};

use crate::{
    addresses::AddressCounts,
    channels::Channels,
    connection::{Due, Timeouts},
    deadlines::Deadlines,
    delivery::{Delivery, FlushStep},
    directory::Directory,
    link::Link,
    machine::{Action, Input, Machine, Party},
    message::{Command, Report, SessionRef, ShardId, ShardMessage, Ticket},
    metrics::{Figure, Figures},
    session::Session,
    settings::Settings,
    sids::Sids,
    slots::Slots,
    vhost::{Vhost, VhostId},
};

/// With more of a session's own bytes waiting than this, it is not read.
const OUTPUT_PAUSE_BYTES: usize = 64 * 1024;

/// With more bytes than this appended since the last flush, the driver flushes before it reads on.
const FRESH_BYTES_MAX: usize = 512 * 1024;

/// How many sessions, or ends of their subscriptions, one slice of long work concerns.
const SLICE_SESSIONS: usize = 256;

/// What a shard is made of.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which one it is.
    pub id: ShardId,
    /// Where channels live; the same in all shards of the node.
    pub directory: Directory,
    /// Seeds the session identifiers.
    pub seed: [u8; 32],
    /// How long a request head may take.
    pub handshake_timeout: Duration,
    /// How long a peer may take for its half of a close.
    pub close_timeout: Duration,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    sessions: Slots<Session>,
    sids: Sids,
    delivery: Delivery,
    channels: Channels,
    admitted: AddressCounts,
    /// By shard, the exchange's behind them; the one to itself stays empty.
    links: Vec<Link>,
    /// By id.
    vhosts: Vec<Option<Arc<Vhost>>>,
    paths: hashbrown::HashMap<VhostPath, VhostId, ahash::RandomState>,
    deadlines: Deadlines,
    actions: VecDeque<Action>,
    reports: VecDeque<Report>,
    /// Sessions that may be read again.
    resumed: VecDeque<SessionRef>,
    jobs: VecDeque<Job>,
    /// Changes of vhosts that wait for other shards. There are no more than the control thread has under way. When
    /// another shard stops, what waits for it is never reported: the node stops.
    fences: hashbrown::HashMap<Ticket<()>, leaving::Fence, ahash::RandomState>,
    /// How many leaves at other shards changes of vhosts have caused, or may cause by an answer that is awaited.
    leaves_caused: u64,
    /// So many of them have been taken for certain.
    leaves_taken: u64,
    /// How many sessions are named for the flush and not answered for.
    offered: u32,
    /// A session that is to be closed as a slow consumer as soon as there are none.
    condemned: Option<SessionRef>,
    random: StdRng,
    figures: Figures,
    /// Whether the control thread has said that all that is stored is known here.
    is_complete: bool,
    life: Life,
}

/// Where the shard is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Serving,
    /// Sessions are being closed, new connections at once.
    Stopping,
    Stopped,
}

/// Long work, done in slices between which other input is served.
#[derive(Debug, Clone, Copy)]
enum Job {
    /// Tell the subscribers of a closed channel.
    CloseView { view: u32, generation: u32 },
    /// Apply a vhost's snapshot, whichever it is by then, to its sessions, from this slot on.
    SweepVhost { ticket: Ticket<()>, vhost: VhostId, next: u32 },
    /// Close a vhost's sessions, from this slot on.
    CloseVhost { ticket: Ticket<()>, vhost: VhostId, next: u32 },
    /// Close all sessions, from this slot on.
    Shutdown { next: u32 },
}

impl Shard {
    /// A shard without vhosts.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        let links = (0..=config.directory.exchange().0).map(|_| Link::default()).collect();
        Self {
            random: StdRng::from_seed(config.seed),
            config,
            sessions: Slots::default(),
            sids: Sids::default(),
            delivery: Delivery::default(),
            channels: Channels::default(),
            admitted: AddressCounts::default(),
            links,
            vhosts: Vec::new(),
            paths: hashbrown::HashMap::default(),
            deadlines: Deadlines::default(),
            actions: VecDeque::new(),
            reports: VecDeque::new(),
            resumed: VecDeque::new(),
            jobs: VecDeque::new(),
            fences: hashbrown::HashMap::default(),
            leaves_caused: 0,
            leaves_taken: 0,
            offered: 0,
            condemned: None,
            figures: Figures::default(),
            is_complete: false,
            life: Life::Serving,
        }
    }

    /// How many messages wait for room in the queue to `shard`.
    #[must_use]
    pub fn waiting_messages(&self, shard: ShardId) -> usize {
        self.links[shard.index()].len()
    }

    /// How many bytes wait for a session; 0 if it is gone.
    #[must_use]
    pub fn lag(&self, session: SessionRef) -> u64 {
        self.sessions.peek(session.slot, session.generation).map_or(0, |entry| self.delivery.lag(entry))
    }

    /// Whether a session of any shard is a member of a presence channel of that name which this shard owns. Looks
    /// through all channels: for the simulation alone.
    #[doc(hidden)]
    #[must_use]
    pub fn has_member(&self, session: SessionRef, channel: &str) -> bool {
        self.channels.has_member(session, channel)
    }

    fn reference(&mut self, slot: u32) -> SessionRef {
        let (_, generation) = self.sessions.at(slot).expect("a used slot");
        SessionRef { shard: self.config.id, slot, generation }
    }

    fn vhost(&self, id: VhostId) -> Option<&Arc<Vhost>> {
        self.vhosts.get(id.0 as usize)?.as_ref()
    }

    fn timeouts(config: &ShardConfig, session: &Session) -> Timeouts {
        let defaults = Settings::default();
        let settings = session.vhost.as_ref().map_or(&defaults, |vhost| &vhost.settings);
        let milliseconds = |value: u32| Duration::from_millis(u64::from(value));
        Timeouts {
            handshake: config.handshake_timeout,
            close: config.close_timeout,
            ping: milliseconds(settings.ping_interval_ms),
            idle: milliseconds(settings.idle_timeout_ms),
            stall: milliseconds(settings.stall_timeout_ms),
        }
    }

    /// Enters the session's deadline if it is earlier than the one that stands.
    fn schedule(&mut self, slot: u32) {
        let (session, generation) = self.sessions.at(slot).expect("a used slot");
        let at = session.connection.deadline(&Self::timeouts(&self.config, session));
        if at < session.scheduled {
            session.scheduled = at;
            self.deadlines.push(at, slot, generation);
        }
    }

    /// Looks after a slice of the sessions that are due; the next turn goes on with the rest.
    fn check_deadlines(&mut self, now: Instant) {
        let mut left = SLICE_SESSIONS;
        while left > 0 && !self.wants_flush() {
            let Some((at, slot, generation)) = self.deadlines.pop_due(now) else { break };
            left -= 1;
            let Some(session) = self.sessions.entry(slot, generation) else { continue };
            if session.scheduled != at {
                continue;
            }
            let timeouts = Self::timeouts(&self.config, session);
            let due = session.connection.due(now, &timeouts);
            if !matches!(due, Due::At(_) | Due::Pinged) {
                left = left.saturating_sub(session.inbox.subscriptions.len());
            }
            match due {
                Due::At(next) => {
                    session.scheduled = next;
                    self.deadlines.push(next, slot, generation);
                    continue;
                }
                Due::Pinged => self.delivery.enqueue(session, slot),
                Due::Handshake => {
                    self.figures.add(Figure::HandshakeTimeouts, 1);
                    self.end_session(slot);
                    continue;
                }
                Due::CloseOverdue => {
                    self.end_session(slot);
                    continue;
                }
                // While we do not read, silence is ours.
                Due::Idle if session.pause.any() => session.connection.touch(now),
                Due::Idle => {
                    self.figures.add(Figure::IdleTimeouts, 1);
                    self.close_session(now, slot, CloseCode::IdleTimeout, &MemberData::default());
                }
                Due::Stalled => self.condemn(now, slot),
            }
            let Some(session) = self.sessions.entry(slot, generation) else { continue };
            let mut next = session.connection.deadline(&Self::timeouts(&self.config, session));
            if due == Due::Pinged {
                // A pong brings the next ping nearer than the end that is feared now.
                next = next.min(now + timeouts.ping);
            }
            session.scheduled = next;
            self.deadlines.push(next, slot, generation);
        }
    }

    /// Names a session for the flush.
    fn offer(&mut self, slot: u32) -> SessionRef {
        let (session, generation) = self.sessions.at(slot).expect("a used slot");
        session.inbox.is_offered = true;
        self.offered += 1;
        SessionRef { shard: self.config.id, slot, generation }
    }

    /// Condemns a session that was to be condemned before, unless that has become wrong.
    fn condemn_still(&mut self, now: Instant, session: SessionRef) {
        let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
        if self.delivery.lags_too_far(entry) {
            self.condemn(now, session.slot);
        } else {
            self.delivery.enqueue(entry, session.slot);
        }
    }

    /// Closes a session that takes its bytes too slowly: what has not begun is dropped.
    fn condemn(&mut self, now: Instant, slot: u32) {
        self.figures.add(Figure::SlowConsumers, 1);
        let session = &mut self.sessions[slot];
        self.delivery.drop_tail(session);
        session.connection.out.drop_unbegun();
        self.close_session(now, slot, CloseCode::SlowConsumer, &MemberData::default());
    }

    /// Begins the closing handshake; what waits is sent before. `data` is what those are told who
    /// see it leave.
    fn close_session(&mut self, now: Instant, slot: u32, code: CloseCode, data: &MemberData) {
        self.drop_subscriptions(slot, data);
        let session = &mut self.sessions[slot];
        if session.connection.is_open() {
            let timeouts = Self::timeouts(&self.config, session);
            session.connection.close(now, code, &timeouts);
            self.delivery.enqueue(session, slot);
            self.figures.subtract(Figure::Sessions, 1);
            self.finish_requests(slot);
        }
    }

    /// The session asks nothing more: what it still sends is read only to find its end, and if
    /// that has come already, so has the session's.
    fn finish_requests(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if let Some(answers) = session.answers.take() {
            session.next_request = answers.next_number();
        }
        let was_paused = std::mem::take(&mut session.pause).any();
        let ended = session.parked.take().is_some_and(|parked| parked.ended);
        if ended {
            return self.end_session(slot);
        }
        if was_paused {
            let session = self.reference(slot);
            self.actions.push_back(Action::Resume(session));
        }
        self.schedule(slot);
    }

    /// Removes a session: its subscriptions end, its socket is closed.
    fn end_session(&mut self, slot: u32) {
        let reference = self.remove_session(slot);
        self.actions.push_back(Action::Close(reference));
        self.check_stopped();
    }

    fn remove_session(&mut self, slot: u32) -> SessionRef {
        let session = &mut self.sessions[slot];
        self.delivery.drop_tail(session);
        self.drop_subscriptions(slot, &MemberData::default());
        self.dismiss(slot);
        self.sids.remove(self.sessions[slot].sid, slot);
        let reference = self.reference(slot);
        let session = self.sessions.remove(slot, reference.generation).expect("a used slot");
        if session.connection.is_open() {
            self.figures.subtract(Figure::Sessions, 1);
        }
        self.offered -= u32::from(session.inbox.is_offered);
        reference
    }

    fn check_stopped(&mut self) {
        if self.life == Life::Stopping && self.sessions.is_empty() {
            self.life = Life::Stopped;
            self.actions.push_back(Action::Stop);
        }
    }

    /// Does one slice of long work.
    fn proceed(&mut self, now: Instant) {
        for _ in 0..SLICE_SESSIONS {
            let Some(session) = self.resumed.pop_front() else { break };
            self.resume(now, session);
        }
        if let Some(job) = self.jobs.pop_front() {
            self.run(now, job);
        }
    }

    /// Runs a slice of a job; what is left goes to the end of the queue.
    fn run(&mut self, now: Instant, job: Job) {
        match job {
            Job::CloseView { view, generation } => self.run_close_view(view, generation),
            Job::SweepVhost { ticket, vhost, next } => self.run_sweep_vhost(now, ticket, vhost, next),
            Job::CloseVhost { ticket, vhost, next } => self.run_close_vhost(now, ticket, vhost, next),
            Job::Shutdown { next } => self.run_shutdown(now, next),
        }
    }

    /// Does `work` on a slice of the slots, from `next` on; returns where to go on if that is not all.
    ///
    /// Each of a session's subscriptions may have to end, so it counts for as much as a session. Who
    /// leaves channels is told what waits there by copy, so a slice also ends when there is enough
    /// to flush.
    fn slice(&mut self, next: u32, mut work: impl FnMut(&mut Self, u32)) -> Option<u32> {
        let mut left = SLICE_SESSIONS;
        for slot in next..self.sessions.capacity() {
            if left == 0 || self.wants_flush() {
                return Some(slot);
            }
            let session = self.sessions.at(slot);
            let subscriptions = session.map_or(0, |(session, _)| session.inbox.subscriptions.len());
            left = left.saturating_sub(1 + subscriptions);
            work(self, slot);
        }
        None
    }

    fn sent(&mut self, now: Instant, session: SessionRef, bytes: usize) {
        let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
        self.figures.add(Figure::BytesSent, bytes as u64);
        self.offered -= u32::from(entry.inbox.is_offered);
        let all = self.delivery.sent(entry, session.slot, bytes);
        let stalls = !all && !entry.connection.is_stalled();
        entry.connection.sent(now, bytes, !all);
        if entry.pause.output && entry.connection.out.pending().len() <= OUTPUT_PAUSE_BYTES / 2 {
            entry.pause.output = false;
            self.resumed.push_back(session);
        }
        if entry.connection.take_shutdown() {
            self.actions.push_back(Action::ShutdownWrite(session));
        }
        if stalls {
            self.schedule(session.slot);
        }
    }

    fn writable(&mut self, now: Instant, session: SessionRef) {
        if let Some(entry) = self.sessions.entry(session.slot, session.generation)
            && entry.connection.is_stalled()
        {
            // There is room again: the next send tells whether all of it goes.
            entry.connection.sent(now, 0, false);
            self.delivery.enqueue(entry, session.slot);
        }
    }
}

impl Party for Shard {
    type Message = ShardMessage;
    type Command = Command;
    type Report = Report;

    fn next_message(&mut self, now: Instant, shard: ShardId) -> Option<ShardMessage> {
        self.take_message(now, shard)
    }

    fn has_message(&self, shard: ShardId) -> bool {
        !self.links[shard.index()].is_empty()
    }

    fn next_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }
}

impl Machine for Shard {
    fn accept(&mut self, now: Instant, peer: SocketAddr) -> SessionRef {
        self.figures.add(Figure::Accepted, 1);
        let at = now + self.config.handshake_timeout;
        let (slot, generation) = self.sessions.insert(Session::new(now, peer.ip(), at));
        self.deadlines.push(at, slot, generation);
        if self.life != Life::Serving {
            // Whoever comes now would only delay the end.
            self.end_session(slot);
        }
        SessionRef { shard: self.config.id, slot, generation }
    }

    fn handle(&mut self, now: Instant, input: Input<'_, ShardMessage, Command>) {
        match input {
            Input::Received { session, bytes } => self.received(now, session, bytes),
            Input::Sent { session, bytes } => self.sent(now, session, bytes),
            Input::Writable { session } => self.writable(now, session),
            Input::Disconnected { session } => self.disconnected(session),
            Input::Message { from, message } => self.message(now, from, message),
            Input::Command(command) => self.command(now, command),
            Input::Deadline => self.check_deadlines(now),
            Input::Proceed => self.proceed(now),
        }
    }

    fn wants_connections(&self) -> bool {
        self.is_complete || self.life != Life::Serving
    }

    fn wants_input(&self, session: SessionRef) -> bool {
        self.sessions.peek(session.slot, session.generation).is_some_and(|entry| !entry.pause.any())
    }

    fn wants_flush(&self) -> bool {
        self.delivery.fresh_bytes() > FRESH_BYTES_MAX
    }

    fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn next_flush(&mut self, now: Instant) -> Option<SessionRef> {
        if self.offered > 0 && self.condemned.is_some() {
            return None;
        }
        if let Some(session) = self.condemned.take() {
            self.condemn_still(now, session);
        }
        loop {
            match self.delivery.next_step(&mut self.sessions, self.offered > 0)? {
                FlushStep::Send(slot) => return Some(self.offer(slot)),
                FlushStep::Condemn(slot) if self.offered == 0 => self.condemn(now, slot),
                FlushStep::Condemn(slot) => {
                    // Others are told that it leaves: that must not touch what is offered to them.
                    self.condemned = Some(self.reference(slot));
                    return None;
                }
            }
        }
    }

    fn pending(&self, session: SessionRef) -> &[u8] {
        self.delivery.pending(&self.sessions[session.slot])
    }

    fn has_work(&self) -> bool {
        !self.resumed.is_empty()
            || !self.jobs.is_empty()
            || self.condemned.is_some()
            || !self.delivery.is_flushed()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    fn figures(&mut self) -> &[u64] {
        self.figures.set(Figure::Connections, self.sessions.len() as u64);
        self.figures.set(Figure::Channels, self.channels.len() as u64);
        self.figures.set(Figure::LogBytes, self.delivery.log_bytes());
        let waiting: usize = self.links.iter().map(Link::len).sum();
        self.figures.set(Figure::LinkMessages, waiting as u64);
        self.figures.values()
    }
}
