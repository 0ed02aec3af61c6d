//! A whole control thread over fake shards and a fake exchange, for tests that ask it through its routers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body as HttpBody,
    http::{Request as HttpRequest, header},
};
use crossbeam::queue::ArrayQueue;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::{
    io::unix::AsyncFd,
    sync::{Notify, Semaphore, mpsc, watch},
    time::timeout,
};
use tower::ServiceExt;
use uuid::Uuid;
use webrocket_state::{
    Command, Directory, Report, ShardId, Vhost, VhostId,
    command::{Changed, ChannelInfo, ChannelNotFound, CommandReply, NotOpened, SessionNotFound},
    exchange::ExchangeReport,
    identity::{Identity, InvalidCredentials},
    ids::RequestRef,
};
use webrocket_wire::{ChannelName, Member, MemberData, SharedPublication};

use super::{
    Addresses, Cookie, NodeInfo,
    actor::{Actor, ActorParts, Inputs},
    api::{self, Api, COOKIE},
    backend::Backend,
    fake_exchange::{ExchangeWorld, fake_exchange},
    figures::ControlFigures,
    front::{self, Front},
    phase::Phase,
    request,
    serve::{Gauges, HttpServer},
    stop::{Stopper, stop_signal},
    verify,
};
use crate::{
    driver::{
        mailbox::{FromShard, Mailbox},
        wake::Wake,
    },
    metrics::Board,
    store::Store,
};

/// A session's `uid`, or that it was refused.
pub(super) type Answered = Result<Option<Arc<str>>, InvalidCredentials>;

/// What fake shards know, together.
#[derive(Default)]
pub(super) struct World {
    pub(super) vhosts: BTreeMap<VhostId, Arc<Vhost>>,
    pub(super) channels: BTreeMap<(VhostId, ChannelName), ShardId>,
    pub(super) answers: Vec<(RequestRef, Answered)>,
    pub(super) changed: Vec<(RequestRef, Changed)>,
    /// Broadcasts in order, as JSON.
    pub(super) published: Vec<(ChannelName, String)>,
    /// The sessions that there are, and what each was sent, as JSON.
    pub(super) sessions: BTreeMap<Uuid, (ShardId, Vec<String>)>,
    /// What the exchange knows.
    pub(super) exchange: ExchangeWorld,
    /// Told of after each command.
    pub(super) changes: Arc<Notify>,
}

/// The control thread with fake shards.
pub(super) struct Node {
    /// The control API.
    pub(super) router: Router,
    /// What the WebSocket port serves over HTTP.
    pub(super) front: Router,
    pub(super) control: request::Control,
    pub(super) cookie: Cookie,
    pub(super) world: Arc<Mutex<World>>,
    pub(super) figures: Arc<ControlFigures>,
    pub(super) from_shards: mpsc::Sender<FromShard<Report>>,
    pub(super) exchange_reports: mpsc::Sender<ExchangeReport>,
    pub(super) stopper: Stopper,
    /// Whether the node is ready.
    pub(super) ready: watch::Receiver<bool>,
    actor: tokio::task::JoinHandle<()>,
    told: Vec<tokio::task::JoinHandle<()>>,
}

const SHARDS: u16 = 2;
/// The length of a body on the WebSocket port.
pub(super) const BODY_BYTES_MAX: u32 = 10_000;
/// What takes so long hangs.
pub(super) const HANG: Duration = Duration::from_secs(60);

/// Waits for what must come, and fails if it hangs.
pub(super) async fn within<T>(coming: impl Future<Output = T>) -> T {
    timeout(HANG, coming).await.expect("it hangs")
}

/// What a fake is told: the receiving end of a mailbox so small that it is often full.
pub(super) struct Inbox<C> {
    queue: Arc<ArrayQueue<C>>,
    wake: Arc<Wake>,
    woken: AsyncFd<OwnedFd>,
}

impl<C> Inbox<C> {
    fn new() -> (Mailbox<C>, Self) {
        let (queue, wake) = (Arc::new(ArrayQueue::new(2)), Arc::new(Wake::new().unwrap()));
        let descriptor = wake.as_fd().try_clone_to_owned().unwrap();
        // SAFETY: the descriptor is `woken`'s alone, which neither closes nor replaces it while it lives.
        let woken = unsafe { AsyncFd::register(descriptor) }.unwrap();
        (Mailbox::new(Arc::clone(&queue), Arc::clone(&wake)), Self { queue, wake, woken })
    }

    /// The next command, once there is one.
    pub(super) async fn next(&self) -> C {
        loop {
            self.wake.prepare();
            if let Some(command) = self.queue.pop() {
                self.wake.awake();
                return command;
            }
            let mut woken = self.woken.readable().await.unwrap();
            self.wake.drain();
            woken.clear_ready();
        }
    }
}

/// A shard that does what it is told at once.
async fn fake_shard(
    shard: ShardId,
    inbox: Inbox<Command>,
    world: Arc<Mutex<World>>,
    reports: mpsc::Sender<FromShard<Report>>,
) {
    loop {
        let command = inbox.next().await;
        let reply = {
            let mut world = world.lock().unwrap();
            // A waiter looks at the world only once it is unlocked.
            world.changes.notify_waiters();
            match command {
                Command::PutVhost { ticket, vhost } => {
                    world.vhosts.insert(vhost.id, vhost);
                    Some(CommandReply::Applied(ticket))
                }
                Command::RemoveVhost { ticket, vhost } => {
                    world.vhosts.remove(&vhost);
                    world.channels.retain(|(of, _), _| *of != vhost);
                    Some(CommandReply::Applied(ticket))
                }
                Command::OpenChannel { ticket, vhost, channel } => {
                    let opened = match world.vhosts.get(&vhost) {
                        None => Err(NotOpened::VhostNotFound),
                        Some(of)
                            if !world.channels.contains_key(&(vhost, channel.clone()))
                                && !of.channels.reserve(of.settings.channels_max) =>
                        {
                            Err(NotOpened::ChannelLimit)
                        }
                        Some(_) => {
                            world.channels.insert((vhost, channel), shard);
                            Ok(())
                        }
                    };
                    Some(CommandReply::Opened(ticket, opened))
                }
                Command::CloseChannel { ticket, vhost, channel } => {
                    let closed = world.channels.remove(&(vhost, channel)).is_some();
                    if closed {
                        world.vhosts[&vhost].channels.release();
                    }
                    Some(CommandReply::Found(ticket, closed.then_some(()).ok_or(ChannelNotFound)))
                }
                Command::Publish { ticket, vhost, channel, publication } => {
                    let known = world.channels.contains_key(&(vhost, channel.clone()));
                    if known {
                        world.published.push((channel, payload(&publication)));
                    }
                    Some(CommandReply::Found(ticket, known.then_some(()).ok_or(ChannelNotFound)))
                }
                Command::DirectMessage { ticket, sid, message, .. } => {
                    let heard = match world.sessions.get_mut(&sid) {
                        Some((of, messages)) if *of == shard => {
                            messages.push(payload(&message));
                            Ok(())
                        }
                        Some(_) | None => Err(SessionNotFound),
                    };
                    Some(CommandReply::Heard(ticket, heard))
                }
                Command::ListChannels { ticket, vhost } => {
                    let channels = world.channels.iter();
                    let of_shard = channels.filter(|((of, _), owner)| *of == vhost && **owner == shard);
                    let channels = of_shard.map(|((_, name), _)| info(name)).collect();
                    Some(CommandReply::Listed(ticket, channels))
                }
                Command::DescribeChannel { ticket, vhost, channel } => {
                    let known = world.channels.contains_key(&(vhost, channel.clone()));
                    let described = known.then(|| info(&channel)).ok_or(ChannelNotFound);
                    Some(CommandReply::Described(ticket, described))
                }
                Command::Authenticated { request, identity } => {
                    world.answers.push((request, identity.map(|identity: Identity| identity.uid())));
                    None
                }
                Command::ChannelChanged { request, outcome } => {
                    world.changed.push((request, outcome));
                    None
                }
                Command::Serve => None,
                Command::Shutdown => return,
            }
        };
        if let Some(reply) = reply {
            let _ = reports.send(FromShard::Report(shard, Report::Replied(reply))).await;
        }
    }
}

/// What a session receives.
fn payload(publication: &SharedPublication) -> String {
    let mut frame = Vec::new();
    publication.parts().encode(&mut frame);
    let header = if frame[1] < 126 { 2 } else { 4 };
    String::from_utf8(frame[header..].to_vec()).unwrap()
}

fn info(name: &ChannelName) -> ChannelInfo {
    let joe = Member { uid: "joe".into(), data: MemberData::new(r#"{"age": 7.50}"#) };
    let members = (name.as_str() == "presence-x").then(|| vec![joe]);
    ChannelInfo { name: name.clone(), opened: true, subscribers: 3, members }
}

impl Node {
    pub(super) async fn start(store: Store) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let (from_shards, reports) = mpsc::channel(4);
        let (mut mailboxes, mut told) = (Vec::new(), Vec::new());
        for shard in 0..SHARDS {
            let (mailbox, inbox) = Inbox::new();
            mailboxes.push(mailbox);
            let shard = fake_shard(ShardId(shard), inbox, Arc::clone(&world), from_shards.clone());
            told.push(tokio::spawn(shard));
        }
        let (exchange_reports, exchange_said) = mpsc::channel(4);
        let (exchange, inbox) = Inbox::new();
        told.push(tokio::spawn(fake_exchange(inbox, Arc::clone(&world), exchange_reports.clone())));
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
        let control = request::Control::new(requests);
        let backend = Backend::new(control.clone(), BODY_BYTES_MAX, Arc::clone(&figures));
        let front = front::router(false, backend, Arc::clone(&figures));
        let parts = ActorParts {
            store,
            mailboxes,
            exchange,
            directory: Directory::new(SHARDS, 1),
            hashers: Arc::clone(&hashers),
            front: Front::new(HttpServer::new(front.clone(), 1, stop.clone(), gauges)),
            phase,
            figures: Arc::clone(&figures),
        };
        let (tell, ready) = watch::channel(false);
        let tell = move || tell.send(true).unwrap_or_default();
        let actor = Actor::start(parts, Box::new(tell)).await.unwrap();
        let cookie = Cookie::random();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let router = api::router(Api {
            control: control.clone(),
            cookie: cookie.clone(),
            node: NodeInfo {
                name: "moon".to_owned(),
                version: "1.2.3".to_owned(),
                shards: SHARDS,
                io: "epoll".to_owned(),
                addresses: Addresses {
                    websocket: address,
                    control: address,
                    exchange: address,
                    stream: address,
                },
                curve_public_key: None,
            },
            hashers,
            board: Arc::new(Board::new(SHARDS)),
            figures: Arc::clone(&figures),
            phase: phase_seen,
            started: Instant::now(),
        });
        let inputs =
            Inputs { from_shards: reports, exchange_reports: exchange_said, requests: requests_taken };
        let actor = tokio::spawn(actor.run(inputs, stop));
        Self {
            router,
            front,
            control,
            cookie,
            world,
            figures,
            from_shards,
            exchange_reports,
            stopper,
            ready,
            actor,
            told,
        }
    }

    pub(super) async fn fresh() -> Self {
        Self::start(Store::in_memory().unwrap()).await
    }

    pub(super) async fn raw(&self, request: HttpRequest<HttpBody>) -> (u16, header::HeaderMap, String) {
        answer(&self.router, request).await
    }

    pub(super) async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = HttpRequest::builder().method(method).uri(path).header(COOKIE, self.cookie.reveal());
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, _, text) = self.raw(request.body(HttpBody::from(body)).unwrap()).await;
        (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, &Value::Null).await
    }

    pub(super) async fn report(&self, report: Report) {
        self.from_shards.send(FromShard::Report(ShardId(0), report)).await.unwrap();
    }

    /// Waits until `what` is seen in the world.
    pub(super) async fn eventually<T>(&self, what: impl Fn(&World) -> Option<T>) -> T {
        let changes = Arc::clone(&self.world.lock().unwrap().changes);
        let seen = async {
            loop {
                let changed = changes.notified();
                if let Some(found) = what(&self.world.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        };
        within(seen).await
    }

    /// Waits until the node is ready.
    pub(super) async fn is_ready(&self) {
        let mut ready = self.ready.clone();
        within(ready.wait_for(|ready| *ready)).await.expect("the node runs");
    }

    pub(super) fn vhost(&self) -> Arc<Vhost> {
        let world = self.world.lock().unwrap();
        Arc::clone(world.vhosts.values().next().expect("shards know a vhost"))
    }

    /// Stops the node and waits for its end, so that its store is free.
    pub(super) async fn stop(self) {
        self.stopper.stop();
        drop((self.from_shards, self.exchange_reports));
        within(self.actor).await.unwrap();
        for told in self.told {
            within(told).await.unwrap();
        }
    }
}

/// What a router answers: status, headers and body.
pub(super) async fn answer(
    router: &Router,
    request: HttpRequest<HttpBody>,
) -> (u16, header::HeaderMap, String) {
    let response = within(router.clone().oneshot(request)).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = within(response.into_body().collect()).await.unwrap().to_bytes();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}
