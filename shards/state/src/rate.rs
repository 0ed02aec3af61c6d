//! Rate limits of one session: two token buckets that hold one second's worth.

use std::time::Instant;

use crate::settings::Settings;

/// The buckets of a session whose vhost limits its rate.
#[derive(Debug)]
pub struct Rate {
    messages: Bucket,
    bytes: Bucket,
}

#[derive(Debug)]
struct Bucket {
    per_second: u32,
    /// Billionths of a unit.
    level: u128,
    filled: Instant,
}

const BILLION: u128 = 1_000_000_000;

impl Rate {
    /// The buckets, full; `None` where the vhost sets no limit.
    #[must_use]
    pub fn new(settings: &Settings, now: Instant) -> Option<Box<Self>> {
        let (messages, bytes) = (settings.messages_per_second_max, settings.bytes_per_second_max);
        (messages > 0 || bytes > 0)
            .then(|| Box::new(Self { messages: Bucket::new(messages, now), bytes: Bucket::new(bytes, now) }))
    }

    /// Counts a message of `bytes`; `false` if it is over a limit.
    #[must_use]
    pub fn admit(&mut self, now: Instant, bytes: usize) -> bool {
        self.messages.take(now, 1) && self.bytes.take(now, bytes)
    }
}

impl Bucket {
    fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, level: u128::from(per_second) * BILLION, filled: now }
    }

    fn take(&mut self, now: Instant, amount: usize) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let per_second = u128::from(self.per_second);
        let elapsed = now.saturating_duration_since(self.filled).as_nanos();
        self.filled = now;
        self.level = (self.level + elapsed * per_second).min(per_second * BILLION);
        match self.level.checked_sub(amount as u128 * BILLION) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_holds_a_seconds_worth() {
        let now = Instant::now();
        let settings = Settings { messages_per_second_max: 10, ..Settings::default() };
        let mut rate = Rate::new(&settings, now).unwrap();
        for _ in 0..10 {
            assert!(rate.admit(now, 1_000_000));
        }
        assert!(!rate.admit(now, 1));
        assert!(!rate.admit(now + Duration::from_millis(99), 1));
        assert!(rate.admit(now + Duration::from_millis(200), 1));
        assert!(Rate::new(&Settings::default(), now).is_none());
    }
}
