//! Settings of a vhost.

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};

use super::{body::Body, state::Shared, vhosts};
use crate::control::{
    refusal::Refusal,
    request::{Request, SettingsChange},
};

/// `GET …/settings`: every setting with its value.
pub(super) async fn show(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let view = api.control.ask(|reply| Request::ShowVhost(path, reply)).await?;
    Ok(Json(view.vhost.settings))
}

/// `PATCH …/settings`: changes the named ones, all or none. As [`show`].
pub(super) async fn change(
    State(api): Shared,
    Path(vhost): Path<String>,
    Body(body): Body<SettingsChange>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let settings = api.control.change(|reply| Request::ChangeSettings(path, body, reply)).await?;
    Ok(Json(settings))
}
