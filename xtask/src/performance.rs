//! Measures what `docs/performance.md` tells.

use anyhow::Result;

use crate::peers;
use crate::shell::{cargo, command, run, target};

/// Installs the servers to compare with, builds ours and the load test as they are released, and lets them compete;
/// `arguments` are those of `webrocket-loadtest peers`.
///
/// # Errors
/// The build fails, or the comparison does.
pub(crate) fn performance(arguments: &[String]) -> Result<()> {
    peers::peers()?;
    run(cargo().args(["build", "--release", "--bins", "-p", "webrocket", "-p", "webrocket-loadtest"]))?;
    run(command(target().join("release/webrocket-loadtest")).arg("peers").args(arguments))
}
