//! `trigger`: browsers trigger, workers handle, beside the floor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use super::client::{BACKLOG_MAX, Clients, Command, Load, Pace};
use super::payload::{self, EVENT};
use super::report::{Paired, Runs};
use super::side::{Floor, FloorSort, PairOptions, Served, since};
use super::worker::{Found, Workers};
use crate::clock::monotonic_ns;
use crate::connection::ConnectionId;
use crate::engine::{Engine, Outbox, Scenario};
use crate::excerpt::excerpt;
use crate::interrupt;
use crate::process::ProcessorTime;
use crate::report::Findings;
use crate::server::ServerOptions;

/// How long tokens wait for their use.
const TOKEN_TTL: Duration = Duration::from_secs(600);
/// The engine looks so often whether the workers are done.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Lets browsers trigger and ZeroMQ workers handle it, and compares the rate with that of a bare broker.
///
/// Sessions trigger in WWFP with `ref`, so each trigger is acknowledged to its session; workers have a window and
/// acknowledge each. Every trigger must come to one worker, once. Server and floor take turns; the floor's clients are
/// as many DEALER sockets, each with as many triggers in flight. Then the same under light load, for the latency from
/// triggering to the worker's having it. With --url it needs --control-url, and a vhost without other workers.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// How many triggers a round has
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) triggers: u64,
    /// How many workers
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: u32,
    /// How many triggers a worker takes without having acknowledged them
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) window: u32,
    /// How many sessions trigger
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sessions: u32,
    /// How many triggers a session has unanswered
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) in_flight: u32,
    #[command(flatten)]
    pub(crate) pair: PairOptions,
}

/// One round.
#[derive(Clone, Copy, Debug)]
struct Round {
    triggers: u64,
    pace: Pace,
}

/// Runs server and floor in turns.
///
/// # Errors
/// A trigger was lost, doubled or refused; no progress; a failure of server, floor or connections.
pub(crate) fn run(options: &Options) -> anyhow::Result<Findings> {
    let served = Served::start(&options.server)?;
    let outcome = drive(options, &served);
    served.subject.end(outcome)
}

fn drive(options: &Options, served: &Served) -> anyhow::Result<Findings> {
    let floor = Floor::start(FloorSort::Direct)?;
    let mut floor_clients = Clients::connect(floor.endpoint(), options.sessions, options.server.patience())?;
    let mut browsers = Browsers::open(options, served)?;
    let (mut ours, mut bare) = (Runs::default(), Runs::default());
    let full = Round { triggers: options.triggers, pace: Pace::InFlight(options.in_flight) };
    let light = Round { triggers: options.pair.light_count(), pace: Pace::Rate(options.pair.light_rate) };
    let mut progress = options.pair.output.progress();
    for number in 0..options.pair.rounds {
        for round in [full, light] {
            progress.show(options.pair.standing(number, round.pace));
            let measured = browsers.round(options, served, round).context("the server's round")?;
            note(&mut ours, round, &measured);
            let measured =
                floor_round(options, &floor, &mut floor_clients, round).context("the floor's round")?;
            note(&mut bare, round, &measured);
        }
    }
    let paired = Paired {
        work: format!(
            "{} triggers of {} bytes a round, {} sessions with {} in flight, {} workers with windows of {}",
            options.triggers,
            options.pair.payload,
            options.sessions,
            options.in_flight,
            options.workers,
            options.window,
        ),
        item: "trigger",
        verified: "every trigger came to one worker, once, and was acknowledged to its session",
        light: format!(
            "{} triggers a second for {} s a round, from triggering to the worker's having it",
            options.pair.light_rate, options.pair.light_seconds
        ),
        ours,
        floor: bare,
        echo: None,
    };
    let mut findings = paired.findings("trigger", served.report());
    findings
        .setting("triggers", options.triggers)
        .setting("workers", options.workers)
        .setting("window", options.window)
        .setting("sessions", options.sessions)
        .setting("in_flight", options.in_flight);
    options.pair.tell(&mut findings);
    Ok(findings)
}

/// What a round has shown.
struct Measured {
    first_ns: u64,
    found: Found,
    processor: Option<ProcessorTime>,
}

fn note(runs: &mut Runs, round: Round, measured: &Measured) {
    match round.pace {
        Pace::InFlight(_) => {
            let seconds = measured.found.last_ns.saturating_sub(measured.first_ns) as f64 / 1e9;
            runs.rates.push(round.triggers as f64 / seconds);
            runs.note_processor(measured.processor, round.triggers);
        }
        Pace::Rate(_) => runs.note_light(&measured.found.latency_ns),
    }
}

fn floor_round(
    options: &Options,
    floor: &Floor,
    clients: &mut Clients,
    round: Round,
) -> anyhow::Result<Measured> {
    let workers = Workers::start(floor.endpoint(), options.workers, options.window, round.triggers);
    let before = floor.processor_time()?;
    let load = Load {
        command: Command::Trigger,
        requests: round.triggers,
        payload_bytes: options.pair.payload,
        pace: round.pace,
        workers: Some(&workers),
    };
    let asked = clients.ask(load)?;
    await_handled(&workers, round.triggers, options.server.patience(), |pause| {
        std::thread::sleep(pause);
        Ok(())
    })?;
    let processor = Some(floor.processor_time()?.since(before));
    Ok(Measured { first_ns: asked.first_ns, found: workers.end()?, processor })
}

/// Waits, by `pass`, until the workers have handled all.
fn await_handled(
    workers: &Workers,
    triggers: u64,
    patience: Duration,
    mut pass: impl FnMut(Duration) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut handled, mut progressed) = (workers.handled(), Instant::now());
    while handled < triggers && !workers.has_failed() {
        interrupt::check()?;
        pass(LOOK_INTERVAL)?;
        if workers.handled() > handled {
            (handled, progressed) = (workers.handled(), Instant::now());
        } else if progressed.elapsed() >= patience {
            bail!("{} of {triggers} triggers came to no worker", triggers - handled);
        }
    }
    Ok(())
}

/// The sessions that trigger.
struct Browsers {
    engine: Engine,
    sessions: Sessions,
}

impl Browsers {
    fn open(options: &Options, served: &Served) -> anyhow::Result<Self> {
        let target = served.subject.target();
        let control = served.subject.control()?;
        let tokens = (0..options.sessions)
            .map(|number| control.token(target, &format!("browser-{number}"), "none", TOKEN_TTL));
        let sessions = Sessions {
            open: vec![0; options.sessions as usize],
            tokens: tokens.collect::<anyhow::Result<_>>()?,
            authenticated: 0,
            load: None,
            payload_bytes: options.pair.payload,
            sent: 0,
            answered: 0,
            handled: Arc::default(),
        };
        let mut browsers =
            Self { engine: Engine::new(target.in_wwfp(), options.server.patience())?, sessions };
        browsers.engine.open(options.sessions);
        browsers.engine.run(&mut browsers.sessions).context("while the sessions authenticated")?;
        Ok(browsers)
    }

    fn round(&mut self, options: &Options, served: &Served, round: Round) -> anyhow::Result<Measured> {
        let workers = Workers::start(&served.endpoint, options.workers, options.window, round.triggers);
        served.await_workers(options.workers)?;
        let before = served.processor_time()?;
        let first_ns = monotonic_ns();
        let sessions = &mut self.sessions;
        (sessions.sent, sessions.answered, sessions.load) = (0, 0, Some(round));
        sessions.handled = workers.handled_so_far();
        match round.pace {
            Pace::InFlight(most) => self.send_in_flight(most, round.triggers, &workers)?,
            Pace::Rate(rate) => self.send_at_rate(rate, round.triggers, first_ns)?,
        }
        self.engine.run(&mut self.sessions).context("while the sessions triggered")?;
        let (engine, sessions) = (&mut self.engine, &mut self.sessions);
        await_handled(&workers, round.triggers, options.server.patience(), |pause| {
            engine.run_for(sessions, pause)
        })?;
        let processor = since(before, served.processor_time()?);
        let found = workers.end()?;
        served.await_workers(0)?;
        Ok(Measured { first_ns, found, processor })
    }

    /// Answers bring the next triggers, until too many wait for the workers: then nobody is answered any more.
    fn send_in_flight(&mut self, most: u32, triggers: u64, workers: &Workers) -> anyhow::Result<()> {
        while self.sessions.sent < triggers && !workers.has_failed() {
            for index in 0..self.sessions.tokens.len() {
                self.sessions.fill(ConnectionId(u32::try_from(index)?), most, self.engine.outbox());
            }
            self.engine.run_for(&mut self.sessions, LOOK_INTERVAL)?;
        }
        Ok(())
    }

    fn send_at_rate(&mut self, rate: u32, triggers: u64, first_ns: u64) -> anyhow::Result<()> {
        for number in 0..triggers {
            let due_ns = first_ns + number * 1_000_000_000 / u64::from(rate);
            while let Some(left_ns) = due_ns.checked_sub(monotonic_ns()).filter(|left_ns| *left_ns > 0) {
                self.engine.run_for(&mut self.sessions, Duration::from_nanos(left_ns))?;
            }
            let index = usize::try_from(number)? % self.sessions.tokens.len();
            self.sessions.send(ConnectionId(u32::try_from(index)?), self.engine.outbox());
        }
        Ok(())
    }
}

/// What the sessions do, and how far they are.
struct Sessions {
    tokens: Vec<String>,
    /// How many triggers each has unanswered.
    open: Vec<u32>,
    authenticated: usize,
    load: Option<Round>,
    payload_bytes: usize,
    sent: u64,
    answered: u64,
    /// How many the workers have handled.
    handled: Arc<AtomicU64>,
}

impl Sessions {
    fn fill(&mut self, connection: ConnectionId, most: u32, outbox: &mut Outbox) {
        let triggers = self.load.map_or(0, |load| load.triggers);
        let most_sent = triggers.min(self.handled.load(Ordering::Relaxed) + BACKLOG_MAX);
        while self.open[connection.index()] < most && self.sent < most_sent {
            self.send(connection, outbox);
        }
    }

    fn send(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        let data = payload::data(self.sent, self.payload_bytes);
        let text = format!(r#"{{"trigger":{{"event":"{EVENT}","data":{data},"ref":1}}}}"#);
        outbox.text(connection, text.as_bytes());
        self.sent += 1;
        self.open[connection.index()] += 1;
    }
}

impl Scenario for Sessions {
    fn opened(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        let token = &self.tokens[connection.index()];
        outbox.text(connection, format!(r#"{{"auth":{{"token":"{token}"}}}}"#).as_bytes());
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        _: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        if message.starts_with(br#"{":ok":{"code":205,"#) {
            self.answered += 1;
            self.open[connection.index()] -= 1;
            if let Some(Round { pace: Pace::InFlight(most), .. }) = self.load {
                self.fill(connection, most, outbox);
            }
            return Ok(());
        }
        if message.starts_with(br#"{":authenticated""#) {
            self.authenticated += 1;
            return Ok(());
        }
        if message.starts_with(br#"{":connected""#) {
            return Ok(());
        }
        bail!("{connection} was told {}", excerpt(message))
    }

    fn finished(&self) -> bool {
        match self.load {
            None => self.authenticated == self.tokens.len(),
            Some(load) => self.answered == load.triggers,
        }
    }

    fn progress(&self) -> u64 {
        self.answered + self.authenticated as u64
    }

    fn missing(&self) -> String {
        format!("{} of {} triggers were answered", self.answered, self.sent)
    }
}
