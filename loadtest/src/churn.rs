//! `churn`: connections come and go while others are served.

use std::time::Duration;

use clap::Args;

use crate::population::{self, PopulationOptions, duration};
use crate::report::Findings;

/// Lets connections leave and others come in their place while publishers broadcast, and checks every delivery.
///
/// Leavers take turns: the one that has been there longest, then the one that came last. Some end as browsers do,
/// some are reset (--abrupt). Whoever is subscribed must receive everything from then on: one order for all, each
/// sender's own order, nothing lost, nothing doubled, nothing that was broadcast before it asked. In the end the
/// server may hold no more file descriptors than at its start and for the connections that stand.
///
/// Broadcasts and leaves happen at fixed times, whatever became of those before. Times count from when a broadcast
/// or a join was due until this (single-threaded) program has read the last word of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) population: PopulationOptions,
    /// For how long: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
}

/// Runs the scenario against a server of its own or the one at `--url`.
///
/// # Errors
/// A violated guarantee, somebody waits for too long, or a failure of server or connections.
pub(crate) fn run(options: &Options) -> anyhow::Result<Findings> {
    population::run(
        &options.population,
        options.duration,
        |_| {},
        |server, outcome| {
            let mut findings = population::tell("churn", server, outcome);
            findings.setting("duration_s", options.duration.as_secs_f64());
            findings
        },
    )
}
