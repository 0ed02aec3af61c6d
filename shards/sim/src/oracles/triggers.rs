//! Triggers: who was given which, told from outside the exchange, by what it was told and what it sent.

mod sent;
#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;

use webrocket_state::{VhostId, exchange::TriggerId};

/// Somebody who is given triggers: a connection over ZeroMQ, or a taker over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taker {
    /// By the wire's number.
    Wire(usize),
    /// By the control thread's number.
    Source(u64),
}

/// Where a trigger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On its way to the exchange, or waiting for a worker, given back by this one last.
    Waits(Option<Taker>),
    /// A worker has it and is to acknowledge it.
    With(Taker),
    /// A worker without window was sent it.
    Sent,
    Acknowledged,
    /// Only streams were there for it.
    Streamed,
    GivenUp,
    /// Its vhost was removed.
    Dropped,
}

/// A trigger.
#[derive(Debug)]
struct Trigger {
    browser: usize,
    /// By its index.
    vhost: usize,
    /// As the exchange was told it; `None` until then.
    id: Option<VhostId>,
    /// Whether the exchange said that it was placed.
    is_placed: Option<bool>,
    place: Place,
    /// How many workers were given it.
    had: u32,
    /// A worker was to be given it, but its wire was full.
    was_tried: bool,
    /// What it says besides its number is the data of a broadcast.
    has_own_data: bool,
    /// A stream over ZeroMQ subscribed it when the exchange was told it.
    is_published: bool,
}

/// A ready worker, as the exchange was told.
#[derive(Debug)]
struct Worker {
    vhost: VhostId,
    filter: usize,
    window: Option<u32>,
    has: BTreeMap<TriggerId, usize>,
    /// The newest trigger that it had as the first one.
    newest: Option<TriggerId>,
    newest_of: BTreeMap<usize, usize>,
}

/// The filters that workers have.
pub const FILTERS: [&str; 4] = [".*", "a.*", "b\\d+", "[ab]\\d*"];

/// Whether an event of this number matches a filter.
fn matches(filter: usize, number: usize) -> bool {
    match filter {
        0 => true,
        1 => number.is_multiple_of(3),
        2 => number % 3 == 1,
        _ => number % 3 < 2,
    }
}

/// What may come of a trigger that the exchange is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// A worker's filter matches.
    is_wanted: bool,
    /// There is no worker, but a stream.
    is_streamed: bool,
}

/// All triggers, and who works on them.
#[derive(Debug, Default)]
pub struct Triggers {
    all: Vec<Trigger>,
    workers: BTreeMap<Taker, Worker>,
    /// Streams over HTTP, with their filters.
    streams: BTreeMap<u64, (VhostId, usize)>,
    /// What was given back and waits, by its vhost and place in the order.
    returned: BTreeMap<(VhostId, TriggerId), usize>,
    /// How many were given to a worker after another one had them.
    pub redelivered: u64,
    /// How many were acknowledged.
    pub acknowledged: u64,
}

/// The event of a trigger.
#[must_use]
pub fn event(number: usize) -> String {
    format!("{}{number}", ["a", "b", "c"][number % 3])
}

/// The number of the trigger with this event.
#[must_use]
pub fn number(event: &str) -> Option<usize> {
    event.get(1..)?.parse().ok()
}

impl Triggers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether somebody is a ready worker.
    #[must_use]
    pub fn works(&self, taker: Taker) -> bool {
        self.workers.contains_key(&taker)
    }

    /// Whether a stream over HTTP takes a trigger.
    #[must_use]
    pub fn is_streamed(&self, vhost: VhostId, number: usize) -> bool {
        self.streams.values().any(|(of, filter)| *of == vhost && matches(*filter, number))
    }

    /// Whether a trigger was had by a worker already.
    #[must_use]
    pub fn was_had(&self, number: usize) -> bool {
        self.all.get(number).is_some_and(|trigger| trigger.had > 0)
    }

    /// Whether a worker says what it has handled.
    #[must_use]
    pub fn acknowledges(&self, taker: Taker) -> bool {
        self.workers.get(&taker).is_some_and(|worker| worker.window.is_some())
    }
}
