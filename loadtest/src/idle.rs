//! `idle`: what connections that do nothing weigh, and how fast they are opened.
//!
//! A server's first connections pay for buffers and pages that all later ones share, so some are opened,
//! subscribed and closed before the first look at its memory.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::connection::ConnectionId;
use crate::engine::{Engine, Outbox, Scenario};
use crate::order::excerpt;
use crate::process::{ProcessId, raise_descriptor_limit, resident_bytes};
use crate::report::{IdleReport, Memory, ServerReport};
use crate::server::{ServerOptions, Subject};

/// How long to wait between two looks at the server's memory.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the server's memory may take to come to rest.
const REST_MAX: Duration = Duration::from_secs(15);
/// Two readings that differ by no more are equal.
const REST_BYTES: u64 = 64 * 1024;

/// Opens thousands of connections that subscribe and then do nothing, and weighs the server before and after.
///
/// Before the first look at the server's memory (VmRSS), --warm-up connections are opened, subscribed and closed, so
/// that what a server pays once is not counted. Memory is read when it has come to rest: when two readings half a
/// second apart are equal. Pings are answered all the while. The rate counts a connection as opened when its
/// subscription has been answered. With --url, memory is told only if --server-pid names the process.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// How many connections, those that only connect included
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// The first N of the connections only connect and subscribe to nothing; they are weighed apart
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) connect_only_first: u32,
    /// How many channels the connections are spread over; each subscribes to one
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: u32,
    /// How many connections to open, subscribe and close beforehand
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) warm_up: u32,
    /// Print the findings as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the scenario against a server of its own or the one at `--url`.
///
/// # Errors
/// No progress, an unexpected answer, or a failure of server or connections.
pub(crate) fn run(options: &Options) -> anyhow::Result<IdleReport> {
    ensure!(
        options.connect_only_first < options.connections,
        "of {} connections {} only connect: at least one must be left to subscribe",
        options.connections,
        options.connect_only_first,
    );
    raise_descriptor_limit(options.connections.max(options.warm_up))?;
    let subject = Subject::start(&options.server)?;
    let outcome = drive(options, &subject);
    subject.end(outcome)
}

fn drive(options: &Options, subject: &Subject) -> anyhow::Result<IdleReport> {
    let new_engine = || Engine::new(subject.target().clone(), options.server.patience());
    if options.warm_up > 0 {
        let (mut engine, mut idle) = (new_engine()?, Idle::new(options.channels));
        idle.expect(options.warm_up, true);
        engine.open(options.warm_up);
        engine.run(&mut idle).context("during the warm-up")?;
        engine.close(&mut idle).context("at the end of the warm-up")?;
    }
    let (mut engine, mut idle) = (new_engine()?, Idle::new(options.channels));
    let before_bytes = memory_at_rest(subject.process(), &mut engine, &mut idle)?;

    let connecting = idle.open(&mut engine, options.connect_only_first, false)?;
    let connected_bytes = match options.connect_only_first {
        0 => before_bytes,
        _ => memory_at_rest(subject.process(), &mut engine, &mut idle)?,
    };
    let subscribed = options.connections - options.connect_only_first;
    let subscribing = idle.open(&mut engine, subscribed, true)?;
    let after_bytes = memory_at_rest(subject.process(), &mut engine, &mut idle)?;

    let memory = match (before_bytes, connected_bytes, after_bytes) {
        (Some(before_bytes), Some(connected_bytes), Some(after_bytes)) => {
            Some(Memory { before_bytes, connected_bytes, after_bytes })
        }
        _ => None,
    };
    Ok(IdleReport {
        server: ServerReport {
            url: subject.target().to_string(),
            shards: subject.shards(),
            io: subject.io().map(str::to_owned),
        },
        warm_up: options.warm_up,
        connect_only: options.connect_only_first,
        connecting,
        subscribed,
        subscribing,
        channels: options.channels,
        memory,
    })
}

/// Reads the memory of `process` once it no longer changes, serving the connections meanwhile. After a while the
/// last reading is taken as it is. `None` when nobody said which process it is.
fn memory_at_rest(
    process: Option<ProcessId>,
    engine: &mut Engine,
    idle: &mut Idle,
) -> anyhow::Result<Option<u64>> {
    let Some(process) = process else { return Ok(None) };
    let begun = Instant::now();
    let mut last = resident_bytes(process)?;
    loop {
        engine.run_for(idle, LOOK_INTERVAL)?;
        let now = resident_bytes(process)?;
        if now.abs_diff(last) <= REST_BYTES || begun.elapsed() >= REST_MAX {
            return Ok(Some(now));
        }
        last = now;
    }
}

/// Connections that do nothing but connect and, if asked for, subscribe.
struct Idle {
    channels: u32,
    /// Whether connections that are opened from now on subscribe.
    subscribe: bool,
    opened: u32,
    opened_due: u32,
    answered: u32,
    answered_due: u32,
}

impl Idle {
    fn new(channels: u32) -> Self {
        Self { channels, subscribe: false, opened: 0, opened_due: 0, answered: 0, answered_due: 0 }
    }

    /// Expects `count` more connections, with or without a subscription.
    fn expect(&mut self, count: u32, subscribe: bool) {
        self.subscribe = subscribe;
        self.opened_due += count;
        self.answered_due += if subscribe { count } else { 0 };
    }

    /// Opens `count` more connections. Returns how long it took.
    fn open(&mut self, engine: &mut Engine, count: u32, subscribe: bool) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.expect(count, subscribe);
        engine.open(count);
        engine.run(self).context("while the connections were opened")?;
        Ok(begun.elapsed())
    }

    fn channel_of(&self, connection: ConnectionId) -> u32 {
        connection.0 % self.channels
    }
}

impl Scenario for Idle {
    fn opened(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        self.opened += 1;
        if self.subscribe {
            let channel = self.channel_of(connection);
            outbox.text(connection, format!(r#"{{"subscribe":{{"channel":"idle-{channel}"}}}}"#).as_bytes());
        }
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        _received_ns: u64,
        _outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        let channel = self.channel_of(connection);
        if message != format!(r#"{{"subscribed":"idle-{channel}"}}"#).as_bytes() {
            bail!("{connection} subscribed to idle-{channel} and was answered {}", excerpt(message));
        }
        self.answered += 1;
        Ok(())
    }

    fn finished(&self) -> bool {
        self.opened >= self.opened_due && self.answered >= self.answered_due
    }

    fn progress(&self) -> u64 {
        u64::from(self.opened) + u64::from(self.answered)
    }

    fn missing(&self) -> String {
        format!(
            "{} of {} connections are open, {} of {} subscriptions answered",
            self.opened, self.opened_due, self.answered, self.answered_due
        )
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
                patience: 1,
                ..ServerOptions::default()
            },
            connections: 60,
            connect_only_first: 20,
            channels: 7,
            warm_up: 10,
            json: false,
        }
    }

    #[test]
    fn connections_are_opened_and_weighed() {
        let mock = Mock::start(Sabotage::None);
        let report = run(&options(&mock)).expect("nothing is wrong");
        assert_eq!((report.connect_only, report.subscribed), (20, 40));
        let memory = report.memory.expect("the process was named");
        assert!(memory.before_bytes > 0 && memory.after_bytes > 0);
        assert_eq!(mock.closed_cleanly(), 10, "the warm-up ends as a browser's connections do");
    }

    #[test]
    fn an_unnamed_process_is_not_weighed() {
        let mock = Mock::start(Sabotage::None);
        let mut options = options(&mock);
        options.server.server_pid = None;
        assert!(run(&options).expect("nothing is wrong").memory.is_none());
    }

    #[test]
    fn a_refused_subscription_is_told() {
        let mock = Mock::start(Sabotage::RefuseSubscriptions);
        let text = format!("{:#}", run(&options(&mock)).err().expect("refused"));
        assert!(text.contains("during the warm-up") && text.contains("ACCESS_DENIED"), "{text}");
    }
}
