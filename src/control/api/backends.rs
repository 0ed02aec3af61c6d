//! A vhost's backends, as the exchange sees them: its workers, and what waits for them.

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use serde_json::{Value, json};
use webrocket_state::{
    exchange::{QueueInfo, Transport, WorkerInfo},
    message::Outcome,
};

use super::{Shared, vhosts};
use crate::control::{refusal::Refusal, request::Request, timestamp};

/// `GET …/workers`: `{"workers": [{"id", "transport", "filter", "window", "outstanding", "since"}, …]}`,
/// in the order in which they came. `window` is `null` for a worker that acknowledges nothing.
pub(super) async fn workers(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    match api.control.ask_shards(|reply| Request::ListWorkers(path, reply)).await?.pop() {
        Some(Outcome::Workers(workers)) => {
            let workers: Vec<_> = workers.iter().map(worker).collect();
            Ok(Json(json!({ "workers": workers })))
        }
        Some(Outcome::VhostNotFound) => Err(Refusal::NoResource),
        other => unreachable!("workers were asked for, not {other:?}"),
    }
}

/// `GET …/queue`: `{"waiting", "waiting_bytes", "outstanding", "workers", "streams", "placed",
/// "refused", "redelivered", "dead"}`.
pub(super) async fn queue(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    match api.control.ask_shards(|reply| Request::ShowQueue(path, reply)).await?.pop() {
        Some(Outcome::Queue(queue)) => Ok(Json(description(&queue))),
        Some(Outcome::VhostNotFound) => Err(Refusal::NoResource),
        other => unreachable!("a queue was asked for, not {other:?}"),
    }
}

fn worker(worker: &WorkerInfo) -> Value {
    let transport = match worker.transport {
        Transport::ZeroMq => "zeromq",
        Transport::EventSource => "eventsource",
    };
    json!({
        "id": format!("{}.{}", worker.worker.slot, worker.worker.generation),
        "transport": transport,
        "filter": worker.filter,
        "window": worker.window,
        "outstanding": worker.outstanding,
        "since": timestamp::of(worker.since),
    })
}

fn description(queue: &QueueInfo) -> Value {
    json!({
        "waiting": queue.waiting,
        "waiting_bytes": queue.waiting_bytes,
        "outstanding": queue.outstanding,
        "workers": queue.workers,
        "streams": queue.streams,
        "placed": queue.placed,
        "refused": queue.refused,
        "redelivered": queue.redelivered,
        "dead": queue.dead,
    })
}
