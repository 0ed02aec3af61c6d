//! A vhost's backends, as the exchange sees them: its workers, and what waits for them.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use webrocket_state::{
    command::VhostNotFound,
    exchange::{QueueInfo, Transport, WorkerInfo},
};

use super::{state::Shared, vhosts};
use crate::control::{refusal::Refusal, request::Request};

/// `GET …/workers`: `{"workers": [{"id", "transport", "filter", "window", "outstanding", "since"}, …]}`,
/// in the order in which they came. `window` is `null` for a worker that acknowledges nothing.
pub(super) async fn workers(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let workers = api.control.ask_one(|reply| Request::ListWorkers(path, reply)).await?;
    let workers: Vec<_> = workers.iter().map(worker).collect();
    Ok(Json(json!({ "workers": workers })))
}

/// `GET …/queue`: `{"waiting", "waiting_bytes", "outstanding", "workers", "streams", "placed",
/// "refused", "redelivered", "dead"}`.
pub(super) async fn queue(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    match api.control.ask_one(|reply| Request::ShowQueue(path, reply)).await? {
        Ok(queue) => Ok(Json(description(&queue))),
        Err(VhostNotFound) => Err(Refusal::NoResource),
    }
}

fn worker(worker: &WorkerInfo) -> Value {
    let transport = match worker.transport {
        Transport::ZeroMq => "zeromq",
        Transport::EventSource => "eventsource",
    };
    json!({
        "id": format!("{}.{}", worker.worker.slot.0, worker.worker.generation),
        "transport": transport,
        "filter": worker.filter,
        "window": worker.window,
        "outstanding": worker.outstanding,
        "since": date(Timestamp::now(), worker.since.elapsed()),
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

/// The moment that was `ago` before `now`: RFC 3339, in UTC, to the second.
///
/// It is right if nobody has set the system's clock since.
fn date(now: Timestamp, ago: Duration) -> String {
    let moment = now.checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{moment:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_no_part_of_a_second() {
        for (now, ago_ms, shown) in [
            ("2026-01-01T00:00:00Z", 0, "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00.999999999Z", 0, "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00Z", 1, "2025-12-31T23:59:59Z"),
            ("2024-03-01T00:00:00.25Z", 250, "2024-03-01T00:00:00Z"),
            ("2024-03-01T00:00:00.25Z", 86_400_251, "2024-02-28T23:59:59Z"),
        ] {
            assert_eq!(date(now.parse().unwrap(), Duration::from_millis(ago_ms)), shown, "{now}");
        }
    }
}
