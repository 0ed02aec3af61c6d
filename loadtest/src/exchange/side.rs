//! What is measured: the server, or the floor.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use super::client::Pace;
use super::peers::Endpoint;
use crate::announced::Announced;
use crate::interrupt;
use crate::process::{ProcessorTime, processor_time};
use crate::progress::Standing;
use crate::report::{Findings, OutputOptions, ServerReport};
use crate::server::{ServerOptions, Subject};

/// How long workers may take to be ready.
const READY_MAX: Duration = Duration::from_secs(10);

/// How server and floor are paired.
#[derive(Args, Clone, Debug)]
pub(crate) struct PairOptions {
    /// How long the data of each is, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub(crate) payload: usize,
    /// How many rounds server and floor have each
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How many a second are light load
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) light_rate: u32,
    /// How many seconds a round under light load lasts
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) light_seconds: u32,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

impl PairOptions {
    /// How many a round under light load has.
    pub(crate) fn light_count(&self) -> u64 {
        u64::from(self.light_rate) * u64::from(self.light_seconds)
    }

    /// What a run is at in round `number`, counted from 0.
    pub(crate) fn standing(&self, number: u32, pace: Pace) -> Standing {
        let phase = match pace {
            Pace::InFlight(_) => "rounds of server and floor, full load",
            Pace::Rate(_) => "rounds of server and floor, light load",
        };
        let (done, due) = (u64::from(number), u64::from(self.rounds));
        Standing { phase, done, due, detail: String::new() }
    }

    /// Adds the settings to what was found with them.
    pub(crate) fn tell(&self, findings: &mut Findings) {
        findings
            .setting("payload", self.payload)
            .setting("rounds", self.rounds)
            .setting("light_rate", self.light_rate)
            .setting("light_seconds", self.light_seconds);
    }
}

/// Which broker is the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloorSort {
    /// One thread: forwards to workers, acknowledges requests at once.
    Direct,
    /// Passes requests on to a second thread that acknowledges.
    Forwarding,
}

/// The floor's broker, a child process that ends with this.
pub(crate) struct Floor {
    broker: Announced,
    endpoint: Endpoint,
}

impl Floor {
    /// Starts it.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(sort: FloorSort) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot tell where this binary stands")?;
        let mut command = Command::new(own);
        command.arg("broker").args(match sort {
            FloorSort::Direct => None,
            FloorSort::Forwarding => Some("--forward"),
        });
        let broker = Announced::start(&mut command)?;
        let endpoint = Endpoint { address: broker.address().to_owned(), credentials: None };
        Ok(Self { broker, endpoint })
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What it has used so far.
    pub(crate) fn processor_time(&self) -> anyhow::Result<ProcessorTime> {
        processor_time(self.broker.process())
    }
}

/// What was used between two looks, if there were two.
pub(crate) fn since(before: Option<ProcessorTime>, after: Option<ProcessorTime>) -> Option<ProcessorTime> {
    Some(after?.since(before?))
}

/// The server, as its backends see it.
pub(crate) struct Served {
    pub(crate) subject: Subject,
    pub(crate) endpoint: Endpoint,
}

impl Served {
    /// Starts it, or takes the one at `--url`.
    ///
    /// # Errors
    /// It does not start, or nobody said where its control API is.
    pub(crate) fn start(options: &ServerOptions) -> anyhow::Result<Self> {
        let subject = Subject::start(options)?;
        let control = subject.control()?;
        let address = subject.exchange().context("the server does not say where its exchange listens")?;
        let token = control.access_token(subject.target())?;
        let vhost = subject.target().path().split('?').next().unwrap_or_default().to_owned();
        let endpoint = Endpoint { address: format!("tcp://{address}"), credentials: Some((vhost, token)) };
        Ok(Self { subject, endpoint })
    }

    /// As the report names it.
    pub(crate) fn report(&self) -> ServerReport {
        ServerReport::of(&self.subject)
    }

    /// What it has used so far, if it is known which process it is.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Option<ProcessorTime>> {
        self.subject.process().map(processor_time).transpose()
    }

    /// Waits until as many workers are ready.
    ///
    /// # Errors
    /// They are not.
    pub(crate) fn await_workers(&self, count: u32) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            interrupt::check()?;
            let ready = self.subject.control()?.workers(self.subject.target())?;
            if ready == count as usize {
                return Ok(());
            }
            if begun.elapsed() >= READY_MAX {
                bail!("after {} s {ready} workers are ready on the vhost, not {count}", READY_MAX.as_secs());
            }
            // The control API tells only those who ask.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
