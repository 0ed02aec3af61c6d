//! Figures: for each sort of machine one table of names and one array of numbers.

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

/// Makes a sort of figures: an enum that names them, a table that says what they are, an array of their values.
macro_rules! figures {
    (
        $(#[$one_doc:meta])* enum $One:ident;
        $(#[$all_doc:meta])* const $TABLE:ident;
        $(#[$count_doc:meta])* const $COUNT:ident;
        $(#[$values_doc:meta])* struct $Values:ident;
        $($figure:ident $kind:ident $name:literal $help:literal;)*
    ) => {
        $(#[$one_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $One {
            $(#[doc = $help] $figure,)*
        }

        $(#[$all_doc])*
        pub const $TABLE: &[$crate::metrics::FigureInfo] = &[$($crate::metrics::FigureInfo {
            name: $name,
            help: $help,
            kind: $crate::metrics::FigureKind::$kind,
        },)*];

        $(#[$count_doc])*
        pub const $COUNT: usize = $TABLE.len();

        $(#[$values_doc])*
        #[derive(Debug, Clone)]
        pub struct $Values([u64; $COUNT]);

        impl Default for $Values {
            fn default() -> Self {
                Self([0; $COUNT])
            }
        }

        impl $Values {
            /// Adds `amount` to a figure.
            pub fn add(&mut self, figure: $One, amount: u64) {
                self.0[figure as usize] += amount;
            }

            /// Takes `amount` from a gauge.
            pub fn subtract(&mut self, figure: $One, amount: u64) {
                self.0[figure as usize] -= amount;
            }

            /// Sets a gauge.
            pub fn set(&mut self, figure: $One, value: u64) {
                self.0[figure as usize] = value;
            }

            /// The figure's value.
            #[must_use]
            pub fn value(&self, figure: $One) -> u64 {
                self.0[figure as usize]
            }

            /// All values, in the order of the table.
            #[must_use]
            pub fn values(&self) -> &[u64] {
                &self.0
            }
        }
    };
}
pub(crate) use figures;

figures! {
    /// One figure of a shard.
    enum Figure;
    /// All figures of a shard, in the order of [`Figure`].
    const FIGURES;
    /// The number of figures.
    const FIGURE_COUNT;
    /// A shard's figures.
    struct Figures;
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
