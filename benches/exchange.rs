//! What the exchange decides costs: `cargo bench --bench exchange`.
//!
//! `trigger` places a trigger of a session with one of four workers, hands it over and takes its
//! acknowledgement; `waiting` does so while the workers are busy, so that each trigger goes through the
//! queue. `broadcast` takes a client's `BC`, hands it to the channel's owner and replies when that has
//! answered. Sockets and threads are not in it.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use webrocket_state::{
    Directory, Exchange, Settings, ShardId, ShardMessage, Vhost, VhostId,
    command::Ticket,
    exchange::{ExchangeCommand, ExchangeConfig, ExchangeInput, ExchangeOrder, Pass, PeerMessage, TriggerId},
    ids::{RequestRef, SessionRef},
    machine::Party,
    message::{Answer, OwnerRequest},
    slots::SessionSlot,
};
use webrocket_wire::{AccessToken, Data, Json, Trigger, trigger::Origin};

const VHOST: VhostId = VhostId(1);
const SHARD: ShardId = ShardId(0);
const WORKERS: [&[u8]; 4] = [b"worker-a", b"worker-b", b"worker-c", b"worker-d"];
const WINDOW: &str = "100";

/// An exchange, and what it is asked about.
struct Bench {
    now: Instant,
    exchange: Exchange,
    pass: Pass,
    data: String,
    /// As shards hand it over: they have encoded it.
    trigger: Trigger,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let mut exchange = Exchange::new(ExchangeConfig { directory: Directory::new(1, 1) });
        let token = AccessToken::from_bytes([1; 20]);
        let digits = token.reveal();
        let vhost = Arc::new(Vhost {
            id: VHOST,
            path: "/moon".parse().expect("a valid path"),
            settings: Settings::default(),
            users: Default::default(),
            channels: Arc::default(),
        });
        for command in [
            ExchangeCommand::PutAccess { ticket: Ticket::new(0), vhost: VHOST, token, keys: Arc::default() },
            ExchangeCommand::PutVhost { ticket: Ticket::new(0), vhost },
            ExchangeCommand::Serve,
        ] {
            exchange.handle(now, ExchangeInput::Command(command));
        }
        let pass = exchange.authenticate(b"/moon", digits.as_bytes()).expect("that is the token");
        let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(100));
        let origin = Origin { sid: uuid::Uuid::nil(), uid: Some("joe"), channel: None };
        let event = Json::parse(r#""message""#).expect("valid JSON");
        let trigger = Trigger::new(event, Some(Data::parse(&data).expect("valid JSON")), origin);
        Self { now, exchange, pass, data, trigger }
    }

    fn say(&mut self, peer: &[u8], frames: &[&[u8]]) {
        self.exchange.handle(self.now, ExchangeInput::Received { peer, pass: self.pass, frames });
    }

    fn trigger(&mut self) {
        let request = RequestRef {
            session: SessionRef { shard: SHARD, slot: SessionSlot(0), generation: 0 },
            number: 0,
        };
        let message = ShardMessage::Request(OwnerRequest::Trigger {
            request,
            vhost: VHOST,
            trigger: self.trigger.clone(),
        });
        self.exchange.handle(self.now, ExchangeInput::Message { from: SHARD, message });
        black_box(self.exchange.next_message(self.now, SHARD));
    }

    /// Takes what is to be sent; who has which trigger.
    fn sent(&mut self) -> Option<(usize, TriggerId)> {
        match self.exchange.next_order()? {
            ExchangeOrder::Send { peer, message: PeerMessage::Trigger { id, .. } } => {
                let worker = WORKERS.iter().position(|name| **name == *peer).expect("a worker");
                Some((worker, id))
            }
            other => panic!("only triggers are sent, not {other:?}"),
        }
    }

    fn acknowledge(&mut self, worker: usize, TriggerId(id): TriggerId) {
        let id = id.to_string();
        self.say(WORKERS[worker], &[b"", b"AK", id.as_bytes()]);
    }
}

fn triggers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for (name, before) in [("trigger", 0), ("trigger, half of the windows used", 200), ("waiting", 5_000)] {
        let mut bench = Bench::new();
        for worker in WORKERS {
            bench.say(worker, &[b"", b"RD", b"mess.*", WINDOW.as_bytes()]);
        }
        let mut outstanding = std::collections::VecDeque::new();
        for _ in 0..before {
            bench.trigger();
            outstanding.extend(bench.sent());
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                bench.trigger();
                outstanding.extend(bench.sent());
                let (worker, id) = outstanding.pop_front().expect("somebody has a trigger");
                bench.acknowledge(worker, id);
                outstanding.extend(bench.sent());
            });
        });
    }
    group.finish();
}

fn broadcasts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for (name, open) in [("broadcast", 1), ("broadcast, 100 in flight", 100)] {
        let mut bench = Bench::new();
        let data = bench.data.clone();
        let ask = |bench: &mut Bench| {
            bench.say(b"client", &[b"", b"BC", b"news", b"message", data.as_bytes()]);
        };
        let answer = |bench: &mut Bench| {
            let Some(ShardMessage::Request(OwnerRequest::Publish { request, publication, .. })) =
                bench.exchange.next_message(bench.now, SHARD)
            else {
                panic!("a broadcast goes to its owner")
            };
            let message =
                ShardMessage::Answer { request, answer: Answer::Published, bytes: publication.len() };
            bench.exchange.handle(bench.now, ExchangeInput::Message { from: SHARD, message });
            black_box(bench.exchange.next_order());
        };
        for _ in 1..open {
            ask(&mut bench);
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                ask(&mut bench);
                answer(&mut bench);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, triggers, broadcasts);
criterion_main!(benches);
