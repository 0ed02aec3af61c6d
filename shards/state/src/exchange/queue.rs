//! Triggers that wait, in the order of placing.

use std::{collections::BTreeMap, sync::Arc};

use webrocket_wire::Trigger;

use super::ids::{TriggerId, WorkerRef};
use crate::settings::Settings;

/// The most triggers that may wait beyond a queue's bound: workers that leave give back more than it takes.
/// Over it no new ones are placed.
pub(super) const RETURNED_MAX: usize = 10_000;

/// The most bytes beyond a queue's bound, likewise.
const RETURNED_BYTES_MAX: usize = 64 << 20;

/// The bounds of a vhost's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Triggers that may wait.
    pub triggers_max: usize,
    /// Bytes that they may count for.
    pub bytes_max: usize,
    /// How often a trigger is given to another worker before it is given up.
    pub redeliveries_max: u32,
}

impl From<&Settings> for QueueLimits {
    fn from(settings: &Settings) -> Self {
        Self {
            triggers_max: settings.trigger_queue_max as usize,
            bytes_max: settings.trigger_queue_bytes_max as usize,
            redeliveries_max: settings.trigger_redeliveries_max,
        }
    }
}

/// What waits for a vhost's workers, and what came of the rest since the vhost came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueInfo {
    /// Triggers that wait.
    pub waiting: u64,
    /// Bytes that they count for.
    pub waiting_bytes: u64,
    /// Triggers that workers have and have not acknowledged.
    pub outstanding: u64,
    /// Ready workers.
    pub workers: u64,
    /// Subscriptions of streams over ZeroMQ, and streams over HTTP.
    pub streams: u64,
    /// Triggers that were placed.
    pub placed: u64,
    /// Triggers that nobody could take.
    pub refused: u64,
    /// Triggers that went to another worker after one had them.
    pub redelivered: u64,
    /// Triggers that were given up after too many workers had them.
    pub dead: u64,
}

/// A trigger that nobody has handled yet.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) trigger: Arc<Trigger>,
    /// How many workers have had it.
    pub(super) deliveries: u32,
    /// Who gave it back last by saying so.
    pub(super) refused_by: Option<WorkerRef>,
}

/// The triggers of a desk that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<TriggerId, Waiting>,
    bytes: usize,
}

impl Queue {
    /// Whether a new trigger may wait here too.
    pub(super) fn has_room(&self, trigger: &Trigger, limits: &QueueLimits) -> bool {
        self.waiting.len() < limits.triggers_max
            && self.bytes.saturating_add(trigger.bytes()) <= limits.bytes_max
    }

    /// Whether so much has come back that there is nothing to be placed on top of it.
    pub(super) fn is_flooded(&self, limits: &QueueLimits) -> bool {
        self.waiting.len() >= limits.triggers_max.saturating_add(RETURNED_MAX)
            || self.bytes >= limits.bytes_max.saturating_add(RETURNED_BYTES_MAX)
    }

    /// Puts a trigger into its place. One that was placed before is never refused one.
    pub(super) fn insert(&mut self, id: TriggerId, waiting: Waiting) {
        self.bytes += waiting.trigger.bytes();
        let before = self.waiting.insert(id, waiting);
        assert!(before.is_none(), "a trigger waits once");
    }

    pub(super) fn get(&self, id: TriggerId) -> &Waiting {
        &self.waiting[&id]
    }

    pub(super) fn remove(&mut self, id: TriggerId) -> Waiting {
        let waiting = self.waiting.remove(&id).expect("a trigger that waits");
        self.bytes -= waiting.trigger.bytes();
        waiting
    }

    /// All that wait, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TriggerId, &Waiting)> {
        self.waiting.iter().map(|(id, waiting)| (*id, waiting))
    }
}
