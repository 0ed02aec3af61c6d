//! The JSON body of a request, whatever content type it claims.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::control::refusal::Refusal;

/// Length of a request's body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// A request's body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge(BODY_BYTES_MAX),
                _ => Refusal::Invalid("the body could not be read".to_owned()),
            })?;
        let value = serde_json::from_slice(&bytes);
        Ok(Self(
            value.map_err(|error| Refusal::Invalid(format!("the body is not as it should be: {error}")))?,
        ))
    }
}

/// Tells `null` from a missing member, with `#[serde(default, deserialize_with = "nullable")]`.
pub(super) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
