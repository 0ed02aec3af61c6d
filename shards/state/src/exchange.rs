//! What the exchange decides: the backends' side of the broker, without a socket, a thread or a clock.
//!
//! The [`Exchange`] is told what its peers send, what shards and the control thread say, and the time;
//! it says what is to be sent. Peers are the connections of its ROUTER socket, *clients* and *workers*
//! alike; *sources* take events over HTTP, through the control thread; *streams* are the subscribers of
//! its XPUB socket. It takes part in what shards say to each other, so a client's broadcast reaches a
//! channel's owner like a session's, and a session's trigger comes here like a request to an owner.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `input`, `order` | what the driver tells the exchange, and what it is told to send |
//! | [`message`] | what the control thread and the exchange say to each other |
//! | [`figures`] | what is counted |
//! | `ids`, `pass` | what peers, workers and triggers are called, and what somebody was let in with |
//! | `desks`, `desk`, `queue`, `worker` | who handles a trigger |
//! | `seats`, `sources` | who the workers are, and the takers over HTTP among them |
//! | `vhosts` | who is let in, and which streams listen |
//! | `peers`, `client` | the peers of the ROUTER socket, the order of a client's requests |
//! | `asking`, `working`, `taking` | what clients, workers and takers over HTTP say, and what comes of it |
//! | `control` | the control thread's word |
//!
//! Invariants:
//!
//! - A vhost's backends and triggers meet only each other: what somebody may do follows from the [`Pass`]
//!   of its connection, checked on every message.
//! - A client's requests take effect and are answered in its order.
//! - Nothing waits for a peer: what finds its way full is dropped and counted, or, a trigger, waits in its place.
//!
//! Source: docs/protocol.md, "Triggers" and "ZeroMQ exchange".

mod asking;
mod client;
mod control;
mod desk;
mod desks;
pub mod figures;
mod ids;
mod input;
pub mod message;
mod order;
mod pass;
mod peers;
mod queue;
mod seats;
mod sources;
mod taking;
#[cfg(test)]
mod tests;
mod vhosts;
mod worker;
mod working;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use webrocket_wire::{Status, Trigger, wbp::Message};

use crate::{
    deadlines::Deadlines,
    ids::{RequestRef, ShardId},
    link::Links,
    machine::Party,
    message::{Answer, OwnerRequest, ShardMessage},
    pattern::Patterns,
    slots::WorkerSlot,
    vhost::VhostId,
};

pub use client::{CLIENT_BYTES_MAX, CLIENT_REQUESTS_MAX};
pub use desk::AssignationFailed;
pub use desks::SILENCE_MAX;
pub use figures::{ExchangeFigure, ExchangeFigures};
pub use ids::{PeerName, TriggerId, WorkerRef};
pub use input::ExchangeInput;
pub use message::{ExchangeCommand, ExchangeReport};
pub use order::{ExchangeOrder, PeerMessage};
pub use pass::{NoPass, Pass};
pub use peers::PEERS_MAX;
pub use queue::{QueueInfo, QueueLimits};
pub use taking::TAKING_MAX;
pub use worker::{Filter, Transport, WorkerInfo};
pub use working::{CONGESTION_PAUSE, FILTERS_MAX, HEARTBEAT_INTERVAL};

use desk::DeskOrder;
use desks::Desks;
use peers::Peers;
use seats::{Seats, Taker};
use sources::Sources;
use vhosts::Vhosts;

/// What an exchange is made of.
#[derive(Debug, Clone)]
pub struct ExchangeConfig {
    /// Where channels live; the same as the shards'.
    pub directory: crate::Directory,
}

/// What waits to be sent.
#[derive(Debug)]
enum Queued {
    Order(ExchangeOrder),
    /// So many replies that a client asks too much.
    TooMany(PeerName, u64),
}

/// The exchange.
#[derive(Debug)]
pub struct Exchange {
    config: ExchangeConfig,
    vhosts: Vhosts,
    peers: Peers,
    sources: Sources,
    desks: Desks,
    /// Who the workers of the desks are.
    seats: Seats,
    /// The ways to the shards.
    links: Links,
    patterns: Patterns,
    /// When a worker over ZeroMQ is sent the next heartbeat.
    heartbeats: Deadlines<WorkerSlot>,
    /// When the way to a worker that was full is tried again.
    pauses: Deadlines<WorkerSlot>,
    orders: VecDeque<Queued>,
    reports: VecDeque<ExchangeReport>,
    figures: ExchangeFigures,
    /// The time of the last input; `None` before the first.
    now: Option<Instant>,
    /// When the driver was kept from its work last.
    delayed: Option<Instant>,
    is_serving: bool,
    is_stopping: bool,
}

/// Getters.
impl Exchange {
    /// An exchange without vhosts.
    #[must_use]
    pub fn new(config: ExchangeConfig) -> Self {
        let directory = &config.directory;
        Self {
            vhosts: Vhosts::default(),
            peers: Peers::new(directory.exchange()),
            sources: Sources::default(),
            desks: Desks::default(),
            seats: Seats::default(),
            links: Links::new(directory.exchange(), directory.exchange()),
            patterns: Patterns::default(),
            heartbeats: Deadlines::default(),
            pauses: Deadlines::default(),
            orders: VecDeque::new(),
            reports: VecDeque::new(),
            figures: ExchangeFigures::default(),
            now: None,
            delayed: None,
            is_serving: false,
            is_stopping: false,
            config,
        }
    }

    /// Lets in who presents a vhost's path and its access token; compared in constant time. Nobody before
    /// [`Exchange::is_serving`].
    #[must_use]
    pub fn authenticate(&self, path: &[u8], token: &[u8]) -> Option<Pass> {
        self.vhosts.authenticate(path, token).filter(|_| self.is_serving)
    }

    /// Lets in who has proved to have the secret half of this public key. Nobody before
    /// [`Exchange::is_serving`].
    #[must_use]
    pub fn authenticate_key(&self, key: &[u8; 32]) -> Option<Pass> {
        self.vhosts.authenticate_key(key).filter(|_| self.is_serving)
    }

    /// Whether all that was good for being let in when the pass was given still is.
    #[must_use]
    pub fn is_valid(&self, pass: Pass) -> bool {
        self.vhosts.is_valid(pass)
    }

    /// Whether a stream with this pass may subscribe topics that begin so: they must name its own
    /// vhost, `<vhost>:`.
    #[must_use]
    pub fn admits(&self, pass: Pass, topic: &[u8]) -> bool {
        self.vhosts.prefix(pass, topic).is_some()
    }

    /// Whether everything stored is in effect, so that backends may connect. Until then nobody is let in.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// The exchange's figures, to be published; in the order of [`figures::EXCHANGE_FIGURES`].
    pub fn figures(&mut self) -> &[u64] {
        let total = self.desks.total();
        let link_messages = self.links.len();
        for (figure, value) in [
            (ExchangeFigure::Placed, total.placed),
            (ExchangeFigure::Refused, total.refused),
            (ExchangeFigure::Redelivered, total.redelivered),
            (ExchangeFigure::Dead, total.dead),
            (ExchangeFigure::Waiting, total.waiting),
            (ExchangeFigure::WaitingBytes, total.waiting_bytes),
            (ExchangeFigure::Outstanding, total.outstanding),
            (ExchangeFigure::LinkMessages, link_messages as u64),
        ] {
            self.figures.set(figure, value);
        }
        self.figures.values()
    }

    /// Where the driver counts what only it sees.
    pub fn figures_mut(&mut self) -> &mut ExchangeFigures {
        &mut self.figures
    }
}

/// Input and output.
impl Exchange {
    /// Takes one input. Never blocks.
    pub fn handle(&mut self, now: Instant, input: ExchangeInput<'_>) {
        self.now = Some(now);
        match input {
            ExchangeInput::Received { peer, pass, frames } => self.received(now, peer, pass, frames),
            ExchangeInput::Gone { peer } => self.gone(peer),
            ExchangeInput::Full { order } => self.full(now, order),
            ExchangeInput::Subscribed { pass, topic } => self.subscribed(pass, topic),
            ExchangeInput::Unsubscribed { pass, topic } => self.unsubscribed(pass, topic),
            ExchangeInput::Message { from, message } => self.message(from, message),
            ExchangeInput::Command(command) => self.command(now, command),
            ExchangeInput::Delayed => self.delayed = Some(now),
            ExchangeInput::Deadline => self.deadline(now),
        }
        self.settle();
    }

    /// What to send next.
    pub fn next_order(&mut self) -> Option<ExchangeOrder> {
        loop {
            match self.orders.pop_front()? {
                Queued::TooMany(peer, times) => {
                    let message = PeerMessage::Error(Status::TooManyRequests);
                    if times > 1 {
                        self.orders.push_front(Queued::TooMany(Arc::clone(&peer), times - 1));
                    }
                    return Some(ExchangeOrder::Send { peer, message });
                }
                Queued::Order(order) => {
                    if self.is_current(&order) {
                        return Some(order);
                    }
                }
            }
        }
    }

    /// Whether an order is still to be carried out. A trigger that its worker shall not have any
    /// more is not: it has been given to somebody else, or waits.
    fn is_current(&mut self, order: &ExchangeOrder) -> bool {
        let ExchangeOrder::Send { message: PeerMessage::Trigger { worker, id, .. }, .. } = order else {
            return true;
        };
        let is_sent = self.desks.sent(*worker, *id);
        self.settle();
        is_sent
    }

    /// When [`ExchangeInput::Deadline`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.desks.next_deadline(),
            self.heartbeats.next(),
            self.pauses.next(),
            self.sources.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }
}

/// What happens.
impl Exchange {
    fn received(&mut self, now: Instant, name: &[u8], pass: Pass, frames: &[&[u8]]) {
        let mut peer = self.peers.find(name);
        if let Some(session) = peer {
            let entry = self.peers.entry(session).expect("a known peer");
            if entry.pass != pass {
                // Another connection that calls itself the same.
                self.forget(session);
                peer = None;
            } else if let Some(worker) = entry.worker {
                self.desks.heard(now, worker);
            }
        }
        let is_valid = self.is_valid(pass);
        match Message::parse(frames) {
            Ok(Message::Worker(message)) => {
                self.worker_said(now, name, pass, peer.filter(|_| is_valid), &message);
            }
            Ok(Message::Client(request)) if is_valid => self.client_said(name, pass, peer, Ok(request)),
            Ok(Message::Client(_)) => self.client_said(name, pass, peer, Err(Status::InvalidCredentials)),
            Err(status) => {
                let status = if is_valid { status } else { Status::InvalidCredentials };
                self.client_said(name, pass, peer, Err(status));
            }
        }
    }

    fn gone(&mut self, name: &[u8]) {
        if let Some(session) = self.peers.find(name) {
            self.forget(session);
        }
    }

    fn full(&mut self, now: Instant, order: ExchangeOrder) {
        match order {
            ExchangeOrder::Send { message: PeerMessage::Trigger { worker, trigger, id, .. }, .. } => {
                self.way_full(now, worker, id, trigger);
            }
            // A worker that does not hear that will say something, or has died; the rest finds no way full.
            ExchangeOrder::Send { message: PeerMessage::Heartbeat | PeerMessage::Quit, .. }
            | ExchangeOrder::CutStreams { .. }
            | ExchangeOrder::GiveUp { .. }
            | ExchangeOrder::Stop => {}
            ExchangeOrder::Send { .. } => self.figures.add(ExchangeFigure::RepliesDropped, 1),
            ExchangeOrder::Stream { .. } => self.figures.add(ExchangeFigure::CopiesDropped, 1),
        }
    }

    fn subscribed(&mut self, pass: Pass, topic: &[u8]) {
        let Some(prefix) = self.vhosts.prefix(pass, topic) else { return };
        if let Some(entry) = self.vhosts.entry_mut(pass.vhost) {
            entry.streams.add(prefix);
            self.figures.add(ExchangeFigure::Streams, 1);
        }
    }

    fn unsubscribed(&mut self, pass: Pass, topic: &[u8]) {
        let Some(prefix) = self.vhosts.prefix(pass, topic) else { return };
        let entry = self.vhosts.entry_mut(pass.vhost);
        if entry.is_some_and(|entry| entry.streams.remove(prefix)) {
            self.figures.subtract(ExchangeFigure::Streams, 1);
        }
    }

    fn message(&mut self, from: ShardId, message: ShardMessage) {
        match message {
            ShardMessage::Request(OwnerRequest::Trigger { request, vhost, trigger }) => {
                self.place(request, vhost, trigger);
            }
            ShardMessage::Answer { request, answer, bytes } => self.published(from, request, &answer, bytes),
            other => unreachable!("shards send the exchange triggers and answers, not {other:?}"),
        }
    }

    /// A session triggers.
    fn place(&mut self, request: RequestRef, vhost: VhostId, trigger: Trigger) {
        let bytes = trigger.bytes();
        let answer = match self.try_place(vhost, Arc::new(trigger)) {
            Ok(()) => Answer::Triggered,
            Err(AssignationFailed) => Answer::AssignationFailed,
        };
        self.links.answer(request, answer, bytes);
    }

    /// Gives a trigger to a worker or the queue, and copies of it to streams: only of what was placed,
    /// for what was refused comes again.
    fn try_place(&mut self, vhost: VhostId, trigger: Arc<Trigger>) -> Result<(), AssignationFailed> {
        let entry = self.vhosts.entry(vhost).filter(|_| !self.is_stopping).ok_or(AssignationFailed)?;
        let is_published = entry.streams.take(trigger.event());
        let takers = self.sources.streams(&entry.sources, trigger.event());
        let is_streamed = is_published || !takers.is_empty();
        let id = self.desks.place(vhost, Arc::clone(&trigger), is_streamed)?;
        for source in takers {
            self.copy(source, id, &trigger);
        }
        if is_published && let Some(path) = self.vhosts.path(vhost) {
            self.figures.add(ExchangeFigure::CopiesSent, 1);
            self.orders.push_back(Queued::Order(ExchangeOrder::Stream { vhost: path.clone(), trigger }));
        }
        Ok(())
    }

    fn deadline(&mut self, now: Instant) {
        let expired = self.desks.expire(now, self.delayed);
        self.figures.add(ExchangeFigure::WorkersExpired, expired);
        self.settle();
        self.send_heartbeats(now);
        self.end_pauses(now);
        self.cut_idle_sources(now);
    }

    /// Does what the desks want done.
    fn settle(&mut self) {
        while let Some(order) = self.desks.next_order() {
            match order {
                DeskOrder::Deliver { worker, trigger, id } => self.deliver(worker, trigger, id),
                DeskOrder::Dismiss(worker) => self.dismissed(worker),
                DeskOrder::GiveUp { vhost, trigger } => {
                    let Some(path) = self.vhosts.path(vhost) else { continue };
                    let (vhost, event) = (path.clone(), trigger.event().into());
                    self.orders.push_back(Queued::Order(ExchangeOrder::GiveUp { vhost, event }));
                }
            }
        }
    }

    fn deliver(&mut self, worker: WorkerRef, trigger: Arc<Trigger>, id: TriggerId) {
        let Some(seat) = self.seats.find(worker) else { return };
        let is_acknowledged = seat.is_acknowledged;
        match &seat.taker {
            Taker::Peer { name, .. } => {
                let peer = Arc::clone(name);
                self.send(peer, PeerMessage::Trigger { worker, trigger, id, is_acknowledged });
            }
            Taker::Source(source) => {
                let source = *source;
                self.hand_over(source, worker, id, trigger);
            }
        }
    }

    fn send(&mut self, peer: PeerName, message: PeerMessage) {
        self.orders.push_back(Queued::Order(ExchangeOrder::Send { peer, message }));
    }
}

impl Party for Exchange {
    type Message = ShardMessage;
    type Command = ExchangeCommand;
    type Report = ExchangeReport;

    fn next_message(&mut self, now: Instant, party: ShardId) -> Option<ShardMessage> {
        self.now = Some(now);
        let message = self.links.to(party).next_message()?;
        self.resume(party);
        Some(message)
    }

    fn has_message(&self, party: ShardId) -> bool {
        !self.links.peek(party).is_empty()
    }

    fn next_report(&mut self) -> Option<ExchangeReport> {
        self.reports.pop_front()
    }
}
