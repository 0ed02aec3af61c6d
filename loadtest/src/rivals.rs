//! The servers of others that WebRocket is compared with, where `cargo xtask peers` has installed them.
//!
//! Knows their names and how they are spoken to. How each is built, configured and started is told by that command
//! and by the files in `loadtest/peers`: it leaves a folder for each, with a program `start` and a text `version`,
//! or with the text `absent`, which says why there is none.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::dialect::Dialect;

/// A server of others that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    name: &'static str,
    dialect: Dialect,
    start: PathBuf,
    version: String,
}

/// A server that is not here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name} is left out: {reason}")]
pub(crate) struct Absent {
    name: &'static str,
    reason: String,
}

impl Rival {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How it is spoken to.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The version, as its authors count.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The command that becomes the server: it tells its address as [`Announced`](crate::announced::Announced) asks.
    pub(crate) fn command(&self) -> Command {
        Command::new(&self.start)
    }
}

/// All of them, in the order in which they are told.
pub(crate) fn all() -> Vec<Result<Rival, Absent>> {
    let peers = env::current_exe().ok().and_then(|program| peers_above(&program));
    KNOWN.into_iter().map(|(name, dialect)| look_for(peers.as_deref(), name, dialect)).collect()
}

const KNOWN: [(&str, Dialect); 4] = [
    ("uwebsockets", Dialect::Bare),
    ("ws", Dialect::Bare),
    ("socketio", Dialect::SocketIo),
    ("nats", Dialect::Nats),
];
const UNINSTALLED: &str = "it is not installed: run `cargo xtask peers`";

/// The folder that `cargo xtask peers` has made, in the target directory above `program`.
fn peers_above(program: &Path) -> Option<PathBuf> {
    program.ancestors().map(|above| above.join("xtask/peers")).find(|folder| folder.is_dir())
}

fn look_for(peers: Option<&Path>, name: &'static str, dialect: Dialect) -> Result<Rival, Absent> {
    let absent = |reason: &str| Absent { name, reason: reason.to_owned() };
    let folder = peers.ok_or_else(|| absent(UNINSTALLED))?.join(name);
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned());
    if let Some(reason) = read("absent") {
        return Err(absent(&reason));
    }
    let version = read("version").ok_or_else(|| absent(UNINSTALLED))?;
    Ok(Rival { name, dialect, start: folder.join("start"), version })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::announced::Announced;
    use crate::engine::Engine;
    use crate::fanout::{Amount, Fanout, Load, Plan, measure, subscribe};

    const SUBSCRIBERS: u32 = 20;
    const BROADCASTS: u64 = 100;

    /// Lets one of them deliver, if it is here, small payloads and such as no buffer takes at once. There is one
    /// publisher to a channel, because nats-server has no common order for several.
    fn try_out(name: &str) {
        let mut known = KNOWN.iter().zip(all()).filter(|((known, _), _)| *known == name);
        let rival = match known.next().expect("a known name").1 {
            Ok(rival) => rival,
            Err(absent) => return println!("skipped: {absent}"),
        };
        let server = Announced::start(&mut rival.command()).expect("it starts");
        for payload_bytes in [128, 100_000] {
            let plan = Plan {
                dialect: rival.dialect(),
                channels: 3,
                subscribers: SUBSCRIBERS,
                publishers: 1,
                load: Load::InFlight(16),
                payload_bytes,
            };
            let target = rival.dialect().target(&server.address().parse().expect("a WebSocket address"));
            let mut engine = Engine::new(target, Duration::from_secs(60)).expect("an epoll set");
            let mut fanout = Fanout::new(plan);
            subscribe(&mut engine, &mut fanout).expect("all subscribe");
            let amount = Amount::Broadcasts(BROADCASTS);
            let measured =
                measure(&mut engine, &mut fanout, Some(server.process()), amount).expect("all is delivered");
            assert_eq!(measured.deliveries, BROADCASTS * u64::from(SUBSCRIBERS));
            assert!(measured.message_bytes >= payload_bytes);
            assert!(measured.server_ns_per_delivery().expect("its process is known") > 0.0);
        }
    }

    #[test]
    fn uwebsockets_delivers() {
        try_out("uwebsockets");
    }

    #[test]
    fn ws_delivers() {
        try_out("ws");
    }

    #[test]
    fn socketio_delivers() {
        try_out("socketio");
    }

    #[test]
    fn nats_delivers() {
        try_out("nats");
    }

    /// A new folder, as `cargo xtask peers` makes it.
    fn peers(name: &str) -> PathBuf {
        let target = env::temp_dir().join(format!("webrocket-rivals-{}-{name}", std::process::id()));
        let peers = target.join("xtask/peers");
        fs::create_dir_all(peers.join("ws")).expect("a writable directory");
        peers
    }

    #[test]
    fn what_is_installed_is_found_above_the_program() {
        let folder = peers("found");
        fs::write(folder.join("ws/version"), "8.23.0\n").expect("our own folder");
        let target = folder.ancestors().nth(2).expect("two above");
        assert_eq!(peers_above(&target.join("debug/deps/loadtest-0123")), Some(folder.clone()));
        let rival = look_for(Some(&folder), "ws", Dialect::Bare).expect("it has a version");
        assert_eq!((rival.name(), rival.version(), rival.dialect()), ("ws", "8.23.0", Dialect::Bare));
        assert_eq!(rival.command().get_program(), folder.join("ws/start"));
        fs::remove_dir_all(target).expect("our own folder");
    }

    #[test]
    fn what_is_not_there_says_why() {
        let folder = peers("absent");
        fs::write(folder.join("ws/absent"), "no such package\n").expect("our own folder");
        let reason = |peers: Option<&Path>, name| {
            look_for(peers, name, Dialect::Bare).expect_err("not there").to_string()
        };
        assert_eq!(reason(Some(&folder), "ws"), "ws is left out: no such package");
        for text in [reason(Some(&folder), "nats"), reason(None, "nats")] {
            assert_eq!(text, "nats is left out: it is not installed: run `cargo xtask peers`");
        }
        fs::remove_dir_all(folder.ancestors().nth(2).expect("two above")).expect("our own folder");
    }
}
