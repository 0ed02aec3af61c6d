//! The checks that take long: each night, and before a release.
//!
//! The gate ([`crate::stages`]) tries a few of what is tried here in thousands. All checks run, whatever fails
//! before them, and the failures are told at the end.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::{
    fuzz::{self, Fuzzing},
    instructions::{self, Counting},
    sanitize,
    shell::{cargo, run},
    stages, system_libzmq,
    timed::{self, Timed},
};

/// One of the long checks, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
    /// Thousands of seeds of the simulation
    Seeds,
    /// The process tests that are too long for the gate: long races, long endurance
    Races,
    /// The tests of the ZeroMQ exchange under AddressSanitizer
    Sanitize,
    /// The tests of the ZeroMQ exchange with the system's libzmq, with CURVE
    SystemLibzmq,
    /// Every fuzz target for a while
    Fuzz,
    /// The instructions of the hot path, beside the record
    Instructions,
}

/// Which long checks to run.
#[derive(Args)]
pub(crate) struct Selection {
    /// Run only these checks
    #[arg(long, value_name = "CHECK", value_enum)]
    only: Vec<Check>,
    /// Leave these checks out
    #[arg(long, value_name = "CHECK", value_enum)]
    skip: Vec<Check>,
    /// Print the checks and stop
    #[arg(long)]
    list: bool,
    /// How many seeds the simulation runs
    #[arg(long, value_name = "N", default_value_t = 3000)]
    seeds: u64,
    /// The first seed [default: another one each day]
    #[arg(long, value_name = "SEED")]
    first: Option<u64>,
    /// How long each fuzz target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    fuzz_seconds: u32,
}

impl Selection {
    /// Each day has seeds of its own.
    fn first_seed(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.first.unwrap_or_else(|| since.as_secs() / (24 * 60 * 60) * self.seeds)
    }
}

impl Check {
    fn run(self, selection: &Selection) -> Result<()> {
        match self {
            Self::Seeds => {
                let (seeds, first) = (selection.seeds.to_string(), selection.first_seed().to_string());
                let arguments = ["--seeds", &seeds, "--first", &first];
                run(cargo().args(["run", "--release", "-p", "webrocket-sim", "--"]).args(arguments))
            }
            Self::Races => stages::python_races(),
            Self::Sanitize => sanitize::sanitize(None),
            Self::SystemLibzmq => system_libzmq::system_libzmq(None),
            Self::Fuzz => fuzz::fuzz(&Fuzzing::all(selection.fuzz_seconds)),
            Self::Instructions => instructions::instructions(&Counting::default()),
        }
    }
}

/// Runs the selected checks, all of them, and says what each took; with `--list`, prints them instead.
///
/// # Errors
/// Names all checks that failed.
pub(crate) fn nightly(selection: &Selection) -> Result<()> {
    let is_asked = |check: &&Check| selection.only.is_empty() || selection.only.contains(check);
    let checks =
        Check::value_variants().iter().filter(is_asked).filter(|check| !selection.skip.contains(check));
    if selection.list {
        timed::list(checks);
        return Ok(());
    }
    let mut failed = Vec::new();
    let mut timed = Timed::default();
    for check in checks {
        if let Err(error) = timed.run(check, || check.run(selection)) {
            eprintln!("error: {error:#}");
            failed.push(timed::name(check));
        }
    }
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), timed.len(), failed.join(", "));
    }
    ensure!(timed.len() > 0, "--only and --skip leave no check");
    println!("── all {} checks passed: {timed}", timed.len());
    Ok(())
}
