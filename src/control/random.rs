//! Random bytes of the system, for credentials and keys.

use webrocket_wire::{AccessToken, SingleAccessToken};

/// `N` random bytes.
///
/// # Panics
/// If the system has none: nothing here is safe without them.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

/// A new vhost access token.
pub(super) fn access_token() -> AccessToken {
    AccessToken::from_bytes(bytes())
}

/// A new single access token.
pub(super) fn single_access_token() -> SingleAccessToken {
    SingleAccessToken::from_bytes(bytes())
}
