//! Answers that several resources give.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

/// Everything that is not unreserved in a URL's path is encoded, the slash above all.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// 201 with the address of what was made.
pub(super) fn created(segments: &[&str], made: impl Serialize) -> Response {
    let location: String =
        segments.iter().map(|segment| format!("/{}", utf8_percent_encode(segment, SEGMENT))).collect();
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(made)).into_response()
}
