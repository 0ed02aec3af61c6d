//! Single access tokens for a backend's browsers.

use axum::{
    Json,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::query;
use crate::control::{
    refusal::Refusal,
    request::{Control, Pass, Request},
    tokens::TokenRequest,
};

/// `GET /<vhost>/token?uid=…&channels=…`: `{"token"}`.
pub(super) async fn issue(control: &Control, pass: Pass, query: &str) -> Result<Response, Refusal> {
    let [uid, channels] = query::all_of(query, ["uid", "channels"])?;
    let request = TokenRequest::new(&uid, &channels, None)?;
    let token = control.ask(|reply| Request::IssueToken(pass.into(), request, reply)).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(json!({ "token": token.reveal() }))).into_response())
}
