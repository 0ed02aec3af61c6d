//! The node itself: what it is, how it is, and its figures.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde_json::json;

use super::state::Shared;
use crate::{
    control::phase::Phase,
    metrics::{Exposition, Kind},
};

/// `GET /node`: `{"name", "version", "shards", "io", "addresses": {"websocket", "control", "exchange", "stream"},
/// "phase", "uptime_seconds", "vhosts"}`.
pub(super) async fn show(State(api): Shared) -> impl IntoResponse {
    let mut node = serde_json::to_value(&api.node).expect("a node's description is plain data");
    node["phase"] = phase_name(*api.phase.borrow()).into();
    node["uptime_seconds"] = api.started.elapsed().as_secs().into();
    node["vhosts"] = api.figures.vhosts.value().into();
    Json(node)
}

/// `GET /metrics`: all figures, as Prometheus reads them.
pub(super) async fn metrics(State(api): Shared) -> impl IntoResponse {
    let mut page = Exposition::default();
    page.family("build_info", "The version of WebRocket that runs.", Kind::Gauge);
    page.sample("build_info", &[("version", &api.node.version), ("io", &api.node.io)], 1);
    let ready = u64::from(*api.phase.borrow() == Phase::Ready);
    page.single("ready", "Whether the node is ready.", Kind::Gauge, ready);
    page.single("shards", "Shards of the node.", Kind::Gauge, u64::from(api.node.shards));
    page.single("uptime_seconds", "Age of the process.", Kind::Gauge, api.started.elapsed().as_secs());
    api.figures.write(&mut page);
    api.board.write(&mut page);
    ([(header::CONTENT_TYPE, Exposition::CONTENT_TYPE)], page.into_text())
}

/// `GET /healthz`: 200 as long as the control thread lives.
pub(super) async fn healthz() -> impl IntoResponse {
    Json(json!({ "status": "alive" }))
}

/// `GET /readyz`: 200 from when everything stored is in effect until the node stops, else 503.
pub(super) async fn readyz(State(api): Shared) -> impl IntoResponse {
    let phase = *api.phase.borrow();
    let status = match phase {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(json!({ "status": phase_name(phase) })))
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Stopping => "stopping",
    }
}
