//! `compare`: the findings of two runs side by side.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::comparison::Comparison;
use super::findings::Findings;
use super::{html, output};

/// Compares the findings of two runs, as --json wrote them: which figures became better or worse from A to B.
///
/// A figure counts as the same unless it differs by more than the threshold. Warns where scenario, server or settings
/// differ, for then the figures may differ for that reason alone. The exit status is 0 whatever became worse.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The findings to compare with
    #[arg(value_name = "A.json")]
    a: PathBuf,
    /// The findings to judge
    #[arg(value_name = "B.json")]
    b: PathBuf,
    /// How many per cent a figure may differ and still be the same
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    threshold: f64,
    /// Write the comparison as a page that stands alone, with the curves of both runs
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent),
        _ => Err("not a number of per cent from 0 upwards".to_owned()),
    }
}

/// Compares, and tells.
///
/// # Errors
/// A file cannot be read, or holds no findings; the page cannot be written.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let [a, b] = [&options.a, &options.b].map(|path| read(path));
    let paths = [&options.a, &options.b].map(|path| path.display().to_string());
    let comparison = Comparison::new([a?, b?], paths, options.threshold);
    if let Some(path) = &options.html {
        output::write(path, html::comparison(&comparison))?;
    }
    output::print(comparison.text())
}

fn read(path: &Path) -> anyhow::Result<Findings> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!("{} holds no findings of this load test (write them with --json)", path.display())
    })
}
