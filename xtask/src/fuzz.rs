//! The fuzz targets, one after the other: libFuzzer looks for an input that breaks what must hold of all.
//!
//! What it finds interesting stays in the target directory, where the next run takes it up; only `--keep` adds to
//! the corpora of the repository, which `cargo test` replays.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{
    install,
    shell::{cargo, command, printed, root, run, target},
};

/// How many lines of a run that fails are shown.
const LINES_SHOWN: usize = 40;

/// Which targets to run, and for how long.
#[derive(Args)]
pub(crate) struct Fuzzing {
    /// Only this target
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Add what reaches new code to the corpora in fuzz/corpus
    #[arg(long)]
    keep: bool,
}

impl Fuzzing {
    /// All targets, each for so many seconds.
    pub(crate) fn all(seconds: u32) -> Self {
        Self { target: None, seconds, keep: false }
    }
}

/// A target, and the features of the package that it needs.
struct Target {
    name: String,
    features: Vec<String>,
}

/// Builds and runs the targets, and prints how often each was executed.
///
/// # Errors
/// A target cannot be built, or some have failed when all have run.
pub(crate) fn fuzz(asked: &Fuzzing) -> Result<()> {
    let all = targets()?;
    let names = all.iter().map(|target| &*target.name).collect::<Vec<_>>().join(", ");
    let is_asked = |target: &&Target| asked.target.as_ref().is_none_or(|only| *only == target.name);
    let targets: Vec<&Target> = all.iter().filter(is_asked).collect();
    ensure!(!targets.is_empty(), "there is no such fuzz target; there are {names}");
    install::git()?;
    let cargo_fuzz = install::cargo_fuzz()?;
    let mut failed = Vec::new();
    for target in targets {
        run(&mut target.cargo_fuzz(&cargo_fuzz, "build"))?;
        match target.search(&cargo_fuzz, asked.seconds) {
            Ok(executions) => {
                println!("{:10} {executions:>12} executions in {} s", target.name, asked.seconds);
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                failed.push(&*target.name);
                continue;
            }
        }
        if asked.keep {
            // Of inputs that reach the same code, few are enough.
            target.run_on_corpora(&cargo_fuzz, Path::new("fuzz/corpus"), &own(), &["-set_cover_merge=1"])?;
        }
    }
    ensure!(failed.is_empty(), "fuzz targets failed: {}", failed.join(", "));
    Ok(())
}

/// The targets as cargo knows them.
fn targets() -> Result<Vec<Target>> {
    let asked = ["metadata", "--format-version=1", "--no-deps", "--manifest-path=fuzz/Cargo.toml"];
    let told = printed(cargo().args(asked)).context("cargo cannot read fuzz/Cargo.toml")?;
    let told: serde_json::Value = serde_json::from_str(&told).context("cargo's answer")?;
    let targets = told["packages"][0]["targets"].as_array().context("fuzz/Cargo.toml names no target")?;
    let texts = |value: &serde_json::Value| {
        let texts = value.as_array().into_iter().flatten();
        texts.filter_map(|text| Some(text.as_str()?.to_owned())).collect()
    };
    let target = |value: &serde_json::Value| {
        let name = value["name"].as_str()?.to_owned();
        Some(Target { name, features: texts(&value["required-features"]) })
    };
    Ok(targets.iter().filter_map(target).collect())
}

impl Target {
    /// A command of cargo-fuzz on this target.
    fn cargo_fuzz(&self, cargo_fuzz: &Path, verb: &str) -> Command {
        let mut fuzz = command(cargo_fuzz);
        // Coverage and sanitizers are switches of nightly toolchains, but they work on stable ones.
        fuzz.env("RUSTC_BOOTSTRAP", "1").arg(verb).arg("--target-dir").arg(folder());
        fuzz.args(self.features.iter().flat_map(|feature| ["--features", feature])).arg(&self.name);
        fuzz
    }

    /// Lets libFuzzer search for so many seconds: how often it executed the target.
    fn search(&self, cargo_fuzz: &Path, seconds: u32) -> Result<u64> {
        let time = format!("-max_total_time={seconds}");
        let options = [&*time, "-print_final_stats=1"];
        let output = self.run_on_corpora(cargo_fuzz, &own(), Path::new("fuzz/corpus"), &options)?;
        executions(&output)
            .with_context(|| format!("libFuzzer did not count the executions of {}", self.name))
    }

    /// Runs libFuzzer on two corpora, of which it changes the first only: what it says.
    fn run_on_corpora(
        &self,
        cargo_fuzz: &Path,
        changed: &Path,
        read: &Path,
        options: &[&str],
    ) -> Result<String> {
        let (changed, read) = (root().join(changed).join(&self.name), root().join(read).join(&self.name));
        for corpus in [&changed, &read] {
            fs::create_dir_all(corpus).with_context(|| format!("could not make {}", corpus.display()))?;
        }
        let path = folder().join(format!("{}.log", self.name));
        let log = File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
        let mut fuzz = self.cargo_fuzz(cargo_fuzz, "run");
        fuzz.arg(changed).arg(read).arg("--").args(options).stdout(log.try_clone()?).stderr(log);
        let outcome = run(&mut fuzz);
        let output = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        if let Err(error) = outcome {
            let lines: Vec<&str> = output.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n"));
            bail!(
                "{error:#}; {} has all of it. Put the input into fuzz/corpus/{} and `cargo test` fails too",
                path.display(),
                self.name
            );
        }
        Ok(output)
    }
}

/// Where targets are built and run.
fn folder() -> PathBuf {
    target().join("fuzz")
}

/// The corpora that grow with each run.
fn own() -> PathBuf {
    folder().join("corpus")
}

/// How often libFuzzer says that it executed the target.
fn executions(output: &str) -> Option<u64> {
    output.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_read_from_the_final_statistics() {
        let output = "#8\tDONE   cov: 621 ft: 2225\nstat::number_of_executed_units: 151039\n\
                      stat::average_exec_per_sec:     16782\n";
        assert_eq!(executions(output), Some(151_039));
        assert_eq!(executions("stat::new_units_added: 3\n"), None);
    }

    #[test]
    fn every_target_is_known_with_what_it_needs() {
        let targets = targets().unwrap();
        let mut files: Vec<String> = fs::read_dir(root().join("fuzz/fuzz_targets"))
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let mut names: Vec<&str> = targets.iter().map(|target| &*target.name).collect();
        names.sort_unstable();
        assert_eq!(names, files);
        let features = |name| &targets.iter().find(|target| target.name == name).unwrap().features[..];
        assert_eq!(features("frame"), [""; 0]);
        assert_eq!(features("store"), ["server"]);
    }
}
