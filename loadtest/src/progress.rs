//! How far a run is, shown on a terminal while it goes on.
//!
//! One line on stderr, drawn at most ten times a second and gone when the run is over; nothing at all where stderr is
//! no terminal. Whoever drives a run calls [`Progress::turn`] once a turn; what is to be shown is only made up when it
//! is drawn, so that a turn costs a look at the clock, and a message nothing.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// How often the line is drawn, at most.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

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
    /// `None` where nothing is shown.
    bar: Option<ProgressBar>,
    phase: &'static str,
    draw_at: Instant,
}

impl Progress {
    /// Shows on stderr, if that is a terminal.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let bar = bar.with_finish(ProgressFinish::AndClear);
        Self { bar: Some(bar).filter(|bar| !bar.is_hidden()), phase: "", draw_at: Instant::now() }
    }

    /// Shows nothing.
    pub(crate) fn hidden() -> Self {
        Self { bar: None, phase: "", draw_at: Instant::now() }
    }

    /// To be called once a turn: shows what the run is at, if it is time to.
    pub(crate) fn turn(&mut self, standing: impl FnOnce() -> Standing) {
        let Some(bar) = &self.bar else { return };
        let now = Instant::now();
        if now < self.draw_at {
            return;
        }
        self.draw_at = now + DRAW_INTERVAL;
        let Standing { phase, done, due, detail } = standing();
        if phase != self.phase {
            self.phase = phase;
            bar.reset();
            bar.set_style(style(due > 0));
            bar.set_prefix(phase);
        }
        if due > 0 {
            bar.set_length(due);
        }
        bar.set_message(detail);
        bar.set_position(done);
    }
}

fn style(is_bounded: bool) -> ProgressStyle {
    let template = if is_bounded {
        "{prefix}  {bar:24}  {human_pos}/{human_len}  {per_sec}  {wide_msg}"
    } else {
        "{prefix}  {human_pos}  {per_sec}  {wide_msg}"
    };
    ProgressStyle::with_template(template).expect("a valid template")
}
