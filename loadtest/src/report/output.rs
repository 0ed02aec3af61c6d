//! Where findings go: text or JSON on stdout, and files.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::Findings;
use crate::progress::Progress;

/// How a run is told.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct OutputOptions {
    /// Print the findings as one line of JSON; with FILE, write it there and print the text
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,
    /// Write the findings as a page that stands alone: figures and plots, to be opened in a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Do not show on a terminal how far the run is
    #[arg(long)]
    quiet: bool,
}

impl OutputOptions {
    /// Runs `scenario`, and tells what it found.
    ///
    /// # Errors
    /// A file cannot be written, which is told before the run; the scenario's; a bound was not kept, which is told
    /// after the findings.
    pub(crate) fn tell(&self, scenario: impl FnOnce() -> anyhow::Result<Findings>) -> anyhow::Result<()> {
        for path in self.files() {
            check_writable(path)?;
        }
        let findings = scenario()?;
        let json = serde_json::to_string(&findings).context("findings are writable as JSON")?;
        match &self.json {
            Some(None) => println!("{json}"),
            Some(Some(path)) => {
                println!("{}", super::text::render(&findings));
                write(path, &format!("{json}\n"))?;
            }
            None => println!("{}", super::text::render(&findings)),
        }
        if let Some(path) = &self.html {
            write(path, &super::html::page(&findings))?;
        }
        match findings.failures.as_slice() {
            [] => Ok(()),
            failures => bail!("{}", failures.join("\n")),
        }
    }

    /// Shows on a terminal how far the run is, unless it shall be quiet.
    pub(crate) fn progress(&self) -> Progress {
        if self.quiet { Progress::hidden() } else { Progress::new() }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        self.json.iter().flatten().chain(&self.html).map(PathBuf::as_path)
    }
}

/// Writes a file.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes sure that a file can be written: better told before a run of hours than after it.
///
/// What is in it stays.
pub(crate) fn check_writable(path: &Path) -> anyhow::Result<()> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
