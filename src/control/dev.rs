//! What `--dev` adds on the WebSocket port: the demo page, and a stand-in for its application.
//!
//! An application's backend knows its visitors, and gets single access tokens for them from the
//! Backend API. The demo has none: `/dev/token` gives whoever asks a token for the name that they
//! choose. Only the page itself may ask, as far as browsers tell who does.
//!
//! Source: docs/protocol.md, "HTTP Backend API".

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    backend::Backend,
    refusal::Refusal,
    request::{Caller, Request},
    seed,
    tokens::TokenRequest,
};

/// The demo page.
pub(super) const PAGE: &str = include_str!(concat!(env!("OUT_DIR"), "/demo.html"));

/// What the demo page may do: its own script and style, the browser client, and requests to where
/// it came from. The page itself narrows that down to the very script and style that it holds.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(PAGE))
}

/// Who asks for a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Visitor {
    uid: String,
}

/// `GET /dev/token?uid=…`: `{"token"}`, for the demo's private and presence channels.
pub(super) async fn token(
    State(backend): State<Arc<Backend>>,
    headers: HeaderMap,
    visitor: Result<Query<Visitor>, QueryRejection>,
) -> Result<Response, Refusal> {
    if is_of_another_site(&headers) {
        let error = json!({ "error": "only the demo page may ask for tokens here" });
        return Ok((StatusCode::FORBIDDEN, Json(error)).into_response());
    }
    let Query(visitor) = visitor.map_err(|_| {
        Refusal::Invalid("the query must be a parameter uid, there once, and no other".to_owned())
    })?;
    let request = TokenRequest::new(&visitor.uid, seed::TOKEN_CHANNELS, None)?;
    let caller = Caller::Operator(seed::vhost());
    let token = backend.control().ask(|reply| Request::IssueToken(caller, request, reply)).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(json!({ "token": token.reveal() }))).into_response())
}

/// Whether a browser says that a page of another origin asks. Who is no browser says nothing.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let is_foreign_site = |site: &[u8]| site != b"same-origin" && site != b"none";
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let is_foreign_origin = |origin: &[u8]| {
        let authority =
            ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme.as_bytes()));
        authority.is_none() || authority != host
    };
    headers.get_all("sec-fetch-site").iter().any(|site| is_foreign_site(site.as_bytes()))
        || headers.get_all(header::ORIGIN).iter().any(|origin| is_foreign_origin(origin.as_bytes()))
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, http::Request as HttpRequest};

    use super::*;
    use crate::control::fake_node::{Node, answer};

    const TOKEN: &str = "/dev/token?uid=Ann";

    /// A `--dev` server's front with, or before, the vhost of the demo.
    async fn front(seeded: bool) -> (Node, Router) {
        let node = Node::fresh().await;
        if seeded {
            node.ask("POST", "/vhosts", &json!({"path": seed::vhost().as_str()})).await;
        }
        let backend = Backend::new(node.control.clone(), 1, Arc::clone(&node.figures));
        let front = crate::control::front::router(true, backend, Arc::clone(&node.figures));
        (node, front)
    }

    async fn get(front: &Router, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
        let request = HttpRequest::builder().uri(path).header(header::HOST, "localhost:9772");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        answer(front, request.body(Body::empty()).unwrap()).await
    }

    #[tokio::test]
    async fn the_page_gets_tokens() {
        let (_node, front) = front(true).await;
        for headers in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:9772")],
            &[("origin", "https://localhost:9772")],
        ] {
            let (status, answered, text) = get(&front, TOKEN, headers).await;
            assert_eq!((status, &answered[header::CACHE_CONTROL]), (200, &"no-store".parse().unwrap()));
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer["token"].as_str().unwrap().len(), 128, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn other_pages_get_none() {
        let (_node, front) = front(true).await;
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
            &[("origin", "http://localhost:9773")],
            &[("origin", "http://elsewhere:9772")],
            &[("origin", "localhost:9772")],
            &[("origin", "null")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://elsewhere")],
        ] {
            let (status, answered, text) = get(&front, TOKEN, headers).await;
            let refused = r#"{"error":"only the demo page may ask for tokens here"}"#;
            assert_eq!((status, text.as_str()), (403, refused), "{headers:?}");
            assert!(!answered.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        }
    }

    #[tokio::test]
    async fn a_name_is_there_once_and_bounded() {
        let (_node, front) = front(true).await;
        let status = async |query: &str| get(&front, &format!("/dev/token{query}"), &[]).await.0;
        assert_eq!(status("?uid=J%C3%BCrgen+M").await, 200);
        assert_eq!(status(&format!("?uid={}", "x".repeat(128))).await, 200);
        for wrong in ["", "?", "?uid=", "?uid=a&uid=b", "?uid=a&channels=.*", "?uid=%0a", "?name=a"] {
            assert_eq!(status(wrong).await, 400, "{wrong}");
        }
        assert_eq!(status(&format!("?uid={}", "x".repeat(129))).await, 400);
    }

    #[tokio::test]
    async fn a_vhost_that_was_removed_has_no_tokens() {
        let (_node, front) = front(false).await;
        let (status, _, text) = get(&front, TOKEN, &[]).await;
        assert_eq!((status, text.as_str()), (404, r#"{"error":"there is no vhost /demo"}"#));
    }
}
