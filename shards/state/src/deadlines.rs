//! When to look at which session again: at most one live entry a session.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// A heap of deadlines. Receiving costs nothing: a session whose deadline moved on is looked at
/// when the old one is reached, and entered anew.
#[derive(Debug, Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, u32, u32)>>,
}

impl Deadlines {
    /// Enters a session's deadline; an earlier entry of the same session still stands and is to be
    /// told by its instant.
    pub fn push(&mut self, at: Instant, slot: u32, generation: u32) {
        self.heap.push(Reverse((at, slot, generation)));
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes an entry that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, u32, u32)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
