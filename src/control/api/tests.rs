//! The whole control thread over a fake shard or two, asked through sockets as an operator would.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body as HttpBody,
    http::{Request as HttpRequest, header},
};
use crossbeam::queue::ArrayQueue;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;
use webrocket_state::{
    Command, Directory, Report, SessionRef, ShardId, Vhost, VhostId,
    message::{ChannelInfo, Identity, InvalidCredentials, MemberInfo, Outcome, RequestRef, Secret},
};
use webrocket_wire::{ChannelName, Rights, VhostPath};

use super::*;
use crate::{
    control::{
        actor::{Actor, ActorParts},
        front::{self, Front},
        request,
        serve::{Gauges, HttpServer},
        stop::{Stopper, stop_signal},
        verify,
    },
    driver::{
        mailbox::{FromShard, Mailbox},
        wake::Wake,
    },
    store::Store,
};

/// A session's `uid`, or that it was refused.
type Answered = Result<Option<Arc<str>>, InvalidCredentials>;

/// What fake shards know, together.
#[derive(Default)]
struct World {
    vhosts: BTreeMap<VhostId, Arc<Vhost>>,
    channels: BTreeMap<(VhostId, ChannelName), ShardId>,
    answers: Vec<(RequestRef, Answered)>,
    changed: Vec<(RequestRef, Outcome)>,
}

/// The control thread with fake shards.
struct Node {
    router: Router,
    cookie: Cookie,
    world: Arc<Mutex<World>>,
    from_shards: mpsc::Sender<FromShard<Report>>,
    stopper: Stopper,
    ready: Arc<AtomicBool>,
    actor: tokio::task::JoinHandle<()>,
    shards: Vec<tokio::task::JoinHandle<()>>,
}

const SHARDS: u16 = 2;

/// A shard that does what it is told at once, with a mailbox so small that it is often full.
async fn fake_shard(
    shard: ShardId,
    queue: Arc<ArrayQueue<Command>>,
    world: Arc<Mutex<World>>,
    reports: mpsc::Sender<FromShard<Report>>,
) {
    loop {
        let Some(command) = queue.pop() else {
            tokio::time::sleep(Duration::from_micros(100)).await;
            continue;
        };
        let applied = {
            let mut world = world.lock().unwrap();
            match command {
                Command::PutVhost { ticket, vhost } => {
                    world.vhosts.insert(vhost.id, vhost);
                    Some((ticket, Outcome::Done))
                }
                Command::RemoveVhost { ticket, vhost } => {
                    world.vhosts.remove(&vhost);
                    world.channels.retain(|(of, _), _| *of != vhost);
                    Some((ticket, Outcome::Done))
                }
                Command::OpenChannel { ticket, vhost, channel } => {
                    let outcome = match world.vhosts.get(&vhost) {
                        None => Outcome::VhostNotFound,
                        Some(of)
                            if !world.channels.contains_key(&(vhost, channel.clone()))
                                && !of.channels.reserve(of.settings.channels_max) =>
                        {
                            Outcome::ChannelLimit
                        }
                        Some(_) => {
                            world.channels.insert((vhost, channel), shard);
                            Outcome::Done
                        }
                    };
                    Some((ticket, outcome))
                }
                Command::CloseChannel { ticket, vhost, channel } => {
                    let closed = world.channels.remove(&(vhost, channel)).is_some();
                    if closed {
                        world.vhosts[&vhost].channels.release();
                    }
                    Some((ticket, if closed { Outcome::Done } else { Outcome::ChannelNotFound }))
                }
                Command::Publish { ticket, vhost, channel, .. } => {
                    let known = world.channels.contains_key(&(vhost, channel));
                    Some((ticket, if known { Outcome::Done } else { Outcome::ChannelNotFound }))
                }
                Command::DirectMessage { ticket, .. } => Some((ticket, Outcome::SessionNotFound)),
                Command::ListChannels { ticket, vhost } => {
                    let channels = world.channels.iter();
                    let of_shard = channels.filter(|((of, _), owner)| *of == vhost && **owner == shard);
                    let channels = of_shard.map(|((_, name), _)| info(name)).collect();
                    Some((ticket, Outcome::Channels(channels)))
                }
                Command::DescribeChannel { ticket, vhost, channel } => {
                    let known = world.channels.contains_key(&(vhost, channel.clone()));
                    let found = Outcome::Channel(info(&channel));
                    Some((ticket, if known { found } else { Outcome::ChannelNotFound }))
                }
                Command::Authenticated { request, identity } => {
                    world.answers.push((request, identity.map(|identity: Identity| identity.uid())));
                    None
                }
                Command::ChannelChanged { request, outcome } => {
                    world.changed.push((request, outcome));
                    None
                }
                Command::Shutdown => return,
            }
        };
        if let Some((ticket, outcome)) = applied {
            let _ = reports.send(FromShard::Report(shard, Report::Applied { ticket, outcome })).await;
        }
    }
}

fn info(name: &ChannelName) -> ChannelInfo {
    let joe = MemberInfo { uid: "joe".into(), entry: r#"{"uid":"joe"}"#.into() };
    let members = (name.as_str() == "presence-x").then(|| vec![joe]);
    ChannelInfo { name: name.clone(), opened: true, subscribers: 3, members }
}

impl Node {
    async fn start(store: Store) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let (from_shards, reports) = mpsc::channel(4);
        let (mut mailboxes, mut shards) = (Vec::new(), Vec::new());
        for shard in 0..SHARDS {
            let queue = Arc::new(ArrayQueue::new(2));
            mailboxes.push(Mailbox::new(Arc::clone(&queue), Arc::new(Wake::new().unwrap())));
            let shard = fake_shard(ShardId(shard), queue, Arc::clone(&world), from_shards.clone());
            shards.push(tokio::spawn(shard));
        }
        let figures = Arc::<ControlFigures>::default();
        let (stopper, stop) = stop_signal();
        let (phase, phase_seen) = watch::channel(Phase::Starting);
        let (requests, requests_taken) = mpsc::channel(4);
        let hashers = Arc::new(Semaphore::new(verify::HASHERS));
        let gauges = Gauges {
            open: |figures| &figures.http_connections,
            refused: |figures| &figures.http_refused_total,
            figures: Arc::clone(&figures),
        };
        let parts = ActorParts {
            store,
            mailboxes,
            directory: Directory::new(SHARDS, 1),
            hashers: Arc::clone(&hashers),
            front: Front::new(HttpServer::new(front::router(false), 1, stop.clone(), gauges)),
            phase,
            figures: Arc::clone(&figures),
        };
        let ready = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&ready);
        let actor = Actor::start(parts, Box::new(move || tell.store(true, Ordering::SeqCst))).await.unwrap();
        let cookie = Cookie::random();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let router = router(Api {
            control: request::Control::new(requests),
            cookie: cookie.clone(),
            node: NodeInfo {
                name: "moon".to_owned(),
                version: "1.2.3".to_owned(),
                shards: SHARDS,
                io: "epoll".to_owned(),
                addresses: crate::control::Addresses { websocket: address, control: address },
            },
            hashers,
            board: Arc::new(Board::new(SHARDS)),
            figures,
            phase: phase_seen,
            started: Instant::now(),
        });
        let actor = tokio::spawn(actor.run(reports, requests_taken, stop));
        Self { router, cookie, world, from_shards, stopper, ready, actor, shards }
    }

    async fn fresh() -> Self {
        Self::start(Store::in_memory().unwrap()).await
    }

    async fn raw(&self, request: HttpRequest<HttpBody>) -> (u16, header::HeaderMap, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = HttpRequest::builder().method(method).uri(path).header(COOKIE, self.cookie.reveal());
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, _, text) = self.raw(request.body(HttpBody::from(body)).unwrap()).await;
        (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, &Value::Null).await
    }

    async fn report(&self, report: Report) {
        self.from_shards.send(FromShard::Report(ShardId(0), report)).await.unwrap();
    }

    /// Waits until `what` is seen in the world.
    async fn eventually<T>(&self, what: impl Fn(&World) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = what(&self.world.lock().unwrap()) {
                return found;
            }
            assert!(Instant::now() < deadline, "gave up waiting");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn vhost(&self) -> Arc<Vhost> {
        let world = self.world.lock().unwrap();
        Arc::clone(world.vhosts.values().next().expect("shards know a vhost"))
    }

    /// Stops the node and waits for its end, so that its store is free.
    async fn stop(self) {
        self.stopper.stop();
        drop(self.from_shards);
        self.actor.await.unwrap();
        for shard in self.shards {
            shard.await.unwrap();
        }
    }
}

fn request_ref(number: u32) -> RequestRef {
    RequestRef { session: SessionRef { shard: ShardId(1), slot: 5, generation: 6 }, number }
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
        (open(0, "a"), Outcome::Done),
        (open(1, "b"), Outcome::ChannelLimit),
        (open(2, "a"), Outcome::Done),
        (close(3, "b"), Outcome::ChannelNotFound),
        (close(4, "a"), Outcome::Done),
        (open(5, "c"), Outcome::Done),
    ];
    for (number, (report, expected)) in reports.into_iter().enumerate() {
        node.report(report).await;
        let outcome =
            node.eventually(|world| world.changed.get(number).map(|(_, outcome)| outcome.clone())).await;
        assert_eq!(outcome, expected, "report {number}");
    }
    let gone = Report::OpenChannel { request: request_ref(6), vhost: VhostId(999), channel: channel("a") };
    node.report(gone).await;
    let outcome = node.eventually(|world| world.changed.get(6).map(|(_, outcome)| outcome.clone())).await;
    assert_eq!(outcome, Outcome::VhostNotFound);
    node.stop().await;
    let moon: VhostPath = "/moon".parse().unwrap();
    assert_eq!(store.channels(&moon).unwrap(), [channel("c")]);
}

#[tokio::test]
async fn a_token_is_consumed_once_by_whoever_comes_first() {
    let node = Node::fresh().await;
    node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
    let body = json!({"uid": "joe", "channels": "private-.*", "ttl": 5});
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
    assert!(!node.ready.load(Ordering::SeqCst));
    let world = Arc::clone(&node.world);
    while !node.ready.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
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
