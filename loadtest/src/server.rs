//! The server under test: a child process of our own, or one that stands elsewhere.
//!
//! Our own is started on free ports with its data in memory, tells where it listens when it is ready, and is ended by
//! SIGTERM, also when the load test dies. Its directory is removed when the run ends. Of one that stands elsewhere, the
//! channels that were opened for the run are closed at its end.
//!
//! [`webrocket_launcher`] starts and ends the process, as it does for tests. It knows a server by its options, its log
//! and its exit status only, and depends on none of its crates: the load test has no code in common with what it tests.

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use webrocket_launcher::{Ending, Launch, Server};

use crate::control::Control;
use crate::dialect::Dialect;
use crate::placement::Placement;
use crate::process::ProcessId;
use crate::target::Target;

/// How long a server of ours may take until it is ready, and from SIGTERM to its end.
const SERVER_PATIENCE: Duration = Duration::from_secs(20);
/// How many channels the server may have made itself.
const OTHER_CHANNELS: usize = 100;
/// The vhost that `--dev` makes: anonymous sessions may READ and WRITE.
const VHOST: &str = "/demo";
const SERVER_BINARY: &str = "webrocket-server";

/// Which server to test.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServerOptions {
    /// Test the server that listens here, ws://host[:port]/vhost, instead of starting one. Sessions are
    /// anonymous and need READ and WRITE on the vhost; without --control-url its channels must be open in WWFP
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<Target>,
    /// With --url: the server's process, if it runs on this machine and shall be measured
    #[arg(long, value_name = "PID", requires = "url")]
    pub(crate) server_pid: Option<u32>,
    /// With --url and --cookie-file: where that server's control API listens, http://host:port. Over it the load
    /// test opens the channels that it needs, and closes them at the end, issues tokens and finds the exchange;
    /// presence, trigger and request cannot do without
    #[arg(long, value_name = "URL", requires_all = ["url", "cookie_file"])]
    pub(crate) control_url: Option<String>,
    /// With --control-url: the file that holds the node's cookie, NAME.cookie in its data directory, NAME being
    /// the node's
    #[arg(long, value_name = "FILE", requires = "control_url")]
    pub(crate) cookie_file: Option<PathBuf>,
    /// The server's binary [default: webrocket-server beside this one]
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    pub(crate) server: Option<PathBuf>,
    /// How many shards the server shall have [default: the server's]
    #[arg(long, value_name = "N", conflicts_with = "url")]
    pub(crate) shards: Option<u32>,
    /// What the server's shards shall run on [default: auto]
    #[arg(long, conflicts_with = "url")]
    pub(crate) io: Option<Io>,
    /// Give up when nothing has happened for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) patience: u32,
}

impl ServerOptions {
    /// How long a run goes on without progress.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.patience))
    }
}

/// What a server's shards run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Io {
    Auto,
    Uring,
    Epoll,
}

impl Io {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// The server under test.
pub(crate) struct Subject {
    target: Target,
    control: Option<Control>,
    /// What was opened in a server that is not ours.
    opened: RefCell<Vec<String>>,
    exchange: Option<SocketAddr>,
    process: Option<ProcessId>,
    shards: Option<u64>,
    io: Option<String>,
    own: Option<OwnServer>,
}

impl Subject {
    /// Starts the server, or takes the one at `--url` as it is.
    pub(crate) fn start(options: &ServerOptions) -> anyhow::Result<Self> {
        match &options.url {
            Some(target) => Self::elsewhere(target, options),
            None => Self::ours(options),
        }
    }

    /// As [`Subject::start`]; a server of ours has processors of its own, where there are enough, and this thread runs on
    /// the others from then on.
    pub(crate) fn start_apart(options: &ServerOptions) -> anyhow::Result<Self> {
        match &options.url {
            Some(target) => Self::elsewhere(target, options),
            None => Placement::of(options.shards.unwrap_or(1))?.start(|| Self::ours(options)),
        }
    }

    fn elsewhere(target: &Target, options: &ServerOptions) -> anyhow::Result<Self> {
        let control = match (&options.control_url, &options.cookie_file) {
            (Some(url), Some(cookie_file)) => Some(Control::new(url, cookie_file)?),
            _ => None,
        };
        let node = control.as_ref().map(Control::node).transpose()?.unwrap_or_default();
        Ok(Self {
            target: target.clone(),
            control,
            opened: RefCell::default(),
            exchange: node.exchange.map(|address| target.reach(address)),
            process: options.server_pid.map(ProcessId),
            shards: node.shards,
            io: node.io,
            own: None,
        })
    }

    fn ours(options: &ServerOptions) -> anyhow::Result<Self> {
        let binary = match &options.server {
            Some(binary) => binary.clone(),
            None => beside_this_binary()?,
        };
        let own = OwnServer::start(&binary, options.shards, options.io.unwrap_or(Io::Auto))?;
        let (websocket, control) = match own.endpoints() {
            Ok(endpoints) => endpoints,
            Err(error) => return Err(with_ending(&error, own.stop())),
        };
        let ready = own.process.ready();
        Ok(Self {
            target: Target::new(websocket, VHOST),
            control,
            opened: RefCell::default(),
            exchange: ready.address("exchange"),
            process: Some(ProcessId(own.process.process().id())),
            shards: ready.number("shards"),
            io: ready.text("io").map(str::to_owned),
            own: Some(own),
        })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The process to measure, if it is known.
    pub(crate) fn process(&self) -> Option<ProcessId> {
        self.process
    }

    /// The server's control API.
    ///
    /// # Errors
    /// It is not known.
    pub(crate) fn control(&self) -> anyhow::Result<&Control> {
        self.control.as_ref().context(
            "this needs the server's control API: with --url, name it by --control-url and --cookie-file",
        )
    }

    /// Opens channels, if `dialect` subscribes only what is open. Without a control API they must be open.
    pub(crate) fn open_channels(&self, dialect: Dialect, names: &[String]) -> anyhow::Result<()> {
        let Some(control) = self.control.as_ref().filter(|_| dialect.needs_open_channels()) else {
            return Ok(());
        };
        if self.own.is_some() {
            control.allow_channels(&self.target, names.len() + OTHER_CHANNELS)?;
        }
        names.iter().try_for_each(|name| self.open_channel(name))
    }

    /// Opens a channel; it may be open already.
    pub(crate) fn open_channel(&self, name: &str) -> anyhow::Result<()> {
        let is_new = self.control()?.open_channel(&self.target, name)?;
        if is_new && self.own.is_none() {
            self.opened.borrow_mut().push(name.to_owned());
        }
        Ok(())
    }

    /// Closes what was opened in a server that is not ours, up to the first failure.
    fn close_channels(&self) -> anyhow::Result<()> {
        let opened = self.opened.take();
        for (closed, name) in opened.iter().enumerate() {
            let closing = self.control().and_then(|control| control.close_channel(&self.target, name));
            closing.with_context(|| {
                format!("left open: channel {name} and {} opened after it", opened.len() - closed - 1)
            })?;
        }
        Ok(())
    }

    /// Where ZeroMQ clients and workers connect, if that is known.
    pub(crate) fn exchange(&self) -> Option<SocketAddr> {
        self.exchange
    }

    pub(crate) fn shards(&self) -> Option<u64> {
        self.shards
    }

    pub(crate) fn io(&self) -> Option<&str> {
        self.io.as_deref()
    }

    /// Ends the server, if it is ours; closes what was opened in another one. A failed `outcome` gets what the server had
    /// to say about it; a server that does not end well fails a good one.
    pub(crate) fn end<T>(self, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
        if let Err(error) = self.close_channels() {
            // What was found holds nevertheless.
            eprintln!("webrocket-loadtest: {error:#}");
        }
        let Some(own) = self.own else { return outcome };
        match (outcome, own.stop()) {
            (Ok(value), Ok(ending)) if ending.is_good() => Ok(value),
            (Ok(_), Ok(ending)) => bail!("all went well until the server's end: {ending}"),
            (Ok(_), Err(error)) => Err(error.context("all went well until the server's end")),
            (Err(error), Ok(ending)) if ending.is_good() && ending.lines.is_empty() => Err(error),
            (Err(error), ending) => Err(with_ending(&error, ending)),
        }
    }
}

/// `error`, with what the server had to say about it.
fn with_ending(error: &anyhow::Error, ending: anyhow::Result<Ending>) -> anyhow::Error {
    match ending {
        Ok(ending) => anyhow!("{error:#}\n{ending}"),
        Err(also) => anyhow!("{error:#}\n{also:#}"),
    }
}

fn beside_this_binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this binary stands")?;
    let binary = own.with_file_name(SERVER_BINARY);
    if !binary.is_file() {
        bail!(
            "{} does not exist: build it (cargo build --bin {SERVER_BINARY}), or name one with --server or a \
             running one with --url",
            binary.display()
        );
    }
    Ok(binary)
}

/// A server of ours, and where its data is.
struct OwnServer {
    // Before the directory, which it writes to until it has ended.
    process: Server,
    directory: Directory,
}

impl OwnServer {
    /// Starts it and waits until it is ready.
    fn start(binary: &Path, shards: Option<u32>, io: Io) -> anyhow::Result<Self> {
        let directory = Directory::make()?;
        let shards = shards.map(|shards| shards.to_string());
        let process = Launch::new(binary, &directory.0)
            .args(["--dev", "--io", io.name()])
            .args(shards.iter().flat_map(|shards| ["--shards", shards]))
            .patience(SERVER_PATIENCE)
            .start()?;
        Ok(Self { process, directory })
    }

    /// Where browsers connect, and its control API if it tells of one.
    fn endpoints(&self) -> anyhow::Result<(SocketAddr, Option<Control>)> {
        let ready = self.process.ready();
        let websocket =
            ready.address("websocket").context("the server does not tell where browsers connect")?;
        let control = ready.address("control").map(|address| self.control(address)).transpose()?;
        Ok((websocket, control))
    }

    /// Its control API, which listens here.
    ///
    /// # Errors
    /// Its cookie cannot be read.
    fn control(&self, address: SocketAddr) -> anyhow::Result<Control> {
        let entries = fs::read_dir(&self.directory.0).context("cannot read the server's data directory")?;
        let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let cookie = files.find(|file| file.extension().is_some_and(|extension| extension == "cookie"));
        Control::new(&format!("http://{address}"), &cookie.context("the server has made no cookie")?)
    }

    /// Ends it by SIGTERM, waits for it, and removes its directory.
    ///
    /// # Errors
    /// It did not end in time and was killed.
    fn stop(self) -> anyhow::Result<Ending> {
        Ok(self.process.stop()?)
    }
}

/// A private directory, removed when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn make() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("webrocket-loadtest-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self(directory))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("webrocket-loadtest: cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// A script must not be written while another test forks: the child would hold it open for writing, and then it
    /// cannot be executed.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shell script that stands in for the server.
    fn pretender(name: &str, script: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("webrocket-pretender-{}-{name}", std::process::id()));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a writable directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
        path
    }

    fn options(server: &Path) -> ServerOptions {
        ServerOptions { server: Some(server.to_owned()), ..ServerOptions::default() }
    }

    const READY: &str =
        r#"echo '{"level":"INFO","fields":{"message":"ready","websocket":"127.0.0.1:4711"}}' >&2"#;

    #[test]
    fn a_server_is_started_and_ended() {
        let _alone = alone();
        let script = format!("sleep 60 & trap 'kill $!; exit 0' TERM\n{READY}\nwait");
        let path = pretender("good", &script);
        let subject = Subject::start(&options(&path)).expect("it says ready");
        assert_eq!(subject.target().to_string(), "ws://127.0.0.1:4711/demo");
        let process = subject.process().expect("our own");
        let directory = subject.own.as_ref().expect("our own").directory.0.clone();
        assert!(directory.is_dir());
        subject.end(Ok(())).expect("ended by SIGTERM");
        assert!(!Path::new(&format!("/proc/{}", process.0)).exists());
        assert!(!directory.exists());
        fs::remove_file(path).expect("our own file");
    }

    #[test]
    fn a_server_that_does_not_start_is_told_with_its_words() {
        let _alone = alone();
        let path = pretender("bad", "echo 'port taken' >&2\nexit 3");
        let error = Subject::start(&options(&path)).err().expect("it ended").to_string();
        assert!(error.contains("not ready before its end"), "{error}");
        assert!(error.contains("exit status: 3") && error.contains("server: port taken"), "{error}");
        fs::remove_file(path).expect("our own file");
    }

    #[test]
    fn a_server_that_cannot_be_reached_is_told_with_its_words() {
        let _alone = alone();
        let script = READY.replace("websocket", "exchange");
        let path = pretender("deaf", &format!("echo 'no socket' >&2\n{script}\nexec sleep 60"));
        let error = Subject::start(&options(&path)).err().expect("it has no address").to_string();
        assert!(error.contains("does not tell where browsers connect"), "{error}");
        assert!(error.contains("server: no socket"), "{error}");
        fs::remove_file(path).expect("our own file");
    }

    #[test]
    fn a_binary_that_is_not_there_is_told() {
        let _alone = alone();
        let error = Subject::start(&options(Path::new("/nowhere/server"))).err().expect("nothing starts");
        let error = format!("{error:#}");
        assert_eq!(error, "/nowhere/server cannot be started: No such file or directory (os error 2)");
    }

    #[test]
    fn a_server_that_dies_in_the_middle_fails_the_run() {
        let _alone = alone();
        let script = format!("{READY}\necho 'assertion failed' >&2\nexit 101");
        let path = pretender("dying", &script);
        let subject = Subject::start(&options(&path)).expect("it says ready");
        let process = &subject.own.as_ref().expect("our own").process;
        assert!(process.has_ended().expect("a child of ours"));
        let error =
            subject.end::<()>(Err(anyhow!("connection 3 was lost"))).expect_err("it died").to_string();
        assert!(error.contains("connection 3 was lost") && error.contains("by itself"), "{error}");
        assert!(error.contains("exit status: 101") && error.contains("assertion failed"), "{error}");
        fs::remove_file(path).expect("our own file");
    }
}
