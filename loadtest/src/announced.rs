//! A server of others, started for a run: a child process that tells its address on stdout, as its first line.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use webrocket_launcher::end_with_parent;

use crate::process::ProcessId;

/// How long a server may take until it tells its address.
const START_MAX: Duration = Duration::from_secs(20);

/// A running server; it is killed when this is dropped, and when the load test dies.
pub(crate) struct Announced {
    child: Child,
    address: String,
}

impl Announced {
    /// Starts `command` and waits for its first line. What else it prints is dropped; stderr stays the load test's.
    ///
    /// # Errors
    /// It cannot be started, says nothing in time, or ends.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        end_with_parent(command, Signal::KILL);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let mut started = Self { child, address: String::new() };
        let (tell, told) = sync_channel(1);
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            // Fails only when nobody waits any more. The rest is read so that the server can go on printing.
            let _ = tell.send(lines.next());
            lines.for_each(drop);
        });
        started.address = match told.recv_timeout(START_MAX) {
            Ok(Some(line)) => line.trim().to_owned(),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => {
                bail!("{name} ended before it told its address")
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("{name} did not tell its address within {} s", START_MAX.as_secs())
            }
        };
        Ok(started)
    }

    /// What it told.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn process(&self) -> ProcessId {
        ProcessId(self.child.id())
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // It has nothing to lose; both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_address() {
        let started =
            Announced::start(Command::new("sh").args(["-c", "echo ws://127.0.0.1:1/; echo more; cat"]));
        assert_eq!(started.expect("sh starts").address(), "ws://127.0.0.1:1/");
    }

    #[test]
    fn a_server_that_ends_at_once_is_told() {
        let error = Announced::start(&mut Command::new("true")).err().expect("it says nothing");
        assert!(error.to_string().contains("ended before it told its address"), "{error}");
        assert!(Announced::start(&mut Command::new("/nowhere/at/all")).is_err());
    }
}
