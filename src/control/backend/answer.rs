//! Answers that several resources give.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

/// 202.
pub(super) fn accepted() -> Response {
    json(StatusCode::ACCEPTED, "{}".to_owned())
}

/// An answer that is JSON already.
pub(super) fn json(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
