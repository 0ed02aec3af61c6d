//! Single access tokens.

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::json;

use super::{body::Body, state::Shared, vhosts};
use crate::control::{refusal::Refusal, request::Request, tokens::TokenRequest};

/// The body of `POST …/tokens`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issue {
    uid: String,
    channels: String,
    #[serde(default)]
    ttl: Option<u64>,
}

/// `POST …/tokens`: `{"token"}`, valid for one session on the channels that the regular
/// expression `channels` matches as a whole, and for `ttl` seconds (60) as long as it is unused.
pub(super) async fn issue(
    State(api): Shared,
    Path(vhost): Path<String>,
    Body(body): Body<Issue>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let request = TokenRequest::new(&body.uid, &body.channels, body.ttl)?;
    let token = api.control.ask(|reply| Request::IssueToken(path.into(), request, reply)).await?;
    Ok(Json(json!({ "token": token.reveal() })))
}
