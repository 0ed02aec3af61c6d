//! `peers`: servers side by side, on the same work, in turns.
//!
//! [`contestant`] starts them, [`discipline`] says what they do and what is taken of it, [`results`] makes the table.
//! What is compared with the floor is compared round by round, so that what disturbs the machine disturbs both.

mod contestant;
mod discipline;
mod options;
mod results;

use anyhow::ensure;

use crate::process::raise_descriptor_limit;
use crate::progress::Standing;
use crate::report::Findings;
use contestant::Contestant;
use discipline::{Discipline, TIMES_FOR_A_PERCENTILE};
pub(crate) use options::Options;
use results::Results;

/// Lets all take part in all disciplines.
///
/// # Errors
/// Nobody is called so, a server fails, or breaks a guarantee; with another build, they would never meet.
pub(crate) fn run(options: &Options) -> anyhow::Result<Findings> {
    let disciplines = disciplines(options)?;
    let contestants = contestants(options)?;
    if options.other.is_some() {
        ensure_verdict(&contestants, &disciplines)?;
    }
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

/// Those that are asked for by name.
fn disciplines(options: &Options) -> anyhow::Result<Vec<Discipline>> {
    let is_named =
        |discipline: &Discipline| options.disciplines.iter().any(|it| discipline.name().contains(it));
    let is_asked = |discipline: &Discipline| options.disciplines.is_empty() || is_named(discipline);
    let disciplines: Vec<Discipline> = discipline::all().into_iter().filter(is_asked).collect();
    ensure!(!disciplines.is_empty(), "no discipline is called so");
    Ok(disciplines)
}

/// Makes sure that two builds meet: a run that has no verdict must not end as if ours had passed.
fn ensure_verdict(contestants: &[Contestant], disciplines: &[Discipline]) -> anyhow::Result<()> {
    let takes_part = |is_asked: fn(&Contestant) -> bool| contestants.iter().any(is_asked);
    ensure!(
        takes_part(Contestant::is_our_build) && takes_part(Contestant::is_other_build),
        "--other compares webrocket with webrocket-other: --only must name both"
    );
    ensure!(
        disciplines.iter().any(Discipline::is_for_all),
        "--other compares two builds, but only one takes part in these disciplines"
    );
    Ok(())
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
