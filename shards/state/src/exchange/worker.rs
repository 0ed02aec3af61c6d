//! A worker as the exchange sees it, over whatever transport.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use regex::Regex;

use super::{desks::TriggerId, queue::Waiting};
use crate::vhost::VhostId;

/// Names a worker; never valid for a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerRef {
    /// Its slot in the exchange.
    pub slot: u32,
    /// Which worker in that slot.
    pub generation: u32,
}

/// Which events a worker takes: a regular expression, anchored at both ends. Filters with the same
/// text are the same filter.
#[derive(Clone)]
pub struct Filter {
    text: Arc<str>,
    pattern: Arc<Regex>,
}

impl Filter {
    /// A filter that was compiled from `text`, with anchors at both ends.
    #[must_use]
    pub fn new(text: &str, pattern: Arc<Regex>) -> Self {
        Self { text: text.into(), pattern }
    }

    /// Whether a worker with this filter takes the event.
    #[must_use]
    pub fn matches(&self, event: &str) -> bool {
        self.pattern.is_match(event)
    }

    /// As the worker wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?})", self.text)
    }
}

/// How a worker is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over ZeroMQ.
    ZeroMq,
    /// Over HTTP, as an EventSource.
    EventSource,
}

/// A worker as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Which one.
    pub worker: WorkerRef,
    /// How it is connected.
    pub transport: Transport,
    /// Its filter's text.
    pub filter: Arc<str>,
    /// How many triggers it takes without having acknowledged them.
    pub window: Option<u32>,
    /// How many it has not acknowledged.
    pub outstanding: usize,
    /// Since when it is ready.
    pub since: Instant,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) vhost: VhostId,
    pub(super) filter: Filter,
    pub(super) window: Option<u32>,
    /// What it has and must acknowledge.
    pub(super) outstanding: BTreeMap<TriggerId, Waiting>,
    /// When it was last heard.
    pub(super) heard: Instant,
    since: Instant,
    /// The way to it is full.
    pub(super) congested: bool,
    /// When it last got a trigger, counted in triggers.
    pub(super) served: u64,
    /// Under which load and turn its desk has filed it, while it has room.
    pub(super) filed: Option<(usize, u64)>,
}

impl Worker {
    pub(super) fn new(now: Instant, vhost: VhostId, filter: Filter, window: Option<u32>) -> Self {
        Self {
            vhost,
            filter,
            window,
            outstanding: BTreeMap::new(),
            heard: now,
            since: now,
            congested: false,
            served: 0,
            filed: None,
        }
    }

    /// Whether it may have one more trigger.
    pub(super) fn has_room(&self) -> bool {
        !self.congested && self.window.is_none_or(|window| self.outstanding.len() < window as usize)
    }

    pub(super) fn info(&self, worker: WorkerRef) -> WorkerInfo {
        WorkerInfo {
            worker,
            transport: Transport::ZeroMq,
            filter: Arc::clone(&self.filter.text),
            window: self.window,
            outstanding: self.outstanding.len(),
            since: self.since,
        }
    }
}
