//! The Backend API over a whole control thread with fake shards and a fake exchange.

mod streams;

use axum::{
    body::Body as HttpBody,
    http::{HeaderMap, Request as HttpRequest},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;
use webrocket_state::ShardId;

use super::{events::WINDOW, *};
use crate::control::{
    fake_node::{BODY_BYTES_MAX, Node, World, answer},
    figures::Figure,
    request::Pass,
};

/// A node with the vhost `/moon`, and its backends' credentials.
struct Moon {
    node: Node,
    credentials: String,
}

impl Moon {
    async fn rise() -> Self {
        let node = Node::fresh().await;
        node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
        let credentials = credentials(&node.get("/vhosts/%2Fmoon").await.1);
        Self { node, credentials }
    }

    async fn raw(&self, method: &str, path: &str, body: &str) -> (u16, HeaderMap, String) {
        let request = HttpRequest::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, &self.credentials);
        answer(&self.node.front, request.body(HttpBody::from(body.to_owned())).unwrap()).await
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, headers, text) = self.raw(method, path, body).await;
        assert_eq!(headers[header::CONTENT_TYPE], "application/json", "{method} {path}");
        (status, serde_json::from_str(&text).unwrap())
    }

    async fn status(&self, method: &str, path: &str, body: &str) -> u16 {
        self.raw(method, path, body).await.0
    }

    fn world<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.node.world.lock().unwrap())
    }

    fn published(&self) -> Vec<(String, String)> {
        let named =
            |(channel, text): &(webrocket_wire::ChannelName, String)| (channel.to_string(), text.clone());
        self.world(|world| world.published.iter().map(named).collect())
    }
}

fn credentials(vhost: &Value) -> String {
    format!("Basic {}", STANDARD.encode(format!("wr:{}", vhost["token"].as_str().unwrap())))
}

fn error(sentence: &str) -> Value {
    json!({ "error": sentence })
}

#[tokio::test]
async fn channels_are_opened_shown_and_closed() {
    let moon = Moon::rise().await;
    for _ in 0..2 {
        let (status, headers, text) = moon.raw("POST", "/moon/channels/presence-x", "").await;
        assert_eq!((status, text.as_str()), (202, "{}"));
        assert_eq!(headers[header::LOCATION], "/moon/channels/presence-x");
    }
    let (status, _, text) = moon.raw("GET", "/moon/channels/presence-x", "").await;
    let list = r#"{"size":1,"list":[{"uid":"joe","age": 7.50}]}"#;
    let shown = format!(r#"{{"channel":{{"name":"presence-x","type":"presence","subscribers":{list}}}}}"#);
    assert_eq!((status, text), (200, shown));
    moon.ask("POST", "/moon/channels/%61", "").await;
    let shown = json!({"channel": {"name": "a", "type": "open", "subscribers": {"size": 3}}});
    assert_eq!(moon.ask("GET", "/moon/channels/a", "").await, (200, shown));
    assert_eq!(moon.ask("DELETE", "/moon/channels/a", "").await, (202, json!({})));
    let missing = (404, error("the vhost has no channel a"));
    assert_eq!(moon.ask("DELETE", "/moon/channels/a", "").await, missing);
    assert_eq!(moon.ask("GET", "/moon/channels/a", "").await, missing);

    let refused = error("\"-a\" is no channel name: the character at byte 0 is not allowed");
    assert_eq!(moon.ask("POST", "/moon/channels/-a", "").await, (400, refused));
    for name in ["", "-a", "a%2Fb", "%ff", &"x".repeat(201)] {
        assert_eq!(moon.status("POST", &format!("/moon/channels/{name}"), "").await, 400, "{name}");
        assert_eq!(moon.status("GET", &format!("/moon/channels/{name}"), "").await, 404, "{name}");
        assert_eq!(moon.status("DELETE", &format!("/moon/channels/{name}"), "").await, 404, "{name}");
    }
}

#[tokio::test]
async fn the_channel_limit_is_named() {
    let moon = Moon::rise().await;
    moon.node.ask("PATCH", "/vhosts/%2Fmoon/settings", &json!({"channels_max": 1})).await;
    assert_eq!(moon.status("POST", "/moon/channels/a", "").await, 202);
    let refused = error("the vhost has as many channels as its setting channels_max allows");
    assert_eq!(moon.ask("POST", "/moon/channels/b", "").await, (403, refused));
    assert_eq!(moon.status("POST", "/moon/channels/a", "").await, 202, "it is open already");
}

#[tokio::test]
async fn broadcasts_keep_the_order_of_their_array() {
    let moon = Moon::rise().await;
    moon.ask("POST", "/moon/channels/a", "").await;
    let path = "/moon/channels/a/events";
    let one = r#"{"event":"one","data":{"x": 1.50,"sid":"forged"}}"#;
    assert_eq!(moon.ask("POST", path, one).await, (202, json!({})));
    let many: Vec<_> = (0..3 * WINDOW).map(|number| format!(r#"{{"event":"e{number}"}}"#)).collect();
    assert_eq!(moon.status("POST", path, &format!("[{}]", many.join(","))).await, 202);
    let mut expected = vec![("a".to_owned(), r#"{"one":{"x": 1.50,"channel":"a"}}"#.to_owned())];
    expected.extend(
        (0..3 * WINDOW).map(|number| ("a".to_owned(), format!(r#"{{"e{number}":{{"channel":"a"}}}}"#))),
    );
    assert_eq!(moon.published(), expected);
}

#[tokio::test]
async fn nothing_is_broadcast_where_one_element_is_wrong() {
    let moon = Moon::rise().await;
    moon.ask("POST", "/moon/channels/a", "").await;
    let path = "/moon/channels/a/events";
    let refused = error("element [1]: \":b\" is no event name: the name is reserved");
    let body = r#"[{"event":"a"},{"trigger":{"event":":b"}}]"#;
    assert_eq!(moon.ask("POST", path, body).await, (400, refused));
    assert_eq!(moon.status("POST", path, "").await, 400);
    assert_eq!(moon.status("POST", path, "[]").await, 202);
    assert_eq!(moon.published(), []);
    for missing in ["/moon/channels/b/events", "/moon/channels/-/events"] {
        for body in [r#"{"event":"a"}"#, "[]"] {
            assert_eq!(moon.status("POST", missing, body).await, 404, "{missing} {body}");
        }
        assert_eq!(moon.status("POST", missing, "{}").await, 400, "the body is looked at first");
    }
}

#[tokio::test]
async fn a_session_receives_what_is_meant_for_it() {
    let moon = Moon::rise().await;
    let sid = Uuid::from_u128(7);
    moon.node.world.lock().unwrap().sessions.insert(sid, (ShardId(1), Vec::new()));
    let path = format!("/moon/sessions/{sid}/events");
    assert_eq!(moon.ask("POST", &path, r#"{"event":"a","data":{"n":1}}"#).await, (202, json!({})));
    let many: Vec<_> = (0..2 * WINDOW).map(|number| format!(r#"{{"event":"e{number}"}}"#)).collect();
    assert_eq!(moon.status("POST", &path, &format!("[{}]", many.join(","))).await, 202);
    let mut expected = vec![r#"{"a":{"n":1}}"#.to_owned()];
    expected.extend((0..2 * WINDOW).map(|number| format!(r#"{{"e{number}":{{}}}}"#)));
    assert_eq!(moon.world(|world| world.sessions[&sid].1.clone()), expected);
    assert_eq!(moon.status("POST", &path, "{}").await, 400);
    for other in [Uuid::from_u128(8).to_string(), sid.simple().to_string(), "x".to_owned()] {
        let path = format!("/moon/sessions/{other}/events");
        let missing = error(&format!("the vhost has no session {other}"));
        assert_eq!(moon.ask("POST", &path, r#"{"event":"a"}"#).await, (404, missing));
    }
}

#[tokio::test]
async fn tokens_are_issued() {
    let moon = Moon::rise().await;
    let (status, headers, text) = moon.raw("GET", "/moon/token?uid=J%C3%BCrgen+M&channels=.%2B", "").await;
    assert_eq!((status, &headers[header::CACHE_CONTROL]), (200, &"no-store".parse().unwrap()));
    let issued: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(issued["token"].as_str().unwrap().len(), 128);
    assert_eq!(moon.node.figures.tokens.value(), 1);
    for query in [
        "",
        "?uid=joe",
        "?uid=&channels=a",
        "?uid=joe&channels=(",
        "?uid=joe&channels=%5Cw%7B100%7D%7B100%7D",
        "?uid=joe&channels=a&channels=a",
        "?uid=joe&channels=a&ttl=5",
    ] {
        assert_eq!(moon.status("GET", &format!("/moon/token{query}"), "").await, 400, "{query}");
    }
    assert_eq!(moon.node.figures.tokens.value(), 1);
}

#[tokio::test]
async fn checks_run_in_one_order() {
    let moon = Moon::rise().await;
    let long = "x".repeat(BODY_BYTES_MAX as usize + 1);
    let ask = async |method: &str, path: &str, authorization: &str| {
        let request = HttpRequest::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, authorization);
        answer(&moon.node.front, request.body(HttpBody::from(long.clone())).unwrap()).await
    };
    for (method, path, allow) in [
        ("PUT", "/moon/channels/-", "GET,HEAD,POST,DELETE"),
        ("OPTIONS", "/moon/channels/-", "GET,HEAD,POST,DELETE"),
        ("GET", "/moon/channels/-/events", "POST"),
        ("DELETE", "/moon/sessions/-/events", "POST"),
        ("HEAD", "/moon/token", "GET"),
        ("POST", "/moon/webrocket.js", "GET,HEAD"),
        ("POST", "/webrocket.js", "GET,HEAD"),
    ] {
        let (status, headers, _) = ask(method, path, "").await;
        assert_eq!((status, &headers[header::ALLOW]), (405, &allow.parse().unwrap()), "{method} {path}");
    }
    for path in ["/moon", "/moon/channels", "/moon/events/x", "/mars/channels/a", "/mars/webrocket.js", "/"] {
        assert_eq!(ask("PUT", path, &moon.credentials).await.0, 404, "{path}");
    }
    for authorization in ["", "Basic d3I6", "Bearer x"] {
        let (status, headers, _) = ask("POST", "/moon/channels/-", authorization).await;
        assert_eq!(status, 401);
        assert_eq!(headers[header::WWW_AUTHENTICATE], "Basic realm=\"webrocket\"");
    }
    let (status, _, text) = ask("POST", "/moon/channels/-", &moon.credentials).await;
    assert_eq!((status, text.as_str()), (413, r#"{"error":"the body is longer than 10000 bytes"}"#));
    assert_eq!(moon.status("POST", "/moon/channels/-", "").await, 400);
}

#[tokio::test]
async fn a_regenerated_token_opens_nothing_any_more() {
    let moon = Moon::rise().await;
    let view = moon.node.get("/vhosts/%2Fmoon").await.1;
    let pass = Pass::new(moon.node.vhost().id, view["token"].as_str().unwrap().parse().unwrap());
    let renewed = moon.node.ask("PUT", "/vhosts/%2Fmoon/token", &Value::Null).await.1;
    assert_eq!(moon.status("POST", "/moon/channels/a", "").await, 401);
    let control = &moon.node.control;
    let open = async |pass| channels::open(control, pass, &moon.node.vhost().path, "a").await.map(|_| ());
    assert_eq!(open(pass).await, Err(Refusal::NoBackend), "it was renewed while the body came in");
    let moon = Moon { credentials: credentials(&renewed), ..moon };
    assert_eq!(moon.status("POST", "/moon/channels/a", "").await, 202);
    moon.node.ask("POST", "/vhosts", &json!({"path": "/mars"})).await;
    assert_eq!(moon.status("POST", "/mars/channels/a", "").await, 401, "it is another vhost's");
}

#[tokio::test]
async fn everybody_has_the_script() {
    let moon = Moon::rise().await;
    let plain = moon.raw("GET", "/webrocket.js", "").await;
    let own = moon.raw("GET", "/moon/webrocket.js", "").await;
    for (status, headers, _) in [&plain, &own] {
        assert_eq!(*status, 200);
        assert_eq!(headers[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
    assert!(own.2.starts_with(&plain.2) && own.2.len() > plain.2.len());
    let request = HttpRequest::get("/moon/webrocket.js").header(header::IF_NONE_MATCH, &own.1[header::ETAG]);
    let (status, headers, text) = answer(&moon.node.front, request.body(HttpBody::empty()).unwrap()).await;
    assert_eq!((status, text.as_str(), &headers[header::ETAG]), (304, "", &own.1[header::ETAG]));
}

#[tokio::test]
async fn answers_are_counted_by_who_is_to_blame() {
    let moon = Moon::rise().await;
    moon.status("POST", "/moon/channels/a", "").await;
    moon.status("POST", "/moon/channels/-", "").await;
    moon.status("GET", "/nowhere", "").await;
    moon.node.stopper.stop();
    assert_eq!(moon.status("POST", "/moon/channels/b", "").await, 503);
    let figures = &moon.node.figures;
    let counted = [
        &figures.http_answers_done_total,
        &figures.http_answers_refused_total,
        &figures.http_answers_failed_total,
    ];
    assert_eq!(counted.map(Figure::value), [1, 2, 1]);
}
