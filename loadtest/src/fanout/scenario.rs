//! What the connections of a fan-out do: subscribe, broadcast as the load says, and judge what comes.

use std::time::Duration;

use anyhow::{Context, bail};

use crate::broadcast::{Format, Stamp};
use crate::clock::monotonic_ns;
use crate::connection::ConnectionId;
use crate::dialect::{Dialect, Streams};
use crate::engine::{Outbox, Scenario};
use crate::excerpt::excerpt;
use crate::order::OrderChecker;
use crate::process::ProcessId;
use crate::progress::Standing;
use crate::report::timeline::Recorder;
use crate::subscription::Subscriptions;

/// With more broadcasts outstanding than this, what is due waits: the bound of what is remembered of them.
const OUTSTANDING_MAX: u64 = 16_384;

/// What sets the pace of broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// As soon as fewer than so many broadcasts are on their way.
    InFlight(u32),
    /// So many a second, at fixed times.
    Rate(u32),
}

/// How many do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) dialect: Dialect,
    pub(crate) channels: u32,
    /// Of each channel.
    pub(crate) subscribers: u32,
    /// How many of a channel's subscribers broadcast.
    pub(crate) publishers: u32,
    pub(crate) load: Load,
    pub(crate) payload_bytes: usize,
}

impl Plan {
    /// How many connections that takes.
    ///
    /// # Errors
    /// More than can be counted.
    pub(crate) fn connections(&self) -> anyhow::Result<u32> {
        self.channels.checked_mul(self.subscribers).context("so many connections cannot be")
    }

    /// The channels' names.
    pub(crate) fn channel_names(&self) -> Vec<String> {
        (0..self.channels).map(|channel| format!("load-{channel}")).collect()
    }

    /// Which channel a connection subscribes to: they take turns.
    pub(super) fn channel_of(&self, connection: ConnectionId) -> usize {
        connection.index() % self.channels as usize
    }

    /// The connection of a channel's `publisher`th publisher: they are spread evenly over its subscribers.
    pub(super) fn publisher_connection(&self, channel: u32, publisher: u32) -> ConnectionId {
        let number = u64::from(publisher) * u64::from(self.subscribers) / u64::from(self.publishers);
        let index = number * u64::from(self.channels) + u64::from(channel);
        ConnectionId(u32::try_from(index).expect("less than the number of connections"))
    }
}

/// How much is broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Broadcasts(u64),
    Time(Duration),
}

/// What the connections are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Subscribing,
    Broadcasting,
}

/// A stretch of broadcasting.
pub(super) struct Stretch {
    amount: Amount,
    begun_ns: u64,
    /// How many were sent, and how many have reached all subscribers.
    pub(super) broadcasts: u64,
    completed: u64,
    acknowledged: u64,
    pub(super) deliveries: u64,
    pub(super) last_delivery_ns: u64,
    pub(super) message_bytes: usize,
    pub(super) recorder: Recorder,
}

impl Stretch {
    fn new(amount: Amount, server: Option<ProcessId>, begun_ns: u64) -> Self {
        Self {
            amount,
            begun_ns,
            broadcasts: 0,
            completed: 0,
            acknowledged: 0,
            deliveries: 0,
            last_delivery_ns: begun_ns,
            message_bytes: 0,
            recorder: Recorder::start(server, begun_ns),
        }
    }
}

pub(crate) struct Fanout {
    plan: Plan,
    format: Format,
    phase: Phase,
    subscriptions: Subscriptions,
    /// The answers to broadcasting, by channel.
    acknowledgements: Vec<Vec<u8>>,
    opened: u32,
    /// By [`ConnectionId`].
    subscribed: Vec<bool>,
    subscribed_count: u32,
    /// How many broadcasts of a connection are not acknowledged yet, by [`ConnectionId`].
    unacknowledged: Vec<u32>,
    /// The next number of each publisher on its channel: `channel * publishers + publisher`.
    next_number: Vec<u32>,
    /// Whose turn it is to broadcast, of channels and of publishers within one.
    next_channel: u32,
    next_publisher: u32,
    checker: OrderChecker,
    /// What has come of messages that frames cut.
    streams: Streams,
    stretch: Stretch,
    /// Room to write a request in.
    request: Vec<u8>,
}

impl Fanout {
    pub(crate) fn new(plan: Plan) -> Self {
        let dialect = plan.dialect;
        let format = Format { dialect, payload_bytes: plan.payload_bytes };
        let channels = plan.channel_names();
        let connections = plan.channels * plan.subscribers;
        Self {
            plan,
            format,
            phase: Phase::Subscribing,
            acknowledgements: channels.iter().map(|channel| dialect.acknowledgement(channel)).collect(),
            opened: 0,
            subscribed: vec![false; connections as usize],
            subscribed_count: 0,
            unacknowledged: vec![0; connections as usize],
            next_number: vec![0; (plan.channels * plan.publishers) as usize],
            next_channel: 0,
            next_publisher: 0,
            checker: OrderChecker::new(format, &channels, plan.publishers, connections),
            streams: Streams::new(connections),
            stretch: Stretch::new(Amount::Broadcasts(0), None, 0),
            request: Vec::new(),
            subscriptions: Subscriptions::new(dialect, channels),
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Begins to broadcast. `server` is the process that is watched meanwhile.
    pub(super) fn begin(
        &mut self,
        amount: Amount,
        server: Option<ProcessId>,
        now_ns: u64,
        outbox: &mut Outbox,
    ) {
        self.phase = Phase::Broadcasting;
        self.stretch = Stretch::new(amount, server, now_ns);
        self.publish(now_ns, outbox);
    }

    /// What was found since [`Self::begin`].
    pub(super) fn end(&mut self) -> Stretch {
        std::mem::replace(&mut self.stretch, Stretch::new(Amount::Broadcasts(0), None, 0))
    }

    /// Broadcasts that are on their way.
    fn in_flight(&self) -> u64 {
        let Stretch { broadcasts, completed, acknowledged, .. } = self.stretch;
        broadcasts - if self.plan.dialect.acknowledges() { completed.min(acknowledged) } else { completed }
    }

    /// Whether nothing is broadcast at that time any more.
    fn is_over(&self, now_ns: u64) -> bool {
        match self.stretch.amount {
            Amount::Broadcasts(count) => self.stretch.broadcasts >= count,
            Amount::Time(time) => Duration::from_nanos(now_ns - self.stretch.begun_ns) >= time,
        }
    }

    /// When the next broadcast is due, as far as the clock has a say in it.
    fn due_ns(&self, now_ns: u64) -> u64 {
        match self.plan.load {
            Load::InFlight(_) => now_ns,
            Load::Rate(rate) => {
                let elapsed_ns = u128::from(self.stretch.broadcasts) * 1_000_000_000 / u128::from(rate);
                self.stretch.begun_ns + u64::try_from(elapsed_ns).expect("within centuries")
            }
        }
    }

    /// Broadcasts what is due. Returns when the next one is, where the clock says so.
    fn publish(&mut self, now_ns: u64, outbox: &mut Outbox) -> Option<u64> {
        loop {
            let most = match self.plan.load {
                Load::InFlight(count) => u64::from(count),
                Load::Rate(_) => OUTSTANDING_MAX,
            };
            let sent_ns = self.due_ns(now_ns);
            if self.in_flight() >= most || self.is_over(sent_ns) {
                return None;
            }
            if sent_ns > now_ns {
                return Some(sent_ns);
            }
            self.publish_one(sent_ns, outbox);
        }
    }

    fn publish_one(&mut self, sent_ns: u64, outbox: &mut Outbox) {
        let (channel, publisher) = (self.next_channel, self.next_publisher);
        self.next_channel = (channel + 1) % self.plan.channels;
        if self.next_channel == 0 {
            self.next_publisher = (publisher + 1) % self.plan.publishers;
        }
        let number = &mut self.next_number[(channel * self.plan.publishers + publisher) as usize];
        let stamp = Stamp { publisher, number: *number, sent_ns };
        *number += 1;
        self.stretch.broadcasts += 1;
        self.request.clear();
        self.format.write_request(&mut self.request, self.subscriptions.name(channel as usize), stamp);
        let connection = self.plan.publisher_connection(channel, publisher);
        self.unacknowledged[connection.index()] += u32::from(self.plan.dialect.acknowledges());
        if self.plan.dialect.is_stream() {
            outbox.binary(connection, &self.request);
        } else {
            outbox.text(connection, &self.request);
        }
    }

    fn delivered(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        let delivered = self.checker.deliver(connection, message)?;
        let stretch = &mut self.stretch;
        stretch.recorder.latency(received_ns.saturating_sub(delivered.sent_ns));
        stretch.deliveries += 1;
        if delivered.is_last {
            stretch.completed += 1;
            stretch.last_delivery_ns = received_ns;
            stretch.message_bytes = message.len();
            self.publish(monotonic_ns(), outbox);
        }
        Ok(())
    }

    fn answered(
        &mut self,
        connection: ConnectionId,
        channel: usize,
        message: &[u8],
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        if self.phase == Phase::Subscribing {
            return self.answered_subscription(connection, channel, message);
        }
        let unacknowledged = &mut self.unacknowledged[connection.index()];
        if *unacknowledged == 0 || message != self.acknowledgements[channel] {
            bail!(
                "{connection}, with {unacknowledged} unanswered broadcasts on {}, received {}",
                self.subscriptions.name(channel),
                excerpt(message)
            );
        }
        *unacknowledged -= 1;
        self.stretch.acknowledged += 1;
        self.publish(monotonic_ns(), outbox);
        Ok(())
    }

    fn answered_subscription(
        &mut self,
        connection: ConnectionId,
        channel: usize,
        message: &[u8],
    ) -> anyhow::Result<()> {
        self.subscriptions.check(connection, channel, message)?;
        if std::mem::replace(&mut self.subscribed[connection.index()], true) {
            bail!("{connection} was answered twice: {}", excerpt(message));
        }
        self.subscribed_count += 1;
        Ok(())
    }

    fn missing_deliveries(&self) -> String {
        let Stretch { broadcasts, completed, acknowledged, deliveries, .. } = self.stretch;
        let mut text = format!("{broadcasts} broadcasts sent, {completed} of them delivered to everybody");
        if self.plan.dialect.acknowledges() {
            text.push_str(&format!(", {acknowledged} acknowledged"));
        }
        let missing = (broadcasts * u64::from(self.plan.subscribers)).saturating_sub(deliveries);
        let connections = self.plan.channels * self.plan.subscribers;
        let last = (0..connections).map(ConnectionId).min_by_key(|id| self.checker.received(*id));
        if let Some(last) = last.filter(|_| missing > 0) {
            let received = self.checker.received(last);
            text.push_str(&format!(
                "; {missing} deliveries are missing, {last} is farthest behind with {received}"
            ));
        }
        text
    }
}

impl Scenario for Fanout {
    fn opened(&mut self, connection: ConnectionId, outbox: &mut Outbox) {
        self.opened += 1;
        self.subscriptions.opened(connection, self.plan.channel_of(connection), outbox);
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        if self.format.is_delivery(message) {
            return self.delivered(connection, message, received_ns, outbox);
        }
        let channel = self.plan.channel_of(connection);
        if self.subscriptions.noticed(connection, Some(channel), message, outbox) {
            return Ok(());
        }
        self.answered(connection, channel, message, outbox)
    }

    fn binary(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        received_ns: u64,
        outbox: &mut Outbox,
    ) -> anyhow::Result<()> {
        if !self.plan.dialect.is_stream() {
            bail!("{connection} received a binary message: {}", excerpt(bytes));
        }
        let mut streams = std::mem::take(&mut self.streams);
        let fed =
            streams.feed(connection, bytes, |message| self.message(connection, message, received_ns, outbox));
        self.streams = streams;
        fed
    }

    fn tick(&mut self, now_ns: u64, outbox: &mut Outbox) -> Option<u64> {
        match self.phase {
            Phase::Subscribing => None,
            Phase::Broadcasting => {
                self.stretch.recorder.turn(now_ns, self.stretch.deliveries);
                self.publish(now_ns, outbox)
            }
        }
    }

    fn finished(&self) -> bool {
        match self.phase {
            Phase::Subscribing => self.subscribed_count as usize == self.subscribed.len(),
            Phase::Broadcasting => self.in_flight() == 0 && self.is_over(self.due_ns(monotonic_ns())),
        }
    }

    fn progress(&self) -> u64 {
        let Stretch { acknowledged, deliveries, .. } = self.stretch;
        u64::from(self.opened) + u64::from(self.subscribed_count) + acknowledged + deliveries
    }

    fn missing(&self) -> String {
        match self.phase {
            Phase::Subscribing => format!(
                "of {} connections {} are open, {} are subscribed",
                self.subscribed.len(),
                self.opened,
                self.subscribed_count
            ),
            Phase::Broadcasting => self.missing_deliveries(),
        }
    }

    fn standing(&self) -> Standing {
        match self.phase {
            Phase::Subscribing => Standing {
                phase: "subscribing",
                done: u64::from(self.subscribed_count),
                due: self.subscribed.len() as u64,
                detail: format!("{} connections are open", self.opened),
            },
            Phase::Broadcasting => Standing {
                phase: "broadcasting",
                done: self.stretch.deliveries,
                due: 0,
                detail: self.stretch.recorder.latest().map(|sample| sample.text()).unwrap_or_default(),
            },
        }
    }
}
