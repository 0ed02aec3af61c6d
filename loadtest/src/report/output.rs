//! Where findings go: text or JSON on stdout, and files.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::{Findings, html, text};
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
        // A full disk shall not cost the text, nor a reader of stdout that has gone the files.
        let written = self.write_files(&findings, &json);
        print(if self.json == Some(None) { json } else { text::render(&findings) })?;
        written?;
        match findings.failures.as_slice() {
            [] => Ok(()),
            failures => bail!("{}", failures.join("\n")),
        }
    }

    /// Shows on a terminal how far the run is, unless it shall be quiet.
    pub(crate) fn progress(&self) -> Progress {
        if self.quiet { Progress::hidden() } else { Progress::new() }
    }

    fn write_files(&self, findings: &Findings, json: &str) -> anyhow::Result<()> {
        if let Some(Some(path)) = &self.json {
            write(path, format!("{json}\n"))?;
        }
        if let Some(path) = &self.html {
            write(path, html::page(findings))?;
        }
        Ok(())
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        self.json.iter().flatten().chain(&self.html).map(PathBuf::as_path)
    }
}

/// Prints to stdout. A reader that has gone is an error, not a panic.
pub(crate) fn print(text: impl Display) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}").context("cannot write to stdout")
}

/// Writes a file.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::server;

    #[test]
    fn a_bound_that_was_not_kept_fails_the_run_after_its_findings() {
        let directory = tempfile::tempdir().expect("there is room");
        let path = directory.path().join("findings.json");
        let options = OutputOptions { json: Some(Some(path.clone())), ..OutputOptions::default() };
        let mut findings = Findings::new("soak", server());
        findings.failed("RSS grew by 9 bytes an hour");
        let error = options.tell(|| Ok(findings)).expect_err("a bound was not kept");
        assert_eq!(error.to_string(), "RSS grew by 9 bytes an hour");
        assert!(fs::read_to_string(path).expect("it was written").contains("RSS grew"));
    }

    #[test]
    fn nothing_runs_that_cannot_be_told() {
        let html = Some(PathBuf::from("/nowhere/page.html"));
        let options = OutputOptions { html, ..OutputOptions::default() };
        let error = options.tell(|| unreachable!("it would be in vain")).expect_err("no such directory");
        assert!(error.to_string().contains("cannot write /nowhere/page.html"), "{error}");
    }

    #[test]
    fn what_a_file_holds_stays_until_there_are_findings() {
        let directory = tempfile::tempdir().expect("there is room");
        let path = directory.path().join("findings.json");
        fs::write(&path, "before").expect("there is room");
        let options = OutputOptions { json: Some(Some(path.clone())), ..OutputOptions::default() };
        options.tell(|| bail!("no server")).expect_err("the run failed");
        assert_eq!(fs::read_to_string(path).expect("it is there"), "before");
    }
}
