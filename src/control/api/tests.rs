//! The control API over a whole control thread with fake shards.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::Body as HttpBody,
    http::{Request as HttpRequest, header},
};
use serde_json::{Value, json};
use tower::ServiceExt;
use webrocket_state::{
    Report, SessionRef, ShardId, VhostId,
    command::NotChanged,
    identity::{InvalidCredentials, Secret},
    ids::RequestRef,
    slots::SessionSlot,
};
use webrocket_wire::{ChannelName, Rights, VhostPath};

use super::*;
use crate::{
    control::{
        cookie::Cookie,
        fake_node::{Node, World},
    },
    driver::mailbox::FromShard,
    store::Store,
};

fn request_ref(number: u32) -> RequestRef {
    RequestRef { session: SessionRef { shard: ShardId(1), slot: SessionSlot(5), generation: 6 }, number }
}

#[tokio::test]
async fn every_request_needs_the_cookie_but_three() {
    let node = Node::fresh().await;
    for (path, expected) in
        [("/node", 401), ("/nowhere", 401), ("/vhosts", 401), ("/metrics", 200), ("/healthz", 200)]
    {
        let request = || HttpRequest::builder().uri(path);
        let (status, _, text) = node.raw(request().body(HttpBody::empty()).unwrap()).await;
        assert_eq!(status, expected, "{path}: {text}");
        let wrong = request().header(COOKIE, Cookie::random().reveal()).body(HttpBody::empty()).unwrap();
        assert_eq!(node.raw(wrong).await.0, expected, "{path}");
    }
    assert_eq!(node.get("/nowhere").await, (404, json!({"error": "there is no such resource"})));
    let (status, node_info) = node.get("/node").await;
    assert_eq!((status, &node_info["name"], &node_info["shards"]), (200, &json!("moon"), &json!(2)));
}

#[tokio::test]
async fn vhosts_come_and_go() {
    let node = Node::fresh().await;
    let request = HttpRequest::post("/vhosts").header(COOKIE, node.cookie.reveal());
    let (status, headers, _) =
        node.raw(request.body(HttpBody::from(r#"{"path":"/moon/base"}"#)).unwrap()).await;
    assert_eq!((status, headers[header::LOCATION].to_str().unwrap()), (201, "/vhosts/%2Fmoon%2Fbase"));
    assert_eq!(node.vhost().path.as_str(), "/moon/base", "in effect once it is answered");
    let error = json!({"error": "there is a vhost /moon/base already"});
    assert_eq!(node.ask("POST", "/vhosts", &json!({"path": "/moon/base"})).await, (409, error));
    let (status, shown) = node.get("/vhosts/%2Fmoon%2Fbase").await;
    let token = shown["token"].as_str().unwrap();
    assert_eq!((status, token.len()), (200, 40));
    let (status, renewed) = node.ask("PUT", "/vhosts/%2Fmoon%2Fbase/token", &Value::Null).await;
    assert!(status == 200 && renewed["token"] != shown["token"]);
    let listed = json!({"vhosts": [{"path": "/moon/base", "users": 0, "channels": 0}]});
    assert_eq!(node.get("/vhosts").await, (200, listed));
    assert_eq!(node.ask("DELETE", "/vhosts/%2Fmoon%2Fbase", &Value::Null).await, (204, Value::Null));
    assert!(node.world.lock().unwrap().vhosts.is_empty());
    let error = json!({"error": "there is no vhost /moon/base"});
    assert_eq!(node.get("/vhosts/%2Fmoon%2Fbase").await, (404, error));
    let (status, error) = node.ask("POST", "/vhosts", &json!({"path": "moon"})).await;
    assert_eq!(status, 400, "{error}");
}

#[tokio::test]
async fn methods_and_bodies_are_checked() {
    let node = Node::fresh().await;
    let request = HttpRequest::builder().method("PATCH").uri("/vhosts").header(COOKIE, node.cookie.reveal());
    let (status, headers, text) = node.raw(request.body(HttpBody::empty()).unwrap()).await;
    assert_eq!((status, headers[header::ALLOW].to_str().unwrap()), (405, "GET,HEAD,POST"));
    assert_eq!(text, r#"{"error":"the resource does not have this method"}"#);
    for body in [json!(null), json!([]), json!({}), json!({"path": 1}), json!({"path": "/a", "pth": 1})] {
        let (status, error) = node.ask("POST", "/vhosts", &body).await;
        assert_eq!(status, 400, "{body}: {error}");
    }
    let (status, error) = node.ask("POST", "/vhosts", &json!({"path": "x".repeat(BODY_BYTES_MAX)})).await;
    assert_eq!((status, error), (413, json!({"error": "the body is longer than 1048576 bytes"})));
}

#[tokio::test]
async fn users_are_kept_with_their_generation() {
    let node = Node::fresh().await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    let joe = json!({"name": "joe", "rights": "read,write", "has_secret": true});
    let body = json!({"name": "joe", "secret": "pw", "rights": "read,write"});
    assert_eq!(node.ask("POST", "/vhosts/%2Fmoon/users", &body).await, (201, joe.clone()));
    assert_eq!(node.ask("POST", "/vhosts/%2Fmoon/users", &body).await.0, 409);
    let first = node.vhost().users["joe"];
    assert_eq!((first.rights, first.has_secret), (Rights::READ_WRITE, true));
    assert_eq!(node.get("/vhosts/%2Fmoon/users").await, (200, json!({"users": [joe]})));

    let (status, changed) =
        node.ask("PATCH", "/vhosts/%2Fmoon/users/joe", &json!({"rights": "manage"})).await;
    assert_eq!((status, &changed["has_secret"]), (200, &json!(true)));
    let (_, changed) = node.ask("PATCH", "/vhosts/%2Fmoon/users/joe", &json!({"secret": null})).await;
    assert_eq!(changed, json!({"name": "joe", "rights": "manage", "has_secret": false}));
    assert_eq!(node.vhost().users["joe"].generation, first.generation);

    assert_eq!(node.ask("DELETE", "/vhosts/%2Fmoon/users/joe", &Value::Null).await.0, 204);
    assert_eq!(node.get("/vhosts/%2Fmoon/users/joe").await.0, 404);
    node.ask("POST", "/vhosts/%2Fmoon/users", &body).await;
    assert!(node.vhost().users["joe"].generation > first.generation);
    for body in [
        json!({"name": "a b", "rights": "read"}),
        json!({"name": "a", "rights": "fly"}),
        json!({"name": "a", "rights": "read", "secret": ""}),
    ] {
        assert_eq!(node.ask("POST", "/vhosts/%2Fmoon/users", &body).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn settings_change_all_or_none() {
    let node = Node::fresh().await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    let path = "/vhosts/%2Fmoon/settings";
    let (status, settings) = node.ask("PATCH", path, &json!({"channels_max": 7, "anonymous": "read"})).await;
    assert_eq!((status, &settings["channels_max"]), (200, &json!(7)));
    assert_eq!(node.vhost().settings.channels_max, 7);
    let (status, error) = node.ask("PATCH", path, &json!({"channels_max": 8, "ping_interval_ms": 1})).await;
    assert_eq!(status, 400, "{error}");
    assert_eq!(node.get(path).await.1["channels_max"], 7);
}

#[tokio::test]
async fn channels_are_opened_once_and_closed_once() {
    let node = Node::fresh().await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    node.ask("PATCH", "/vhosts/%2Fmoon/settings", &json!({"channels_max": 2})).await;
    let path = "/vhosts/%2Fmoon/channels";
    let made = json!({"name": "presence-x", "type": "presence"});
    assert_eq!(node.ask("POST", path, &json!({"name": "presence-x"})).await, (201, made));
    assert_eq!(node.ask("POST", path, &json!({"name": "presence-x"})).await.0, 409);
    assert_eq!(node.ask("POST", path, &json!({"name": "a"})).await.0, 201);
    assert_eq!(node.ask("POST", path, &json!({"name": "b"})).await.0, 403);
    assert_eq!(node.ask("POST", path, &json!({"name": "-"})).await.0, 400);
    let shown = json!({"name": "presence-x", "type": "presence", "opened": true,
        "subscribers": {"size": 3}, "members": ["joe"]});
    assert_eq!(node.get("/vhosts/%2Fmoon/channels/presence-x").await, (200, shown));
    let (_, list) = node.get(path).await;
    let names: Vec<_> = list["channels"].as_array().unwrap().iter().map(|channel| &channel["name"]).collect();
    assert_eq!(names, ["a", "presence-x"], "of all shards, by name");
    assert_eq!(node.ask("DELETE", "/vhosts/%2Fmoon/channels/a", &Value::Null).await.0, 204);
    assert_eq!(node.ask("DELETE", "/vhosts/%2Fmoon/channels/a", &Value::Null).await.0, 404);
    assert_eq!(node.get("/vhosts/%2Fmoon/channels/a").await.0, 404);
    assert_eq!(node.ask("POST", path, &json!({"name": "b"})).await.0, 201, "the refused one was forgotten");
}

#[tokio::test]
async fn sessions_open_and_close_channels() {
    let store = Store::in_memory().unwrap();
    let node = Node::start(store.clone()).await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    node.ask("PATCH", "/vhosts/%2Fmoon/settings", &json!({"channels_max": 1})).await;
    let vhost = node.vhost().id;
    let channel = |name: &str| -> ChannelName { name.parse().unwrap() };
    let open =
        |number, name| Report::OpenChannel { request: request_ref(number), vhost, channel: channel(name) };
    let close =
        |number, name| Report::CloseChannel { request: request_ref(number), vhost, channel: channel(name) };
    let reports = [
        (open(0, "a"), Ok(())),
        (open(1, "b"), Err(NotChanged::ChannelLimit)),
        (open(2, "a"), Ok(())),
        (close(3, "b"), Err(NotChanged::ChannelNotFound)),
        (close(4, "a"), Ok(())),
        (open(5, "c"), Ok(())),
    ];
    for (number, (report, expected)) in reports.into_iter().enumerate() {
        node.report(report).await;
        let outcome = node.eventually(|world| world.changed.get(number).map(|(_, outcome)| *outcome)).await;
        assert_eq!(outcome, expected, "report {number}");
    }
    let gone = Report::OpenChannel { request: request_ref(6), vhost: VhostId(999), channel: channel("a") };
    node.report(gone).await;
    let outcome = node.eventually(|world| world.changed.get(6).map(|(_, outcome)| *outcome)).await;
    assert_eq!(outcome, Err(NotChanged::VhostNotFound));
    node.stop().await;
    let moon: VhostPath = "/moon".parse().unwrap();
    assert_eq!(store.channels(&moon).unwrap(), [channel("c")]);
}

#[tokio::test]
async fn a_token_is_consumed_once_by_whoever_comes_first() {
    let node = Node::fresh().await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    let body = json!({"uid": "joe", "channels": "private-.*", "ttl": 3_600});
    let (status, issued) = node.ask("POST", "/vhosts/%2Fmoon/tokens", &body).await;
    assert_eq!(status, 200);
    let token: webrocket_wire::SingleAccessToken = issued["token"].as_str().unwrap().parse().unwrap();
    let vhost = node.vhost().id;
    let racers: Vec<_> = (0..50)
        .map(|number| {
            let from_shards = node.from_shards.clone();
            tokio::spawn(async move {
                let report = Report::ConsumeToken { request: request_ref(number), vhost, token };
                from_shards.send(FromShard::Report(ShardId(0), report)).await.unwrap();
            })
        })
        .collect();
    for racer in racers {
        racer.await.unwrap();
    }
    let right = |world: &World| {
        let right = world.answers.iter().filter(|(_, answer)| *answer == Ok(Some("joe".into()))).count();
        (world.answers.len() == 50).then_some(right)
    };
    assert_eq!(node.eventually(right).await, 1);
    for body in [
        json!({"uid": "", "channels": "a"}),
        json!({"uid": "a", "channels": "("}),
        json!({"uid": "a", "channels": "a", "ttl": 0}),
    ] {
        assert_eq!(node.ask("POST", "/vhosts/%2Fmoon/tokens", &body).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn a_secret_is_right_as_long_as_it_is_the_users() {
    let node = Node::fresh().await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    let body = json!({"name": "joe", "secret": "pw", "rights": "read"});
    node.ask("POST", "/vhosts/%2Fmoon/users", &body).await;
    let vhost = node.vhost().id;
    let ask = async |number: u32, user: &str, secret: &str| {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let (user, secret) = (user.parse().unwrap(), Secret::new(secret));
        node.report(Report::VerifySecret { request: request_ref(number), vhost, user, secret, peer }).await;
        let answered = |world: &World| world.answers.get(number as usize).map(|(_, answer)| answer.clone());
        node.eventually(answered).await
    };
    assert_eq!(ask(0, "joe", "pw").await, Ok(Some("joe".into())));
    assert_eq!(ask(1, "joe", "pw").await, Ok(Some("joe".into())));
    assert_eq!(ask(2, "joe", "no").await, Err(InvalidCredentials));
    assert_eq!(ask(3, "ann", "pw").await, Err(InvalidCredentials));
    node.ask("PATCH", "/vhosts/%2Fmoon/users/joe", &json!({"secret": "new"})).await;
    assert_eq!(ask(4, "joe", "pw").await, Err(InvalidCredentials));
    assert_eq!(ask(5, "joe", "new").await, Ok(Some("joe".into())));
    node.ask("PATCH", "/vhosts/%2Fmoon/users/joe", &json!({"secret": null})).await;
    assert_eq!(ask(6, "joe", "anything").await, Ok(Some("joe".into())));
    node.ask("DELETE", "/vhosts/%2Fmoon", &Value::Null).await;
    assert_eq!(ask(7, "joe", "new").await, Err(InvalidCredentials));
}

#[tokio::test]
async fn a_restart_tells_shards_everything_before_the_node_is_ready() {
    let store = Store::in_memory().unwrap();
    let node = Node::start(store.clone()).await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    let opened: Vec<_> = (0..300).map(|number| format!("c{number:03}")).collect();
    let posts = opened.iter().map(|name| {
        let (router, cookie) = (node.router.clone(), node.cookie.reveal().to_owned());
        let body = json!({"name": name}).to_string();
        tokio::spawn(async move {
            let request = HttpRequest::post("/vhosts/%2Fmoon/channels").header(COOKIE, cookie);
            router.oneshot(request.body(HttpBody::from(body)).unwrap()).await.unwrap().status().as_u16()
        })
    });
    for post in posts.collect::<Vec<_>>() {
        assert_eq!(post.await.unwrap(), 201);
    }
    node.stop().await;

    let node = Node::start(store).await;
    assert!(!*node.ready.borrow());
    let world = Arc::clone(&node.world);
    node.is_ready().await;
    let told = world.lock().unwrap().channels.keys().map(|(_, name)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(told, opened);
    let ready = HttpRequest::get("/readyz").body(HttpBody::empty()).unwrap();
    assert_eq!(node.raw(ready).await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_refuses_changes() {
    let node = Node::fresh().await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    node.stopper.stop();
    let (status, error) = node.ask("POST", "/vhosts", &json!({"path": "/mars"})).await;
    assert_eq!((status, error), (503, json!({"error": "the server is stopping"})));
    let ready = HttpRequest::get("/readyz").body(HttpBody::empty()).unwrap();
    assert_eq!(node.raw(ready).await.0, 503);
    node.stop().await;
}

#[tokio::test]
async fn metrics_are_readable() {
    let node = Node::fresh().await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    let (_, headers, text) = node.raw(HttpRequest::get("/metrics").body(HttpBody::empty()).unwrap()).await;
    assert_eq!(headers[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("webrocket_build_info{version=\"1.2.3\",io=\"epoll\"} 1\n"), "{text}");
    assert!(
        text.contains("\nwebrocket_vhosts 1\n") && text.contains("\nwebrocket_sessions{shard=\"1\"} 0\n")
    );
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    for sample in samples {
        let (name, value) = sample.rsplit_once(' ').unwrap();
        assert!(name.starts_with("webrocket_") && value.parse::<u64>().is_ok(), "{sample}");
    }
}
