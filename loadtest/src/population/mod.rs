//! A population of subscribed connections, some of which leave and are replaced while publishers broadcast: what
//! `churn` and `soak` have in common.
//!
//! [`scenario`] is what the connections do; here is how it is driven, measured and told.

mod scenario;
#[cfg(test)]
mod tests;

pub(crate) use scenario::{Plan, Population, Tally};

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use jiff::SignedDuration;

use crate::clock::monotonic_ns;
use crate::dialect::Dialect;
use crate::engine::Engine;
use crate::process::{
    ProcessId, ProcessorTime, descriptors, processor_time, raise_descriptor_limit, resident_bytes,
};
use crate::progress::Progress;
use crate::report::timeline::Timeline;
use crate::report::{Findings, OutputOptions, ServerReport, number, per_second};
use crate::server::{ServerOptions, Subject};
use crate::trend::Trend;

/// How often the server's memory is read, and whether anybody waits for too long.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long to watch for surplus deliveries after the last due one.
const WATCH: Duration = Duration::from_millis(300);
/// How often to look whether the server has closed its descriptors.
const DESCRIPTORS_INTERVAL: Duration = Duration::from_millis(50);
const SECONDS_PER_HOUR: f64 = 3600.0;
/// Which part of a run the server's memory may take to come to its height.
const WARM_UP_SHARE: u32 = 4;

/// The size of a population, and what goes on in it.
#[derive(Args, Clone, Debug)]
pub(crate) struct PopulationOptions {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// How many connections; each subscribes to one channel
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How many channels the connections are spread over
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: u32,
    /// How many of a channel's subscribers broadcast; these never leave
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) publishers: u32,
    /// How many broadcasts a second, on all channels together
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// How many connections leave a second; another comes for each
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = rate)]
    pub(crate) leaves: f64,
    /// Which share of them leaves by a reset, without a word
    #[arg(long, value_name = "0..1", default_value_t = 0.5, value_parser = share)]
    pub(crate) abrupt: f64,
    /// The length of a broadcast's data; at least the stamp of about 60 bytes that each carries
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub(crate) payload_bytes: usize,
    /// How the server is spoken to
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dialect: Dialect,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

impl PopulationOptions {
    fn plan(&self) -> Plan {
        Plan {
            dialect: self.dialect,
            connections: self.connections,
            channels: self.channels,
            publishers: self.publishers,
            rate: self.rate,
            leaves: self.leaves,
            abrupt: self.abrupt,
            payload_bytes: self.payload_bytes,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.0..=1e7).contains(&rate) => Ok(rate),
        Ok(_) | Err(_) => Err("a rate is a number from 0 to 10000000".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) | Err(_) => Err("a share is a number from 0 to 1".to_owned()),
    }
}

/// Reads a time such as `90s`, `10m` or `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let time = SignedDuration::from_str(text).ok().and_then(|time| Duration::try_from(time).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "a duration is written as 90s, 10m or 2h".to_owned())
}

/// What a run has found.
pub(crate) struct Outcome {
    plan: Plan,
    pub(crate) took: Duration,
    pub(crate) tally: Tally,
    joining_ns: Histogram<u64>,
    latency_ns: Histogram<u64>,
    timeline: Timeline,
    own_processor: ProcessorTime,
    /// Of the server's process, where it is known.
    pub(crate) server: Option<ServerOutcome>,
}

/// What a run did to the server's process.
pub(crate) struct ServerOutcome {
    processor: ProcessorTime,
    pub(crate) resident_bytes: u64,
    /// Bytes an hour by which its resident memory grew after the first part of the run; `None` if that was too short.
    pub(crate) slope: Option<f64>,
    /// Descriptors before the population came, and with it at the end.
    descriptors_before: u64,
    descriptors_after: u64,
}

/// A look at a population, once a second.
pub(crate) struct Look<'a> {
    pub(crate) population: &'a mut Population,
    /// How long it has lived.
    pub(crate) lived: Duration,
    /// The server's, where its process is known.
    pub(crate) resident_bytes: Option<u64>,
    /// Where to say something.
    pub(crate) progress: &'a Progress,
}

/// Lets a population live for `time` on a server of its own, or on the one at `--url`, and tells what was found.
///
/// # Errors
/// A violated guarantee, somebody waits for longer than the patience, a failure of server or connections.
pub(crate) fn run(
    options: &PopulationOptions,
    time: Duration,
    look: impl FnMut(Look<'_>),
    tell: impl FnOnce(ServerReport, &Outcome) -> Findings,
) -> anyhow::Result<Findings> {
    let plan = options.plan();
    let publishers = u64::from(plan.publishers) * u64::from(plan.channels);
    ensure!(
        publishers <= u64::from(plan.connections),
        "{} connections are too few for {publishers} publishers on {} channels: each needs one of its own",
        plan.connections,
        plan.channels,
    );
    ensure!(
        !plan.dialect.is_stream(),
        "{} is not spoken here: connections that come and go speak in text frames",
        plan.dialect.name(),
    );
    raise_descriptor_limit(plan.connections.saturating_add(plan.in_transit_max()))?;
    let subject = Subject::start_apart(&options.server)?;
    let outcome = drive(options, plan, time, &subject, look);
    let findings = outcome.map(|outcome| tell(ServerReport::of(&subject), &outcome));
    subject.end(findings)
}

fn drive(
    options: &PopulationOptions,
    plan: Plan,
    time: Duration,
    subject: &Subject,
    look: impl FnMut(Look<'_>),
) -> anyhow::Result<Outcome> {
    subject.open_channels(plan.dialect, &plan.channel_names())?;
    let mut habitat = Habitat {
        engine: Engine::new(plan.dialect.target(subject.target()), options.server.patience())?,
        population: Population::new(plan),
        server: subject.process(),
        patience: options.server.patience(),
        progress: options.output.progress(),
    };
    habitat.engine.show(habitat.progress.clone());
    let descriptors_before = habitat.server.map(descriptors).transpose()?;
    habitat.fill(plan.connections)?;

    let own_process = ProcessId(std::process::id());
    let processor_before = habitat.server.map(processor_time).transpose()?;
    let own_before = processor_time(own_process)?;
    let begun_ns = monotonic_ns();
    let slope = habitat.live(time, begun_ns, look)?;
    let ended_ns = monotonic_ns();
    let own_processor = processor_time(own_process)?.since(own_before);
    let processor = habitat.server.map(processor_time).transpose()?;

    let tally = habitat.population.tally();
    let recorder = habitat.population.take_recorder(ended_ns);
    let (timeline, latency_ns) = recorder.finish(ended_ns, tally.deliveries, "deliveries");
    habitat.watch()?;
    let server = match (habitat.server, processor_before, processor, descriptors_before) {
        (Some(process), Some(before), Some(after), Some(descriptors_before)) => Some(ServerOutcome {
            processor: after.since(before),
            resident_bytes: resident_bytes(process)?,
            slope,
            descriptors_before,
            descriptors_after: habitat
                .descriptors(process, descriptors_before + u64::from(plan.connections))?,
        }),
        _ => None,
    };
    let took = Duration::from_nanos(ended_ns - begun_ns);
    let joining_ns = habitat.population.joining_ns().clone();
    Ok(Outcome { plan, took, tally, joining_ns, latency_ns, timeline, own_processor, server })
}

/// A population, and what it lives in.
struct Habitat {
    engine: Engine,
    population: Population,
    /// The server's process, where it is known.
    server: Option<ProcessId>,
    patience: Duration,
    progress: Progress,
}

impl Habitat {
    fn fill(&mut self, connections: u32) -> anyhow::Result<()> {
        self.engine.open(connections);
        self.engine.run(&mut self.population).context("while the first connections came")
    }

    /// Lets the population live, and then settle. Returns by how many bytes an hour the server's memory grew.
    fn live(
        &mut self,
        time: Duration,
        begun_ns: u64,
        mut look: impl FnMut(Look<'_>),
    ) -> anyhow::Result<Option<f64>> {
        let lived = || Duration::from_nanos(monotonic_ns() - begun_ns);
        let mut memory = Trend::default();
        self.population.live(self.server, begun_ns, time);
        while let Some(left) = time.checked_sub(lived()).filter(|left| !left.is_zero()) {
            self.engine.run_for(&mut self.population, LOOK_INTERVAL.min(left))?;
            self.population.check(monotonic_ns(), self.patience)?;
            let (lived, resident_bytes) = (lived(), self.server.map(resident_bytes).transpose()?);
            if let Some(bytes) = resident_bytes.filter(|_| lived >= time / WARM_UP_SHARE) {
                memory.point(lived.as_secs_f64() / SECONDS_PER_HOUR, bytes as f64);
            }
            let (population, progress) = (&mut self.population, &self.progress);
            look(Look { population, lived, resident_bytes, progress });
        }
        self.population.settle();
        self.engine.run(&mut self.population).context("while the last deliveries came")?;
        Ok(memory.slope())
    }

    /// Watches for what comes although nothing is due any more.
    fn watch(&mut self) -> anyhow::Result<()> {
        self.progress = Progress::hidden();
        self.engine.show(Progress::hidden());
        self.engine.run_for(&mut self.population, WATCH).context("after the last due delivery")
    }

    /// How many descriptors `process` holds once there are no more than `due`, or after a while all the same.
    fn descriptors(&mut self, process: ProcessId, due: u64) -> anyhow::Result<u64> {
        let begun = Instant::now();
        loop {
            let held = descriptors(process)?;
            if held <= due || begun.elapsed() >= self.patience {
                return Ok(held);
            }
            self.engine.run_for(&mut self.population, DESCRIPTORS_INTERVAL)?;
        }
    }
}

/// Tells what every population's run tells.
pub(crate) fn tell(scenario: &str, server: ServerReport, outcome: &Outcome) -> Findings {
    let Outcome { plan, tally, took, .. } = outcome;
    let mut findings = Findings::new(scenario, server);
    findings
        .setting("dialect", plan.dialect.name())
        .setting("connections", plan.connections)
        .setting("channels", plan.channels)
        .setting("publishers", plan.publishers)
        .setting("rate", plan.rate)
        .setting("leaves", plan.leaves)
        .setting("abrupt", plan.abrupt)
        .setting("payload_bytes", plan.payload_bytes)
        .rate("joins", tally.joins, *took)
        .fact("left_cleanly", tally.left_cleanly as f64, "")
        .fact("left_abruptly", tally.left_abruptly as f64, "")
        .rate("broadcasts", tally.broadcasts, *took)
        .rate("deliveries", tally.deliveries, *took)
        .row(
            "came and went",
            format!(
                "of {} connections {} were replaced in {:.1} s ({:.0}/s): {} left with a close frame, {} by a reset",
                plan.connections,
                tally.joins,
                took.as_secs_f64(),
                per_second(tally.joins, *took),
                tally.left_cleanly,
                tally.left_abruptly,
            ),
        );
    tell_joining(&mut findings, &outcome.joining_ns);
    findings
        .row(
            "delivered",
            format!(
                "{} of {} broadcasts on {} channels: {:.0} a second",
                tally.deliveries,
                tally.broadcasts,
                plan.channels,
                per_second(tally.deliveries, *took),
            ),
        )
        .row(
            "verified",
            "for each subscriber from its subscription on: one order, each sender's own order, no loss, no double",
        )
        .latency("latency", &outcome.latency_ns);
    if let Some(server) = &outcome.server {
        tell_server(&mut findings, server, outcome);
    }
    findings.own_processor(outcome.own_processor, "delivery", tally.deliveries);
    findings.timeline(outcome.timeline.clone());
    findings
}

fn tell_joining(findings: &mut Findings, joining_ns: &Histogram<u64>) {
    if joining_ns.is_empty() {
        return;
    }
    let ms = |ns: u64| ns as f64 / 1e6;
    let quantile = |quantile| ms(joining_ns.value_at_quantile(quantile));
    let (p50, p99, max) = (quantile(0.5), quantile(0.99), ms(joining_ns.max()));
    findings
        .less_is_better("joining_p50_ms", p50, "ms")
        .less_is_better("joining_p99_ms", p99, "ms")
        .less_is_better("joining_max_ms", max, "ms")
        .row(
            "subscribed after",
            format!("p50 {} ms, p99 {} ms, max {} ms", number(p50), number(p99), number(max)),
        );
}

fn tell_server(findings: &mut Findings, server: &ServerOutcome, outcome: &Outcome) {
    findings.server_processor(server.processor, "delivery", outcome.tally.deliveries);
    findings.server_memory(server.resident_bytes);
    if let Some(slope) = server.slope {
        let kib = slope / 1024.0;
        findings
            .less_is_better("server_rss_bytes_per_hour", slope, "bytes")
            .row("RSS slope", format!("{} KiB an hour, after the first quarter of the run", number(kib)));
    }
    let (before, after) = (server.descriptors_before, server.descriptors_after);
    let connections = u64::from(outcome.plan.connections);
    findings.less_is_better("server_descriptors", after as f64, "").row(
        "descriptors",
        format!("{after} at the end: {before} at the start and {connections} connections"),
    );
    if after > before + connections {
        findings.failed(format!(
            "the server holds {after} descriptors, more than the {before} of its start and those of {connections} \
             connections: it does not let go of connections that have ended"
        ));
    }
}
