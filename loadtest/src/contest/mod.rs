//! `peers`: servers side by side, on the same work, in turns.
//!
//! [`contestant`] starts them, [`discipline`] says what they do and what is taken of it, [`results`] makes the table.
//! What is compared with the floor is compared round by round, so that what disturbs the machine disturbs both.

mod contestant;
mod discipline;
mod results;

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;

use crate::process::raise_descriptor_limit;
use crate::progress::Standing;
use crate::report::{Findings, OutputOptions};
use contestant::Contestant;
use discipline::{Discipline, TIMES_FOR_A_PERCENTILE, all};
use results::Results;

/// Compares servers side by side: the floor, WebRocket in both dialects, and what else the machine has.
///
/// In each discipline the servers take turns, --rounds times; each round opens its connections anew. A server has the
/// first processor for itself and the load test the next one. Told are medians, how far the rounds spread, and the
/// ratio to the floor: the median of the ratios of each round. The floor is a loop of send(2) without any logic
/// (`webrocket-loadtest floor`). Every delivery of every server is checked for loss, doubles and order.
///
/// With --other, our build is also compared with the other one, in each discipline in which all servers take part: the
/// median of the ratios new/old of each round, its 95 % interval, and a verdict. The interval comes from the ranks of
/// the ratios (sign test) and assumes nothing about their distribution. Where less is better, the build has failed if
/// the whole interval is above 1.05, and has passed if it is wholly below; where more is better, it has failed below
/// 1/1.05 and has passed above. An interval around the limit is unresolved. A build that has failed ends the command
/// with exit status 1, after the table. Use --rounds 30 for a verdict; fewer than 6 rounds have no interval.
///
/// Costs are processor time of the server's process for a delivery.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many rounds each server has in each discipline; a verdict on --other takes 6 and should have 30
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many seconds a round broadcasts; five times as many where a percentile is taken
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only these servers, separated by commas; the floor is always there, and so is WebRocket where it is compared
    /// with itself: by shards, by subscribers, by channels
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Only disciplines whose names contain one of these
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    disciplines: Vec<String>,
    /// WebRocket's binary [default: webrocket-server beside this one]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Another build of WebRocket, which takes part as webrocket-other: ours is judged by its ratio to this one
    #[arg(long, value_name = "PATH")]
    other: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Lets all take part in all disciplines.
///
/// # Errors
/// Nobody is called so, a server fails, or breaks a guarantee; with another build, they would never meet.
pub(crate) fn run(options: &Options) -> anyhow::Result<Findings> {
    let disciplines: Vec<Discipline> = all().into_iter().filter(|it| options.takes_place(it)).collect();
    ensure!(!disciplines.is_empty(), "no discipline is called so");
    let contestants = contestants(options)?;
    options.ensure_verdict(&contestants, &disciplines)?;
    let most = disciplines.iter().map(Discipline::connections).max().unwrap_or_default();
    raise_descriptor_limit(most)?;
    let mut results = Results::new(options.rounds, options.seconds);
    let mut progress = options.output.progress();
    for (done, discipline) in (0..).zip(&disciplines) {
        let (due, detail) = (disciplines.len() as u64, discipline.name().to_owned());
        progress.show(Standing { phase: "disciplines", done, due, detail });
        let found = discipline.run(&contestants, options)?;
        progress.line(&found.line());
        results.add(found);
    }
    let mut findings = results.findings();
    findings.setting("percentile_seconds", options.seconds * TIMES_FOR_A_PERCENTILE);
    for contestant in &contestants {
        if let Some(version) = contestant.version() {
            findings.setting(contestant.name(), version);
        }
    }
    Ok(findings)
}

impl Options {
    fn takes_place(&self, discipline: &Discipline) -> bool {
        self.disciplines.is_empty() || self.disciplines.iter().any(|name| discipline.name().contains(name))
    }

    /// With another build there is a verdict on ours: a run that has none must not end as if ours had passed.
    fn ensure_verdict(&self, contestants: &[Contestant], disciplines: &[Discipline]) -> anyhow::Result<()> {
        let both = contestants.iter().any(Contestant::is_our_build)
            && contestants.iter().any(Contestant::is_other_build);
        ensure!(
            self.other.is_none() || both,
            "--other compares webrocket with webrocket-other: --only must name both"
        );
        ensure!(
            self.other.is_none() || disciplines.iter().any(Discipline::is_for_all),
            "--other compares two builds, but only one takes part in these disciplines"
        );
        Ok(())
    }
}

fn contestants(options: &Options) -> anyhow::Result<Vec<Contestant>> {
    let mut there = Vec::new();
    for contestant in contestant::all(options.server.as_deref(), options.other.as_deref()) {
        let named = options.only.iter().any(|name| name == contestant.name());
        let wanted = named || options.only.is_empty() && !contestant.is_extra();
        if wanted || contestant.is_floor() {
            there.push(contestant);
        }
    }
    for name in &options.only {
        ensure!(there.iter().any(|contestant| contestant.name() == name), "no server here is called {name}");
    }
    Ok(there)
}
