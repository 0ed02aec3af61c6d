//! What is handed over to those who take events over HTTP, and what they say of it.
//!
//! A worker is one like any other to the desks: what was handed over for it is outstanding until the
//! control thread says that it was taken. A stream has room for so many events; what comes while
//! there is none is left out for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use webrocket_wire::Trigger;

use super::{
    Exchange, ExchangeFigure, ExchangeReport, Filter, TriggerId, WorkerRef,
    message::{ExchangeReply, SourceId, SourceMode, SourceOpened},
    seats::Taker,
    sources::{Kind, Source},
    worker::{Application, Transport},
};
use crate::{
    command::{Ticket, VhostNotFound},
    vhost::VhostId,
};

/// A worker over HTTP that takes nothing for so long while something waits for it is cut off.
pub const TAKING_MAX: Duration = Duration::from_secs(10);

impl Exchange {
    pub(super) fn open_source(
        &mut self,
        now: Instant,
        ticket: Ticket<SourceOpened>,
        source: SourceId,
        vhost: VhostId,
        (filter, mode): (Filter, SourceMode),
    ) {
        if self.vhosts.entry(vhost).is_none() || self.is_stopping {
            return self.command_reply(ExchangeReply::SourceOpened(ticket, Err(VhostNotFound)));
        }
        let kind = match mode {
            SourceMode::Stream { window } => {
                self.figures.add(ExchangeFigure::Streams, 1);
                Kind::Stream { filter, window }
            }
            SourceMode::Worker { window } => {
                let application =
                    Application { filter, window: Some(window), transport: Transport::EventSource };
                let worker = self.sit_down(now, vhost, application, Taker::Source(source));
                let worker = worker.expect("a desk for every vhost");
                Kind::Worker { worker, taken: now, is_watched: false }
            }
        };
        self.sources.entries.insert(source, Source { vhost, kind, on_way: 0 });
        self.vhosts.entry_mut(vhost).expect("looked at before").sources.push(source);
        self.command_reply(ExchangeReply::SourceOpened(ticket, Ok(())));
    }

    /// A worker's event is handed over to the control thread.
    pub(super) fn hand_over(
        &mut self,
        source: SourceId,
        worker: WorkerRef,
        id: TriggerId,
        trigger: Arc<Trigger>,
    ) {
        let now = self.now.expect("events follow an input");
        let Some(entry) = self.sources.entries.get_mut(&source) else { return };
        let Kind::Worker { taken, is_watched, .. } = &mut entry.kind else { return };
        if !self.desks.sent(worker, id) {
            return;
        }
        if entry.on_way == 0 {
            *taken = now;
        }
        entry.on_way += 1;
        if !*is_watched {
            *is_watched = true;
            self.sources.deadlines.push(now + TAKING_MAX, worker.slot, worker.generation);
        }
        self.reports.push_back(ExchangeReport::SourceEvent { source, id, trigger });
    }

    /// A stream's copy is handed over, if there is room.
    pub(super) fn copy(&mut self, source: SourceId, id: TriggerId, trigger: &Arc<Trigger>) {
        let Some(entry) = self.sources.entries.get_mut(&source) else { return };
        let Kind::Stream { window, .. } = entry.kind else { return };
        if entry.on_way >= window {
            return self.figures.add(ExchangeFigure::CopiesDropped, 1);
        }
        entry.on_way += 1;
        self.figures.add(ExchangeFigure::CopiesSent, 1);
        let trigger = Arc::clone(trigger);
        self.reports.push_back(ExchangeReport::SourceEvent { source, id, trigger });
    }

    pub(super) fn source_took(&mut self, now: Instant, source: SourceId, id: TriggerId) {
        let Some(entry) = self.sources.entries.get_mut(&source) else { return };
        entry.on_way = entry.on_way.saturating_sub(1);
        if let Kind::Worker { worker, taken, .. } = &mut entry.kind {
            *taken = now;
            let worker = *worker;
            self.desks.acknowledge(worker, id);
        }
    }

    /// Nobody takes these events any more.
    pub(super) fn close_source(&mut self, source: SourceId) {
        let Some(Source { kind: Kind::Worker { worker, .. }, .. }) = self.forget_source(source) else {
            return;
        };
        self.stand_up(worker);
    }

    /// A source is cut off: the control thread is told.
    pub(super) fn cut_source(&mut self, source: SourceId) {
        self.close_source(source);
        self.figures.add(ExchangeFigure::SourcesCut, 1);
        self.reports.push_back(ExchangeReport::SourceClosed { source });
    }

    /// A desk has no place for a worker over HTTP any more.
    pub(super) fn source_dismissed(&mut self, source: SourceId) {
        self.forget_source(source);
        self.figures.add(ExchangeFigure::SourcesCut, 1);
        self.reports.push_back(ExchangeReport::SourceClosed { source });
    }

    fn forget_source(&mut self, source: SourceId) -> Option<Source> {
        let entry = self.sources.entries.remove(&source)?;
        if let Some(vhost) = self.vhosts.entry_mut(entry.vhost) {
            vhost.sources.retain(|known| *known != source);
        }
        if let Kind::Stream { .. } = entry.kind {
            self.figures.subtract(ExchangeFigure::Streams, 1);
        }
        Some(entry)
    }

    pub(super) fn cut_idle_sources(&mut self, now: Instant) {
        while let Some((_, slot, generation)) = self.sources.deadlines.pop_due(now) {
            let seat = self.seats.find(WorkerRef { slot, generation });
            let Some(Taker::Source(source)) = seat.map(|seat| &seat.taker) else { continue };
            let source = *source;
            let Some(entry) = self.sources.entries.get_mut(&source) else { continue };
            let Kind::Worker { taken, is_watched, .. } = &mut entry.kind else { continue };
            let since = self.delayed.map_or(*taken, |delayed| delayed.max(*taken));
            let until = since + TAKING_MAX;
            if entry.on_way == 0 {
                *is_watched = false;
            } else if now < until {
                self.sources.deadlines.push(until, slot, generation);
            } else {
                self.cut_source(source);
            }
        }
    }
}
