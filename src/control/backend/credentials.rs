//! Who a backend is: HTTP Basic, the user `wr` with the vhost's access token as password.

use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use webrocket_wire::AccessToken;

use crate::control::{
    refusal::Refusal,
    request::{Pass, VhostView},
};

/// The name that every backend has.
const USER: &[u8] = b"wr:";

/// Lets a request in that carries the vhost's access token.
///
/// # Errors
/// It does not.
pub(super) fn admit(headers: &HeaderMap, view: &VhostView) -> Result<Pass, Refusal> {
    match presented(headers) {
        Some(token) if token == view.token => Ok(Pass::new(view.vhost.id, token)),
        Some(_) | None => Err(Refusal::NoBackend),
    }
}

/// The token that a request presents. Two of the headers contradict each other.
fn presented(headers: &HeaderMap) -> Option<AccessToken> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = STANDARD.decode(credentials.trim()).ok()?;
    std::str::from_utf8(credentials.strip_prefix(USER)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "00112233445566778899aabbccddeeff00112233";

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect()
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    #[test]
    fn the_password_is_the_token() {
        let right = basic(&format!("wr:{TOKEN}"));
        for value in [right.clone(), right.replace("Basic ", "bASIC  ")] {
            assert_eq!(presented(&headers(&[&value])), Some(TOKEN.parse().unwrap()), "{value}");
        }
        for wrong in [
            String::new(),
            "Basic".to_owned(),
            "Basic ".to_owned(),
            "Basic !!!".to_owned(),
            right.replace("Basic", "Bearer"),
            right.replace("Basic ", "Basic"),
            format!("Basic {TOKEN}"),
            basic(TOKEN),
            basic(&format!("WR:{TOKEN}")),
            basic(&format!(":{TOKEN}")),
            basic(&format!("wr:{TOKEN}0")),
            basic(&format!("wr:{} ", &TOKEN[1..])),
            basic(&format!("wr:{}", TOKEN.to_uppercase())),
        ] {
            assert_eq!(presented(&headers(&[&wrong])), None, "{wrong}");
        }
        assert_eq!(presented(&headers(&[])), None);
        assert_eq!(presented(&headers(&[&right, &right])), None);
    }
}
