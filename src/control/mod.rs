//! The control thread: everything about a node that is not on the way of a message.
//!
//! One tokio runtime on one thread. A single task (`actor`) owns the vhosts, the store and the
//! tokens; shards and the exchange report to it and it commands them. Around it stand the control
//! API (`api`) for operators, and the HTTP server (`front`) of the WebSocket port with the Backend
//! API (`backend`).
//!
//! Every change is durable before a shard or the exchange hears of it, and in effect on all of them
//! before its caller hears that it is done.

mod actor;
mod api;
mod backend;
mod changes;
mod channel_changes;
mod channels;
mod connection;
mod cookie;
mod dev;
mod exchange;
#[cfg(test)]
mod fake_exchange;
#[cfg(test)]
mod fake_node;
mod figures;
mod front;
mod line;
mod link;
mod node;
mod phase;
mod random;
mod refusal;
mod remembered;
mod request;
mod seed;
mod serve;
mod sources;
mod stop;
mod throttle;
mod tokens;
mod verify;
mod vhosts;

use std::{io, net::TcpListener, sync::Arc, time::Instant};

use tokio::sync::{Semaphore, mpsc, watch};
use webrocket_state::{
    Command, Directory, Report,
    exchange::{ExchangeCommand, ExchangeReport},
};

#[doc(hidden)]
pub use backend::count_events;
#[cfg(any(test, fuzzing))]
pub(crate) use backend::fuzz;
pub use cookie::{Cookie, CookieError};
pub use node::{Addresses, NodeInfo};
pub use seed::seed_dev;
pub use stop::{StopSignal, Stopper, stop_signal};

use crate::{
    driver::mailbox::{FromShard, Mailbox},
    metrics::Board,
    store::{Store, StoreError},
};
use phase::Phase;

/// Connections to the control API at the same moment.
const CONTROL_CONNECTIONS_MAX: u32 = 256;

/// What the control thread works with.
pub struct ControlConfig {
    /// What outlives the process.
    pub store: Store,
    /// The way into each shard, by number.
    pub mailboxes: Vec<Mailbox<Command>>,
    /// What shards say. It ends when every sender is dropped; [`run`] ends with it and `exchange_reports`.
    pub from_shards: mpsc::Receiver<FromShard<Report>>,
    /// The way into the exchange.
    pub exchange: Mailbox<ExchangeCommand>,
    /// What the exchange says, likewise.
    pub exchange_reports: mpsc::Receiver<ExchangeReport>,
    /// Where the control API is served, bound.
    pub listener: TcpListener,
    /// Which shard owns which channel; the same as the shards'.
    pub directory: Directory,
    /// What requests to the control API must carry.
    pub cookie: Cookie,
    /// What the node says of itself.
    pub node: NodeInfo,
    /// Whether the demo page is served.
    pub dev: bool,
    /// The length of a request's body on the WebSocket port, in bytes.
    pub http_body_bytes_max: u32,
    /// The shards' figures.
    pub figures: Arc<Board>,
    /// When to stop.
    pub stop: StopSignal,
}

/// The control thread cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control address cannot be listened at.
    #[error("the control address cannot be served: {0}")]
    Listen(#[source] io::Error),
}

/// Runs the control thread in a tokio runtime of one thread, with I/O and time enabled.
///
/// `ready` is called once every shard and the exchange have reported all that is stored as applied.
/// When asked to [stop](Stopper::stop), it commands them to shut down, goes on serving them, and
/// returns when the last of them has dropped its sender of `from_shards` or `exchange_reports`.
///
/// # Errors
/// The store cannot be read, or the control address cannot be listened at.
pub async fn run(config: ControlConfig, ready: impl FnOnce() + Send + 'static) -> Result<(), ControlError> {
    config.listener.set_nonblocking(true).map_err(ControlError::Listen)?;
    let listener = tokio::net::TcpListener::from_std(config.listener).map_err(ControlError::Listen)?;
    let own_figures = Arc::new(figures::ControlFigures::default());
    let hashers = Arc::new(Semaphore::new(verify::HASHERS));
    let (phase, phase_seen) = watch::channel(Phase::Starting);
    let (requests, requests_taken) = mpsc::channel(request::REQUESTS_MAX);

    let control = request::Control::new(requests);
    let backend =
        backend::Backend::new(control.clone(), config.http_body_bytes_max, Arc::clone(&own_figures));
    let api = api::router(api::Api {
        control,
        cookie: config.cookie,
        node: config.node,
        hashers: Arc::clone(&hashers),
        board: config.figures,
        figures: Arc::clone(&own_figures),
        phase: phase_seen,
        started: Instant::now(),
    });
    let gauges = serve::Gauges {
        open: |figures| &figures.control_connections,
        refused: |figures| &figures.control_refused_total,
        figures: Arc::clone(&own_figures),
    };
    let api = serve::HttpServer::new(api, CONTROL_CONNECTIONS_MAX, config.stop.clone(), gauges);
    let gauges = serve::Gauges {
        open: |figures| &figures.http_connections,
        refused: |figures| &figures.http_refused_total,
        figures: Arc::clone(&own_figures),
    };
    let front = serve::HttpServer::new(
        front::router(config.dev, backend, Arc::clone(&own_figures)),
        front::CONNECTIONS_MAX,
        config.stop.clone(),
        gauges,
    );

    let actor = actor::Actor::start(
        actor::ActorParts {
            store: config.store,
            mailboxes: config.mailboxes,
            exchange: config.exchange,
            directory: config.directory,
            hashers,
            front: front::Front::new(front.clone()),
            phase,
            figures: own_figures,
        },
        Box::new(ready),
    )
    .await?;
    tokio::spawn(api.clone().accept(listener));
    let inputs = actor::Inputs {
        from_shards: config.from_shards,
        exchange_reports: config.exchange_reports,
        requests: requests_taken,
    };
    actor.run(inputs, config.stop).await;
    tokio::join!(api.drained(), front.drained());
    Ok(())
}
