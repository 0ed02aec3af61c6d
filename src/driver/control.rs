//! A shard's way to the control thread: a bounded channel, and what does not fit waits here.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{Sender, error::TrySendError};
use webrocket_state::{Machine, ShardId};

use super::mailbox::{FromShard, HandOff};

/// When to try again after the channel was full: nobody tells when it has room.
const RETRY: Duration = Duration::from_millis(1);

/// The shard's end of the channel.
#[derive(Debug)]
pub(super) struct ControlLine<R> {
    id: ShardId,
    sender: Sender<FromShard<R>>,
    /// At most one report, and hand-offs, which are bounded by the machine's connections.
    waiting: VecDeque<FromShard<R>>,
}

impl<R: Send + 'static> ControlLine<R> {
    /// A line over `sender`, which all shards share.
    pub(super) fn new(id: ShardId, sender: Sender<FromShard<R>>) -> Self {
        Self { id, sender, waiting: VecDeque::new() }
    }

    /// Hands a connection over at the next [`ControlLine::report_from`].
    pub(super) fn hand_off(&mut self, hand_off: HandOff) {
        self.waiting.push_back(FromShard::HandOff(hand_off));
    }

    /// Sends what waits and then the machine's reports, until the channel is full.
    /// Where the control thread is gone, all of it is dropped.
    pub(super) fn report_from<M: Machine<Report = R>>(&mut self, machine: &mut M) {
        let next = |waiting: &mut VecDeque<_>, machine: &mut M| {
            waiting
                .pop_front()
                .or_else(|| machine.next_report().map(|report| FromShard::Report(self.id, report)))
        };
        while let Some(item) = next(&mut self.waiting, machine) {
            if let Err(TrySendError::Full(item)) = self.sender.try_send(item) {
                self.waiting.push_front(item);
                return;
            }
        }
    }

    /// When to try again, if anything waits.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| now + RETRY)
    }
}
