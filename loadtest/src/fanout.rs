//! `fanout`: many subscribers, a few publishers, and every delivery judged.
//!
//! The publishers are spread over all connections, and so over all shards. They broadcast in turn, as long as fewer
//! than `--in-flight` broadcasts are unacknowledged. Answers to one publisher must come in the order of its requests.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use crate::broadcast::{DELIVERY_PREFIX, Format, Stamp};
use crate::clock::monotonic_ns;
use crate::connection::ConnectionId;
use crate::engine::{Engine, Outbox, Scenario};
use crate::order::{OrderChecker, excerpt};
use crate::process::{ProcessId, processor_time, raise_descriptor_limit, resident_bytes};
use crate::report::{Cost, FanoutReport, ServerReport};
use crate::server::{ServerOptions, Subject};

/// How long to watch for surplus deliveries after the last due one.
const WATCH: Duration = Duration::from_millis(300);
/// The highest latency that the histogram tells apart; higher ones count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Broadcasts to thousands of subscribers, checks every delivery, and measures rate, latency and CPU.
///
/// All connections subscribe, then the publishers (some of the subscribers, spread evenly) broadcast. Checked are:
/// one order of a channel's events on all its connections, each publisher's own order, nothing lost, nothing
/// doubled, the very same bytes for all. Any violation ends the run with a sentence and exit status 1.
///
/// Latency is the time from making a broadcast to having read a delivery of it, waiting in this (single-threaded)
/// program included. The CPU figures are user and system time of the whole process while broadcasting.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// How many connections; each subscribes to one channel
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How many of the connections broadcast
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) publishers: u32,
    /// How many broadcasts, all publishers together
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) broadcasts: u32,
    /// How many channels the connections are spread over; broadcasts go to each in turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) channels: u32,
    /// The length of a broadcast's data; at least the stamp of about 60 bytes that each carries
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub(crate) payload_bytes: usize,
    /// How many broadcasts may be unacknowledged, all publishers together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// Print the findings as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the scenario against a server of its own or the one at `--url`.
///
/// # Errors
/// A violated guarantee, no progress, or a failure of server or connections.
pub(crate) fn run(options: &Options) -> anyhow::Result<FanoutReport> {
    ensure!(
        options.publishers <= options.connections && options.channels <= options.connections,
        "{} connections are too few for {} publishers and {} channels: each needs one of its own",
        options.connections,
        options.publishers,
        options.channels,
    );
    raise_descriptor_limit(options.connections)?;
    let subject = Subject::start(&options.server)?;
    let outcome = drive(options, &subject);
    subject.end(outcome)
}

fn drive(options: &Options, subject: &Subject) -> anyhow::Result<FanoutReport> {
    let mut engine = Engine::new(subject.target().clone(), options.server.patience())?;
    let mut fanout = Fanout::new(options);
    let begun_ns = monotonic_ns();
    engine.open(options.connections);
    engine.run(&mut fanout).context("while the connections were opened and subscribed")?;
    let opening = Duration::from_nanos(monotonic_ns() - begun_ns);

    let own_process = ProcessId(std::process::id());
    let server_before = subject.process().map(processor_time).transpose()?;
    let own_before = processor_time(own_process)?;
    let begun_ns = monotonic_ns();
    fanout.begin(engine.outbox());
    engine.run(&mut fanout).context("while broadcasting")?;
    let delivering = Duration::from_nanos(fanout.last_delivery_ns.saturating_sub(begun_ns));
    let own_processor = processor_time(own_process)?.since(own_before);
    let server_cost = match (subject.process(), server_before) {
        (Some(process), Some(before)) => Some(Cost {
            processor: processor_time(process)?.since(before),
            resident_bytes: resident_bytes(process)?,
        }),
        _ => None,
    };
    engine.run_for(&mut fanout, WATCH).context("after the last due delivery")?;

    Ok(FanoutReport {
        server: ServerReport {
            url: subject.target().to_string(),
            shards: subject.shards(),
            io: subject.io().map(str::to_owned),
        },
        connections: options.connections,
        channels: options.channels,
        publishers: options.publishers,
        in_flight: options.in_flight,
        payload_bytes: options.payload_bytes,
        message_bytes: fanout.message_bytes,
        opening,
        broadcasts: u64::from(options.broadcasts),
        deliveries: fanout.deliveries,
        delivering,
        latency_ns: fanout.latency_ns,
        server_cost,
        own_processor,
    })
}

/// What the connections are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Subscribing,
    Broadcasting,
}

struct Publisher {
    connection: ConnectionId,
    /// The channels of its unacknowledged broadcasts, in the order of sending.
    unacknowledged: VecDeque<usize>,
}

struct Fanout {
    options: Options,
    format: Format,
    phase: Phase,
    /// The names, and the answers to subscribing and broadcasting that belong to them.
    channels: Vec<String>,
    subscribed_answers: Vec<Vec<u8>>,
    broadcasted_answers: Vec<Vec<u8>>,
    opened: u32,
    /// By [`ConnectionId`].
    subscribed: Vec<bool>,
    subscribed_count: u32,
    publishers: Vec<Publisher>,
    publisher_of: HashMap<ConnectionId, usize>,
    /// The next number of each publisher on each channel: `channel * publishers + publisher`.
    next_number: Vec<u32>,
    sent: u32,
    acknowledged: u32,
    deliveries: u64,
    deliveries_due: u64,
    checker: OrderChecker,
    latency_ns: Histogram<u64>,
    last_delivery_ns: u64,
    message_bytes: usize,
    /// Room to write a request in.
    request: Vec<u8>,
}

impl Fanout {
    fn new(options: &Options) -> Self {
        let format = Format { payload_bytes: options.payload_bytes };
        let channels: Vec<String> = (0..options.channels).map(|index| format!("load-{index}")).collect();
        let answers = |event: &str| {
            channels.iter().map(|channel| format!(r#"{{"{event}":"{channel}"}}"#).into_bytes()).collect()
        };
        let checker = OrderChecker::new(format, &channels, options.publishers, options.connections);
        let publishers: Vec<Publisher> = (0..options.publishers)
            .map(|publisher| Publisher {
                connection: publisher_connection(publisher, options.publishers, options.connections),
                unacknowledged: VecDeque::new(),
            })
            .collect();
        // Broadcasts go to the channels in turn: the first ones may get one more than the others.
        let deliveries_due = (0..options.channels)
            .map(|channel| {
                let more = u32::from(channel < options.broadcasts % options.channels);
                let broadcasts = options.broadcasts / options.channels + more;
                u64::from(broadcasts) * u64::from(checker.subscribers(channel as usize))
            })
            .sum();
        Self {
            format,
            phase: Phase::Subscribing,
            subscribed_answers: answers("subscribed"),
            broadcasted_answers: answers("broadcasted"),
            opened: 0,
            subscribed: vec![false; options.connections as usize],
            subscribed_count: 0,
            publisher_of: (0..).zip(&publishers).map(|(index, it)| (it.connection, index)).collect(),
            publishers,
            next_number: vec![0; channels.len() * options.publishers as usize],
            sent: 0,
            acknowledged: 0,
            deliveries: 0,
            deliveries_due,
            checker,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("valid bounds"),
            last_delivery_ns: 0,
            message_bytes: 0,
            request: Vec::new(),
            channels,
            options: options.clone(),
        }
    }

    /// Which channel a connection subscribes to.
    fn channel_of(&self, connection: ConnectionId) -> usize {
        connection.index() % self.channels.len()
    }

    /// Begins to broadcast.
    fn begin(&mut self, outbox: &mut Outbox) {
        self.phase = Phase::Broadcasting;
        self.publish(outbox);
    }

    /// Broadcasts as much as may be in flight.
    fn publish(&mut self, outbox: &mut Outbox) {
        while self.sent < self.options.broadcasts && self.sent - self.acknowledged < self.options.in_flight {
            let publisher = self.sent as usize % self.publishers.len();
            let channel = self.sent as usize % self.channels.len();
            let number = &mut self.next_number[channel * self.publishers.len() + publisher];
            let stamp = Stamp { publisher: publisher as u32, number: *number, sent_ns: monotonic_ns() };
            *number += 1;
            self.sent += 1;
            self.request.clear();
            self.format.write_request(&mut self.request, &self.channels[channel], stamp);
            let publisher = &mut self.publishers[publisher];
            publisher.unacknowledged.push_back(channel);
            outbox.text(publisher.connection, &self.request);
        }
    }

    fn delivered(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
    ) -> anyhow::Result<()> {
        let sent_ns = self.checker.deliver(connection, message)?;
        self.latency_ns.saturating_record(received_ns.saturating_sub(sent_ns));
        self.deliveries += 1;
        self.last_delivery_ns = received_ns;
        self.message_bytes = message.len();
        Ok(())
    }

    fn answered(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        match self.phase {
            Phase::Subscribing => {
                let channel = self.channel_of(connection);
                if message != self.subscribed_answers[channel] || self.subscribed[connection.index()] {
                    bail!(
                        "{connection} subscribed to {} and was answered {}",
                        self.channels[channel],
                        excerpt(message)
                    );
                }
                self.subscribed[connection.index()] = true;
                self.subscribed_count += 1;
            }
            Phase::Broadcasting => {
                let Some(&publisher) = self.publisher_of.get(&connection) else {
                    bail!("{connection}, which publishes nothing, received {}", excerpt(message));
                };
                match self.publishers[publisher].unacknowledged.pop_front() {
                    Some(channel) if message == self.broadcasted_answers[channel] => {}
                    Some(channel) => bail!(
                        "publisher {publisher} ({connection}) broadcast on {} and was answered {}",
                        self.channels[channel],
                        excerpt(message)
                    ),
                    None => bail!(
                        "publisher {publisher} ({connection}) has no unanswered broadcast and received {}",
                        excerpt(message)
                    ),
                }
                self.acknowledged += 1;
                self.publish(outbox);
            }
        }
        Ok(())
    }
}

/// Spreads the publishers evenly over the connections, so each has one of its own.
fn publisher_connection(publisher: u32, publishers: u32, connections: u32) -> ConnectionId {
    let index = u64::from(publisher) * u64::from(connections) / u64::from(publishers);
    ConnectionId(u32::try_from(index).expect("less than the number of connections"))
}

impl Scenario for Fanout {
    fn opened(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        self.opened += 1;
        let channel = &self.channels[self.channel_of(connection)];
        outbox.text(connection, format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#).as_bytes());
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        if message.starts_with(DELIVERY_PREFIX) {
            self.delivered(connection, message, received_ns)
        } else {
            self.answered(connection, message, outbox)
        }
    }

    fn finished(&self) -> bool {
        match self.phase {
            Phase::Subscribing => self.subscribed_count == self.options.connections,
            // Each right delivery moves one cursor by one, and none can go beyond what was broadcast: so the sum is
            // reached only when every connection has everything.
            Phase::Broadcasting => {
                self.acknowledged == self.options.broadcasts && self.deliveries >= self.deliveries_due
            }
        }
    }

    fn progress(&self) -> u64 {
        u64::from(self.opened)
            + u64::from(self.subscribed_count)
            + u64::from(self.acknowledged)
            + self.deliveries
    }

    fn missing(&self) -> String {
        let Options { connections, broadcasts, .. } = self.options;
        match self.phase {
            Phase::Subscribing => format!(
                "{} of {connections} connections are open, {} are subscribed",
                self.opened, self.subscribed_count
            ),
            Phase::Broadcasting => {
                let (sent, acknowledged) = (self.sent, self.acknowledged);
                let count = self.deliveries_due.saturating_sub(self.deliveries);
                let mut text = format!(
                    "{sent} of {broadcasts} broadcasts sent, {acknowledged} acknowledged, {} of {} deliveries \
                     received, {count} missing",
                    self.deliveries, self.deliveries_due
                );
                let last = (0..connections).map(ConnectionId).min_by_key(|id| self.checker.received(*id));
                if let Some(last) = last.filter(|_| count > 0) {
                    let received = self.checker.received(last);
                    text.push_str(&format!("; {last} is farthest behind with {received} deliveries"));
                }
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::mock::{Mock, Sabotage};

    fn options(mock: &Mock) -> Options {
        Options {
            server: ServerOptions {
                url: Some(mock.url().parse().expect("valid")),
                patience: 1,
                ..ServerOptions::default()
            },
            connections: 40,
            publishers: 7,
            broadcasts: 60,
            channels: 1,
            payload_bytes: 128,
            in_flight: 5,
            json: false,
        }
    }

    /// The sentence that a run against a server with this fault ends with.
    fn failure(sabotage: Sabotage) -> String {
        let mock = Mock::start(sabotage);
        let error = run(&options(&mock)).err().expect("the fault is noticed");
        format!("{error:#}")
    }

    #[test]
    fn a_right_server_passes() {
        let mock = Mock::start(Sabotage::None);
        let report = run(&options(&mock)).expect("nothing is wrong");
        assert_eq!(report.deliveries, 40 * 60);
        assert_eq!(report.latency_ns.len(), 40 * 60);
        assert!(report.message_bytes > 128 + DELIVERY_PREFIX.len());
        assert!(report.server_cost.is_none(), "nobody said which process it is");
    }

    #[test]
    fn several_channels_and_long_payloads_pass() {
        let mock = Mock::start(Sabotage::None);
        let options = Options { channels: 3, payload_bytes: 70_000, broadcasts: 31, ..options(&mock) };
        let report = run(&options).expect("nothing is wrong");
        // 40 connections on 3 channels: 14, 13, 13; 31 broadcasts: 11, 10, 10.
        assert_eq!(report.deliveries, 14 * 11 + 13 * 10 + 13 * 10);
    }

    #[test]
    fn a_measured_process_is_reported() {
        let mock = Mock::start(Sabotage::None);
        let mut options = options(&mock);
        options.server.server_pid = Some(std::process::id());
        let report = run(&options).expect("nothing is wrong");
        assert!(report.server_cost.expect("measured").resident_bytes > 0);
    }

    #[test]
    fn canary_a_swapped_pair_ends_the_run() {
        let text = failure(Sabotage::Swap);
        assert!(text.contains("disagree on the order") || text.contains("own order is broken"), "{text}");
    }

    #[test]
    fn canary_a_loss_ends_the_run() {
        let text = failure(Sabotage::Lose);
        assert!(text.contains("lost or overtaken"), "{text}");
    }

    #[test]
    fn canary_a_double_ends_the_run() {
        let text = failure(Sabotage::Double);
        assert!(text.contains("a double"), "{text}");
    }

    #[test]
    fn canary_a_lost_last_delivery_ends_the_run() {
        let text = failure(Sabotage::LoseLast(60));
        assert!(text.contains("no progress for 1 s"), "{text}");
        assert!(text.contains("1 missing; connection 1 is farthest behind with 59"), "{text}");
    }

    #[test]
    fn canary_a_doubled_last_delivery_ends_the_run() {
        let text = failure(Sabotage::DoubleLast(60));
        assert!(text.contains("a double"), "{text}");
    }

    #[test]
    fn canary_a_missing_acknowledgement_ends_the_run() {
        let text = failure(Sabotage::SwallowAcknowledgements);
        assert!(text.contains("no progress for 1 s") && text.contains("0 acknowledged"), "{text}");
    }

    #[test]
    fn a_closed_connection_is_told_with_its_code() {
        let text = failure(Sabotage::CloseSlow);
        assert!(text.contains("connection 1 was closed by the server with code 4008"), "{text}");
        assert!(text.contains("slow consumer"), "{text}");
    }

    #[test]
    fn a_refused_subscription_is_told() {
        let text = failure(Sabotage::RefuseSubscriptions);
        assert!(text.contains(r#"was answered {"err":"ACCESS_DENIED"}"#), "{text}");
    }

    #[test]
    fn no_server_is_told() {
        let mock = Mock::start(Sabotage::None);
        let options = options(&mock);
        drop(mock);
        let text = format!("{:#}", run(&options).err().expect("nobody listens"));
        assert!(text.contains("cannot reach ws://127.0.0.1:"), "{text}");
    }

    #[test]
    fn publishers_have_connections_of_their_own() {
        for (publishers, connections) in [(1, 1), (10, 5000), (7, 10), (10, 10), (999, 1000)] {
            let of = |publisher| publisher_connection(publisher, publishers, connections);
            let all: HashSet<ConnectionId> = (0..publishers).map(of).collect();
            assert_eq!(all.len(), publishers as usize);
            assert!(all.iter().all(|connection| connection.0 < connections));
        }
    }
}
