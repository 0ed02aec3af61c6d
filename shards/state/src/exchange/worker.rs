//! A worker as the exchange sees it, over whatever transport.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Instant,
};

use regex::Regex;

use super::{
    ids::{TriggerId, WorkerRef},
    queue::Waiting,
};
use crate::vhost::VhostId;

/// The most triggers that are on their way to a worker without window: what the way to it does
/// not take at once shall wait where others can have it.
pub(super) const UNSENT_MAX: usize = 64;

/// Which events a worker takes: a regular expression, anchored at both ends. Filters with the same
/// text are the same filter.
#[derive(Clone)]
pub struct Filter {
    text: Arc<str>,
    pattern: Arc<Regex>,
    takes_all: bool,
}

impl Filter {
    /// What a worker that names no filter takes.
    pub const ALL: &'static str = ".*";

    /// A filter that was [compiled](crate::pattern::compile) from `text`, with anchors at both ends.
    #[must_use]
    pub fn new(text: &str, pattern: Arc<Regex>) -> Self {
        // No event's name is empty or holds a line break.
        Self { text: text.into(), pattern, takes_all: matches!(text, Self::ALL | ".+") }
    }

    /// Whether a worker with this filter takes the event.
    #[must_use]
    pub fn matches(&self, event: &str) -> bool {
        self.takes_all || self.pattern.is_match(event)
    }

    /// As the worker wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As the worker wrote it, to be shared.
    pub(super) fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
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

/// How somebody becomes a worker.
#[derive(Debug, Clone)]
pub(super) struct Application {
    /// Which events it takes.
    pub filter: Filter,
    /// How many triggers it takes without having acknowledged them; `None`: it acknowledges none.
    pub window: Option<u32>,
    /// How it is connected. Over ZeroMQ it must be [heard](super::desks::Desks::heard) of.
    pub transport: Transport,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) vhost: VhostId,
    /// The place of its filter's class at the desk.
    pub(super) class: u32,
    pub(super) application: Application,
    /// What it was given and has not acknowledged; without window, what was not sent yet.
    pub(super) outstanding: HashMap<TriggerId, Waiting, ahash::RandomState>,
    /// What it was given and was not sent yet, in order.
    pub(super) unsent: VecDeque<TriggerId>,
    /// Without window, what it was sent last: it comes back if its way was full.
    pub(super) last_sent: Option<(TriggerId, Waiting)>,
    /// When it was last heard.
    pub(super) heard: Instant,
    since: Instant,
    /// How many workers came before it.
    pub(super) number: u64,
    /// The way to it is full.
    pub(super) is_congested: bool,
    /// When it last got a trigger, counted in triggers.
    pub(super) served: u64,
    /// Under which load and turn its desk has filed it, while it has room.
    pub(super) filed: Option<(usize, u64)>,
}

impl Worker {
    pub(super) fn new(now: Instant, vhost: VhostId, application: Application, number: u64) -> Self {
        Self {
            vhost,
            class: 0,
            application,
            outstanding: HashMap::default(),
            unsent: VecDeque::new(),
            last_sent: None,
            heard: now,
            since: now,
            number,
            is_congested: false,
            served: 0,
            filed: None,
        }
    }

    /// Whether it may have one more trigger.
    pub(super) fn has_room(&self) -> bool {
        let most = self.application.window.map_or(UNSENT_MAX, |window| window as usize);
        !self.is_congested && self.outstanding.len() < most
    }

    pub(super) fn info(&self, worker: WorkerRef) -> WorkerInfo {
        WorkerInfo {
            worker,
            transport: self.application.transport,
            filter: self.application.filter.text(),
            window: self.application.window,
            outstanding: self.outstanding.len(),
            since: self.since,
        }
    }
}
