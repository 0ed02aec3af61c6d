//! What is checked, in which order, and how a run is reported.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::imports;
use crate::install;
use crate::shell::{cargo, command, root, run, succeeds, target};
use crate::timed::{self, Timed};

/// The folders with tests in Python, which share their settings and fixtures.
const PYTHON_TESTS: [&str; 2] = ["tests/python", "clients/kosmonaut-python/tests"];

/// One stage of the gate. They run in the order in which they stand here: quick and telling ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The formatting of all Rust sources
    Format,
    /// No files that import each other in a circle; clippy over all targets, warnings are errors
    Clippy,
    /// Licences, bans and sources of the dependencies
    Deny,
    /// Unit, model and integration tests in Rust
    Rust,
    /// The examples in the documentation
    Doc,
    /// The binaries that the process tests below start
    Build,
    /// Thousands of connections, every delivery judged
    Load,
    /// Real server processes, driven from Python
    Python,
    /// Real server processes, driven from Node
    Node,
    /// Real server processes, driven by a browser
    Browser,
}

/// Which stages of the gate to run, and against which binaries.
#[derive(Args, Default)]
pub(crate) struct Selection {
    /// Run only these stages (and the build, where they need the binaries)
    #[arg(long, value_name = "STAGE", value_enum)]
    only: Vec<Stage>,
    /// Leave these stages out
    #[arg(long, value_name = "STAGE", value_enum)]
    skip: Vec<Stage>,
    /// Print the stages and stop
    #[arg(long)]
    list: bool,
    /// Let the process tests run the release binaries
    #[arg(long)]
    release: bool,
    /// Also check the dependencies against the advisory database (fetched with git from the network)
    #[arg(long)]
    advisories: bool,
}

impl Stage {
    /// Whether this stage starts the binaries that [`Stage::Build`] makes.
    fn starts_binaries(self) -> bool {
        matches!(self, Self::Load | Self::Python | Self::Node | Self::Browser)
    }

    fn check(self, selection: &Selection) -> Result<()> {
        match self {
            Self::Format => run(cargo().args(["fmt", "--all", "--check"])),
            Self::Clippy => {
                imports::imports(&imports::Selection::default())?;
                install::git()?;
                run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
            }
            Self::Deny => deny(selection.advisories),
            Self::Rust => rust(),
            Self::Doc => run(cargo().args(["test", "--workspace", "--doc"])),
            Self::Build => {
                install::git()?;
                // With the tests beside them, the binaries are built of what the tests have built already.
                let rest = if selection.release { "--release" } else { "--tests" };
                run(cargo().args(["build", "--workspace", "--bins", rest]))
            }
            Self::Load => load(selection),
            Self::Python => {
                // Many tests wait for the server's own deadlines: two processes do not wait for each other.
                let mut tests = pytest()?;
                tests.args(["--numprocesses", "2", "--dist", "worksteal"]);
                run(selection.with_binaries(&mut tests))
            }
            Self::Node => node(selection, "", |name| !name.contains("browser")),
            Self::Browser => {
                install::curl()?;
                // The demo's backend is written in it.
                install::python()?;
                let chromium = install::chromium()?;
                node(selection, &chromium.to_string_lossy(), |name| name.contains("browser"))
            }
        }
    }
}

impl Selection {
    /// The stages to run, in their order.
    fn stages(&self) -> Vec<Stage> {
        let asked = |stage: Stage| {
            let built_for = |only: &Stage| stage == Stage::Build && only.starts_binaries();
            self.only.is_empty() || self.only.contains(&stage) || self.only.iter().any(built_for)
        };
        let all = Stage::value_variants().iter().copied();
        all.filter(|&stage| asked(stage) && !self.skip.contains(&stage)).collect()
    }

    /// The folder with the binaries.
    fn binaries(&self) -> PathBuf {
        target().join(if self.release { "release" } else { "debug" })
    }

    /// Tells the process tests where the binaries are.
    fn with_binaries<'a>(&self, tests: &'a mut Command) -> &'a mut Command {
        tests.env("WEBROCKET_BIN", self.binaries())
    }
}

/// Runs the selected stages and stops at the first that fails; with `--list`, prints them instead.
///
/// # Errors
/// Names the stage that failed.
pub(crate) fn test(selection: &Selection) -> Result<()> {
    let stages = selection.stages();
    if selection.list {
        timed::list(&stages);
        return Ok(());
    }
    let mut timed = Timed::default();
    for stage in &stages {
        timed.run(stage, || stage.check(selection))?;
    }
    anyhow::ensure!(timed.len() > 0, "--only and --skip leave no stage");
    println!("── all {} stages passed: {timed}", timed.len());
    Ok(())
}

/// The process tests in Python that take minutes, against the release binaries.
///
/// # Errors
/// The binaries do not build, or a test fails.
pub(crate) fn python_races() -> Result<()> {
    let selection = Selection { release: true, ..Selection::default() };
    Stage::Build.check(&selection)?;
    run(selection.with_binaries(pytest()?.args(["-m", "nightly"])))
}

/// pytest on all tests in Python.
fn pytest() -> Result<Command> {
    let mut pytest = command(install::python()?);
    pytest.args(["-m", "pytest", "-c", "tests/python/pytest.ini", "--rootdir", "."]).args(PYTHON_TESTS);
    Ok(pytest)
}

fn deny(advisories: bool) -> Result<()> {
    let cargo_deny = install::cargo_deny()?;
    let mut check = command(cargo_deny);
    check.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    run(check.args(advisories.then_some("advisories")))
}

fn rust() -> Result<()> {
    install::git()?;
    if succeeds(cargo().args(["nextest", "--version"])) {
        run(cargo().args(["nextest", "run", "--workspace"]))
    } else {
        run(cargo().args(["test", "--workspace", "--lib", "--bins", "--tests", "--examples"]))
    }
}

/// Runs the test files for Node whose names `belongs` accepts.
fn node(selection: &Selection, chromium: &str, belongs: fn(&str) -> bool) -> Result<()> {
    let node = install::node()?;
    // The tests import the built client, which is not in the repository.
    run(command(&node).arg("clients/javascript/build.mjs"))?;
    let files = node_tests(belongs)?;
    let mut tests = command(node);
    tests.args(["--test", "--test-reporter=spec"]).args(files).env("WEBROCKET_CHROMIUM", chromium);
    run(selection.with_binaries(&mut tests))
}

fn node_tests(belongs: fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["tests/node", "clients/javascript/test"] {
        let folder = root().join(folder);
        for entry in folder.read_dir().with_context(|| format!("could not read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".test.mjs") && belongs(&name) {
                files.push(path);
            }
        }
    }
    anyhow::ensure!(!files.is_empty(), "no test file for this stage was found");
    files.sort();
    Ok(files)
}

/// One order on every connection, nothing lost and nothing doubled: with publishers and
/// subscribers on every shard, on both ways of doing I/O, and with channels that interleave.
fn load(selection: &Selection) -> Result<()> {
    for (dialect, io, shards, channels, subscribers) in [
        ("classic", "auto", "2", "1", "5000"),
        ("wwfp", "auto", "4", "1", "2000"),
        ("classic", "epoll", "4", "1", "2000"),
        ("wwfp", "epoll", "2", "20", "50"),
    ] {
        let mut fanout = Command::new(selection.binaries().join("webrocket-loadtest"));
        fanout.current_dir(root()).args(["fanout", "--broadcasts", "200", "--publishers", "10"]);
        fanout.args(["--dialect", dialect, "--io", io, "--shards", shards]);
        fanout.args(["--channels", channels, "--subscribers", subscribers]);
        run(&mut fanout)?;
    }
    Ok(())
}
