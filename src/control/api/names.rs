//! Names in requests.

use std::str::FromStr;

use webrocket_wire::NameError;

use crate::control::refusal::Refusal;

/// A name of the request, valid.
pub(super) fn name<N: FromStr<Err = NameError>>(what: &str, text: &str) -> Result<N, Refusal> {
    text.parse().map_err(|error| Refusal::Invalid(format!("{text:?} is no {what}: {error}")))
}
