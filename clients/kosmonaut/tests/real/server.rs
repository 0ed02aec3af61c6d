//! A server process on free ports, with a vhost, until it is dropped.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;
use webrocket_launcher::{Launch, Ready};

use crate::browser::Browser;

const VHOST: &str = "/world";

/// A server with the vhost `/world`, and in it `ann`, who reads and writes.
pub(crate) struct Server {
    /// None while it is started again.
    process: Option<webrocket_launcher::Server>,
    folder: TempDir,
    token: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Some(launch(folder.path(), None));
        let mut server = Self { process, folder, token: String::new() };
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
        format!("wr://{token}@{}{vhost}", self.exchange())
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser::connect(self.address("websocket"), VHOST)
    }

    /// Gives the vhost another access token, which locks out who has the former.
    pub(crate) fn regenerate_token(&self) {
        self.ctl(&["vhost", "regenerate-token", VHOST]);
    }

    /// Lets it stand still.
    pub(crate) fn freeze(&self) {
        self.process().freeze().unwrap();
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.process().thaw().unwrap();
    }

    /// Kills it, and starts it again at the same addresses.
    pub(crate) fn restart(&mut self) {
        let process = self.process.take().expect("it runs");
        let former = process.ready().clone();
        process.kill().unwrap();
        self.process = Some(launch(self.folder.path(), Some(&former)));
    }

    /// Where backends connect.
    pub(crate) fn exchange(&self) -> SocketAddr {
        self.address("exchange")
    }

    fn process(&self) -> &webrocket_launcher::Server {
        self.process.as_ref().expect("it runs")
    }

    fn address(&self, port: &str) -> SocketAddr {
        self.process().ready().address(port).expect("it listens there")
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

/// Starts a process, on the ports of `former` if there is one.
fn launch(folder: &Path, former: Option<&Ready>) -> webrocket_launcher::Server {
    let launch = Launch::new(&binary("webrocket-server"), folder).alone().args([
        "--node-name",
        "test",
        "--shards",
        "2",
    ]);
    former.into_iter().fold(launch, Launch::at).start().unwrap()
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
