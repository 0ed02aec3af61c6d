//! The figures of a shard: one table of names, one array of numbers.

/// Whether a figure only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureKind {
    /// Only grows while the process lives.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// What one figure is.
#[derive(Debug, Clone, Copy)]
pub struct FigureInfo {
    /// Its name, without the prefix that the exposition adds.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: FigureKind,
}

macro_rules! figures {
    ($($figure:ident $kind:ident $name:literal $help:literal;)*) => {
        /// One figure of a shard.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Figure {
            $(#[doc = $help] $figure,)*
        }

        /// All figures, in the order of [`Figure`].
        pub const FIGURES: &[FigureInfo] =
            &[$(FigureInfo { name: $name, help: $help, kind: FigureKind::$kind },)*];
    };
}

figures! {
    Connections Gauge "connections" "Sockets that the shard holds.";
    Sessions Gauge "sessions" "Open WebSocket sessions.";
    Subscriptions Gauge "subscriptions" "Subscriptions of the shard's sessions.";
    Channels Gauge "channels" "Channels that the shard owns.";
    LogBytes Gauge "log_bytes" "Bytes of channel logs that wait for subscribers.";
    LinkMessages Gauge "link_messages" "Messages that wait for room in the queues to other shards and the exchange.";
    Accepted Counter "accepted_total" "Connections accepted.";
    Refused Counter "refused_total" "Handshakes refused.";
    HandshakeTimeouts Counter "handshake_timeouts_total" "Connections closed because no request came in time.";
    MessagesReceived Counter "messages_received_total" "Messages from clients.";
    BytesReceived Counter "bytes_received_total" "Bytes from clients.";
    BytesSent Counter "bytes_sent_total" "Bytes to clients.";
    Broadcasts Counter "broadcasts_total" "Broadcasts that the shard put in order as their channel's owner.";
    Deliveries Counter "deliveries_total" "Broadcasts appended for a subscriber of this shard.";
    DirectMessages Counter "direct_messages_total" "Messages of backends to single sessions.";
    Triggers Counter "triggers_total" "Triggers of sessions, passed to the exchange.";
    TriggersFailed Counter "triggers_failed_total" "Triggers of sessions that no worker could take.";
    Errors Counter "errors_total" "Error answers to clients.";
    ProtocolErrors Counter "protocol_errors_total" "Sessions closed because the peer broke the WebSocket protocol.";
    SlowConsumers Counter "slow_consumers_total" "Sessions closed with 4008: too many bytes waited for them, or too long.";
    RateLimited Counter "rate_limited_total" "Sessions closed with 1008: over their rate.";
    IdleTimeouts Counter "idle_timeouts_total" "Sessions closed because nothing came from them.";
    ChannelLimitHits Counter "channel_limit_hits_total" "Channels refused at the vhost's limit.";
    SubscriptionLimitHits Counter "subscription_limit_hits_total" "Subscriptions refused at the session's limit.";
    RequestPauses Counter "request_pauses_total" "Times a session's socket was not read because too many of its requests were open.";
    OutputPauses Counter "output_pauses_total" "Times a session's socket was not read because its own answers waited.";
    LinkPauses Counter "link_pauses_total" "Times a publisher's socket was not read because a queue to its channel's shard, or to the exchange, was full.";
}

/// The number of figures.
pub const FIGURE_COUNT: usize = FIGURES.len();

/// A shard's figures.
#[derive(Debug, Clone)]
pub struct Figures([u64; FIGURE_COUNT]);

impl Default for Figures {
    fn default() -> Self {
        Self([0; FIGURE_COUNT])
    }
}

impl Figures {
    /// Adds `amount` to a figure.
    pub fn add(&mut self, figure: Figure, amount: u64) {
        self.0[figure as usize] += amount;
    }

    /// Takes `amount` from a gauge.
    pub fn subtract(&mut self, figure: Figure, amount: u64) {
        self.0[figure as usize] -= amount;
    }

    /// Sets a gauge.
    pub fn set(&mut self, figure: Figure, value: u64) {
        self.0[figure as usize] = value;
    }

    /// The figure's value.
    #[must_use]
    pub fn value(&self, figure: Figure) -> u64 {
        self.0[figure as usize]
    }

    /// All values, in the order of [`FIGURES`].
    #[must_use]
    pub fn values(&self) -> &[u64] {
        &self.0
    }
}
