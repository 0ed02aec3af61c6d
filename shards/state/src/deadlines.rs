//! When to look at which entry of a table again: at most one live deadline an entry.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// A heap of deadlines. Receiving costs nothing: a session whose deadline moved on is looked at
/// when the old one is reached, and entered anew. `K` is what the table's slots are called.
#[derive(Debug)]
pub struct Deadlines<K> {
    heap: BinaryHeap<Reverse<(Instant, K, u32)>>,
}

impl<K: Ord> Default for Deadlines<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new() }
    }
}

impl<K: Ord> Deadlines<K> {
    /// Enters an entry's deadline; an earlier one of the same entry still stands and is to be
    /// told by its instant.
    pub fn push(&mut self, at: Instant, slot: K, generation: u32) {
        self.heap.push(Reverse((at, slot, generation)));
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes a deadline that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K, u32)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
