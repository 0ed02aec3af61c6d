//! Who takes part: the floor, WebRocket, and other servers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::announced::Announced;
use crate::dialect::Dialect;
use crate::engine::Engine;
use crate::placement::Placement;
use crate::process::ProcessId;
use crate::rivals::{self, Rival};
use crate::server::{ServerOptions, Subject};
use crate::target::Target;

/// How long a server may do nothing before a run is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Our build, as it takes part in the dialect that everybody is compared in, and the other build.
const OURS: &str = "webrocket";
const OTHER: &str = "webrocket-other";

/// The floor once more, which must come out as the floor does, and the floor on io_uring.
const OTHER_FLOORS: [(&str, &[&str]); 2] =
    [("floor-again", &["--io", "readiness"]), ("floor-uring", &["--io", "uring"])];

/// A server that can be started for a round.
#[derive(Clone, Debug)]
pub(super) struct Contestant {
    name: String,
    dialect: Dialect,
    shards: u32,
    sort: Sort,
}

#[derive(Clone, Debug)]
enum Sort {
    /// With these options.
    Floor(Vec<String>),
    WebRocket {
        binary: Option<PathBuf>,
    },
    Rival(Rival),
}

impl Contestant {
    /// The bare `send(2)` loop.
    pub(super) fn floor() -> Self {
        Self::floor_with("floor", &[])
    }

    /// The floor as `options` want it.
    fn floor_with(name: &str, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { name: name.to_owned(), dialect: Dialect::Bare, shards: 1, sort: Sort::Floor(options) }
    }

    /// WebRocket, spoken to in `dialect`.
    pub(super) fn webrocket(name: &str, dialect: Dialect, shards: u32, binary: Option<&Path>) -> Self {
        let sort = Sort::WebRocket { binary: binary.map(Path::to_owned) };
        Self { name: name.to_owned(), dialect, shards, sort }
    }

    fn rival(rival: Rival) -> Self {
        Self { name: rival.name().to_owned(), dialect: rival.dialect(), shards: 1, sort: Sort::Rival(rival) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The version of a server of others.
    pub(super) fn version(&self) -> Option<&str> {
        match &self.sort {
            Sort::Floor(_) | Sort::WebRocket { .. } => None,
            Sort::Rival(rival) => Some(rival.version()),
        }
    }

    /// Whether it is a server of others.
    pub(super) fn is_rival(&self) -> bool {
        matches!(self.sort, Sort::Rival(_))
    }

    pub(super) fn is_floor(&self) -> bool {
        matches!(&self.sort, Sort::Floor(options) if options.is_empty())
    }

    /// Whether it is our build, in the dialect that the other build speaks too.
    pub(super) fn is_our_build(&self) -> bool {
        self.name == OURS
    }

    /// Whether it is the other build of WebRocket.
    pub(super) fn is_other_build(&self) -> bool {
        self.name == OTHER
    }

    /// Whether it takes part only where it is asked for by name: it answers a question, and is no server to choose.
    pub(super) fn is_extra(&self) -> bool {
        matches!(&self.sort, Sort::Floor(options) if !options.is_empty())
    }

    /// Starts the server on processors of its own, with `channels` open where that is needed.
    pub(super) fn start(&self, channels: &[String]) -> anyhow::Result<Running> {
        let placement = Placement::of(self.shards)?;
        let server = placement.start(|| self.start_here()).with_context(|| format!("{} fails", self.name))?;
        if let Server::WebRocket(subject) = &server {
            subject.open_channels(self.dialect, channels)?;
        }
        Ok(Running { dialect: self.dialect, server })
    }

    fn start_here(&self) -> anyhow::Result<Server> {
        let mut command = match &self.sort {
            Sort::WebRocket { binary } => {
                let options = ServerOptions {
                    server: binary.clone(),
                    shards: Some(self.shards),
                    ..ServerOptions::default()
                };
                return Ok(Server::WebRocket(Box::new(Subject::start(&options)?)));
            }
            Sort::Floor(options) => {
                let own = std::env::current_exe().context("cannot tell where this binary stands")?;
                let mut command = Command::new(own);
                command.arg("floor").args(options);
                command
            }
            Sort::Rival(rival) => rival.command(),
        };
        Ok(Server::Other(Announced::start(&mut command)?))
    }
}

/// All that this machine has: the floor first, then WebRocket in both dialects, and its other build if there is one.
pub(super) fn all(binary: Option<&Path>, other: Option<&Path>) -> Vec<Contestant> {
    let mut all = vec![
        Contestant::floor(),
        Contestant::webrocket(OURS, Dialect::Wwfp, 1, binary),
        Contestant::webrocket("webrocket-classic", Dialect::Classic, 1, binary),
    ];
    all.extend(other.map(|other| Contestant::webrocket(OTHER, Dialect::Wwfp, 1, Some(other))));
    all.extend(OTHER_FLOORS.iter().map(|(name, options)| Contestant::floor_with(name, options)));
    for rival in rivals::all() {
        match rival {
            Ok(rival) => all.push(Contestant::rival(rival)),
            Err(absent) => eprintln!("{absent}"),
        }
    }
    all
}

/// A server that has been started.
pub(super) struct Running {
    dialect: Dialect,
    server: Server,
}

enum Server {
    WebRocket(Box<Subject>),
    Other(Announced),
}

impl Running {
    pub(super) fn process(&self) -> anyhow::Result<ProcessId> {
        match &self.server {
            Server::WebRocket(subject) => subject.process().context("the server is ours"),
            Server::Other(other) => Ok(other.process()),
        }
    }

    /// An engine that speaks to it.
    pub(super) fn engine(&self) -> anyhow::Result<Engine> {
        let target: Target = match &self.server {
            Server::WebRocket(subject) => subject.target().clone(),
            Server::Other(other) => other.address().parse()?,
        };
        Engine::new(self.dialect.target(&target), PATIENCE)
    }

    /// Ends it.
    pub(super) fn end(self) -> anyhow::Result<()> {
        match self.server {
            Server::WebRocket(subject) => subject.end(Ok(())),
            Server::Other(_) => Ok(()),
        }
    }
}
