//! How long a shard's turns take: for so long nobody else is served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A longest turn is told for at least this long, and at most twice as long.
const WINDOW: Duration = Duration::from_secs(10);

/// The longest turn of the last while, by the clock on the wall: time in which the system ran
/// something else on the shard's core is in it.
#[derive(Debug, Default)]
pub struct LongestTurn {
    current_us: AtomicU64,
    previous_us: AtomicU64,
}

impl LongestTurn {
    /// The longest turn of the last 10 to 20 s in which the shard had anything to do.
    #[must_use]
    pub fn get(&self) -> Duration {
        let [current, previous] = [&self.current_us, &self.previous_us].map(|us| us.load(Ordering::Relaxed));
        Duration::from_micros(current.max(previous))
    }
}

/// The shard's side of a [`LongestTurn`].
#[derive(Debug)]
pub(super) struct TurnWatch {
    longest: Arc<LongestTurn>,
    current_us: u64,
    window_end: Instant,
}

impl TurnWatch {
    pub(super) fn new(longest: Arc<LongestTurn>) -> Self {
        Self { longest, current_us: 0, window_end: Instant::now() + WINDOW }
    }

    /// Takes note of a turn.
    pub(super) fn note(&mut self, began: Instant, ended: Instant) {
        if ended >= self.window_end {
            self.longest.previous_us.store(self.current_us, Ordering::Relaxed);
            self.current_us = 0;
            self.longest.current_us.store(0, Ordering::Relaxed);
            self.window_end = ended + WINDOW;
        }
        let took = u64::try_from((ended - began).as_micros()).unwrap_or(u64::MAX);
        if took > self.current_us {
            self.current_us = took;
            self.longest.current_us.store(took, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_told_for_a_while() {
        let longest = Arc::new(LongestTurn::default());
        let mut watch = TurnWatch::new(Arc::clone(&longest));
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut turn = |at: Duration, took: Duration| {
            watch.note(start + at, start + at + took);
            longest.get()
        };
        assert_eq!(turn(ms(0), ms(3)), ms(3));
        assert_eq!(turn(ms(100), ms(7)), ms(7));
        assert_eq!(turn(ms(200), ms(1)), ms(7));
        assert_eq!(turn(WINDOW + ms(500), ms(2)), ms(7));
        assert_eq!(turn(WINDOW * 2 + ms(1000), ms(1)), ms(2));
        assert_eq!(turn(WINDOW * 3 + ms(2000), ms(1)), ms(1));
    }
}
