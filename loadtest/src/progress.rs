//! How far a run is, shown on a terminal while it goes on.
//!
//! One line on stderr, drawn at most ten times a second and gone when the run is over; nothing at all where stderr is
//! no terminal. Whoever drives a run calls [`Progress::turn`] once a turn; what is to be shown is only made up when it
//! is drawn, so that a turn costs a look at the clock, and a message nothing.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use crate::report::{number, per_second};

/// How often the line is drawn, at most.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Over how long a rate is taken.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// What a run is at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What is being done: `opening connections`.
    pub(crate) phase: &'static str,
    /// How much of it is done.
    pub(crate) done: u64,
    /// How much there is to do; 0 where nobody knows.
    pub(crate) due: u64,
    /// What else is worth knowing: `p99 1.2 ms`.
    pub(crate) detail: String,
}

/// The line that shows it. Clones show on the same line.
#[derive(Clone)]
pub(crate) struct Progress {
    /// `None` where no line is shown.
    bar: Option<ProgressBar>,
    is_quiet: bool,
    phase: &'static str,
    draw_at: Instant,
    rate: Rate,
}

impl Progress {
    /// Shows on stderr, if that is a terminal.
    pub(crate) fn new() -> Self {
        let bar = Some(bar(ProgressDrawTarget::stderr())).filter(|bar| !bar.is_hidden());
        Self { bar, is_quiet: false, phase: "", draw_at: Instant::now(), rate: Rate::from(0) }
    }

    /// Shows and prints nothing.
    pub(crate) fn hidden() -> Self {
        Self { bar: None, is_quiet: true, phase: "", draw_at: Instant::now(), rate: Rate::from(0) }
    }

    /// To be called once a turn: shows what the run is at, if it is time to.
    pub(crate) fn turn(&mut self, standing: impl FnOnce() -> Standing) {
        if self.bar.is_some() && Instant::now() >= self.draw_at {
            self.show(standing());
        }
    }

    /// Shows what the run is at, now: for what happens rarely.
    pub(crate) fn show(&mut self, standing: Standing) {
        let Some(bar) = &self.bar else { return };
        let Standing { phase, done, due, detail } = standing;
        self.draw_at = Instant::now() + DRAW_INTERVAL;
        if due > 0 {
            bar.set_length(due);
        }
        if phase != self.phase {
            (self.phase, self.rate) = (phase, Rate::from(done));
            bar.set_style(style(due > 0));
            bar.set_prefix(phase);
        }
        let rate = number(self.rate.at(done));
        let separator = if detail.is_empty() { "" } else { "  " };
        bar.set_message(format!("{rate}/s{separator}{detail}"));
        bar.set_position(done);
    }

    /// Prints a line that stays: above what is shown, or plainly to stderr where no terminal
    /// is.
    pub(crate) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None if self.is_quiet => {}
            None => eprintln!("{line}"),
        }
    }
}

/// How quickly something is done, over the last second or so.
#[derive(Clone, Copy)]
struct Rate {
    since: Instant,
    done: u64,
    /// Over the interval before; `None` in the first.
    before: Option<f64>,
}

impl Rate {
    /// Begins now, with so much done already.
    fn from(done: u64) -> Self {
        Self { since: Instant::now(), done, before: None }
    }

    /// The rate when so much is done.
    fn at(&mut self, done: u64) -> f64 {
        let elapsed = self.since.elapsed();
        let now = per_second(done.saturating_sub(self.done), elapsed);
        if elapsed >= RATE_INTERVAL {
            *self = Self { before: Some(now), ..Self::from(done) };
        }
        self.before.unwrap_or(now)
    }
}

fn bar(target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let bar = bar.with_style(style(false)).with_finish(ProgressFinish::AndClear);
    bar.set_draw_target(target);
    bar
}

fn style(is_bounded: bool) -> ProgressStyle {
    let template = if is_bounded {
        "{prefix}  {bar:24}  {human_pos}/{human_len}  {wide_msg}"
    } else {
        "{prefix}  {human_pos}  {wide_msg}"
    };
    ProgressStyle::with_template(template).expect("a valid template")
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    /// A progress on a terminal in memory.
    fn progress() -> (Progress, InMemoryTerm) {
        let terminal = InMemoryTerm::new(10, 100);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        (Progress { bar: Some(bar(target)), is_quiet: false, ..Progress::hidden() }, terminal)
    }

    fn opening(done: u64) -> Standing {
        Standing { phase: "opening connections", done, due: 5000, detail: "all well".to_owned() }
    }

    #[test]
    fn a_line_says_how_far_the_run_is_and_is_gone_at_the_end() {
        let (mut progress, terminal) = progress();
        progress.show(opening(1234));
        let shown = terminal.contents();
        assert!(shown.starts_with("opening connections") && shown.contains("1,234/5,000"), "{shown}");
        assert!(shown.ends_with("all well"), "{shown}");
        let also_there = progress.clone();
        drop(progress);
        assert!(!terminal.contents().is_empty(), "a clone still shows");
        drop(also_there);
        assert_eq!(terminal.contents(), "");
    }

    #[test]
    fn an_unknown_end_is_no_bar() {
        let (mut progress, terminal) = progress();
        progress.show(opening(5000));
        progress.show(Standing { phase: "broadcasting", done: 77, due: 0, detail: String::new() });
        let shown = terminal.contents();
        assert!(shown.starts_with("broadcasting  77 "), "{shown}");
    }

    #[test]
    fn nothing_is_made_up_that_is_not_drawn() {
        let (mut progress, _terminal) = progress();
        progress.draw_at = Instant::now() + Duration::from_secs(3600);
        progress.turn(|| unreachable!("it is not time to draw"));
        Progress::hidden().turn(|| unreachable!("nothing is shown"));
    }
}
