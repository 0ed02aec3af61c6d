//! How long a shard's turns take, for so long nobody else is served, and may take for each sort of work.
//!
//! Two lengths are kept apart: by the clock on the wall, and in processor time of the shard's thread,
//! which leaves out what the system ran on the shard's core meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// A longest turn is told for at least this long, and at most twice as long.
const WINDOW: Duration = Duration::from_secs(10);

/// Turns below this are not worth a look at the processor time, which is a system call.
const LONG: Duration = Duration::from_micros(500);

/// The longest turns of the last 10 to 20 s in which the shard had anything to do.
#[derive(Debug, Default)]
pub struct LongestTurn {
    wall: Longest,
    processor: Longest,
}

impl LongestTurn {
    /// By the clock on the wall.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.wall.get()
    }

    /// In processor time. Of long turns in a row, the first is not measured.
    #[must_use]
    pub fn processor(&self) -> Duration {
        self.processor.get()
    }
}

/// The greatest of what was noted in this window and the one before, in microseconds.
#[derive(Debug, Default)]
struct Longest {
    current: AtomicU64,
    previous: AtomicU64,
}

impl Longest {
    fn get(&self) -> Duration {
        let [current, previous] = [&self.current, &self.previous].map(|us| us.load(Ordering::Relaxed));
        Duration::from_micros(current.max(previous))
    }

    /// Only the shard's thread notes.
    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if took > self.current.load(Ordering::Relaxed) {
            self.current.store(took, Ordering::Relaxed);
        }
    }

    fn begin_window(&self) {
        self.previous.store(self.current.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The shard's side of a [`LongestTurn`].
#[derive(Debug)]
pub(super) struct TurnWatch {
    longest: Arc<LongestTurn>,
    window_end: Instant,
    /// Processor time at the end of the turn before, if that was long.
    processor: Option<Duration>,
}

impl TurnWatch {
    pub(super) fn new(longest: Arc<LongestTurn>) -> Self {
        Self { longest, window_end: Instant::now() + WINDOW, processor: None }
    }

    /// Takes note of a turn of this thread.
    pub(super) fn note(&mut self, began: Instant, ended: Instant) {
        self.note_with(began, ended, processor_time);
    }

    fn note_with(&mut self, began: Instant, ended: Instant, processor_time: impl FnOnce() -> Duration) {
        if ended >= self.window_end {
            self.longest.wall.begin_window();
            self.longest.processor.begin_window();
            self.window_end = ended + WINDOW;
        }
        let wall = ended - began;
        self.longest.wall.note(wall);
        if wall < LONG {
            self.processor = None;
            return self.longest.processor.note(wall);
        }
        let now = processor_time();
        if let Some(before) = self.processor.replace(now) {
            self.longest.processor.note(now.saturating_sub(before).min(wall));
        }
    }
}

/// The time that one sort of work may take of a turn.
#[derive(Debug)]
pub(super) struct Share {
    began: Instant,
    time: Duration,
    bytes_per_look: usize,
    unlooked: usize,
}

impl Share {
    /// A share that begins now; the clock is read once for so many bytes of work.
    pub(super) fn new(time: Duration, bytes_per_look: usize) -> Self {
        Self { began: Instant::now(), time, bytes_per_look, unlooked: 0 }
    }

    /// Takes note of `bytes` of work; whether that was enough for this turn.
    pub(super) fn is_used_up(&mut self, bytes: usize) -> bool {
        self.unlooked += bytes;
        if self.unlooked < self.bytes_per_look {
            return false;
        }
        self.unlooked = 0;
        self.began.elapsed() >= self.time
    }
}

/// Processor time that this thread has used.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("what was used is not negative")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_told_for_a_while() {
        let longest = Arc::new(LongestTurn::default());
        let mut watch = TurnWatch::new(Arc::clone(&longest));
        let ms = Duration::from_millis;
        let start = watch.window_end.checked_sub(WINDOW).unwrap();
        let mut turn = |at: Duration, wall: Duration, processor: Duration| {
            watch.note_with(start + at, start + at + wall, || processor);
            (longest.wall(), longest.processor())
        };
        let short = Duration::from_micros(400);
        assert_eq!(turn(ms(0), short, ms(0)), (short, short));
        assert_eq!(turn(ms(10), ms(3), ms(50)), (ms(3), short), "what was used before it is unknown");
        assert_eq!(turn(ms(100), ms(70), ms(54)), (ms(70), ms(4)));
        assert_eq!(turn(ms(200), ms(1), ms(55)), (ms(70), ms(4)));
        assert_eq!(turn(WINDOW + ms(500), ms(2), ms(57)), (ms(70), ms(4)));
        assert_eq!(turn(WINDOW * 2 + ms(1000), ms(1), ms(58)), (ms(2), ms(2)));
        assert_eq!(turn(WINDOW * 3 + ms(2000), ms(1), ms(59)), (ms(1), ms(1)));
    }

    #[test]
    fn a_share_ends_at_the_first_look_after_its_time() {
        let mut share = Share::new(Duration::ZERO, 100);
        assert_eq!(
            [60, 39, 1, 60, 40].map(|bytes| share.is_used_up(bytes)),
            [false, false, true, false, true]
        );
        let mut share = Share::new(Duration::MAX, 0);
        assert!(!share.is_used_up(1000));
    }

    #[test]
    fn a_thread_uses_processor_time() {
        let before = processor_time();
        assert!((0..10_000_000).any(|_| processor_time() > before), "even asking takes some");
    }
}
