//! Things that happen at a rate: when each is due, whatever became of those before.

/// So many things a second, at fixed times from a start on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    begun_ns: u64,
    end_ns: u64,
    per_second: f64,
    done: u64,
}

impl Pace {
    /// From `begun_ns`, with the first thing due at once, and before `end_ns`; a rate of 0 never has anything due.
    pub(crate) fn new(begun_ns: u64, end_ns: u64, per_second: f64) -> Self {
        Self { begun_ns, end_ns, per_second, done: 0 }
    }

    /// When the next thing is due, if ever.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        let elapsed_ns = self.done as f64 * 1e9 / self.per_second;
        let due_ns = self.begun_ns.saturating_add(elapsed_ns as u64);
        (self.per_second > 0.0 && due_ns < self.end_ns).then_some(due_ns)
    }

    /// The next thing is done.
    pub(crate) fn done(&mut self) {
        self.done += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_do_not_drift() {
        let mut pace = Pace::new(1000, u64::MAX, 3.0);
        for _ in 0..3_000_000 {
            pace.done();
        }
        assert_eq!(pace.due_ns(), Some(1000 + 1_000_000 * 1_000_000_000));
    }

    #[test]
    fn what_is_due_before_the_end_is_done_and_no_more() {
        let mut pace = Pace::new(1000, 1000 + 2_000_000_000, 50.0);
        while pace.due_ns().is_some() {
            pace.done();
        }
        assert_eq!(pace.done, 100);
    }

    #[test]
    fn nothing_is_due_at_no_rate() {
        assert_eq!(Pace::new(0, u64::MAX, 0.0).due_ns(), None);
        assert_eq!(Pace::new(7, 8, 0.5).due_ns(), Some(7), "the first is due at once");
    }
}
