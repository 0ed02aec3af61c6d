//! The tests that depend on libzmq against the system's instead of the one that is built along: what the server
//! relies on inside libzmq must hold there too, and only there is CURVE.

use std::env;

use anyhow::{Result, ensure};

use crate::install;
use crate::shell::{cargo, command, printed, run, target};

/// Builds against the system's libzmq, in a folder of its own, and runs the tests that speak ZeroMQ.
///
/// # Errors
/// Names the command that failed, or says that another libzmq was linked.
pub(crate) fn system_libzmq(only: Option<&str>) -> Result<()> {
    install::git()?;
    install::libzmq()?;
    let folder = target().join("system-libzmq");
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let link = format!(r#"target.{triple}.zmq.rustc-link-lib=["zmq"]"#);
    let cargo = |arguments: &[&str]| {
        let mut cargo = cargo();
        cargo.args(arguments).args(["--config", &link, "--target-dir"]).arg(&folder);
        cargo
    };
    run(&mut cargo(&["build", "--package", "webrocket", "--bins"]))?;
    let binaries = folder.join("debug");
    let libraries = printed(command("ldd").arg(binaries.join("webrocket-server"))).unwrap_or_default();
    ensure!(
        libraries.contains("libzmq.so"),
        "the server was built without the system's libzmq:\n{libraries}"
    );
    run(&mut cargo(&["test", "--package", "webrocket", "--lib", "exchange::"]))?;
    run(cargo(&["test", "--package", "kosmonaut"]).env("WEBROCKET_BIN", &binaries))?;
    let mut tests = command(install::python()?);
    tests.args(["-m", "pytest", "tests/python", "-k", only.unwrap_or("zmq and not endurance")]);
    run(tests.env("WEBROCKET_BIN", &binaries))
}
