//! The server under test: a child process of our own, or one that stands elsewhere.
//!
//! Our own is started on free ports with its data in memory, tells where it listens by a JSON log line on stderr,
//! and is ended by SIGTERM. It is killed when the load test dies, and no directory of it stays behind. Of one that
//! stands elsewhere, the channels that were opened for the run are closed at its end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::control::Control;
use crate::dialect::Dialect;
use crate::placement::Placement;
use crate::process::ProcessId;
use crate::target::Target;

/// How long a server may take until it is ready.
const START_MAX: Duration = Duration::from_secs(20);
/// How long a server may take from SIGTERM to its end.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How many of its last noteworthy log lines are kept, to be told when the run fails.
const LINES_MAX: usize = 20;
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

/// What a server of our own says when it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Announcement {
    websocket: SocketAddr,
    control: Option<SocketAddr>,
    exchange: Option<SocketAddr>,
    shards: Option<u64>,
    io: Option<String>,
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
    child: Option<ServerProcess>,
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
            child: None,
        })
    }

    fn ours(options: &ServerOptions) -> anyhow::Result<Self> {
        let binary = match &options.server {
            Some(binary) => binary.clone(),
            None => beside_this_binary()?,
        };
        let (child, announcement) = ServerProcess::start(&binary, options.shards, options.io)?;
        let control = match announcement.control.map(|address| child.control(address)).transpose() {
            Ok(control) => control,
            Err(error) => return Err(child.failed(&error)),
        };
        Ok(Self {
            target: Target::new(announcement.websocket, VHOST),
            control,
            opened: RefCell::default(),
            exchange: announcement.exchange,
            process: Some(child.process()),
            shards: announcement.shards,
            io: announcement.io,
            child: Some(child),
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
        if self.child.is_some() {
            control.allow_channels(&self.target, names.len() + OTHER_CHANNELS)?;
        }
        names.iter().try_for_each(|name| self.open_channel(name))
    }

    /// Opens a channel; it may be open already.
    pub(crate) fn open_channel(&self, name: &str) -> anyhow::Result<()> {
        let is_new = self.control()?.open_channel(&self.target, name)?;
        if is_new && self.child.is_none() {
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
        let Some(child) = self.child else { return outcome };
        let ending = child.stop();
        match (outcome, ending) {
            (Ok(value), Ok(ending)) if ending.is_good() => Ok(value),
            (Ok(_), Ok(ending)) => bail!("all went well until the server's end: {}", ending.describe()),
            (Ok(_), Err(error)) => Err(error.context("all went well until the server's end")),
            (Err(error), Ok(ending)) if ending.is_good() && ending.lines.is_empty() => Err(error),
            (Err(error), Ok(ending)) => Err(anyhow!("{error:#}\n{}", ending.describe())),
            (Err(error), Err(also)) => Err(anyhow!("{error:#}\n{also:#}")),
        }
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

/// How a server of ours ended.
struct Ending {
    status: ExitStatus,
    /// It had ended before it was told to.
    by_itself: bool,
    /// The last lines that it logged as warnings or errors, or not as JSON.
    lines: VecDeque<String>,
}

impl Ending {
    fn is_good(&self) -> bool {
        // A server without a handler ends by the signal itself; that breaks no promise to the load test.
        !self.by_itself && (self.status.success() || self.status.signal() == Some(Signal::TERM.as_raw()))
    }

    fn describe(&self) -> String {
        let when = if self.by_itself { "the server had ended by itself" } else { "the server was ended" };
        let mut text = format!("{when} ({})", self.status);
        for line in &self.lines {
            text.push_str("\n  server: ");
            text.push_str(line);
        }
        text
    }
}

/// A child process, ended at the latest when this is dropped.
struct ServerProcess {
    child: Child,
    /// Drains stderr for as long as the child lives, and returns the noteworthy lines.
    drain: Option<JoinHandle<VecDeque<String>>>,
    directory: PathBuf,
}

impl ServerProcess {
    /// Starts the server and waits until it is ready.
    fn start(binary: &Path, shards: Option<u32>, io: Option<Io>) -> anyhow::Result<(Self, Announcement)> {
        let directory = make_directory()?;
        let mut command = Command::new(binary);
        command.arg("--dev").arg("--data-dir").arg(&directory).args(["--log-format", "json"]);
        for address in ["--websocket-addr", "--control-addr", "--exchange-addr", "--stream-addr"] {
            command.args([address, "127.0.0.1:0"]);
        }
        if let Some(shards) = shards {
            command.arg("--shards").arg(shards.to_string());
        }
        command.args(["--io", io.unwrap_or(Io::Auto).name()]);
        // In a group of its own it does not hear the terminal's Ctrl-C: it is the load test that ends it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?)) };
        let spawned = command.spawn().with_context(|| format!("cannot start {}", binary.display()));
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                remove_directory(&directory);
                return Err(error);
            }
        };
        let stderr = child.stderr.take().expect("stderr was asked to be a pipe");
        let (announce, announced) = sync_channel(1);
        let drain = thread::spawn(move || drain(stderr, announce));
        let server = Self { child, drain: Some(drain), directory };
        match wait_until_ready(&announced) {
            Ok(announcement) => Ok((server, announcement)),
            Err(error) => Err(server.failed(&error)),
        }
    }

    /// Ends it because of `error`, which gets what it had to say.
    fn failed(self, error: &anyhow::Error) -> anyhow::Error {
        match self.stop() {
            Ok(ending) => anyhow!("{error:#}\n{}", ending.describe()),
            Err(also) => anyhow!("{error:#}\n{also:#}"),
        }
    }

    fn process(&self) -> ProcessId {
        ProcessId(self.child.id())
    }

    /// Its control API, which listens here.
    ///
    /// # Errors
    /// Its cookie cannot be read.
    fn control(&self, address: SocketAddr) -> anyhow::Result<Control> {
        let entries = fs::read_dir(&self.directory).context("cannot read the server's data directory")?;
        let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let cookie = files.find(|file| file.extension().is_some_and(|extension| extension == "cookie"));
        Control::new(&format!("http://{address}"), &cookie.context("the server has made no cookie")?)
    }

    /// Ends the server by SIGTERM, waits for it, and removes its directory.
    ///
    /// # Errors
    /// It did not end in time and was killed.
    fn stop(mut self) -> anyhow::Result<Ending> {
        let (status, by_itself) = self.end()?;
        let lines = self.drain.take().map(|drain| drain.join().expect("draining does not panic"));
        Ok(Ending { status, by_itself, lines: lines.unwrap_or_default() })
    }

    /// Ends the process. Returns how it ended, and whether it had ended before it was told to.
    fn end(&mut self) -> anyhow::Result<(ExitStatus, bool)> {
        if let Some(status) = self.child.try_wait().context("cannot wait for the server")? {
            return Ok((status, true));
        }
        // The child has not been waited for, so the pid is still its own.
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot end the server")?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if let Some(status) = self.child.try_wait().context("cannot wait for the server")? {
                return Ok((status, false));
            }
            // The standard library cannot await a child and a deadline at once.
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the server")?;
        bail!("the server did not end within {} s of SIGTERM and was killed", STOP_MAX.as_secs())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // After `stop` the child has been waited for, and ending it again only tells so.
        if let Err(error) = self.end() {
            eprintln!("webrocket-loadtest: {error:#}");
        }
        remove_directory(&self.directory);
    }
}

/// Makes a new, private directory.
fn make_directory() -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("webrocket-loadtest-{}-{count}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let made = fs::DirBuilder::new().mode(0o700).create(&directory);
    made.with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

fn remove_directory(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        eprintln!("webrocket-loadtest: cannot remove {}: {error}", directory.display());
    }
}

fn wait_until_ready(announced: &Receiver<Announcement>) -> anyhow::Result<Announcement> {
    match announced.recv_timeout(START_MAX) {
        Ok(announcement) => Ok(announcement),
        Err(RecvTimeoutError::Timeout) => bail!("the server was not ready within {} s", START_MAX.as_secs()),
        Err(RecvTimeoutError::Disconnected) => bail!("the server ended before it was ready"),
    }
}

/// Reads a server's stderr to its end. Announces the first line that says ready; keeps the last noteworthy ones.
fn drain(stderr: impl Read, announce: SyncSender<Announcement>) -> VecDeque<String> {
    let mut announce = Some(announce);
    let mut lines = VecDeque::new();
    let mut reader = BufReader::new(stderr);
    let mut bytes = Vec::new();
    // An unreadable pipe is a closed one: either way there is no more to read.
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        match read_line(&line) {
            Line::Ready(announcement) => {
                if let Some(announce) = announce.take() {
                    // Fails only when nobody waits any more.
                    let _ = announce.send(announcement);
                }
            }
            Line::Ordinary => {}
            Line::Noteworthy => {
                if lines.len() == LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        }
    }
    lines
}

/// What a line of the server's log means to the load test.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Ready(Announcement),
    Ordinary,
    Noteworthy,
}

fn read_line(line: &str) -> Line {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return Line::Noteworthy };
    let fields = &value["fields"];
    if fields["message"] == "ready"
        && let Some(websocket) = fields["websocket"].as_str().and_then(|address| address.parse().ok())
    {
        // Numbers and strings alike: a log formatter may render either.
        let shards = &fields["shards"];
        let shards = shards.as_u64().or_else(|| shards.as_str()?.parse().ok());
        let io = fields["io"].as_str().map(str::to_owned);
        let address = |name: &str| fields[name].as_str().and_then(|address| address.parse().ok());
        let (control, exchange) = (address("control"), address("exchange"));
        return Line::Ready(Announcement { websocket, control, exchange, shards, io });
    }
    match value["level"].as_str() {
        Some("WARN" | "ERROR") => Line::Noteworthy,
        _ => Line::Ordinary,
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

    #[test]
    fn the_ready_line_is_recognised() {
        let line = r#"{"timestamp":"…","level":"INFO","fields":{"message":"ready","websocket":"127.0.0.1:4711",
            "control":"127.0.0.1:4712","shards":3,"io":"epoll"},"target":"webrocket"}"#;
        let [websocket, control] = [4711, 4712].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let (control, io) = (Some(control), Some("epoll".to_owned()));
        let exchange = None;
        let announcement = Announcement { websocket, control, exchange, shards: Some(3), io };
        assert_eq!(read_line(line), Line::Ready(announcement));
        assert_eq!(read_line(r#"{"level":"INFO","fields":{"message":"accepted"}}"#), Line::Ordinary);
        assert_eq!(read_line(r#"{"level":"WARN","fields":{"message":"slow"}}"#), Line::Noteworthy);
        assert_eq!(read_line("thread 'main' panicked"), Line::Noteworthy);
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
        let script = format!("{READY}\nexec sleep 60");
        let path = pretender("good", &script);
        let subject = Subject::start(&options(&path)).expect("it says ready");
        assert_eq!(subject.target().to_string(), "ws://127.0.0.1:4711/demo");
        let process = subject.process().expect("our own");
        let directory = subject.child.as_ref().expect("our own").directory.clone();
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
        assert!(error.contains("ended before it was ready"), "{error}");
        assert!(error.contains("exit status: 3") && error.contains("server: port taken"), "{error}");
        fs::remove_file(path).expect("our own file");
    }

    #[test]
    fn a_server_that_dies_in_the_middle_fails_the_run() {
        let _alone = alone();
        let script = format!("{READY}\necho 'assertion failed' >&2\nexit 101");
        let path = pretender("dying", &script);
        let mut subject = Subject::start(&options(&path)).expect("it says ready");
        subject.child.as_mut().expect("our own").child.wait().expect("it ends by itself");
        let error =
            subject.end::<()>(Err(anyhow!("connection 3 was lost"))).expect_err("it died").to_string();
        assert!(error.contains("connection 3 was lost"), "{error}");
        assert!(error.contains("exit status: 101") && error.contains("assertion failed"), "{error}");
        fs::remove_file(path).expect("our own file");
    }
}
