//! `request`: clients of the exchange broadcast, beside the floor.

use anyhow::Context;
use clap::Args;

use super::client::{Asked, Clients, Command, Load, Pace};
use super::report::{Paired, Runs};
use super::side::{Floor, FloorSort, PairOptions, Served, since};
use crate::process::ProcessorTime;
use crate::report::Findings;
use crate::server::ServerOptions;

const CHANNEL: &str = "load";

/// Lets ZeroMQ clients broadcast with requests in flight, and compares the rate with that of a bare broker.
///
/// Each broadcast is acknowledged once it has its place in the channel's order; the channel has no subscribers, so that
/// nothing but the way of a request is measured. The floor passes the same requests from its ROUTER through a DEALER to a
/// second thread, which acknowledges, as the channel's owner does; the echo acknowledges them at once, with nobody behind
/// it. They take turns. Then the same under light load, for the latency from asking until the acknowledgement. With --url
/// it needs --control-url.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// How many requests a round has
    #[arg(long, value_name = "N", default_value_t = 400_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: u64,
    /// How many clients
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) clients: u32,
    /// How many requests a client has unanswered
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) in_flight: u32,
    #[command(flatten)]
    pub(crate) pair: PairOptions,
}

/// Runs server and floor in turns.
///
/// # Errors
/// A request was refused or not answered; a failure of server, floor or connections.
pub(crate) fn run(options: &Options) -> anyhow::Result<Findings> {
    let served = Served::start(&options.server)?;
    let outcome = drive(options, &served);
    served.subject.end(outcome)
}

fn drive(options: &Options, served: &Served) -> anyhow::Result<Findings> {
    served.subject.open_channel(CHANNEL)?;
    let (floor, echo) = (Floor::start(FloorSort::Forwarding)?, Floor::start(FloorSort::Direct)?);
    let connect = |endpoint| Clients::connect(endpoint, options.clients, options.server.patience());
    let mut clients = connect(&served.endpoint)?;
    let (mut floor_clients, mut echo_clients) = (connect(floor.endpoint())?, connect(echo.endpoint())?);
    let (mut ours, mut bare, mut echoed) = (Runs::default(), Runs::default(), Runs::default());
    let load = |requests, pace| Load {
        command: Command::Broadcast(CHANNEL),
        requests,
        payload_bytes: options.pair.payload,
        pace,
        workers: None,
    };
    let light = options.pair.light_count();
    let full = load(options.requests, Pace::InFlight(options.in_flight));
    let light = load(light, Pace::Rate(options.pair.light_rate));
    let mut progress = options.pair.output.progress();
    for number in 0..options.pair.rounds {
        for load in [full, light] {
            progress.show(options.pair.standing(number, load.pace));
            let before = served.processor_time()?;
            let asked = clients.ask(load).context("the server's round")?;
            note(&mut ours, load, &asked, since(before, served.processor_time()?));
            let sides = [(&floor, &mut floor_clients, &mut bare), (&echo, &mut echo_clients, &mut echoed)];
            for (floor, clients, runs) in sides {
                let before = floor.processor_time()?;
                let asked = clients.ask(load).context("the floor's round")?;
                note(runs, load, &asked, Some(floor.processor_time()?.since(before)));
            }
        }
    }
    let paired = Paired {
        work: format!(
            "{} broadcasts of {} bytes a round, {} clients with {} in flight",
            options.requests, options.pair.payload, options.clients, options.in_flight,
        ),
        item: "request",
        verified: "every request was answered with OK",
        light: format!(
            "{} requests a second for {} s a round, from asking until the answer",
            options.pair.light_rate, options.pair.light_seconds
        ),
        ours,
        floor: bare,
        echo: Some(echoed),
    };
    let mut findings = paired.findings("request", served.report());
    findings
        .setting("requests", options.requests)
        .setting("clients", options.clients)
        .setting("in_flight", options.in_flight);
    options.pair.tell(&mut findings);
    Ok(findings)
}

fn note(runs: &mut Runs, load: Load<'_>, asked: &Asked, processor: Option<ProcessorTime>) {
    match load.pace {
        Pace::InFlight(_) => {
            let seconds = asked.last_ns.saturating_sub(asked.first_ns) as f64 / 1e9;
            runs.rates.push(load.requests as f64 / seconds);
            runs.note_processor(processor, load.requests);
        }
        Pace::Rate(_) => runs.note_light(&asked.latency_ns),
    }
}
