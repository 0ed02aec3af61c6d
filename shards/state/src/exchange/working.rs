//! What workers over ZeroMQ say and are sent, and how anybody becomes a worker and ceases to be one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use webrocket_wire::{Status, Trigger, wbp::WorkerMessage};

use super::{
    Exchange, ExchangeFigure, Filter, Pass, PeerMessage, TriggerId, WorkerRef,
    seats::{Seat, Taker},
    worker::{Application, Transport},
};
use crate::{ids::SessionRef, vhost::VhostId};

/// How often a worker over ZeroMQ is sent a heartbeat.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a worker gets nothing after the way to it was full.
pub const CONGESTION_PAUSE: Duration = Duration::from_millis(10);

/// How many different filters a vhost's workers may have: each is matched against every new event's name.
pub const FILTERS_MAX: usize = 1_024;

/// Workers over ZeroMQ.
impl Exchange {
    /// A worker speaks. `peer`: what is known of it, if its pass is worth anything.
    pub(super) fn worker_said(
        &mut self,
        now: Instant,
        name: &[u8],
        pass: Pass,
        peer: Option<SessionRef>,
        message: &WorkerMessage<'_>,
    ) {
        let worker = peer.and_then(|session| self.peers.entry(session)).and_then(|peer| peer.worker);
        match (message, worker) {
            (WorkerMessage::Ready { filter, window }, _) => {
                self.ready(now, name, pass, peer, filter.unwrap_or(Filter::ALL), *window);
            }
            (WorkerMessage::Acknowledge(id), Some(worker)) => {
                self.desks.acknowledge(worker, TriggerId(*id));
            }
            (WorkerMessage::Refuse(id), Some(worker)) => self.desks.refuse(worker, TriggerId(*id)),
            (WorkerMessage::Quit, Some(worker)) => {
                self.stand_up(worker);
                self.settle();
                peer.into_iter().for_each(|session| self.forget_if_idle(session));
            }
            // Any message is a sign of life, and was taken for one; who is no worker has left already.
            (WorkerMessage::Heartbeat, Some(_)) | (WorkerMessage::Quit, None) => {}
            (WorkerMessage::Acknowledge(_) | WorkerMessage::Refuse(_) | WorkerMessage::Heartbeat, None) => {
                self.send(name.into(), PeerMessage::Quit);
            }
        }
    }

    fn ready(
        &mut self,
        now: Instant,
        name: &[u8],
        pass: Pass,
        peer: Option<SessionRef>,
        filter: &str,
        window: Option<u32>,
    ) {
        if self.is_stopping || !self.is_valid(pass) {
            return self.send(name.into(), PeerMessage::Quit);
        }
        let filter = match self.filter(pass.vhost, filter) {
            Ok(filter) => filter,
            Err(status) => return self.client_said(name, pass, peer, Err(status)),
        };
        let Some(session) = peer.or_else(|| self.peers.insert(name, pass)) else {
            return self.client_said(name, pass, peer, Err(Status::TooManyRequests));
        };
        let entry = self.peers.entry(session).expect("a known peer");
        let (name, before) = (Arc::clone(&entry.name), entry.worker);
        if let Some(worker) = before {
            self.stand_up(worker);
            self.settle();
        }
        let application = Application { filter, window, transport: Transport::ZeroMq };
        let worker = self.sit_down(now, pass.vhost, application, Taker::Peer { session, name });
        self.peers.entry(session).expect("a known peer").worker = worker;
        if let Some(WorkerRef { slot, generation }) = worker {
            self.heartbeats.push(now + HEARTBEAT_INTERVAL, slot, generation);
        }
    }

    /// Compiles a filter, unless a worker of the vhost has it.
    fn filter(&mut self, vhost: VhostId, text: &str) -> Result<Filter, Status> {
        if let Some(filter) = self.desks.filter(vhost, text) {
            return Ok(filter.clone());
        }
        if self.desks.filters(vhost) >= FILTERS_MAX {
            return Err(Status::TooManyRequests);
        }
        let pattern = self.patterns.compiled(text).map_err(|_| Status::InvalidPayload)?;
        Ok(Filter::new(text, pattern))
    }

    pub(super) fn send_heartbeats(&mut self, now: Instant) {
        while let Some((_, slot, generation)) = self.heartbeats.pop_due(now) {
            let seat = self.seats.find(WorkerRef { slot, generation });
            if let Some(Seat { taker: Taker::Peer { name, .. }, .. }) = seat {
                let name = Arc::clone(name);
                self.send(name, PeerMessage::Heartbeat);
                self.heartbeats.push(now + HEARTBEAT_INTERVAL, slot, generation);
            }
        }
    }

    /// The way to a worker was full when it was to be sent a trigger.
    pub(super) fn way_full(&mut self, now: Instant, worker: WorkerRef, id: TriggerId, trigger: Arc<Trigger>) {
        self.desks.undelivered(worker, id, trigger);
        self.pauses.push(now + CONGESTION_PAUSE, worker.slot, worker.generation);
    }

    pub(super) fn end_pauses(&mut self, now: Instant) {
        while let Some((_, slot, generation)) = self.pauses.pop_due(now) {
            self.desks.relieve(WorkerRef { slot, generation });
        }
    }
}

/// Seats of workers over any transport.
impl Exchange {
    /// Somebody becomes a worker, unless there is no such vhost.
    pub(super) fn sit_down(
        &mut self,
        now: Instant,
        vhost: VhostId,
        application: Application,
        taker: Taker,
    ) -> Option<WorkerRef> {
        let is_acknowledged = application.window.is_some();
        let worker = self.desks.ready(now, vhost, application)?;
        self.figures.add(figure_of(&taker), 1);
        self.seats.put(Seat { worker, taker, is_acknowledged });
        Some(worker)
    }

    /// A worker leaves, or is gone.
    pub(super) fn stand_up(&mut self, worker: WorkerRef) {
        self.vacate(worker);
        self.desks.leave(worker);
    }

    /// A desk has no place for a worker any more.
    pub(super) fn dismissed(&mut self, worker: WorkerRef) {
        match self.vacate(worker) {
            Some(Taker::Peer { session, name }) => {
                self.send(name, PeerMessage::Quit);
                self.forget_if_idle(session);
            }
            Some(Taker::Source(source)) => self.source_dismissed(source),
            None => {}
        }
    }

    fn vacate(&mut self, worker: WorkerRef) -> Option<Taker> {
        let Seat { taker, .. } = self.seats.take(worker)?;
        self.figures.subtract(figure_of(&taker), 1);
        if let Taker::Peer { session, .. } = &taker
            && let Some(peer) = self.peers.entry(*session)
        {
            peer.worker = None;
        }
        Some(taker)
    }
}

fn figure_of(taker: &Taker) -> ExchangeFigure {
    match taker {
        Taker::Peer { .. } => ExchangeFigure::ZeroMqWorkers,
        Taker::Source(_) => ExchangeFigure::EventSourceWorkers,
    }
}
