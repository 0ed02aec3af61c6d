//! How many instructions the hot path takes, beside what was recorded.
//!
//! The cases are those of `benches/cases`; callgrind counts each in a process of its own, and only what
//! the case measures. Counts hold on a machine that has other work too, where times do not. They hold for
//! one compiler, one C library and one family of processors: the record names the compiler and valgrind.
//!
//! Hash keys are drawn anew in each process; the cases are large enough that this moves a count by half a per
//! cent at most, all but those of `lookup` by nothing. A long copy counts for more than it costs: the processor's
//! own (`rep movsb`) is taken for an instruction a byte.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    install,
    shell::{cargo, command, printed, root, run, target},
};

/// How much more than recorded a case may take, as a share.
const TOLERANCE: f64 = 0.03;

/// What to count, and what to do with it.
#[derive(Args, Default)]
pub(crate) struct Counting {
    /// Only the cases whose names contain this
    only: Option<String>,
    /// Put what is counted into the record
    #[arg(long)]
    record: bool,
}

/// A case as the program that runs it names it.
struct Case {
    name: String,
    /// How many operations the program runs where they are counted.
    operations: f64,
}

/// Counts the cases and prints them beside the record; with `--record` rewrites that.
///
/// # Errors
/// Valgrind cannot be installed, a case cannot be run, one takes more than it may, or one has no record.
pub(crate) fn instructions(asked: &Counting) -> Result<()> {
    let valgrind = install::valgrind()?;
    install::git()?;
    let program = build()?;
    let mut record = Record::read()?;
    let here = toolchain(&valgrind);
    if !record.counts.is_empty() && record.toolchain != here {
        println!("recorded with {}, counted with {here}: counts may differ by themselves", record.toolchain);
    }
    println!("{:45} {:>12} {:>12} {:>9}", "instructions per operation", "counted", "recorded", "change");
    let mut failures = Vec::new();
    let cases = cases(&program)?;
    record.counts.retain(|name, _| cases.iter().any(|case| case.name == *name));
    for case in cases {
        if asked.only.as_ref().is_some_and(|only| !case.name.contains(only)) {
            continue;
        }
        let counted = count(&valgrind, &program, &case)?;
        let recorded = record.counts.insert(case.name.clone(), counted);
        print(&case.name, counted, recorded);
        if !is_within(counted, recorded) {
            failures.push(case.name);
        }
    }
    if asked.record {
        record.toolchain = here;
        return record.write();
    }
    ensure!(
        failures.is_empty(),
        "{} without a record, or more than {} % above it: {}; `callgrind_annotate` shows where, with the files in {}",
        failures.len(),
        TOLERANCE * 100.0,
        failures.join(", "),
        folder().display()
    );
    Ok(())
}

fn is_within(counted: f64, recorded: Option<f64>) -> bool {
    recorded.is_some_and(|recorded| counted <= recorded * (1.0 + TOLERANCE))
}

fn print(name: &str, counted: f64, recorded: Option<f64>) {
    let (recorded, change) = match recorded {
        None => ("none".to_owned(), String::new()),
        Some(recorded) => (format!("{recorded:.1}"), format!("{:+.1} %", (counted / recorded - 1.0) * 100.0)),
    };
    println!("{name:45} {counted:12.1} {recorded:>12} {change:>9}");
}

/// Builds the program that runs the cases, optimised as the measurements of time are.
fn build() -> Result<PathBuf> {
    let bench = ["bench", "--bench", "instructions", "--no-run"];
    run(cargo().args(bench))?;
    // Nothing is left to build, so this only tells where it is.
    let told =
        printed(cargo().args(bench).args(["--message-format", "json"])).context("cargo told nothing")?;
    let executable = told
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "instructions")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    executable.context("cargo did not say where the program is")
}

fn cases(program: &Path) -> Result<Vec<Case>> {
    let listed = printed(&mut command(program)).context("the program does not list its cases")?;
    let case = |line: &str| {
        let (name, operations) = line.split_once('\t')?;
        Some(Case { name: name.to_owned(), operations: operations.parse().ok()? })
    };
    listed.lines().map(|line| case(line).with_context(|| format!("{line:?} is no case"))).collect()
}

/// Instructions per operation of one case.
fn count(valgrind: &Path, program: &Path, case: &Case) -> Result<f64> {
    let letters = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let file = folder().join(case.name.chars().map(letters).collect::<String>());
    fs::create_dir_all(folder()).with_context(|| format!("could not make {}", folder().display()))?;
    let mut callgrind = Command::new(valgrind);
    callgrind.current_dir(root()).args(["--quiet", "--tool=callgrind", "--toggle-collect=measured"]);
    callgrind.arg(format!("--callgrind-out-file={}", file.display()));
    run(callgrind.arg(program).arg(&case.name))?;
    let counts = fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))?;
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<f64>().ok());
    let total = total.with_context(|| format!("callgrind counted nothing in {}", file.display()))?;
    ensure!(total > 0.0, "callgrind never saw the function `measured` in {}", program.display());
    Ok(total / case.operations)
}

/// Where callgrind writes.
fn folder() -> PathBuf {
    target().join("instructions")
}

fn toolchain(valgrind: &Path) -> String {
    let version = |program: &mut Command| printed(program.arg("--version")).unwrap_or_default();
    let rustc = version(&mut command("rustc"));
    let rustc = rustc.split(" (").next().unwrap_or_default();
    format!("{rustc}, {} on {}", version(&mut command(valgrind)), std::env::consts::ARCH)
}

/// What was counted once and is held against what is counted now.
#[derive(Default)]
struct Record {
    toolchain: String,
    counts: BTreeMap<String, f64>,
}

impl Record {
    fn file() -> PathBuf {
        root().join("benches/instructions.tsv")
    }

    /// The record, empty if there is none.
    fn read() -> Result<Self> {
        if !Self::file().exists() {
            return Ok(Self::default());
        }
        Self::parse(&fs::read_to_string(Self::file()).context("could not read the record")?)
    }

    fn write(&self) -> Result<()> {
        fs::write(Self::file(), self.text()).context("could not write the record")
    }

    fn parse(text: &str) -> Result<Self> {
        let mut record = Self::default();
        for line in text.lines() {
            if let Some(toolchain) = line.strip_prefix("# ") {
                record.toolchain = toolchain.to_owned();
            } else {
                let (case, count) =
                    line.split_once('\t').with_context(|| format!("{line:?} is no record"))?;
                let count = count.parse().with_context(|| format!("{count:?} is no count"))?;
                record.counts.insert(case.to_owned(), count);
            }
        }
        Ok(record)
    }

    fn text(&self) -> String {
        let lines = self.counts.iter().map(|(case, count)| format!("{case}\t{count:.1}\n"));
        format!("# {}\n{}", self.toolchain, lines.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_may_take_a_little_more_than_recorded() {
        let record = Record::parse("# rustc 1.95.0\nsplicing: object\t100.0\n").unwrap();
        let recorded = record.counts.get("splicing: object").copied();
        assert!(is_within(103.0, recorded));
        assert!(!is_within(103.1, recorded));
        assert!(is_within(1.0, recorded));
        assert!(!is_within(1.0, record.counts.get("splicing: scalar").copied()));
    }

    #[test]
    fn a_record_reads_back() {
        let text = "# rustc 1.95.0, valgrind-3.19.0 on x86_64\nhop: 64 a batch\t201.1\nlog: 1 record\t7.0\n";
        assert_eq!(Record::parse(text).unwrap().text(), text);
        assert!(Record::parse("hop: 64 a batch 201.1").is_err());
    }
}
