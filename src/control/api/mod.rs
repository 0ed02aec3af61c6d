//! The control API: JSON over HTTP, for operators and their tools.
//!
//! | resource | methods |
//! | --- | --- |
//! | `/node` | `GET` |
//! | `/vhosts` | `GET`, `POST {"path"}` |
//! | `/vhosts/<vhost>` | `GET`, `DELETE` |
//! | `/vhosts/<vhost>/token` | `PUT`: a new access token |
//! | `/vhosts/<vhost>/users` | `GET`, `POST {"name", "secret"?, "rights"}` |
//! | `/vhosts/<vhost>/users/<name>` | `GET`, `PATCH {"rights"?, "secret"?}`, `DELETE` |
//! | `/vhosts/<vhost>/keys` | `GET`, `POST {"key"}` |
//! | `/vhosts/<vhost>/keys/<key>` | `DELETE` |
//! | `/vhosts/<vhost>/channels` | `GET`, `POST {"name"}` |
//! | `/vhosts/<vhost>/channels/<name>` | `GET`, `DELETE` |
//! | `/vhosts/<vhost>/settings` | `GET`, `PATCH {"<setting>": <value>, …}` |
//! | `/vhosts/<vhost>/tokens` | `POST {"uid", "channels", "ttl"?}` |
//! | `/vhosts/<vhost>/workers` | `GET` |
//! | `/vhosts/<vhost>/queue` | `GET` |
//! | `/metrics`, `/healthz`, `/readyz` | `GET`, without the cookie |
//!
//! `<vhost>` is the vhost's path as one percent-encoded segment, `%2Fmoon`. Every request carries
//! the node's cookie in `X-WebRocket-Cookie`, otherwise it is answered 401. An error is
//! `{"error": "<one sentence>"}`: 400 invalid, 403 at a limit, 404 no such thing, 405 with `Allow`, 409 it exists
//! already, 413 the body is too long, 503 the node stops or is full. What is created is answered
//! 201 with `Location`, what is deleted 204. A change is in effect on every shard and in the exchange when it is answered.

mod answer;
mod backends;
mod body;
mod channels;
mod keys;
mod names;
mod node;
mod settings;
mod state;
mod tokens;
mod users;
mod vhosts;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::HeaderName,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};

use super::refusal::Refusal;
use body::BODY_BYTES_MAX;
use state::Shared;

pub(super) use state::Api;

/// Where requests carry the cookie.
pub(super) const COOKIE: HeaderName = HeaderName::from_static("x-webrocket-cookie");
/// What may be had without it.
const OPEN_PATHS: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

/// The control API as a service.
pub(super) fn router(api: Api) -> Router {
    let api = Arc::new(api);
    Router::new()
        .route("/node", get(node::show))
        .route("/metrics", get(node::metrics))
        .route("/healthz", get(node::healthz))
        .route("/readyz", get(node::readyz))
        .route("/vhosts", get(vhosts::list).post(vhosts::add))
        .route("/vhosts/{vhost}", get(vhosts::show).delete(vhosts::remove))
        .route("/vhosts/{vhost}/token", put(vhosts::regenerate_token))
        .route("/vhosts/{vhost}/users", get(users::list).post(users::add))
        .route("/vhosts/{vhost}/users/{name}", get(users::show).patch(users::change).delete(users::remove))
        .route("/vhosts/{vhost}/keys", get(keys::list).post(keys::add))
        .route("/vhosts/{vhost}/keys/{key}", delete(keys::remove))
        .route("/vhosts/{vhost}/channels", get(channels::list).post(channels::open))
        .route("/vhosts/{vhost}/channels/{name}", get(channels::show).delete(channels::close))
        .route("/vhosts/{vhost}/settings", get(settings::show).patch(settings::change))
        .route("/vhosts/{vhost}/tokens", post(tokens::issue))
        .route("/vhosts/{vhost}/workers", get(backends::workers))
        .route("/vhosts/{vhost}/queue", get(backends::queue))
        .method_not_allowed_fallback(async || Refusal::NoMethod)
        .fallback(async || Refusal::NoResource)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), require_cookie))
        .with_state(api)
}

async fn require_cookie(State(api): Shared, request: Request, next: Next) -> Response {
    let presented = request.headers().get(COOKIE);
    let known = presented.is_some_and(|presented| api.cookie.matches(presented.as_bytes()));
    if known || OPEN_PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    Refusal::Unauthorized.into_response()
}

#[cfg(test)]
mod tests;
