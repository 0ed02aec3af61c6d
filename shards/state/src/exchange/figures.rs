//! The figures of the exchange.
//!
//! Most are counted by the [`Exchange`](super::Exchange); what only its driver sees, connections and
//! who was let in, the driver adds.

use crate::metrics::figures;

figures! {
    /// One figure of the exchange.
    enum ExchangeFigure;
    /// All figures of the exchange, in the order of [`ExchangeFigure`].
    const EXCHANGE_FIGURES;
    /// The number of the exchange's figures.
    const EXCHANGE_FIGURE_COUNT;
    /// The exchange's figures.
    struct ExchangeFigures;
    Placed Counter "triggers_placed_total" "Triggers that a worker or a stream had, or that wait for a worker.";
    Refused Counter "triggers_refused_total" "Triggers that nobody could take.";
    Redelivered Counter "triggers_redelivered_total" "Triggers given to another worker after one had them.";
    Dead Counter "triggers_dead_total" "Triggers given up after too many workers had them.";
    Dropped Counter "triggers_dropped_total" "Triggers that waited when their vhost was removed.";
    Waiting Gauge "triggers_waiting" "Triggers that wait for a worker with room.";
    WaitingBytes Gauge "triggers_waiting_bytes" "Bytes of the triggers that wait.";
    Outstanding Gauge "triggers_outstanding" "Triggers that workers have and have not acknowledged.";
    ZeroMqWorkers Gauge "workers_zeromq" "Ready workers over ZeroMQ.";
    EventSourceWorkers Gauge "workers_eventsource" "Ready workers over HTTP.";
    WorkersExpired Counter "workers_expired_total" "Workers over ZeroMQ dismissed because they were silent.";
    Streams Gauge "streams" "Subscriptions of streams over ZeroMQ, and streams over HTTP.";
    CopiesSent Counter "stream_copies_sent_total" "Copies of triggers published to streams over ZeroMQ or handed to streams over HTTP.";
    CopiesDropped Counter "stream_copies_dropped_total" "Copies of triggers left out because the way to a stream was full.";
    SourcesCut Counter "sources_cut_total" "Takers of events over HTTP cut off because they took nothing or their access ended.";
    ClientRequests Counter "client_requests_total" "Requests of clients over ZeroMQ.";
    ClientErrors Counter "client_errors_total" "Error replies to clients over ZeroMQ.";
    ClientRequestsOpen Gauge "client_requests_open" "Requests of clients over ZeroMQ that are not answered.";
    RepliesDropped Counter "client_replies_dropped_total" "Replies that found the way to their client full.";
    LinkMessages Gauge "exchange_link_messages" "Messages of the exchange that wait for room in the queues to shards.";
    ZapAccepted Counter "zap_accepted_total" "Connections over ZeroMQ that were let in.";
    ZapRefused Counter "zap_refused_total" "Connections over ZeroMQ that presented no valid credentials.";
    PeersConnected Gauge "peers_connected" "Connections over ZeroMQ.";
    PeersCut Counter "peers_cut_total" "Connections over ZeroMQ that the server cut off.";
}
