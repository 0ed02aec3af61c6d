//! What is served on the WebSocket port over HTTP.
//!
//! With `--dev`, there is a page on which people chat, and what it needs (`dev`). Everything else
//! is the Backend API's (`backend`).

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::control::{
    backend::{self, Backend},
    dev,
    figures::ControlFigures,
    refusal::Refusal,
};

/// What is served.
pub(in crate::control) fn router(is_dev: bool, backend: Backend, figures: Arc<ControlFigures>) -> Router {
    let mut router = Router::new();
    if is_dev {
        router = router.route("/", get(dev::page)).route("/dev/token", get(dev::token));
    }
    router
        .method_not_allowed_fallback(async || Refusal::NoMethod)
        .fallback(backend::serve)
        .with_state(Arc::new(backend))
        .layer(middleware::from_fn(refuse_upgrades))
        .layer(middleware::from_fn(close_after_chunks))
        .layer(middleware::from_fn_with_state(figures, count))
}

/// Counts answers by who is to blame.
async fn count(State(figures): State<Arc<ControlFigures>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let figure = if status.is_server_error() {
        &figures.http_answers_failed_total
    } else if status.is_client_error() {
        &figures.http_answers_refused_total
    } else {
        &figures.http_answers_done_total
    };
    figure.increment();
    response
}

/// Ends the connection after a body in chunks. The request may also have named a length, which
/// hyper drops unseen: a proxy that believed in it takes what follows for something else.
async fn close_after_chunks(request: Request, next: Next) -> Response {
    let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = next.run(request).await;
    if is_chunked {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Refuses WebSockets: a shard serves them, and this connection is a shard's no longer.
async fn refuse_upgrades(request: Request, next: Next) -> Response {
    let upgrade = request.headers().get_all(header::UPGRADE).iter();
    let mut protocols = upgrade.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if protocols.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket")) {
        return Refusal::NeedsNewConnection.into_response();
    }
    next.run(request).await
}
