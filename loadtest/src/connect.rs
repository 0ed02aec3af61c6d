//! `connect`: how fast connections come to be subscribed, and what they weigh while they do nothing.
//!
//! A server's first connections pay for buffers and pages that all later ones share, so some are opened, subscribed
//! and closed before the first look at its memory.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use crate::clock::monotonic_ns;
use crate::connection::ConnectionId;
use crate::dialect::{Dialect, Streams};
use crate::engine::{Engine, Outbox, Scenario};
use crate::excerpt::excerpt;
use crate::process::{ProcessId, ProcessorTime, processor_time, raise_descriptor_limit, resident_bytes};
use crate::progress::{Progress, Standing};
use crate::report::timeline::{Recorder, Timeline};
use crate::report::{Findings, OutputOptions, ServerReport, mib, per_second};
use crate::server::{ServerOptions, Subject};
use crate::subscription::Subscriptions;

/// How long to wait between two looks at the server's memory.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the server's memory may take to come to rest.
const REST_MAX: Duration = Duration::from_secs(15);
/// Two readings that differ by no more are equal.
const REST_BYTES: u64 = 64 * 1024;

/// Opens thousands of connections that subscribe and then do nothing, and weighs the server before and after.
///
/// A connection is in the making from its connect until its subscription is answered; as soon as fewer than
/// --opening are, the next one is begun. Its time to be subscribed counts from its connect, waiting in this
/// (single-threaded) program included.
///
/// Some of the connections (--bare) are opened first, subscribe to nothing, and are weighed apart. Before the first
/// look at the server's memory (VmRSS), --warm-up connections are opened, subscribed and closed, so that what a
/// server pays once is not counted. Memory is read when it has come to rest: when two readings half a second apart
/// are equal. Pings are answered all the while. With --url, memory and CPU are told only if --server-pid names the
/// process.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// How many connections, bare ones included
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How many of them only connect [default: a tenth]
    #[arg(long, value_name = "N", alias = "connect-only-first")]
    pub(crate) bare: Option<u32>,
    /// How many channels the connections are spread over; each subscribes to one
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: u32,
    /// How many connections are in the making at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) opening: u32,
    /// How many connections to open, subscribe and close beforehand
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) warm_up: u32,
    /// How the server is spoken to
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dialect: Dialect,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

impl Options {
    fn bare(&self) -> u32 {
        self.bare.unwrap_or(self.connections / 10)
    }

    fn channel_names(&self) -> Vec<String> {
        (0..self.channels).map(|channel| format!("connect-{channel}")).collect()
    }
}

/// Runs the scenario against a server of its own or the one at `--url`.
///
/// # Errors
/// No progress, an unexpected answer, or a failure of server or connections.
pub(crate) fn run(options: &Options) -> anyhow::Result<Findings> {
    ensure!(
        options.bare() < options.connections,
        "of {} connections {} only connect: at least one must be left to subscribe",
        options.connections,
        options.bare(),
    );
    raise_descriptor_limit(options.connections.max(options.warm_up))?;
    let subject = Subject::start_apart(&options.server)?;
    let outcome = drive(options, &subject);
    subject.end(outcome)
}

fn drive(options: &Options, subject: &Subject) -> anyhow::Result<Findings> {
    subject.open_channels(options.dialect, &options.channel_names())?;
    let server = subject.process();
    let new_engine = || {
        let target = options.dialect.target(subject.target());
        let mut engine = Engine::new(target, options.server.patience())?;
        engine.open_at_once(options.opening);
        engine.show(options.output.progress());
        anyhow::Ok(engine)
    };
    if options.warm_up > 0 {
        let (mut engine, mut arrivals) = (new_engine()?, Arrivals::new(options, options.warm_up));
        arrivals.open(&mut engine, options.warm_up, true, None).context("during the warm-up")?;
        engine.close(&mut arrivals).context("at the end of the warm-up")?;
    }
    let (mut engine, mut arrivals) = (new_engine()?, Arrivals::new(options, options.connections));
    let (bare, subscribed) = (options.bare(), options.connections - options.bare());
    let before = memory_at_rest(server, &mut engine, &mut arrivals)?;
    let connecting = arrivals.open(&mut engine, bare, false, server)?;
    let between = match bare {
        0 => before,
        _ => memory_at_rest(server, &mut engine, &mut arrivals)?,
    };
    let subscribing = arrivals.open(&mut engine, subscribed, true, server)?;
    let after = memory_at_rest(server, &mut engine, &mut arrivals)?;
    engine.show(Progress::hidden());

    let mut findings = Findings::new("connect", ServerReport::of(subject));
    findings
        .setting("dialect", options.dialect.name())
        .setting("connections", options.connections)
        .setting("bare", bare)
        .setting("channels", options.channels)
        .setting("opening", options.opening)
        .setting("warm_up", options.warm_up);
    tell_opening(&mut findings, options, &connecting, &subscribing);
    if let (Some(before), Some(between), Some(after)) = (before, between, after) {
        tell_memory(&mut findings, Memory { before, between, after }, bare, subscribed);
    }
    findings.timeline(subscribing.timeline);
    Ok(findings)
}

fn tell_opening(findings: &mut Findings, options: &Options, connecting: &Opened, subscribing: &Opened) {
    let opened = |verb: &str, opened: &Opened| {
        let (count, seconds) = (opened.count, opened.took.as_secs_f64());
        format!("{count} connections {verb} in {seconds:.2} s ({:.0}/s)", opened.per_second())
    };
    if connecting.count > 0 {
        findings
            .more_is_better("bare_per_s", connecting.per_second(), "/s")
            .row("connected", opened("without subscribing", connecting));
    }
    let verb = format!("with one of {} channels each", options.channels);
    findings
        .rate("subscribed", u64::from(subscribing.count), subscribing.took)
        .row("subscribed", opened(&verb, subscribing))
        .latency("subscribed after", &subscribing.latency_ns);
    if let Some(processor) = subscribing.server_processor {
        findings.server_processor(processor, "connection", u64::from(subscribing.count));
    }
    findings.own_processor(subscribing.own_processor, "connection", u64::from(subscribing.count));
}

/// The server's resident memory, in bytes: after the warm-up, with the bare connections, with all.
#[derive(Clone, Copy, Debug)]
struct Memory {
    before: u64,
    between: u64,
    after: u64,
}

fn tell_memory(findings: &mut Findings, memory: Memory, bare: u32, subscribed: u32) {
    let text = |bytes: u64| format!("{:.2} MiB", mib(bytes));
    findings
        .fact("server_rss_before_bytes", memory.before as f64, "bytes")
        .row("RSS before", text(memory.before));
    let each = |before: u64, after: u64, count: u32| (after as f64 - before as f64) / f64::from(count);
    if bare > 0 {
        let bytes = each(memory.before, memory.between, bare);
        findings
            .less_is_better("bytes_per_bare_connection", bytes, "bytes")
            .row("RSS between", text(memory.between))
            .row("weight", format!("{bytes:.0} bytes per idle connection without subscription"));
    }
    let bytes = each(memory.between, memory.after, subscribed);
    findings
        .less_is_better("bytes_per_subscribed_connection", bytes, "bytes")
        .server_memory(memory.after)
        .row("weight", format!("{bytes:.0} bytes per idle subscribed connection"));
}

/// Reads the memory of `process` once it no longer changes, serving the connections meanwhile. After a while the
/// last reading is taken as it is. `None` when nobody said which process it is.
fn memory_at_rest(
    process: Option<ProcessId>,
    engine: &mut Engine,
    arrivals: &mut Arrivals,
) -> anyhow::Result<Option<u64>> {
    let Some(process) = process else { return Ok(None) };
    let begun = Instant::now();
    let mut last = resident_bytes(process)?;
    loop {
        engine.run_for(arrivals, LOOK_INTERVAL)?;
        let now = resident_bytes(process)?;
        if now.abs_diff(last) <= REST_BYTES || begun.elapsed() >= REST_MAX {
            return Ok(Some(now));
        }
        last = now;
    }
}

/// How a number of connections was opened.
struct Opened {
    count: u32,
    took: Duration,
    /// From a connection's connect until it was ready.
    latency_ns: Histogram<u64>,
    timeline: Timeline,
    server_processor: Option<ProcessorTime>,
    own_processor: ProcessorTime,
}

impl Opened {
    fn per_second(&self) -> f64 {
        per_second(u64::from(self.count), self.took)
    }
}

/// Connections that come, subscribe if they are to, and do nothing.
struct Arrivals {
    dialect: Dialect,
    subscriptions: Subscriptions,
    streams: Streams,
    opening_max: u32,
    /// Whether connections that are opened from now on subscribe.
    subscribe: bool,
    due: u32,
    begun: u32,
    ready: u32,
    /// By [`ConnectionId`].
    guests: Vec<Guest>,
    recorder: Recorder,
}

/// A connection.
#[derive(Clone, Copy)]
struct Guest {
    begun_ns: u64,
    is_ready: bool,
}

impl Arrivals {
    /// Up to `connections` are to come.
    fn new(options: &Options, connections: u32) -> Self {
        Self {
            dialect: options.dialect,
            subscriptions: Subscriptions::new(options.dialect, options.channel_names()),
            streams: Streams::new(connections),
            opening_max: options.opening,
            subscribe: false,
            due: 0,
            begun: 0,
            ready: 0,
            guests: Vec::new(),
            recorder: Recorder::start(None, monotonic_ns()),
        }
    }

    /// Opens `count` more connections, with a subscription each or without.
    fn open(
        &mut self,
        engine: &mut Engine,
        count: u32,
        subscribe: bool,
        server: Option<ProcessId>,
    ) -> anyhow::Result<Opened> {
        let own_process = ProcessId(std::process::id());
        let before = server.map(processor_time).transpose()?;
        let own_before = processor_time(own_process)?;
        let begun_ns = monotonic_ns();
        self.recorder = Recorder::start(server, begun_ns);
        (self.due, self.begun, self.ready, self.subscribe) = (count, 0, 0, subscribe);
        engine.run(self).context("while the connections were opened")?;
        let ended_ns = monotonic_ns();
        let recorder = std::mem::replace(&mut self.recorder, Recorder::start(None, ended_ns));
        let (timeline, latency_ns) = recorder.finish(ended_ns, u64::from(count), "connections");
        let server_processor = match (server, before) {
            (Some(process), Some(before)) => Some(processor_time(process)?.since(before)),
            _ => None,
        };
        Ok(Opened {
            count,
            took: Duration::from_nanos(ended_ns - begun_ns),
            latency_ns,
            timeline,
            server_processor,
            own_processor: processor_time(own_process)?.since(own_before),
        })
    }

    /// Which channel a connection subscribes to: they take turns.
    fn channel_of(&self, connection: ConnectionId) -> usize {
        connection.index() % self.subscriptions.channels()
    }

    fn is_ready(&mut self, connection: ConnectionId, now_ns: u64) {
        let guest = &mut self.guests[connection.index()];
        guest.is_ready = true;
        self.ready += 1;
        self.recorder.latency(now_ns.saturating_sub(guest.begun_ns));
    }
}

impl Scenario for Arrivals {
    fn opened(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        if self.subscribe {
            self.subscriptions.opened(connection, self.channel_of(connection), outbox);
        } else {
            self.is_ready(connection, monotonic_ns());
        }
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        let channel = self.channel_of(connection);
        let is_ready = self.guests[connection.index()].is_ready;
        if self.subscriptions.noticed(connection, (!is_ready).then_some(channel), message, outbox) {
            return Ok(());
        }
        if is_ready {
            bail!("{connection}, which waits for nothing, received {}", excerpt(message));
        }
        self.subscriptions.check(connection, channel, message)?;
        self.is_ready(connection, received_ns);
        Ok(())
    }

    fn binary(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        if !self.dialect.is_stream() {
            bail!("{connection} received a binary message: {}", excerpt(bytes));
        }
        let mut streams = std::mem::take(&mut self.streams);
        let fed =
            streams.feed(connection, bytes, |message| self.message(connection, message, received_ns, outbox));
        self.streams = streams;
        fed
    }

    fn tick(&mut self, now_ns: u64, outbox: &mut Outbox) -> Option<u64> {
        self.recorder.turn(now_ns, u64::from(self.ready));
        while self.begun < self.due && self.begun - self.ready < self.opening_max {
            outbox.open();
            self.guests.push(Guest { begun_ns: now_ns, is_ready: false });
            self.begun += 1;
        }
        None
    }

    fn finished(&self) -> bool {
        self.ready == self.due
    }

    fn progress(&self) -> u64 {
        u64::from(self.ready)
    }

    fn missing(&self) -> String {
        format!("{} of {} connections are ready, {} were begun", self.ready, self.due, self.begun)
    }

    fn standing(&self) -> Standing {
        Standing {
            phase: if self.subscribe { "subscribing" } else { "connecting" },
            done: u64::from(self.ready),
            due: u64::from(self.due),
            detail: self.recorder.latest().map(|sample| sample.text()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{Mock, Sabotage};

    fn options(mock: &Mock) -> Options {
        Options {
            server: ServerOptions {
                url: Some(mock.url().parse().expect("valid")),
                server_pid: Some(std::process::id()),
                // Only a hang takes so long.
                patience: 60,
                ..ServerOptions::default()
            },
            connections: 60,
            bare: Some(20),
            channels: 7,
            opening: 9,
            warm_up: 10,
            dialect: Dialect::Classic,
            output: OutputOptions::default(),
        }
    }

    fn failure(options: &Options) -> String {
        format!("{:#}", run(options).expect_err("the fault is noticed"))
    }

    #[test]
    fn connections_are_opened_timed_and_weighed() {
        let mock = Mock::start(Sabotage::None);
        let findings = run(&options(&mock)).expect("nothing is wrong");
        let figure = |name: &str| findings.figures.get(name).map(|figure| figure.value);
        assert_eq!(figure("subscribed"), Some(40.0));
        assert!(figure("server_rss_bytes").is_some_and(|bytes| bytes > 0.0));
        assert!(figure("bytes_per_bare_connection").is_some());
        assert!(figure("bytes_per_subscribed_connection").is_some());
        assert!(figure("latency_p99_ms").is_some_and(|ms| ms > 0.0));
        assert_eq!(mock.closed_cleanly(), 10, "the warm-up ends as a browser's connections do");
    }

    #[test]
    fn an_unnamed_process_is_not_weighed() {
        let mock = Mock::start(Sabotage::None);
        let mut options = options(&mock);
        options.server.server_pid = None;
        let findings = run(&options).expect("nothing is wrong");
        assert!(!findings.figures.contains_key("bytes_per_subscribed_connection"));
        assert!(!findings.figures.contains_key("server_cpu_ns_per_connection"));
    }

    #[test]
    fn no_more_are_in_the_making_than_asked_for() {
        let mock = Mock::start(Sabotage::None);
        let options = options(&mock);
        let mut arrivals = Arrivals::new(&options, 60);
        (arrivals.due, arrivals.subscribe) = (60, true);
        let mut outbox = Outbox::default();
        arrivals.tick(1, &mut outbox);
        assert_eq!(arrivals.guests.len(), 9);
        let answer = br#"{"subscribed":"connect-3"}"#;
        arrivals.message(ConnectionId(3), answer, 5, &mut outbox).expect("it is due");
        arrivals.tick(6, &mut outbox);
        assert_eq!(arrivals.guests.len(), 10);
    }

    #[test]
    fn a_refused_subscription_is_told() {
        let mock = Mock::start(Sabotage::RefuseSubscriptions);
        let text = failure(&options(&mock));
        assert!(text.contains("during the warm-up") && text.contains("ACCESS_DENIED"), "{text}");
    }

    #[test]
    fn a_subscription_without_an_answer_is_told() {
        let mock = Mock::start(Sabotage::SwallowSubscriptions);
        let mut options = options(&mock);
        options.server.patience = 1;
        let text = failure(&options);
        assert!(text.contains("no progress for 1 s: 0 of 10 connections are ready, 9 were begun"), "{text}");
    }

    #[test]
    fn a_second_answer_is_told() {
        let mock = Mock::start(Sabotage::AnswerTwice);
        let text = failure(&options(&mock));
        assert!(text.contains("which waits for nothing, received"), "{text}");
    }
}
