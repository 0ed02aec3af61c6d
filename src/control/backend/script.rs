//! The browser client, `webrocket.js`, for everybody: as it is, or connected to the vhost below
//! which it was asked for.

use std::sync::LazyLock;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// A script, and what tells this version of it from others.
struct Script {
    text: &'static str,
    etag: HeaderValue,
}

/// What the build has put together, see `build.rs`.
static PLAIN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!(concat!(env!("OUT_DIR"), "/webrocket.js"))));
static PRECONFIGURED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!(concat!(env!("OUT_DIR"), "/webrocket.js")),
        "\n",
        include_str!("../../../clients/javascript/preconfigured.js"),
    ))
});

impl Script {
    fn new(text: &'static str) -> Self {
        let etag = format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..32]);
        Self { text, etag: etag.parse().expect("hexadecimal digits can stand in a header") }
    }
}

/// The script, or that the browser has it already. Any page may use it: it holds no secret.
pub(super) fn send(headers: &HeaderMap, preconfigured: bool) -> Response {
    let script = if preconfigured { &*PRECONFIGURED } else { &*PLAIN };
    let about = [
        (header::ETAG, script.etag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    if is_known(headers, &script.etag) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], script.text).into_response()
}

/// Whether `If-None-Match` names the version; a weak comparison, as the header wants.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
    known.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn status(if_none_match: &str, preconfigured: bool) -> u16 {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, if_none_match.parse().unwrap())]);
        send(&headers, preconfigured).status().as_u16()
    }

    #[test]
    fn the_script_is_one_scope_of_the_packages_version() {
        let package: Value =
            serde_json::from_str(include_str!("../../../clients/javascript/package.json")).unwrap();
        let [version, license] = ["version", "license"].map(|name| package[name].as_str().unwrap());
        let begin = format!("/*! webrocket {version} | {license} | ");
        assert!(PLAIN.text.starts_with(&begin), "{begin} and {}", PLAIN.text.lines().next().unwrap());
        assert!(PLAIN.text.ends_with("\nglobalThis.WebRocket = WebRocket;\n})();\n"));
        let modular = |line: &&str| line.starts_with("import ") || line.starts_with("export ");
        assert_eq!(PLAIN.text.lines().find(modular), None);
    }

    #[test]
    fn a_browser_that_has_it_is_told_so() {
        let response = send(&HeaderMap::new(), true);
        assert_eq!(response.status(), 200);
        let etag = response.headers()[header::ETAG].to_str().unwrap();
        for known in [etag, "*", &format!("W/{etag}"), &format!("\"x\", {etag}")] {
            assert_eq!(status(known, true), 304, "{known}");
        }
        assert_eq!(status("\"x\"", true), 200);
        assert_eq!(status(etag, false), 200, "it is another script");
    }
}
