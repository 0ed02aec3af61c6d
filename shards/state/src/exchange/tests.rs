//! The exchange, asked and answered by hand: peers, shards and the control thread are played here.

mod access;
mod clients;
mod desks;
mod sources;
mod workers;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use regex::Regex;
use webrocket_wire::{AccessToken, BackendKey, Data, Json, Trigger, trigger::Origin, wbp::ServerMessage};

use super::{
    Exchange, ExchangeCommand, ExchangeConfig, ExchangeInput, ExchangeOrder, ExchangeReport, Filter, Pass,
    PeerMessage, WorkerInfo,
    message::{ExchangeReply, QueueShown, SourceOpened},
};
use crate::{
    Directory, Settings, Vhost,
    command::{Ticket, VhostNotFound},
    ids::{RequestRef, SessionRef, ShardId},
    machine::Party,
    message::{Answer, OwnerRequest, ShardMessage},
    pattern,
    vhost::VhostId,
};

const MOON: VhostId = VhostId(1);
const SUN: VhostId = VhostId(2);
const SHARDS: u16 = 2;

/// An exchange with two vhosts.
struct Bench {
    now: Instant,
    exchange: Exchange,
    passes: HashMap<VhostId, Pass>,
    /// Triggers so far.
    triggered: usize,
    tickets: u64,
}

/// What a command is replied.
trait Replied: Sized {
    fn of(reply: ExchangeReply) -> Option<(Ticket<Self>, Self)>;
}

impl Replied for () {
    fn of(reply: ExchangeReply) -> Option<(Ticket<Self>, Self)> {
        if let ExchangeReply::Applied(ticket) = reply { Some((ticket, ())) } else { None }
    }
}

impl Replied for SourceOpened {
    fn of(reply: ExchangeReply) -> Option<(Ticket<Self>, Self)> {
        if let ExchangeReply::SourceOpened(ticket, opened) = reply { Some((ticket, opened)) } else { None }
    }
}

impl Replied for Vec<WorkerInfo> {
    fn of(reply: ExchangeReply) -> Option<(Ticket<Self>, Self)> {
        if let ExchangeReply::Workers(ticket, workers) = reply { Some((ticket, workers)) } else { None }
    }
}

impl Replied for QueueShown {
    fn of(reply: ExchangeReply) -> Option<(Ticket<Self>, Self)> {
        if let ExchangeReply::Queue(ticket, queue) = reply { Some((ticket, queue)) } else { None }
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let exchange = Exchange::new(ExchangeConfig { directory: Directory::new(SHARDS, 7) });
        let mut bench =
            Self { now: Instant::now(), exchange, passes: HashMap::new(), triggered: 0, tickets: 0 };
        bench.put_access(MOON, 1);
        bench.put_vhost(MOON, "/moon", settings);
        bench.put_access(SUN, 2);
        bench.put_vhost(SUN, "/sun", settings);
        bench.command(ExchangeCommand::Serve);
        bench.passes = [MOON, SUN].map(|vhost| (vhost, bench.let_in(vhost))).into();
        bench
    }

    fn command(&mut self, command: ExchangeCommand) {
        self.exchange.handle(self.now, ExchangeInput::Command(command));
    }

    /// Carries out a command; what is replied.
    fn apply<R: Replied>(&mut self, command: impl FnOnce(Ticket<R>) -> ExchangeCommand) -> R {
        self.tickets += 1;
        let ticket = Ticket::new(self.tickets);
        self.command(command(ticket));
        let Some(ExchangeReport::Replied(reply)) = self.exchange.reports.pop_back() else {
            panic!("a command is replied")
        };
        let (of, replied) = R::of(reply).expect("the reply of this command");
        assert_eq!(of, ticket);
        replied
    }

    fn put_access(&mut self, vhost: VhostId, byte: u8) {
        let token = AccessToken::from_bytes([byte; 20]);
        self.put_keys(vhost, token, &[]);
    }

    fn put_keys(&mut self, vhost: VhostId, token: AccessToken, keys: &[u8]) {
        let keys: BTreeSet<_> = keys.iter().map(|byte| BackendKey::from_bytes([*byte; 32])).collect();
        let keys = Arc::new(keys);
        self.apply(|ticket| ExchangeCommand::PutAccess { ticket, vhost, token, keys });
    }

    fn put_vhost(&mut self, id: VhostId, path: &str, settings: Settings) {
        let (users, channels) = Default::default();
        let vhost = Arc::new(Vhost { id, path: path.parse().unwrap(), settings, users, channels });
        self.apply(|ticket| ExchangeCommand::PutVhost { ticket, vhost });
    }

    /// What the vhost's present token lets in with.
    fn let_in(&self, vhost: VhostId) -> Pass {
        let path = if vhost == MOON { "/moon" } else { "/sun" };
        let mut tokens = (0..=9_u8).map(|byte| AccessToken::from_bytes([byte; 20]).reveal());
        let pass = tokens.find_map(|token| self.exchange.authenticate(path.as_bytes(), token.as_bytes()));
        pass.expect("one of these is the token")
    }

    /// A peer of the vhost says something.
    fn say_on(&mut self, vhost: VhostId, peer: &str, frames: &[&str]) {
        let pass = self.passes[&vhost];
        let frames: Vec<&[u8]> = [""].iter().chain(frames).map(|frame| frame.as_bytes()).collect();
        let input = ExchangeInput::Received { peer: peer.as_bytes(), pass, frames: &frames };
        self.exchange.handle(self.now, input);
    }

    fn say(&mut self, peer: &str, frames: &[&str]) {
        self.say_on(MOON, peer, frames);
    }

    /// A peer says something; all that is sent then.
    fn hear(&mut self, peer: &str, frames: &[&str]) -> Vec<String> {
        self.say(peer, frames);
        self.sent()
    }

    fn gone(&mut self, peer: &str) {
        self.exchange.handle(self.now, ExchangeInput::Gone { peer: peer.as_bytes() });
    }

    /// A session of shard 0 triggers; what it is told.
    fn trigger(&mut self, vhost: VhostId, event: &str) -> Answer {
        let request = RequestRef { session: session(0), number: 0 };
        let trigger = trigger(event, self.triggered);
        let expected = trigger.bytes();
        self.triggered += 1;
        let message = ShardMessage::Request(OwnerRequest::Trigger { request, vhost, trigger });
        self.exchange.handle(self.now, ExchangeInput::Message { from: ShardId(0), message });
        match self.exchange.next_message(self.now, ShardId(0)) {
            Some(ShardMessage::Answer { request: of, answer, bytes }) => {
                assert_eq!((of, bytes), (request, expected));
                answer
            }
            other => panic!("a trigger is answered, not {other:?}"),
        }
    }

    /// All that is to be sent: `peer: frames`, a trigger as its number.
    fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.exchange.next_order()).map(|order| text(&order)).collect()
    }

    fn pass_time(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.exchange.handle(self.now, ExchangeInput::Deadline);
    }

    fn report(&mut self) -> ExchangeReport {
        self.exchange.next_report().expect("a report")
    }
}

fn text(order: &ExchangeOrder) -> String {
    match order {
        ExchangeOrder::Send { peer, message } => {
            let peer = std::str::from_utf8(peer).unwrap();
            let mut frames = Vec::new();
            if let PeerMessage::Trigger { trigger, id, is_acknowledged, .. } = message {
                frames.push(format!("TR {}", number(trigger)));
                frames.extend(is_acknowledged.then(|| format!("#{}", id.0)));
            } else {
                let mut encode = |message: ServerMessage<'_>| {
                    message.encode(|frame| frames.push(String::from_utf8(frame.to_vec()).unwrap()));
                    assert_eq!(frames.remove(0), "");
                };
                match message {
                    PeerMessage::Done => encode(ServerMessage::Done),
                    PeerMessage::Token(token) => encode(ServerMessage::Token(token)),
                    PeerMessage::Present(list) => encode(ServerMessage::Present(list)),
                    PeerMessage::Error(status) => encode(ServerMessage::Error(*status)),
                    PeerMessage::Heartbeat => encode(ServerMessage::Heartbeat),
                    PeerMessage::Quit => encode(ServerMessage::Quit),
                    PeerMessage::Trigger { .. } => unreachable!("looked at before"),
                }
            }
            format!("{peer}: {}", frames.join(" "))
        }
        ExchangeOrder::Stream { vhost, trigger } => {
            format!("{vhost}:{} {}", trigger.event(), number(trigger))
        }
        ExchangeOrder::CutStreams { vhost } => format!("cut {}", vhost.0),
        ExchangeOrder::GiveUp { vhost, event } => format!("give up {vhost} {event}"),
        ExchangeOrder::Stop => "stop".to_owned(),
    }
}

fn session(slot: u32) -> SessionRef {
    SessionRef { shard: ShardId(0), slot: crate::slots::SessionSlot(slot), generation: 0 }
}

/// A filter; compiled once, for the tests ask for the same again and again.
fn filter(text: &str) -> Filter {
    static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Regex>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap();
    let pattern =
        compiled.entry(text.to_owned()).or_insert_with(|| Arc::new(pattern::compile(text).unwrap()));
    Filter::new(text, Arc::clone(pattern))
}

/// A trigger that says its number.
fn trigger(event: &str, number: usize) -> Trigger {
    let (event, number) = (format!("{event:?}"), number.to_string());
    let origin = Origin { sid: uuid::Uuid::nil(), uid: None, channel: None };
    Trigger::new(Json::parse(&event).unwrap(), Some(Data::parse(&number).unwrap()), origin)
}

fn number(trigger: &Trigger) -> usize {
    let object: serde_json::Value = serde_json::from_str(trigger.object()).unwrap();
    object["data"].as_u64().unwrap().try_into().unwrap()
}
