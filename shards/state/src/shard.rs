//! The broker's state machine: one shard.
//!
//! A shard is made of parts that know nothing of each other: its [sessions](crate::sessions), the
//! [fan-out](crate::fanout) of what they receive, the [channels](crate::channels) that it owns, its
//! [links](crate::link), the [vhosts](crate::vhosts). This module hands each input to who acts upon it and lends him
//! the parts that he needs:
//!
//! | who | acts upon |
//! | --- | --- |
//! | `serving`, with `leaving` and `change` | open sessions: what they are told, how they end, how their vhost changes |
//! | `admission` | handshakes |
//! | `request`, with the dialects `classic` and `wwfp`, and `trigger` | what a session asks |
//! | `answered` | what owners, the exchange and the control thread answer to that |
//! | `owner` | what the owner of a channel is asked |
//! | `fences` | changes that wait until other shards have taken all leaves |
//!
//! Invariants:
//!
//! - Effects on a channel happen at its owner, in the order in which requests reach it; what the
//!   owner says arrives at a shard in the order in which it said it.
//! - What a shard says to itself as an owner goes through a queue of its own. That is emptied behind every message
//!   of a session, every other input, and every session that long work concerns.
//! - A session's subscription begins exactly when its `subscribed` is put into its bytes, and has ended
//!   when its `unsubscribed` is.
//! - A session is removed in one place, `Serving::remove`, which tells every owner.

mod admission;
mod answered;
mod bounds;
mod change;
mod classic;
mod fences;
mod job;
mod jobs;
mod leaving;
mod owner;
mod request;
mod serving;
#[cfg(test)]
mod tests;
mod trigger;
mod wwfp;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    addresses::AddressCounts,
    channels::Channels,
    command::{Command, CommandReply, Report},
    connection::{Event, Timeouts},
    directory::Directory,
    encoding::Encodings,
    fanout::Fanout,
    ids::{RequestRef, SessionRef, ShardId},
    link::Links,
    machine::{Action, Input, Machine, Party},
    message::{Answer, OwnerEvent, OwnerRequest, Publisher, ShardMessage, Waiter},
    metrics::{Figure, Figures},
    session::Parked,
    sessions::Sessions,
    vhosts::Vhosts,
};

use self::{
    admission::Admission,
    fences::Fences,
    job::{FIRST, Job},
    owner::{Owner, Subscriber},
    request::Requests,
    serving::Serving,
};

/// What a shard is made of.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which one it is.
    pub id: ShardId,
    /// Where channels live; the same in all shards of the node.
    pub directory: Directory,
    /// How sessions may receive; the same in all shards of the node.
    pub encodings: Encodings,
    /// Seeds the session identifiers and the epochs of channels.
    pub seed: [u8; 32],
    /// How long a request head may take.
    pub handshake_timeout: Duration,
    /// How long a peer may take for its half of a close.
    pub close_timeout: Duration,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    directory: Directory,
    encodings: Encodings,
    sessions: Sessions,
    fanout: Fanout,
    channels: Channels,
    addresses: AddressCounts,
    links: Links,
    vhosts: Vhosts,
    fences: Fences,
    jobs: VecDeque<Job>,
    reports: VecDeque<Report>,
    /// A session that is to be closed as a slow consumer as soon as nobody is offered anything.
    condemned: Option<SessionRef>,
    /// Of the session identifiers.
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

impl Shard {
    /// A shard without vhosts.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        let ShardConfig { id, directory, encodings, seed, handshake_timeout, close_timeout } = config;
        let mut random = StdRng::from_seed(seed);
        let epochs = StdRng::from_rng(&mut random);
        Self {
            sessions: Sessions::new(id, Timeouts { handshake: handshake_timeout, close: close_timeout }),
            fanout: Fanout::default(),
            channels: Channels::new(encodings.clone(), epochs),
            addresses: AddressCounts::default(),
            links: Links::new(id, directory.exchange()),
            vhosts: Vhosts::default(),
            fences: Fences::default(),
            jobs: VecDeque::new(),
            reports: VecDeque::new(),
            condemned: None,
            random,
            figures: Figures::default(),
            is_complete: false,
            life: Life::Serving,
            directory,
            encodings,
        }
    }

    /// How many messages wait for room in the queue to `shard`.
    #[must_use]
    pub fn waiting_messages(&self, shard: ShardId) -> usize {
        self.links.peek(shard).len()
    }

    /// How many bytes wait for a session; 0 if it is gone.
    #[must_use]
    pub fn lag(&self, session: SessionRef) -> u64 {
        self.sessions.peek(session).map_or(0, |entry| self.fanout.lag(entry))
    }

    /// Whether a session of any shard is a member of a presence channel of that name which this shard owns. Looks
    /// through all channels: for the simulation alone.
    #[doc(hidden)]
    #[must_use]
    pub fn has_member(&self, session: SessionRef, channel: &str) -> bool {
        self.channels.has_member(session, channel)
    }

    fn serving(&mut self, now: Instant) -> Serving<'_> {
        let Self { sessions, fanout, links, figures, .. } = self;
        Serving { now, sessions, fanout, links, figures }
    }

    fn requests(&mut self, now: Instant) -> Requests<'_> {
        let Self { sessions, fanout, channels, links, fences, reports, figures, .. } = self;
        let serving = Serving { now, sessions, fanout, links, figures };
        Requests {
            serving,
            channels,
            vhosts: &self.vhosts,
            encodings: &self.encodings,
            directory: &self.directory,
            fences,
            reports,
        }
    }

    fn admission(&mut self, now: Instant) -> Admission<'_> {
        let Self { sessions, fanout, links, figures, random, .. } = self;
        Admission {
            serving: Serving { now, sessions, fanout, links, figures },
            vhosts: &self.vhosts,
            encodings: &self.encodings,
            directory: &self.directory,
            random,
            is_stopping: self.life != Life::Serving,
        }
    }

    fn owner(&mut self) -> Owner<'_> {
        let Self { channels, links, reports, figures, .. } = self;
        Owner { channels, vhosts: &self.vhosts, encodings: &self.encodings, links, reports, figures }
    }

    fn received(&mut self, now: Instant, session: SessionRef, bytes: &mut [u8]) {
        let Some(entry) = self.sessions.entry(session) else { return };
        self.figures.add(Figure::BytesReceived, bytes.len() as u64);
        if entry.pause.any() || entry.parked.is_some() {
            return self.sessions.park(session.slot).bytes.extend_from_slice(bytes);
        }
        self.consume(now, session, bytes);
    }

    /// Acts upon input until it is used up or the session is paused; the rest is parked.
    fn consume(&mut self, now: Instant, session: SessionRef, bytes: &mut [u8]) {
        let (slot, timeouts) = (session.slot, self.sessions.timeouts());
        let mut input = bytes;
        while let Some(entry) = self.sessions.entry(session) {
            serving::pause_if_full(entry, &mut self.figures);
            if entry.pause.any() {
                self.sessions.park(slot).bytes.extend_from_slice(input);
                break;
            }
            let Some(event) = entry.connection.receive(now, &mut input, &timeouts) else { break };
            match event {
                Event::Message(message) => self.requests(now).message(slot, &message),
                Event::Upgrade(upgrade) => self.admission(now).upgrade(slot, upgrade),
                Event::Http(head) => {
                    let session = self.serving(now).remove(slot);
                    self.sessions.actions.push_back(Action::HandOff { session, head });
                }
                Event::Refused(_) => {
                    self.figures.add(Figure::Refused, 1);
                    self.serving(now).leave_open(slot);
                    self.sessions.schedule(slot);
                }
                Event::Closed { broken } => {
                    self.figures.add(Figure::ProtocolErrors, u64::from(broken));
                    self.serving(now).peer_closed(slot);
                }
                Event::Finished => self.sessions.schedule(slot),
            }
            self.serve_own(now);
        }
        if let Some(entry) = self.sessions.entry(session) {
            if !entry.connection.out.is_empty() {
                self.fanout.enqueue(entry, slot);
            } else if entry.connection.take_shutdown() {
                self.sessions.actions.push_back(Action::ShutdownWrite(session));
            }
        }
    }

    /// Goes on with a session for which a reason to pause is gone.
    fn resume(&mut self, now: Instant, session: SessionRef) {
        let Some(entry) = self.sessions.entry(session) else { return };
        if entry.pause.any() {
            return;
        }
        if let Some(parked) = entry.parked.take() {
            let Parked { message, mut bytes, ended } = *parked;
            if let Some(message) = message {
                self.requests(now).request(session.slot, &message);
                self.serve_own(now);
            }
            let Some(entry) = self.sessions.entry(session) else { return };
            if let Some(parked) = &mut entry.parked {
                // It was held again; what stands behind it still does.
                parked.bytes.append(&mut bytes);
                parked.ended |= ended;
                return;
            }
            self.consume(now, session, &mut bytes);
            let Some(entry) = self.sessions.entry(session) else { return };
            if entry.pause.any() {
                self.sessions.park(session.slot).ended |= ended;
                return;
            }
            if ended {
                return self.serving(now).end(session.slot);
            }
        }
        self.sessions.actions.push_back(Action::Resume(session));
    }

    /// Takes what this shard has said to itself.
    fn serve_own(&mut self, now: Instant) {
        let here = self.links.here();
        while let Some(message) = self.links.next_own() {
            self.message(now, here, message);
        }
    }

    /// What a shard says, or this one to itself.
    fn message(&mut self, now: Instant, from: ShardId, message: ShardMessage) {
        match message {
            ShardMessage::Request(request) => self.owner_request(from, request),
            ShardMessage::Event(event) => self.owner_event(now, from, event),
            ShardMessage::Answer { request, answer, bytes } => {
                self.links.answered(from, bytes);
                self.resume_stopped(from);
                self.answered(now, from, request, answer);
            }
        }
    }

    fn owner_request(&mut self, from: ShardId, request: OwnerRequest) {
        match request {
            OwnerRequest::Subscribe { request, vhost, channel, encoding, may_create, joining } => {
                let subscriber = Subscriber { request, encoding, may_create, joining };
                self.owner().subscribe((vhost, channel), subscriber);
            }
            OwnerRequest::Find { request, vhost, channel } => self.owner().find(request, &(vhost, channel)),
            OwnerRequest::Publish { request, vhost, channel, publication } => {
                self.owner().publish(Publisher::Session(request), &(vhost, channel), publication);
            }
            OwnerRequest::Leave { channel, session, encoding, data } => {
                self.owner().leave(from, channel, session, encoding, &data);
            }
            OwnerRequest::Fence(waiter) => {
                self.links.tell(from, OwnerEvent::FencePassed(waiter));
            }
            OwnerRequest::Admit { request, vhost, address, max } => {
                let is_admitted = self.addresses.admit(vhost, address, max);
                let admitted = Answer::Admitted { vhost, address };
                let answer = if is_admitted { admitted } else { Answer::TooManyConnections };
                self.links.answer(request, answer, 0);
            }
            OwnerRequest::Dismiss { vhost, address } => self.addresses.dismiss(vhost, address),
            OwnerRequest::Trigger { .. } => unreachable!("the exchange owns the triggers"),
        }
    }

    fn owner_event(&mut self, now: Instant, from: ShardId, event: OwnerEvent) {
        match event {
            OwnerEvent::Deliver { channel, event, made } => {
                let Self { sessions, fanout, links, figures, encodings, .. } = self;
                let mut serving = Serving { now, sessions, fanout, links, figures };
                serving.deliver(encodings, (from, channel), &event.said(), &made);
            }
            OwnerEvent::Closed { channel } => {
                for (view, generation) in self.fanout.views.detach(from, channel) {
                    self.run_close_view(now, view, generation);
                }
            }
            OwnerEvent::FencePassed(Waiter::Request(request)) => self.serving(now).leaves_taken(request),
            OwnerEvent::FencePassed(Waiter::Command(ticket)) => {
                self.fences.passed(ticket, &mut self.links, &mut self.reports);
            }
        }
    }

    fn answered(&mut self, now: Instant, from: ShardId, request: RequestRef, answer: Answer) {
        match answer {
            Answer::Admitted { vhost, address } => {
                if !self.admission(now).answered(from, request, true) {
                    self.links.ask(from, OwnerRequest::Dismiss { vhost, address });
                }
            }
            Answer::TooManyConnections => {
                self.admission(now).answered(from, request, false);
            }
            answer => self.requests(now).answered(from, request, answer),
        }
    }

    /// Carries out a command of the control thread.
    fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::PutVhost { ticket, vhost } => {
                let id = vhost.id;
                if self.vhosts.put(vhost) {
                    self.run_sweep_vhost(now, ticket, id, FIRST);
                } else {
                    self.command_reply(CommandReply::Applied(ticket));
                }
            }
            Command::RemoveVhost { ticket, vhost } => {
                self.vhosts.remove(vhost);
                self.owner().forget(vhost);
                self.run_close_vhost(now, ticket, vhost, FIRST);
            }
            Command::OpenChannel { ticket, vhost, channel } => {
                let opened = self.owner().open(vhost, channel);
                self.command_reply(CommandReply::Opened(ticket, opened));
            }
            Command::CloseChannel { ticket, vhost, channel } => {
                let found = self.owner().close(&(vhost, channel));
                self.serve_own(now);
                self.command_reply(CommandReply::Found(ticket, found));
            }
            Command::Publish { ticket, vhost, channel, publication } => {
                self.owner().publish(Publisher::Backend(ticket), &(vhost, channel), publication);
            }
            Command::DirectMessage { ticket, vhost, sid, message } => {
                let Self { sessions, fanout, links, figures, encodings, .. } = self;
                let mut serving = Serving { now, sessions, fanout, links, figures };
                let heard = serving.direct_message(encodings, vhost, sid, &message);
                self.command_reply(CommandReply::Heard(ticket, heard));
            }
            Command::ListChannels { ticket, vhost } => {
                let channels = self.owner().list(vhost);
                self.command_reply(CommandReply::Listed(ticket, channels));
            }
            Command::DescribeChannel { ticket, vhost, channel } => {
                let described = self.owner().describe(&(vhost, channel));
                self.command_reply(CommandReply::Described(ticket, described));
            }
            Command::Authenticated { request, identity } => {
                self.requests(now).authenticated(request, identity);
            }
            Command::ChannelChanged { request, outcome } => {
                self.requests(now).channel_changed(request, outcome);
            }
            Command::Serve => self.is_complete = true,
            Command::Shutdown => {
                self.life = Life::Stopping;
                self.run_shutdown(now, FIRST);
            }
        }
    }

    fn command_reply(&mut self, reply: CommandReply) {
        self.reports.push_back(Report::Replied(reply));
    }

    /// Sessions that waited for room on the way to a shard go on, if there is some.
    fn resume_stopped(&mut self, shard: ShardId) {
        if !self.links.peek(shard).has_stopped() {
            return;
        }
        for session in self.links.to(shard).take_resumed() {
            if let Some(entry) = self.sessions.entry(session) {
                entry.pause.link = false;
                self.sessions.resume(session);
            }
        }
    }

    /// What ends every input: what the shard has said to itself, and its own end.
    fn finish_input(&mut self, now: Instant) {
        self.serve_own(now);
        if self.life == Life::Stopping && self.sessions.is_empty() {
            self.life = Life::Stopped;
            self.sessions.actions.push_back(Action::Stop);
        }
    }
}

impl Party for Shard {
    type Message = ShardMessage;
    type Command = Command;
    type Report = Report;

    fn next_message(&mut self, now: Instant, shard: ShardId) -> Option<ShardMessage> {
        let message = self.links.to(shard).next_message()?;
        self.owner().acknowledge_left(shard);
        self.resume_stopped(shard);
        self.finish_input(now);
        Some(message)
    }

    fn has_message(&self, shard: ShardId) -> bool {
        !self.links.peek(shard).is_empty()
    }

    fn next_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }
}

impl Machine for Shard {
    fn accept(&mut self, now: Instant, peer: SocketAddr) -> SessionRef {
        self.figures.add(Figure::Accepted, 1);
        let session = self.sessions.accept(now, peer.ip());
        if self.life != Life::Serving {
            // Whoever comes now would only delay the end.
            self.serving(now).end(session.slot);
            self.finish_input(now);
        }
        session
    }

    fn handle(&mut self, now: Instant, input: Input<'_, ShardMessage, Command>) {
        match input {
            Input::Received { session, bytes } => self.received(now, session, bytes),
            Input::Sent { session, bytes } => return self.serving(now).sent(session, bytes),
            Input::Writable { session } => return self.serving(now).writable(session),
            Input::Disconnected { session } => self.serving(now).disconnected(session),
            Input::Message { from, message } => self.message(now, from, message),
            Input::Command(command) => self.command(now, command),
            Input::Deadline => self.check_deadlines(now),
            Input::Proceed => self.proceed(now),
        }
        self.finish_input(now);
    }

    fn wants_connections(&self) -> bool {
        self.is_complete || self.life != Life::Serving
    }

    fn wants_input(&self, session: SessionRef) -> bool {
        self.sessions.peek(session).is_some_and(|entry| !entry.pause.any())
    }

    fn wants_flush(&self) -> bool {
        self.fanout.wants_flush()
    }

    fn next_action(&mut self) -> Option<Action> {
        self.sessions.actions.pop_front()
    }

    fn next_flush(&mut self, now: Instant) -> Option<SessionRef> {
        loop {
            let Self { sessions, fanout, links, figures, condemned, .. } = self;
            let mut serving = Serving { now, sessions, fanout, links, figures };
            match serving.next_flush(condemned) {
                ControlFlow::Break(session) => return session,
                // Nobody is offered anything: others may be told that it has left.
                ControlFlow::Continue(()) => self.finish_input(now),
            }
        }
    }

    fn pending(&self, session: SessionRef) -> &[u8] {
        self.fanout.pending(&self.sessions.slots[session.slot])
    }

    fn has_work(&self) -> bool {
        self.sessions.has_resumed()
            || !self.jobs.is_empty()
            || self.condemned.is_some()
            || !self.fanout.is_flushed()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.sessions.next_deadline()
    }

    fn figures(&mut self) -> &[u64] {
        self.figures.set(Figure::Connections, self.sessions.len() as u64);
        self.figures.set(Figure::Channels, self.channels.len() as u64);
        self.figures.set(Figure::LogBytes, self.fanout.log_bytes());
        self.figures.set(Figure::LinkMessages, self.links.len() as u64);
        self.figures.values()
    }
}
