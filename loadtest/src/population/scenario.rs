//! What the connections of a population do: subscribe, broadcast at a rate, leave at a rate and be replaced.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{bail, ensure};
use hdrhistogram::Histogram;

use crate::broadcast::Format;
use crate::connection::ConnectionId;
use crate::dialect::Dialect;
use crate::engine::{Closing, Outbox, Scenario};
use crate::excerpt::excerpt;
use crate::membership::Membership;
use crate::pace::Pace;
use crate::process::ProcessId;
use crate::progress::Standing;
use crate::report::timeline::Recorder;
use crate::subscription::Subscriptions;

/// With more broadcasts outstanding than this, what is due waits: the bound of what is remembered of them.
const OUTSTANDING_MAX: usize = 16_384;
/// Longer times count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// How many do what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) dialect: Dialect,
    /// How many connections there are, spread over the channels.
    pub(crate) connections: u32,
    pub(crate) channels: u32,
    /// Of each channel; they are subscribers too, and never leave.
    pub(crate) publishers: u32,
    /// Broadcasts a second, on all channels together.
    pub(crate) rate: f64,
    /// Connections that leave and are replaced, a second.
    pub(crate) leaves: f64,
    /// Which share of them leaves without a word.
    pub(crate) abrupt: f64,
    pub(crate) payload_bytes: usize,
}

impl Plan {
    /// The channels' names.
    pub(crate) fn channel_names(&self) -> Vec<String> {
        (0..self.channels).map(|channel| format!("crowd-{channel}")).collect()
    }

    /// How many connections may be on their way in or out.
    pub(crate) fn in_transit_max(&self) -> u32 {
        (self.connections / 2).max(1)
    }

    /// The connection of a channel's `publisher`th publisher: the first ones of all.
    fn publisher_connection(&self, channel: u32, publisher: u32) -> ConnectionId {
        ConnectionId(publisher * self.channels + channel)
    }

    fn is_publisher(&self, connection: ConnectionId) -> bool {
        connection.0 < self.publishers * self.channels
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    Absent,
    /// Due to be subscribed to `channel` since `due_ns`; 0 for those who are there from the start.
    Joining {
        channel: usize,
        due_ns: u64,
    },
    Subscribed {
        channel: usize,
    },
    /// Closing since then.
    Leaving {
        since_ns: u64,
    },
}

/// What the population is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first ones come.
    Filling,
    Living,
    /// What was due meanwhile and has not begun yet begins, and what is on its way arrives.
    Settling,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) broadcasts: u64,
    pub(crate) deliveries: u64,
    /// Of those who came in place of others.
    pub(crate) joins: u64,
    pub(crate) left_cleanly: u64,
    pub(crate) left_abruptly: u64,
}

pub(crate) struct Population {
    plan: Plan,
    format: Format,
    phase: Phase,
    subscriptions: Subscriptions,
    acknowledgements: Vec<Vec<u8>>,
    judge: Membership,
    /// By [`ConnectionId`].
    guests: Vec<Guest>,
    /// Subscribed ones that may leave, in the order of their coming.
    settled: VecDeque<ConnectionId>,
    joining: u32,
    leaving: u32,
    broadcasts: Pace,
    leaves: Pace,
    /// Whose turn it is to broadcast, of channels and of publishers within one.
    next_channel: u32,
    next_publisher: u32,
    /// Whether the next one to leave is the newest.
    newest_leaves: bool,
    /// What is left of the share of abrupt leaves.
    abrupt_rest: f64,
    /// By publisher's connection; and since when one is due, or when the last one came.
    unacknowledged: Vec<u32>,
    unacknowledged_count: u64,
    acknowledged_ns: u64,
    /// What has gone forward besides deliveries.
    steps: u64,
    tally: Tally,
    joining_ns: Histogram<u64>,
    /// Latencies since [`Population::take_latency`].
    recent_ns: Histogram<u64>,
    recorder: Recorder,
    /// Room to write a request in.
    request: Vec<u8>,
}

impl Population {
    pub(crate) fn new(plan: Plan) -> Self {
        let format = Format { dialect: plan.dialect, payload_bytes: plan.payload_bytes };
        let names = plan.channel_names();
        let guest = |number: u32| Guest::Joining { channel: (number % plan.channels) as usize, due_ns: 0 };
        let histogram = || Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("valid bounds and precision");
        Self {
            format,
            phase: Phase::Filling,
            acknowledgements: names.iter().map(|name| plan.dialect.acknowledgement(name)).collect(),
            judge: Membership::new(format, &names, plan.publishers),
            subscriptions: Subscriptions::new(plan.dialect, names),
            guests: (0..plan.connections).map(guest).collect(),
            settled: VecDeque::new(),
            joining: plan.connections,
            leaving: 0,
            broadcasts: Pace::new(0, 0, 0.0),
            leaves: Pace::new(0, 0, 0.0),
            next_channel: 0,
            next_publisher: 0,
            newest_leaves: false,
            abrupt_rest: 0.0,
            unacknowledged: vec![0; (plan.publishers * plan.channels) as usize],
            unacknowledged_count: 0,
            acknowledged_ns: 0,
            steps: 0,
            tally: Tally::default(),
            joining_ns: histogram(),
            recent_ns: histogram(),
            recorder: Recorder::start(None, 0),
            request: Vec::new(),
            plan,
        }
    }

    /// Begins to broadcast and to leave, for `time`. `server` is the process that is watched meanwhile.
    pub(super) fn live(&mut self, server: Option<ProcessId>, now_ns: u64, time: Duration) {
        let end_ns = now_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.phase = Phase::Living;
        self.broadcasts = Pace::new(now_ns, end_ns, self.plan.rate);
        self.leaves = Pace::new(now_ns, end_ns, self.plan.leaves);
        self.recorder = Recorder::start(server, now_ns);
    }

    /// The time is over: what was due in it is done, however late, and nothing else is begun.
    pub(super) fn settle(&mut self) {
        self.phase = Phase::Settling;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Nanoseconds from when newcomers were to come until they were subscribed.
    pub(super) fn joining_ns(&self) -> &Histogram<u64> {
        &self.joining_ns
    }

    /// Takes the record of all deliveries.
    pub(super) fn take_recorder(&mut self, now_ns: u64) -> Recorder {
        std::mem::replace(&mut self.recorder, Recorder::start(None, now_ns))
    }

    /// Latencies since the last call.
    pub(crate) fn take_latency(&mut self) -> Histogram<u64> {
        let taken = self.recent_ns.clone();
        self.recent_ns.reset();
        taken
    }

    /// Makes sure that nobody and nothing waits for longer than `patience`.
    ///
    /// # Errors
    /// Who waits, and for what.
    pub(super) fn check(&self, now_ns: u64, patience: Duration) -> anyhow::Result<()> {
        let is_late = |since_ns: u64| Duration::from_nanos(now_ns.saturating_sub(since_ns)) > patience;
        let seconds = patience.as_secs_f64();
        if let Some((who, since_ns)) = self.judge.longest_waiting()
            && is_late(since_ns)
        {
            let who = who.map_or_else(|| "nobody".to_owned(), |connection| connection.to_string());
            let verb = if who == "nobody" { "has received" } else { "has not received" };
            bail!("{who} {verb} within {seconds} s what was broadcast: lost, or the server does not keep up");
        }
        ensure!(
            self.unacknowledged_count == 0 || !is_late(self.acknowledged_ns),
            "{} broadcasts are not acknowledged, and none was within {seconds} s",
            self.unacknowledged_count,
        );
        for (connection, guest) in (0..).map(ConnectionId).zip(&self.guests) {
            match *guest {
                Guest::Joining { due_ns, .. } if is_late(due_ns) => {
                    bail!("{connection} is not subscribed within {seconds} s")
                }
                Guest::Leaving { since_ns } if is_late(since_ns) => {
                    bail!("{connection} is not closed by the server within {seconds} s after its close frame")
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Broadcasts what is due. Returns when the next one is, where the clock says so.
    fn publish(&mut self, now_ns: u64, outbox: &mut Outbox) -> Option<u64> {
        while let Some(due_ns) = self.broadcasts.due_ns() {
            if due_ns > now_ns {
                return Some(due_ns);
            }
            if self.judge.outstanding() >= OUTSTANDING_MAX {
                return None;
            }
            self.broadcasts.done();
            self.publish_one(due_ns, now_ns, outbox);
        }
        None
    }

    fn publish_one(&mut self, due_ns: u64, now_ns: u64, outbox: &mut Outbox) {
        let (channel, publisher) = (self.next_channel, self.next_publisher);
        self.next_channel = (channel + 1) % self.plan.channels;
        if self.next_channel == 0 {
            self.next_publisher = (publisher + 1) % self.plan.publishers;
        }
        let stamp = self.judge.send(channel as usize, publisher, due_ns);
        self.request.clear();
        self.format.write_request(&mut self.request, self.subscriptions.name(channel as usize), stamp);
        let connection = self.plan.publisher_connection(channel, publisher);
        outbox.text(connection, &self.request);
        self.tally.broadcasts += 1;
        if self.plan.dialect.acknowledges() {
            self.unacknowledged[connection.index()] += 1;
            if self.unacknowledged_count == 0 {
                self.acknowledged_ns = now_ns;
            }
            self.unacknowledged_count += 1;
        }
    }

    /// Lets leave who is due to, and another come in its place. Returns when the next one is due.
    fn replace(&mut self, now_ns: u64, outbox: &mut Outbox) -> Option<u64> {
        while let Some(due_ns) = self.leaves.due_ns() {
            if due_ns > now_ns {
                return Some(due_ns);
            }
            if self.joining + self.leaving >= self.plan.in_transit_max() {
                return None;
            }
            let leaver = if self.newest_leaves { self.settled.pop_back() } else { self.settled.pop_front() };
            let leaver = leaver?;
            self.newest_leaves = !self.newest_leaves;
            self.leaves.done();
            let Guest::Subscribed { channel } = self.guests[leaver.index()] else {
                unreachable!("only who is subscribed is settled");
            };
            outbox.close(leaver, self.choose_closing());
            self.judge.leave(leaver);
            self.guests[leaver.index()] = Guest::Leaving { since_ns: now_ns };
            self.leaving += 1;
            self.invite(channel, due_ns, outbox);
        }
        None
    }

    /// Whether a leave is due, and somebody there who may leave.
    fn is_leave_possible(&self) -> bool {
        self.leaves.due_ns().is_some() && !self.settled.is_empty()
    }

    fn choose_closing(&mut self) -> Closing {
        self.abrupt_rest += self.plan.abrupt;
        if self.abrupt_rest < 1.0 {
            self.tally.left_cleanly += 1;
            return Closing::Clean;
        }
        self.abrupt_rest -= 1.0;
        self.tally.left_abruptly += 1;
        Closing::Abrupt
    }

    fn invite(&mut self, channel: usize, due_ns: u64, outbox: &mut Outbox) {
        let newcomer = outbox.open();
        if self.guests.len() <= newcomer.index() {
            self.guests.resize(newcomer.index() + 1, Guest::Absent);
        }
        self.guests[newcomer.index()] = Guest::Joining { channel, due_ns };
        self.joining += 1;
    }

    /// Anything but a delivery came.
    fn answered(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        let guest = self.guests[connection.index()];
        let wanted = match guest {
            Guest::Joining { channel, .. } => Some(channel),
            Guest::Subscribed { .. } | Guest::Leaving { .. } | Guest::Absent => None,
        };
        if self.subscriptions.noticed(connection, wanted, message, outbox) {
            return Ok(());
        }
        match guest {
            Guest::Joining { channel, due_ns } => {
                self.subscriptions.check(connection, channel, message)?;
                self.joined(connection, channel, due_ns, received_ns);
                Ok(())
            }
            Guest::Subscribed { channel } => self.acknowledged(connection, channel, message, received_ns),
            Guest::Leaving { .. } | Guest::Absent => {
                bail!("{connection}, which has left, received {}", excerpt(message))
            }
        }
    }

    fn joined(&mut self, connection: ConnectionId, channel: usize, due_ns: u64, now_ns: u64) {
        self.judge.subscribed(connection);
        self.guests[connection.index()] = Guest::Subscribed { channel };
        self.joining -= 1;
        self.steps += 1;
        if !self.plan.is_publisher(connection) {
            self.settled.push_back(connection);
        }
        if self.phase != Phase::Filling {
            self.tally.joins += 1;
            self.joining_ns.saturating_record(now_ns.saturating_sub(due_ns));
        }
    }

    fn acknowledged(
        &mut self,
        connection: ConnectionId,
        channel: usize,
        message: &[u8],
        now_ns: u64,
    ) -> anyhow::Result<()> {
        match self.unacknowledged.get_mut(connection.index()) {
            Some(count) if *count > 0 && message == self.acknowledgements[channel] => {
                *count -= 1;
                self.unacknowledged_count -= 1;
                self.acknowledged_ns = now_ns;
                self.steps += 1;
                Ok(())
            }
            Some(_) | None => bail!(
                "{connection}, a subscriber of {}, received {}",
                self.subscriptions.name(channel),
                excerpt(message)
            ),
        }
    }
}

impl Scenario for Population {
    fn opened(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        if let Guest::Joining { channel, .. } = self.guests[connection.index()] {
            self.judge.ask(connection, channel);
            self.subscriptions.opened(connection, channel, outbox);
        }
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        if !self.format.is_delivery(message) {
            return self.answered(connection, message, received_ns, outbox);
        }
        let due_ns = self.judge.deliver(connection, message)?;
        let latency_ns = received_ns.saturating_sub(due_ns);
        self.recorder.latency(latency_ns);
        self.recent_ns.saturating_record(latency_ns);
        self.tally.deliveries += 1;
        Ok(())
    }

    fn closed(&mut self, connection: ConnectionId, _outbox: &mut Outbox) {
        self.guests[connection.index()] = Guest::Absent;
        self.leaving -= 1;
        self.steps += 1;
    }

    fn tick(&mut self, now_ns: u64, outbox: &mut Outbox) -> Option<u64> {
        self.recorder.turn(now_ns, self.tally.deliveries);
        if self.phase == Phase::Filling {
            return None;
        }
        let (broadcast, leave) = (self.publish(now_ns, outbox), self.replace(now_ns, outbox));
        broadcast.into_iter().chain(leave).min()
    }

    fn finished(&self) -> bool {
        let nobody_moves = self.joining == 0 && self.leaving == 0;
        match self.phase {
            Phase::Filling => nobody_moves,
            Phase::Living => false,
            Phase::Settling => {
                let all_began = self.broadcasts.due_ns().is_none() && !self.is_leave_possible();
                all_began && nobody_moves && self.unacknowledged_count == 0 && self.judge.is_complete()
            }
        }
    }

    fn progress(&self) -> u64 {
        self.tally.deliveries + self.steps
    }

    fn missing(&self) -> String {
        let waiting = match self.judge.longest_waiting() {
            Some((Some(connection), _)) => format!("{connection} has not received everything"),
            Some((None, _)) => "broadcasts have reached nobody".to_owned(),
            None => "everything was delivered".to_owned(),
        };
        format!(
            "{} connections are not subscribed, {} not closed, {} broadcasts not acknowledged; {waiting}",
            self.joining, self.leaving, self.unacknowledged_count
        )
    }

    fn standing(&self) -> Standing {
        match self.phase {
            Phase::Filling => Standing {
                phase: "subscribing",
                done: u64::from(self.plan.connections - self.joining),
                due: u64::from(self.plan.connections),
                detail: String::new(),
            },
            Phase::Living | Phase::Settling => Standing {
                phase: "broadcasting",
                done: self.tally.deliveries,
                due: 0,
                detail: self.recorder.latest().map(|sample| sample.text()).unwrap_or_default(),
            },
        }
    }
}
