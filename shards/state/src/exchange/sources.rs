//! Those who take events over HTTP, through the control thread: workers and streams.

use std::{collections::HashMap, time::Instant};

use super::{ids::WorkerRef, message::SourceId, worker::Filter};
use crate::{deadlines::Deadlines, slots::WorkerSlot, vhost::VhostId};

/// How one takes events.
#[derive(Debug)]
pub(super) enum Kind {
    Worker {
        worker: WorkerRef,
        /// When it took something, or there was nothing to take.
        taken: Instant,
        /// Its deadline is entered.
        is_watched: bool,
    },
    Stream {
        filter: Filter,
        window: u32,
    },
}

/// One taker over HTTP.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) vhost: VhostId,
    pub(super) kind: Kind,
    /// Events handed over that it has not taken.
    pub(super) on_way: u32,
}

/// All takers over HTTP.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) entries: HashMap<SourceId, Source, ahash::RandomState>,
    /// By the slots of workers.
    pub(super) deadlines: Deadlines<WorkerSlot>,
}

impl Sources {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Those of `sources` that are streams and take the event.
    pub(super) fn streams(&self, sources: &[SourceId], event: &str) -> Vec<SourceId> {
        let takes = |source: &&SourceId| match &self.entries[*source].kind {
            Kind::Stream { filter, .. } => filter.matches(event),
            Kind::Worker { .. } => false,
        };
        sources.iter().filter(takes).copied().collect()
    }

    /// How many of `sources` are streams.
    pub(super) fn count_streams(&self, sources: &[SourceId]) -> u64 {
        let is_stream = |source: &&SourceId| matches!(self.entries[*source].kind, Kind::Stream { .. });
        sources.iter().filter(is_stream).count() as u64
    }
}
