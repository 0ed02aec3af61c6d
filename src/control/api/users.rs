//! Users of a vhost.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use webrocket_state::{User, identity::Secret};
use webrocket_wire::{Rights, UserName};

use super::{
    answer::created,
    body::{Body, nullable},
    names::name,
    state::{Api, Shared},
    vhosts,
};
use crate::{
    control::{
        refusal::Refusal,
        request::{NewUser, Request, UserChange, VhostView},
    },
    store::SecretHash,
};

/// Length of a secret, in bytes.
const SECRET_BYTES_MAX: usize = 1_024;

/// The body of `POST …/users`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    name: String,
    #[serde(default)]
    secret: Option<String>,
    rights: Rights,
}

/// The body of `PATCH …/users/<name>`. What is missing stays; `null` takes the secret away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    #[serde(default)]
    rights: Option<Rights>,
    #[serde(default, deserialize_with = "nullable")]
    secret: Option<Option<String>>,
}

/// `GET …/users`: `{"users": [{"name", "rights", "has_secret"}, …]}`, by name.
pub(super) async fn list(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let view = api.control.ask(|reply| Request::ShowVhost(path, reply)).await?;
    let users: Vec<_> = view.vhost.users.iter().map(|(name, user)| description(name, user)).collect();
    Ok(Json(json!({ "users": users })))
}

/// `POST …/users`: as [`show`]. `rights` is `none` or a list, `read,write,manage`.
pub(super) async fn add(
    State(api): Shared,
    Path(vhost): Path<String>,
    Body(body): Body<Add>,
) -> Result<Response, Refusal> {
    let path = vhosts::path(&vhost)?;
    let name: UserName = user_name(&body.name)?;
    let user = NewUser { name: name.clone(), rights: body.rights, secret: hashed(&api, body.secret).await? };
    let view = api.control.change(|reply| Request::AddUser(path, user, reply)).await?;
    Ok(created(&["vhosts", &vhost, "users", name.as_str()], of(&view, &name)?))
}

/// `GET …/users/<name>`: `{"name", "rights", "has_secret"}`.
pub(super) async fn show(
    State(api): Shared,
    Path((vhost, name)): Path<(String, String)>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let name = user_name(&name)?;
    let view = api.control.ask(|reply| Request::ShowVhost(path, reply)).await?;
    Ok(Json(of(&view, &name)?))
}

/// `PATCH …/users/<name>`: as [`show`]. The user's sessions go on under the new rights.
pub(super) async fn change(
    State(api): Shared,
    Path((vhost, name)): Path<(String, String)>,
    Body(body): Body<Change>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let name = user_name(&name)?;
    let secret = match body.secret {
        None => None,
        Some(secret) => Some(hashed(&api, secret).await?),
    };
    let change = UserChange { rights: body.rights, secret };
    let view = api.control.change(|reply| Request::ChangeUser(path, name.clone(), change, reply)).await?;
    Ok(Json(of(&view, &name)?))
}

/// `DELETE …/users/<name>`: its sessions are anonymous at once.
pub(super) async fn remove(
    State(api): Shared,
    Path((vhost, name)): Path<(String, String)>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let name = user_name(&name)?;
    api.control.change(|reply| Request::RemoveUser(path, name, reply)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn user_name(text: &str) -> Result<UserName, Refusal> {
    name("user name", text)
}

/// Hashes a new secret aside, when a hasher is free.
async fn hashed(api: &Api, secret: Option<String>) -> Result<Option<SecretHash>, Refusal> {
    let Some(secret) = secret else { return Ok(None) };
    if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
        return Err(Refusal::Invalid(format!("a secret must be 1 to {SECRET_BYTES_MAX} bytes")));
    }
    let secret = Secret::new(&secret);
    let _hasher = api.hashers.acquire().await.expect("never closed");
    let hash = tokio::task::spawn_blocking(move || SecretHash::of(&secret)).await;
    Ok(Some(hash.expect("hashing does not panic")))
}

fn of(view: &VhostView, name: &UserName) -> Result<Value, Refusal> {
    let user = view.vhost.users.get(name).ok_or_else(|| Refusal::NoUser(name.clone()))?;
    Ok(description(name, user))
}

fn description(name: &UserName, user: &User) -> Value {
    json!({ "name": name, "rights": user.rights, "has_secret": user.has_secret })
}
