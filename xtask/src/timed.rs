//! Steps that are announced, timed and summed up in one line.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

/// What a step is called on the command line.
pub(crate) fn name(step: &impl ValueEnum) -> String {
    step.to_possible_value().expect("no step is hidden").get_name().to_owned()
}

fn purpose(step: &impl ValueEnum) -> String {
    let value = step.to_possible_value().expect("no step is hidden");
    value.get_help().expect("every step says what it is").to_string()
}

/// Prints steps and what each is for.
pub(crate) fn list<'a, S: ValueEnum + 'a>(steps: impl IntoIterator<Item = &'a S>) {
    for step in steps {
        println!("{:14} {}", name(step), purpose(step));
    }
}

/// The steps that have run, and how long each took. Shown as `clippy 91.7 s, …`.
#[derive(Debug, Default)]
pub(crate) struct Timed(Vec<(String, Duration)>);

impl Timed {
    /// Announces a step, runs it, and notes how long it took.
    ///
    /// # Errors
    /// Those of the step, with its name.
    pub(crate) fn run(&mut self, step: &impl ValueEnum, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let name = name(step);
        println!("── {name}: {}", purpose(step));
        let begun = Instant::now();
        let outcome = run();
        let elapsed = begun.elapsed();
        let word = if outcome.is_ok() { "passed" } else { "failed" };
        println!("── {name} {word} in {}", seconds(elapsed));
        let outcome = outcome.with_context(|| format!("{name} failed"));
        self.0.push((name, elapsed));
        outcome
    }

    /// How many steps have run.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, elapsed)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {}", seconds(*elapsed))?;
        }
        Ok(())
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
