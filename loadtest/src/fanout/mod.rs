//! `fanout`: many subscribers, a few publishers, and every delivery judged.
//!
//! [`scenario`] is what the connections do, [`measure`] a stretch of it with the clock and the server's processor
//! time beside it. Comparisons of several servers are made of the same parts.

mod measure;
mod scenario;
#[cfg(test)]
mod tests;

pub(crate) use measure::{Measured, measure, subscribe};
pub(crate) use scenario::{Amount, Fanout, Load, Plan};

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use crate::dialect::Dialect;
use crate::engine::Engine;
use crate::process::raise_descriptor_limit;
use crate::progress::Progress;
use crate::report::{Findings, OutputOptions, ServerReport, per_second};
use crate::server::{ServerOptions, Subject};

/// How long to watch for surplus deliveries after the last due one.
const WATCH: Duration = Duration::from_millis(300);

/// Broadcasts to thousands of subscribers, checks every delivery, and measures rate, latency and CPU.
///
/// Checked are: one order of a channel's events on all its connections, each publisher's own order, nothing lost,
/// nothing doubled, the very same bytes for all. Any violation ends the run with a sentence and exit status 1.
///
/// Publishers are subscribers too, spread evenly over their channel's. A broadcast is in flight until the last
/// subscriber has received it (and, in the classic dialect, until it is acknowledged). With --rate broadcasts are
/// sent at fixed times, whatever is in flight, and latency counts from the time at which a broadcast was due, so
/// that a server that stalls is not spared what it delays. Without, it counts from sending. In both it ends when
/// a delivery has been read, waiting in this (single-threaded) program included.
///
/// CPU is processor time of the server's whole process while broadcasting. A server that the load test starts
/// itself runs on the first processors, as many as it has shards, and the load test on the others, where there
/// are enough.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// How many channels; broadcasts go to each in turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: u32,
    /// How many connections subscribe to each channel
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) subscribers: u32,
    /// How many of a channel's subscribers broadcast
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) publishers: u32,
    /// How many broadcasts are in flight, on all channels together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// How many broadcasts a second, on all channels together, instead of a number in flight
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "in_flight")]
    pub(crate) rate: Option<u32>,
    /// For how many seconds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// So many broadcasts, however long that takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "seconds")]
    pub(crate) broadcasts: Option<u64>,
    /// The length of a broadcast's data; at least the stamp of about 60 bytes that each carries
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub(crate) payload_bytes: usize,
    /// How the server is spoken to
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dialect: Dialect,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

impl Options {
    fn plan(&self) -> Plan {
        Plan {
            dialect: self.dialect,
            channels: self.channels,
            subscribers: self.subscribers,
            publishers: self.publishers,
            load: self.rate.map_or(Load::InFlight(self.in_flight), Load::Rate),
            payload_bytes: self.payload_bytes,
        }
    }

    fn amount(&self) -> Amount {
        let seconds = Duration::from_secs(u64::from(self.seconds));
        self.broadcasts.map_or(Amount::Time(seconds), Amount::Broadcasts)
    }
}

/// Runs the scenario against a server of its own or the one at `--url`.
///
/// # Errors
/// A violated guarantee, no progress, or a failure of server or connections.
pub(crate) fn run(options: &Options) -> anyhow::Result<Findings> {
    ensure!(
        options.publishers <= options.subscribers,
        "{} publishers are too many: publishers are subscribers too, and a channel has {}",
        options.publishers,
        options.subscribers,
    );
    raise_descriptor_limit(options.plan().connections()?)?;
    let subject = Subject::start_apart(&options.server)?;
    let outcome = drive(options, &subject);
    subject.end(outcome)
}

fn drive(options: &Options, subject: &Subject) -> anyhow::Result<Findings> {
    let plan = options.plan();
    subject.open_channels(plan.dialect, &plan.channel_names())?;
    let mut engine = Engine::new(plan.dialect.target(subject.target()), options.server.patience())?;
    engine.show(options.output.progress());
    let mut fanout = Fanout::new(plan);
    let opening = subscribe(&mut engine, &mut fanout)?;
    let measured = measure(&mut engine, &mut fanout, subject.process(), options.amount())?;
    engine.show(Progress::hidden());
    engine.run_for(&mut fanout, WATCH)?;
    Ok(findings(ServerReport::of(subject), &plan, opening, measured))
}

fn findings(server: ServerReport, plan: &Plan, opening: Duration, measured: Measured) -> Findings {
    let mut findings = Findings::new("fanout", server);
    let connections = u64::from(plan.channels) * u64::from(plan.subscribers);
    let load = match plan.load {
        Load::InFlight(count) => {
            findings.setting("in_flight", count);
            format!("{count} in flight at any time")
        }
        Load::Rate(rate) => {
            findings.setting("rate", rate);
            format!("{rate} a second")
        }
    };
    findings
        .setting("dialect", plan.dialect.name())
        .setting("channels", plan.channels)
        .setting("subscribers", plan.subscribers)
        .setting("publishers", plan.publishers)
        .setting("payload_bytes", plan.payload_bytes)
        .more_is_better("opened_per_s", per_second(connections, opening), "/s")
        .fact("message_bytes", measured.message_bytes as f64, "bytes")
        .rate("broadcasts", measured.broadcasts, measured.took)
        .rate("deliveries", measured.deliveries, measured.took)
        .row(
            "opened",
            format!(
                "{} with {} each, {:.0} connections a second",
                counted(plan.channels, "channel"),
                counted(plan.subscribers, "subscriber"),
                per_second(connections, opening),
            ),
        )
        .row(
            "broadcast",
            format!(
                "{} messages with {} bytes of data ({} as delivered) in {}, {load}",
                measured.broadcasts,
                plan.payload_bytes,
                measured.message_bytes,
                plan.dialect.name(),
            ),
        )
        .row(
            "delivered",
            format!(
                "{} in {:.2} s: {:.0} a second",
                measured.deliveries,
                measured.took.as_secs_f64(),
                per_second(measured.deliveries, measured.took),
            ),
        )
        .row("verified", "one order on all connections, each sender's own order, no loss, no double")
        .latency("latency", &measured.latency_ns);
    if let Some(cost) = measured.server {
        findings.server_processor(cost.processor, "delivery", measured.deliveries);
        findings.server_memory(cost.resident_bytes);
    }
    findings.own_processor(measured.own_processor, "delivery", measured.deliveries);
    findings.timeline(measured.timeline);
    findings
}

fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
