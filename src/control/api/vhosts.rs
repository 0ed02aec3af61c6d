//! Vhosts and their access tokens.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use webrocket_wire::VhostPath;

use super::{answer::created, body::Body, names::name, state::Shared};
use crate::control::{
    refusal::Refusal,
    request::{Request, VhostView},
};

/// The body of `POST /vhosts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewVhost {
    path: String,
}

/// The vhost that a request's path names.
pub(super) fn path(text: &str) -> Result<VhostPath, Refusal> {
    name("vhost path", text)
}

/// `GET /vhosts`: `{"vhosts": [{"path", "users", "channels"}, …]}`, by path.
pub(super) async fn list(State(api): Shared) -> Result<impl IntoResponse, Refusal> {
    let vhosts = api.control.ask(Request::ListVhosts).await?;
    let vhosts: Vec<_> = vhosts.iter().map(summary).collect();
    Ok(Json(json!({ "vhosts": vhosts })))
}

/// `POST /vhosts`: as [`show`].
pub(super) async fn add(State(api): Shared, Body(body): Body<NewVhost>) -> Result<Response, Refusal> {
    let path = path(&body.path)?;
    let view = api.control.change(|reply| Request::AddVhost(path, reply)).await?;
    Ok(created(&["vhosts", view.vhost.path.as_str()], description(&view)))
}

/// `GET /vhosts/<vhost>`: `{"path", "token", "users", "channels"}`. The token is a secret.
pub(super) async fn show(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = path(&vhost)?;
    let view = api.control.ask(|reply| Request::ShowVhost(path, reply)).await?;
    Ok(Json(description(&view)))
}

/// `DELETE /vhosts/<vhost>`: its sessions are closed; its users, channels and tokens are gone.
pub(super) async fn remove(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = path(&vhost)?;
    api.control.change(|reply| Request::RemoveVhost(path, reply)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /vhosts/<vhost>/token`: a new access token; the old one is void. As [`show`].
pub(super) async fn regenerate_token(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = path(&vhost)?;
    let view = api.control.change(|reply| Request::RegenerateToken(path, reply)).await?;
    Ok(Json(description(&view)))
}

fn summary(view: &VhostView) -> Value {
    let vhost = &view.vhost;
    json!({ "path": vhost.path, "users": vhost.users.len(), "channels": vhost.channels.get() })
}

fn description(view: &VhostView) -> Value {
    let mut description = summary(view);
    description["token"] = view.token.reveal().into();
    description
}
