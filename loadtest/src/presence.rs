//! `presence`: how quickly a member joins a presence channel full of others, all of whom are told.
//!
//! Two engines on two threads: the members, who are told of every join, and the joiners, whose time
//! is taken. So the joiners' clock does not wait until the members have been read.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use hdrhistogram::Histogram;

use crate::clock::monotonic_ns;
use crate::connection::ConnectionId;
use crate::control::{Control, LongestTurn};
use crate::engine::{Engine, Outbox, Scenario};
use crate::excerpt::excerpt;
use crate::process::{ProcessorTime, processor_time, raise_descriptor_limit};
use crate::progress::{Progress, Standing};
use crate::report::timeline::{Recorder, Timeline};
use crate::report::{Findings, OutputOptions, ServerReport, per_second};
use crate::server::{ServerOptions, Subject};
use crate::target::Target;

const CHANNEL: &str = "presence-load";
/// How long tokens wait for their use.
const TOKEN_TTL: Duration = Duration::from_secs(3600);
/// The members' engine looks so often whether the joiners are done.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Lets members join a presence channel that thousands of others are on, at a steady rate, and takes the time
/// from the moment at which each was to ask until its `:subscribed`, with the list of those present, has come.
///
/// Every member and every joiner holds a session of its own, with a `uid` and a single access token of its own,
/// in WWFP. At the end each must know of exactly as many subscribers as there are: the list that it got and the
/// joins that it was told fit together. Also told: for how long, at most, a shard served nobody else, by the
/// server's own clock, over the last 10 to 20 s. A server that is started for the run gets the first processors,
/// as many as it has shards, and the load test the rest, where there are enough. With --url it needs --control-url.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// How many members are there before the measurement
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) members: u32,
    /// How many join in a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// For how many seconds; over 20, the longest time for which a shard served nobody else is surely of them
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// What was measured.
struct Measured {
    filling: Duration,
    joins: u32,
    joining: Duration,
    /// Nanoseconds from when a joiner was to ask until it had its answer.
    latency_ns: Histogram<u64>,
    /// Joins told to members and joiners, over all of them.
    told: u64,
    timeline: Timeline,
    longest_turn: LongestTurn,
    server_processor: Option<ProcessorTime>,
}

/// Runs the scenario.
///
/// # Errors
/// A subscriber knows of too many or too few others, no progress, an unexpected answer, or a failure of server or
/// connections.
pub(crate) fn run(options: &Options) -> anyhow::Result<Findings> {
    let joiners = options.rate.checked_mul(options.seconds).context("that are too many joins")?;
    raise_descriptor_limit(options.members.saturating_add(joiners))?;
    let subject = Subject::start_apart(&options.server)?;
    let server = ServerReport::of(&subject);
    let outcome = drive(options, joiners, &subject);
    Ok(subject.end(outcome)?.findings(options, server))
}

fn drive(options: &Options, joiners: u32, subject: &Subject) -> anyhow::Result<Measured> {
    let control = subject.control()?;
    subject.open_channel(CHANNEL)?;
    let tokens = |first: u32, count: u32| tokens(control, subject.target(), first, count);
    let engine = || Engine::new(subject.target().in_wwfp(), options.server.patience());

    let mut members = Crowd::new(tokens(0, options.members)?, true);
    let mut engine_of_members = engine()?;
    let progress = options.output.progress();
    engine_of_members.show(progress.clone());
    let begun = Instant::now();
    members.awaited = Awaited::Known(options.members);
    engine_of_members.open(options.members);
    engine_of_members.run(&mut members).context("while the members came")?;
    let filling = begun.elapsed();

    let mut joining = Crowd::new(tokens(options.members, joiners)?, false);
    let mut engine_of_joiners = engine()?;
    engine_of_members.show(Progress::hidden());
    engine_of_joiners.show(progress);
    joining.awaited = Awaited::Ready;
    engine_of_joiners.open(joiners);
    engine_of_joiners.run(&mut joining).context("while the joiners connected")?;

    let all = options.members + joiners;
    let processor = |subject: &Subject| subject.process().map(processor_time).transpose();
    let processor_before = processor(subject)?;
    let told_before = members.told;
    members.awaited = Awaited::Known(all);
    joining.recorder = Some(Recorder::start(subject.process(), monotonic_ns()));
    let begun = Instant::now();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            join_at_rate(&mut engine_of_joiners, &mut joining, options.rate)?;
            joining.awaited = Awaited::Known(all);
            engine_of_joiners.run(&mut joining).context("while the joiners were told of each other")
        });
        while !thread.is_finished() {
            engine_of_members.run_for(&mut members, LOOK_INTERVAL)?;
        }
        engine_of_members.run(&mut members).context("while the members were told of the joins")?;
        thread.join().expect("a thread of ours does not panic")
    })?;
    let took = begun.elapsed();
    let server_processor = match (processor_before, processor(subject)?) {
        (Some(before), Some(after)) => Some(after.since(before)),
        _ => None,
    };
    let recorder = joining.recorder.take().context("the joins were recorded")?;
    let (timeline, latency_ns) = recorder.finish(monotonic_ns(), u64::from(joiners), "joins");
    Ok(Measured {
        filling,
        joins: joiners,
        joining: took,
        told: members.told - told_before + joining.told,
        latency_ns,
        timeline,
        longest_turn: control.longest_turn()?,
        server_processor,
    })
}

/// One token for each of `count` uids.
fn tokens(control: &Control, target: &Target, first: u32, count: u32) -> anyhow::Result<Vec<String>> {
    (first..first + count)
        .map(|number| control.token(target, &format!("member-{number}"), CHANNEL, TOKEN_TTL))
        .collect()
}

/// Lets all joiners ask, one after the other, `rate` a second, and takes their times.
fn join_at_rate(engine: &mut Engine, joining: &mut Crowd, rate: u32) -> anyhow::Result<()> {
    let interval_ns = 1_000_000_000 / u64::from(rate);
    let start_ns = monotonic_ns();
    for number in 0..joining.tokens.len() {
        let due_ns = start_ns + interval_ns * number as u64;
        while let Some(left_ns) = due_ns.checked_sub(monotonic_ns()).filter(|left_ns| *left_ns > 0) {
            engine.run_for(joining, Duration::from_nanos(left_ns))?;
        }
        joining.due_ns[number] = due_ns;
        joining.subscribe(ConnectionId(number as u32), engine.outbox());
    }
    Ok(())
}

/// What a crowd is run for.
enum Awaited {
    /// All are authenticated.
    Ready,
    /// All have subscribed, and each knows of so many subscribers.
    Known(u32),
}

/// Sessions that join one channel and keep account of who is there.
struct Crowd {
    tokens: Vec<String>,
    /// Whether they subscribe as soon as they may.
    eager: bool,
    awaited: Awaited,
    authenticated: usize,
    subscribed: usize,
    /// How many others each knows of, itself included.
    known: Vec<u32>,
    /// When each was to ask.
    due_ns: Vec<u64>,
    told: u64,
    /// Of the joins whose time is taken.
    recorder: Option<Recorder>,
}

impl Crowd {
    fn new(tokens: Vec<String>, eager: bool) -> Self {
        let count = tokens.len();
        Self {
            tokens,
            eager,
            awaited: Awaited::Ready,
            authenticated: 0,
            subscribed: 0,
            known: vec![0; count],
            due_ns: vec![0; count],
            told: 0,
            recorder: None,
        }
    }

    fn subscribe(&self, connection: ConnectionId, outbox: &mut Outbox) {
        outbox.text(connection, format!(r#"{{"subscribe":{{"channel":"{CHANNEL}"}}}}"#).as_bytes());
    }

    fn subscribed(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
    ) -> anyhow::Result<()> {
        let text = std::str::from_utf8(message).context("text frames are UTF-8")?;
        let value: serde_json::Value = serde_json::from_str(text).context("a message is JSON")?;
        let answer = &value[":subscribed"];
        let listed = answer["subscribers"].as_array().context("a list of those present was due")?.len();
        let before = answer["total"].as_u64().unwrap_or(listed as u64);
        self.subscribed += 1;
        self.known[connection.index()] += u32::try_from(before)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.latency(received_ns.saturating_sub(self.due_ns[connection.index()]));
        }
        Ok(())
    }
}

impl Scenario for Crowd {
    fn opened(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        let token = &self.tokens[connection.index()];
        outbox.text(connection, format!(r#"{{"auth":{{"token":"{token}"}}}}"#).as_bytes());
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        if message.starts_with(br#"{":memberJoined":"#) {
            self.known[connection.index()] += 1;
            self.told += 1;
        } else if message.starts_with(br#"{":subscribed":"#) {
            self.subscribed(connection, message, received_ns)?;
        } else if message.starts_with(br#"{":authenticated":"#) {
            self.authenticated += 1;
            if self.eager {
                self.subscribe(connection, outbox);
            }
        } else if !message.starts_with(br#"{":connected":"#) {
            bail!("{connection} was told {}", excerpt(message));
        }
        if let Awaited::Known(all) = self.awaited
            && self.known[connection.index()] > all
        {
            bail!("{connection} was told of more than the {all} that there are: {}", excerpt(message));
        }
        Ok(())
    }

    fn tick(&mut self, now_ns: u64, _: &mut Outbox) -> Option<u64> {
        if let Some(recorder) = &mut self.recorder {
            recorder.turn(now_ns, self.subscribed as u64);
        }
        None
    }

    fn finished(&self) -> bool {
        match self.awaited {
            Awaited::Ready => self.authenticated == self.tokens.len(),
            Awaited::Known(all) => {
                self.subscribed == self.tokens.len() && self.known.iter().all(|known| *known == all)
            }
        }
    }

    fn progress(&self) -> u64 {
        self.authenticated as u64 + self.subscribed as u64 + self.told
    }

    fn missing(&self) -> String {
        let behind = match self.awaited {
            Awaited::Ready => 0,
            Awaited::Known(all) => self.known.iter().filter(|known| **known != all).count(),
        };
        format!(
            "of {} sessions {} are authenticated and {} subscribed, {behind} do not know of everybody",
            self.tokens.len(),
            self.authenticated,
            self.subscribed
        )
    }

    fn standing(&self) -> Standing {
        let (phase, done) = if self.authenticated < self.tokens.len() {
            ("connecting", self.authenticated)
        } else {
            ("joining", self.subscribed)
        };
        let detail = format!("{} joins told", self.told);
        Standing { phase, done: done as u64, due: self.tokens.len() as u64, detail }
    }
}

impl Measured {
    fn findings(&self, options: &Options, server: ServerReport) -> Findings {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (filling_s, joining_s) = (self.filling.as_secs_f64(), self.joining.as_secs_f64());
        let slice = [self.longest_turn.processor, self.longest_turn.wall].map(ms);
        let mut findings = Findings::new("presence", server);
        findings
            .setting("members", options.members)
            .setting("rate", options.rate)
            .setting("seconds", options.seconds)
            .row("members", format!("{} came in {filling_s:.2} s", options.members))
            .less_is_better("filling_s", filling_s, "s")
            .row("joined", self.joined())
            .fact("joins", f64::from(self.joins), "")
            .fact("joining_s", joining_s, "s")
            .row("told", format!("{} joins to all subscribers together", self.told))
            .fact("told", self.told as f64, "")
            .row("verified", "the list and the joins that each was told add up to everybody")
            .latency("time to join", &self.latency_ns)
            .timeline(self.timeline.clone())
            .row("longest slice", longest_slice(slice))
            .less_is_better("longest_slice_processor_ms", slice[0], "ms")
            .less_is_better("longest_slice_ms", slice[1], "ms");
        if let Some(processor) = self.server_processor {
            let percent = processor.total().as_secs_f64() * 100.0 / joining_s;
            findings.row("server CPU", format!("{percent:.0} % of one processor")).less_is_better(
                "server_cpu_percent",
                percent,
                "%",
            );
        }
        findings
    }

    fn joined(&self) -> String {
        let rate = per_second(u64::from(self.joins), self.joining);
        format!("{} more in {:.2} s ({rate:.0}/s)", self.joins, self.joining.as_secs_f64())
    }
}

fn longest_slice([processor_ms, wall_ms]: [f64; 2]) -> String {
    format!(
        "{processor_ms:.3} ms of processor time in which a shard served nobody else ({wall_ms:.3} ms with what else \
         ran on its processor)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::server;

    #[test]
    fn findings_tell_what_was_measured() {
        let options = Options {
            server: ServerOptions::default(),
            members: 100,
            rate: 10,
            seconds: 2,
            output: OutputOptions::default(),
        };
        let mut latency_ns = Histogram::new(3).expect("valid precision");
        latency_ns.record(2_000_000).expect("in range");
        let measured = Measured {
            filling: Duration::from_secs(1),
            joins: 20,
            joining: Duration::from_secs(2),
            latency_ns,
            timeline: Timeline { items: "joins".to_owned(), samples: Vec::new() },
            told: 2190,
            longest_turn: LongestTurn { wall: Duration::from_millis(3), processor: Duration::from_millis(2) },
            server_processor: Some(ProcessorTime {
                total: Duration::from_secs(1),
                ..ProcessorTime::default()
            }),
        };
        let findings = measured.findings(&options, server());
        assert_eq!(findings.figures["server_cpu_percent"].value, 50.0);
        assert_eq!(findings.figures["longest_slice_processor_ms"].value, 2.0);
        assert!(findings.figures.contains_key("latency_p99_ms"));
        assert!(findings.rows.iter().any(|(_, text)| text == "20 more in 2.00 s (10/s)"), "{findings:?}");
    }
}
