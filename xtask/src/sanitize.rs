//! The exchange's process tests under AddressSanitizer: libzmq is C++, and its pipes die while they are used.

use anyhow::{Context, Result};

use crate::install;
use crate::shell::{cargo, command, run, target};

/// What is built for; naming it keeps the flags away from build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The compiler's driver leaves the runtime out, since rustc names all libraries itself. Static and whole, it
/// stands before the C library, whose allocator it replaces.
const RUNTIME: &str = "-Clink-arg=-Wl,--whole-archive,-l:libasan.a,--no-whole-archive,--export-dynamic";

/// What lives until the end of the process is no leak. Freed memory is kept back for a while, but not so much
/// that the tests of bounds on memory see it.
const OPTIONS: &str =
    "detect_leaks=0:abort_on_error=1:quarantine_size_mb=16:allocator_release_to_os_interval_ms=500";

/// Builds the server with an instrumented libzmq, in a folder of its own, and runs the tests that speak ZeroMQ.
///
/// # Errors
/// Names the command that failed. The server ends at the first fault that is found, and so does the test.
pub(crate) fn sanitize(only: Option<&str>) -> Result<()> {
    install::git()?;
    let folder = target().join("sanitize");
    let flags = "-fsanitize=address -fno-omit-frame-pointer";
    run(cargo()
        .args(["build", "--bins", "--target", TRIPLE, "--target-dir"])
        .arg(&folder)
        .env(format!("CXXFLAGS_{}", TRIPLE.replace('-', "_")), flags)
        .env("RUSTFLAGS", RUNTIME))?;
    let python = install::python()?;
    let mut tests = command(&python);
    tests.args(["-m", "pytest", "tests/python", "-x", "-k"]);
    tests.arg(only.unwrap_or("zmq and not curve and not endurance"));
    tests.env("WEBROCKET_BIN", folder.join(TRIPLE).join("debug"));
    tests.env("ASAN_OPTIONS", OPTIONS);
    run(&mut tests).context("under AddressSanitizer")
}
