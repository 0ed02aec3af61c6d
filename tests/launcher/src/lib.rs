//! A server as a child process: started, awaited, stopped and ended.
//!
//! [`Launch`] starts the binary on free ports and waits for the line of its log that says `ready`. [`Server`] is the
//! process from then on. It never outlives the value, nor the thread that started it. Nothing of the server's own
//! crates is used: what the process says is all that is known of it.
//!
//! All waits are for events, and each is bounded by the patience of the launch.

mod log;
mod process;

use std::{
    collections::VecDeque,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::Signal;

pub use log::Ready;
pub use process::{end_with_parent, freeze, thaw, wait};

/// How long a wait may last, unless the launch says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The ports of a server: what its options call them, and what the line that says `ready` does.
const PORTS: [(&str, &str); 4] =
    [("websocket", "websocket"), ("control", "control"), ("exchange", "exchange"), ("stream", "streams")];

/// How to start a server.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    addresses: [SocketAddr; PORTS.len()],
    patience: Duration,
}

impl Launch {
    /// `binary`, with its data in `data_dir` and its ports free ones of the loopback.
    #[must_use]
    pub fn new(binary: &Path, data_dir: &Path) -> Self {
        let mut command = Command::new(binary);
        command.arg("--data-dir").arg(data_dir).args(["--log-format", "json"]);
        let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); PORTS.len()];
        Self { command, addresses, patience: PATIENCE }
    }

    /// On a loopback address of its own, where nobody takes its ports while it is started again.
    #[must_use]
    pub fn alone(mut self) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let [.., high, low] = std::process::id().to_be_bytes();
        let [.., count] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let address = Ipv4Addr::new(127, 1 + high % 250, low, 1 + count % 250);
        self.addresses.iter_mut().for_each(|own| own.set_ip(address.into()));
        self
    }

    /// With further arguments.
    #[must_use]
    pub fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(arguments);
        self
    }

    /// With the ports of a server that was there before.
    #[must_use]
    pub fn at(mut self, former: &Ready) -> Self {
        for (address, (_, port)) in self.addresses.iter_mut().zip(PORTS) {
            *address = former.address(port).unwrap_or(*address);
        }
        self
    }

    /// How long each wait for the server may take.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or does not become ready; then it is ended.
    pub fn start(mut self) -> Result<Server, LaunchError> {
        for (address, (port, _)) in self.addresses.iter().zip(PORTS) {
            self.command.args([&format!("--{port}-addr"), &address.to_string()]);
        }
        start(self.command, self.patience)
    }
}

fn start(mut command: Command, patience: Duration) -> Result<Server, LaunchError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    end_with_parent(&mut command, Signal::TERM);
    let mut child = command.spawn().map_err(|source| {
        let binary = command.get_program().to_string_lossy().into_owned();
        LaunchError::Spawn { binary, source }
    })?;
    let stderr = child.stderr.take().expect("stderr was asked to be a pipe");
    let (announce, announced) = mpsc::sync_channel(1);
    let drain = thread::spawn(move || log::drain(stderr, announce));
    let mut server = Server { child, ready: Ready::default(), drain: Some(drain), patience };
    match announced.recv_timeout(patience) {
        Ok(ready) => {
            server.ready = ready;
            Ok(server)
        }
        Err(RecvTimeoutError::Timeout) => Err(LaunchError::NotInTime { patience, ending: server.kill()? }),
        Err(RecvTimeoutError::Disconnected) => Err(LaunchError::Ended(server.wait()?)),
    }
}

/// A server that is ready. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    ready: Ready,
    /// Reads its log for as long as it lives, so that it is never held up, and returns the noteworthy lines.
    drain: Option<JoinHandle<VecDeque<String>>>,
    patience: Duration,
}

impl Server {
    /// What it said when it was ready.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// Lets it stand still, and returns when it does.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self) -> io::Result<()> {
        freeze(&self.child, self.patience)
    }

    /// Lets it go on after [`Server::freeze`].
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&self) -> io::Result<()> {
        thaw(&self.child)
    }

    /// Waits until it has ended; whether it has, when its patience is over.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn has_ended(&self) -> io::Result<bool> {
        // The child has not been waited for as long as this is here, so the process is its own.
        process::has_ended(&self.child, self.patience)
    }

    /// Ends it by SIGTERM and waits for its end.
    ///
    /// # Errors
    /// It did not end in time, and was killed.
    pub fn stop(mut self) -> Result<Ending, StopError> {
        if let Ok(Some(_)) = self.child.try_wait() {
            return Ok(self.ending(true)?);
        }
        process::signal(&self.child, Signal::TERM)?;
        if !self.has_ended()? {
            return Err(StopError::NotInTime { patience: self.patience, ending: self.kill()? });
        }
        Ok(self.ending(false)?)
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// The system does not tell how it ended.
    pub fn kill(mut self) -> io::Result<Ending> {
        let by_itself = matches!(self.child.try_wait(), Ok(Some(_)));
        self.child.kill()?;
        self.ending(by_itself)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It does not, and was killed.
    fn wait(mut self) -> io::Result<Ending> {
        if !self.has_ended()? {
            return self.kill();
        }
        self.ending(true)
    }

    /// How it ended; it has been told to, or did so by itself.
    fn ending(&mut self, by_itself: bool) -> io::Result<Ending> {
        let status = self.child.wait()?;
        Ok(Ending { status, by_itself, lines: self.lines() })
    }

    fn lines(&mut self) -> VecDeque<String> {
        self.drain.take().map(|drain| drain.join().expect("draining does not panic")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where it has ended already, both only tell so.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            for line in self.lines() {
                eprintln!("server: {line}");
            }
        }
    }
}

/// How a server ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// What the system says.
    pub status: ExitStatus,
    /// It had ended before it was told to.
    pub by_itself: bool,
    /// The last lines that it logged as warnings or errors, or not as JSON.
    pub lines: VecDeque<String>,
}

impl Ending {
    /// Whether it was told to end and did so in order.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.by_itself && self.status.success()
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.by_itself { "the server had ended by itself" } else { "the server was ended" };
        write!(f, "{when} ({})", self.status)?;
        self.lines.iter().try_for_each(|line| write!(f, "\n  server: {line}"))
    }
}

/// The server is not ready, and not there any more.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The system does not start it.
    #[error("{binary} cannot be started")]
    Spawn {
        /// What was to be started.
        binary: String,
        /// What the system says.
        source: io::Error,
    },
    /// It said nothing for too long.
    #[error("the server was not ready within {} s; {ending}", .patience.as_secs())]
    NotInTime {
        /// For how long.
        patience: Duration,
        /// How it was ended.
        ending: Ending,
    },
    /// It ended instead.
    #[error("the server was not ready before its end; {0}")]
    Ended(Ending),
    /// The system does not tell of its end.
    #[error("cannot wait for the server")]
    Wait(#[from] io::Error),
}

/// The server did not stop when it was told to.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// It went on for too long.
    #[error("the server did not end within {} s of SIGTERM and was killed; {ending}", .patience.as_secs())]
    NotInTime {
        /// For how long.
        patience: Duration,
        /// How it was ended.
        ending: Ending,
    },
    /// The system does not tell of its end.
    #[error("cannot wait for the server")]
    Wait(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str =
        r#"echo '{"level":"INFO","fields":{"message":"ready","websocket":"127.0.0.1:4711"}}' >&2"#;

    /// What stays until it is told to end.
    const STAY: &str = "sleep 600 & trap 'kill $!; exit 0' TERM";

    /// Starts a shell script in the place of the server.
    fn pretend(script: &str) -> Result<Server, LaunchError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        start(command, PATIENCE)
    }

    #[test]
    fn a_server_that_is_told_to_stop_ends_well() {
        let server = pretend(&format!("{STAY}; {READY}; wait")).unwrap();
        assert_eq!(server.ready().address("websocket"), Some("127.0.0.1:4711".parse().unwrap()));
        let ending = server.stop().unwrap();
        assert!(ending.is_good() && ending.lines.is_empty(), "{ending}");
    }

    #[test]
    fn a_server_that_the_signal_ends_does_not_end_well() {
        let ending = pretend(&format!("{READY}; exec sleep 600")).unwrap().stop().unwrap();
        assert!(!ending.is_good() && !ending.by_itself, "{ending}");
    }

    #[test]
    fn a_server_that_ends_by_itself_is_told_with_its_words() {
        let error = pretend("echo 'port taken' >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains("before its end") && error.contains("exit status: 3"), "{error}");
        assert!(error.contains("server: port taken"), "{error}");
        let server = pretend(&format!("{READY}; echo 'assertion failed' >&2; exit 101")).unwrap();
        assert!(server.has_ended().unwrap());
        let ending = server.stop().unwrap();
        assert!(!ending.is_good() && ending.by_itself, "{ending}");
        assert_eq!(ending.lines, ["assertion failed"]);
    }

    #[test]
    fn a_server_that_does_not_obey_is_killed() {
        let mut server = pretend(&format!("trap '' TERM; {READY}; exec sleep 600")).unwrap();
        server.patience = Duration::from_millis(1);
        let error = server.stop().unwrap_err();
        assert!(matches!(&error, StopError::NotInTime { .. }), "{error}");
    }

    #[test]
    fn a_frozen_server_stands_still_until_it_is_thawed() {
        let server = pretend(&format!("{STAY}; {READY}; wait")).unwrap();
        for _ in 0..2 {
            server.freeze().unwrap();
            server.thaw().unwrap();
        }
        assert!(server.stop().unwrap().is_good());
        let mut ended = Command::new("true").spawn().unwrap();
        assert!(process::has_ended(&ended, PATIENCE).unwrap());
        assert!(freeze(&ended, PATIENCE).is_err());
        assert!(wait(&mut ended, PATIENCE).unwrap().success());
    }

    #[test]
    fn what_is_not_there_cannot_be_started() {
        let error = Launch::new(Path::new("/nowhere/server"), Path::new("/nowhere")).start().unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/server cannot be started"), "{error}");
    }
}
