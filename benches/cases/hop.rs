//! From one party's queue to another: pushed in batches, the receiver woken once a batch, taken out.
//!
//! The parties are two beside one shard, which has nothing to do.

use std::{
    collections::VecDeque,
    hint::black_box,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use webrocket::driver::{self, DriverOptions, IoMode, Port, Running};
use webrocket_state::{
    Command, Directory, Party, Shard, ShardConfig, ShardId, ShardMessage,
    encoding::{Encodings, Made},
    event::ChannelEvent,
    ids::ChannelRef,
    message::OwnerEvent,
    slots::ChannelSlot,
};
use webrocket_wire::{Data, Json, Position, Publication};

use super::case::{Case, Subject};

/// How many messages a party passes on at once.
pub(crate) const BATCH: u64 = 64;

pub(super) const CASES: &[Case] = &[Case {
    group: "hop",
    name: "one thread, 64 a batch",
    operations: BATCH,
    prepare: || Box::new(OneThread::new()),
}];

/// A party that has only this to say.
pub(crate) struct Sender {
    now: Instant,
    to: ShardId,
    event: ChannelEvent,
    waiting: VecDeque<ShardMessage>,
}

impl Sender {
    pub(crate) fn new(to: ShardId) -> Self {
        let waiting = VecDeque::with_capacity(usize::try_from(BATCH).expect("a batch is in memory"));
        let (event, data) = (Json::parse("\"load\"").expect("a text"), format!("\"{}\"", "x".repeat(130)));
        let data = Data::parse(&data).expect("a text");
        let publication =
            Publication::new(event, Some(data), &"world".parse().expect("a name"), None).share();
        let event = ChannelEvent::Published(Position { epoch: 0, offset: 1 }, publication);
        Self { now: Instant::now(), to, event, waiting }
    }

    /// Passes on as many messages as make a batch.
    pub(crate) fn send_batch(&mut self, port: &Port<ShardMessage>) {
        for _ in 0..BATCH {
            let channel = ChannelRef { slot: ChannelSlot(0), generation: 0 };
            self.waiting.push_back(ShardMessage::Event(OwnerEvent::Deliver {
                channel,
                event: self.event.clone(),
                made: Made::default(),
            }));
        }
        while !self.waiting.is_empty() {
            port.send_from(self.now, self);
        }
    }
}

impl Party for Sender {
    type Message = ShardMessage;
    type Command = ();
    type Report = ();

    fn next_message(&mut self, _: Instant, _: ShardId) -> Option<ShardMessage> {
        self.waiting.pop_front()
    }

    fn has_message(&self, to: ShardId) -> bool {
        to == self.to && !self.waiting.is_empty()
    }

    fn next_report(&mut self) -> Option<()> {
        None
    }
}

/// The ends of two parties, number 1 and 2, and the shard without which there would be none.
pub(crate) struct Parties {
    running: Option<Running<Shard>>,
    pub(crate) ports: VecDeque<Port<ShardMessage>>,
}

impl Parties {
    pub(crate) fn new() -> Self {
        let mut options = DriverOptions::new("127.0.0.1:0".parse().expect("a valid address"), 1);
        options.io = IoMode::Epoll;
        options.pin = false;
        options.further_parties = 2;
        let shard = |id| {
            Shard::new(ShardConfig {
                id,
                // Its links must go as far as the parties do, the last of which it takes for the exchange.
                directory: Directory::new(2, 1),
                encodings: Encodings::default(),
                seed: [7; 32],
                handshake_timeout: Duration::from_secs(10),
                close_timeout: Duration::from_secs(5),
            })
        };
        let mut running = driver::start(&options, shard).expect("a shard can run here");
        let ports = std::mem::take(&mut running.ports).into();
        Self { running: Some(running), ports }
    }
}

impl Drop for Parties {
    fn drop(&mut self) {
        let running = self.running.take().expect("dropped once");
        running.mailboxes[0].try_send(Command::Shutdown).expect("nobody else commands it");
        running.join();
    }
}

/// Both ends in one thread, so that what is counted is theirs and no waiting.
struct OneThread {
    parties: Parties,
    sender: Sender,
}

impl OneThread {
    fn new() -> Self {
        Self { parties: Parties::new(), sender: Sender::new(ShardId(2)) }
    }
}

impl Subject for OneThread {
    fn run(&mut self) {
        self.sender.send_batch(&self.parties.ports[0]);
        let mut received = 0;
        self.parties.ports[1].receive(|_, message| {
            black_box(message);
            received += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(received, BATCH);
    }
}
