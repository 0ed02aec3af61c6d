//! A server process on free ports, with a vhost, until it is dropped.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::browser::Browser;

/// After this a test that waits has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const VHOST: &str = "/world";

/// A server with the vhost `/world`, and in it `ann`, who reads and writes.
pub(crate) struct Server {
    process: Child,
    folder: TempDir,
    ready: Value,
    token: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, ready) = launch(folder.path(), None);
        let mut server = Self { process, folder, ready, token: String::new() };
        server.ctl(&["vhost", "add", VHOST]);
        server.ctl(&["user", "add", VHOST, "ann", "--rights", "read,write"]);
        server.token = server.access_token();
        server
    }

    /// Where a backend finds the vhost.
    pub(crate) fn url(&self) -> String {
        self.url_with(&self.token, VHOST)
    }

    pub(crate) fn url_with(&self, token: &str, vhost: &str) -> String {
        format!("wr://{token}@{}{vhost}", self.address("exchange"))
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::connect(&format!("ws://{}{VHOST}?protocol=wwfp", self.address("websocket")))
    }

    /// Gives the vhost another access token, which locks out who has the former.
    pub(crate) fn regenerate_token(&self) {
        self.ctl(&["vhost", "regenerate-token", VHOST]);
    }

    /// Lets it stand still, or go on.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        signal(self.process.id(), if is_frozen { "-STOP" } else { "-CONT" });
        // A signal that has been sent has not stopped every thread yet.
        while is_frozen && !self.is_stopped() {
            std::thread::yield_now();
        }
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        threads.into_iter().all(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
        })
    }

    /// Kills it, and starts it again at the same addresses.
    pub(crate) fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        (self.process, self.ready) = launch(self.folder.path(), Some(&self.ready));
    }

    fn address(&self, port: &str) -> &str {
        self.ready[port].as_str().unwrap()
    }

    fn access_token(&self) -> String {
        let shown: Value = serde_json::from_str(&self.ctl(&["--json", "vhost", "show", VHOST])).unwrap();
        shown["token"].as_str().unwrap().to_owned()
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        let mut ctl = Command::new(binary("webrocket-ctl"));
        ctl.args(["--control-url", &format!("http://{}", self.address("control")), "--cookie-file"]);
        let output = ctl.arg(self.folder.path().join("test.cookie")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a process, on the ports of `former` if there is one, and returns what it says when it is ready.
fn launch(folder: &Path, former: Option<&Value>) -> (Child, Value) {
    let mut command = Command::new(binary("webrocket-server"));
    for port in ["websocket", "control", "exchange", "stream"] {
        let former = former.and_then(|former| former[port].as_str());
        command.args([&format!("--{port}-addr"), former.unwrap_or("127.0.0.1:0")]);
    }
    command.arg("--data-dir").arg(folder).args([
        "--node-name",
        "test",
        "--shards",
        "2",
        "--log-format",
        "json",
    ]);
    let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(process.stderr.take().unwrap());
    let ready = follow(log).recv_timeout(PATIENCE).expect("the server does not become ready");
    (process, ready)
}

/// Reads a log to its end, so that its writer is never held up, and hands over the fields of the line that says `ready`.
fn follow(log: impl BufRead + Send + 'static) -> Receiver<Value> {
    let (found, ready) = mpsc::channel();
    thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let fields =
                serde_json::from_str::<Value>(&line).map_or(Value::Null, |mut line| line["fields"].take());
            if fields["message"] == "ready" {
                let _ = found.send(fields);
            } else if line.contains("panicked") {
                eprintln!("server: {line}");
            }
        }
    });
    ready
}

/// Sends a process a signal, named as for `kill`.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([name, &process.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// An example of this package.
pub(crate) fn example(name: &str) -> Command {
    let path = built().join("examples").join(name);
    assert!(path.is_file(), "{} is not there: cargo build --examples", path.display());
    Command::new(path)
}

fn binary(name: &str) -> PathBuf {
    let folder = env::var_os("WEBROCKET_BIN").map_or_else(built, PathBuf::from);
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not there: cargo build --bins", path.display());
    path
}

/// Where cargo puts binaries: one above the folder of this test.
fn built() -> PathBuf {
    env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}
