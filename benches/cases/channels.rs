//! Finding a channel, subscribing it, joining it.

use std::hint::black_box;

use webrocket_state::{
    Directory, SessionRef, ShardId, VhostId, channels::ChannelKey, encoding::Encoding, ids::ChannelRef,
    slots::ChannelSlot, views::Views,
};

use super::case::{Case, Subject};
use crate::crowd::{Crowd, masked};

const LOOKUPS: u64 = 1_000;
const MEMBERS: usize = 1_000;

pub(super) const CASES: &[Case] = &[
    Case { group: "lookup", name: "10 channels", operations: LOOKUPS, prepare: || look_up(32, 10) },
    Case { group: "lookup", name: "10,000 channels", operations: LOOKUPS, prepare: || look_up(1, 10_000) },
    Case { group: "subscribe", name: "1,000 subscribers", operations: 1, prepare: subscribe },
    Case { group: "presence", name: "1,000 members", operations: 1, prepare: join },
];

/// Who owns a channel, and where its view is, in turn for channels that lie apart.
///
/// Every shard's maps have hash keys of their own, and few channels may happen to collide; so many shards
/// together have the average of that.
fn look_up(shards: usize, channels: usize) -> Box<dyn Subject> {
    let directory = Directory::new(4, 1);
    let key = |index: usize| (VhostId(0), format!("room-{index}").parse().expect("a valid name"));
    let keys: Vec<ChannelKey> = (0..channels).map(key).collect();
    let mut views: Vec<Views> = (0..shards).map(|_| Views::default()).collect();
    for views in &mut views {
        for (key, slot) in keys.iter().zip((0..).map(ChannelSlot)) {
            views.find_or_create(key, ShardId(0), ChannelRef { slot, generation: 0 }, Encoding::PLAIN);
        }
    }
    let (mut next_key, mut next_shard) = (0, 0);
    Box::new(move || {
        for _ in 0..LOOKUPS {
            next_key = (next_key + 7) % channels;
            next_shard = (next_shard + 1) % shards;
            let key = black_box(&keys[next_key]);
            black_box(directory.owner(key.0, &key.1));
            black_box(views[next_shard].find(key, Encoding::PLAIN)).expect("it has a view");
        }
    })
}

/// One session that comes to a channel and leaves it again.
struct Coming {
    crowd: Crowd,
    session: SessionRef,
    subscribe: Vec<u8>,
    unsubscribe: Vec<u8>,
}

impl Coming {
    fn new(crowd: Crowd, session: SessionRef, channel: &str) -> Self {
        let request = |event: &str| masked(&format!(r#"{{"{event}":{{"channel":"{channel}"}}}}"#));
        Self { crowd, session, subscribe: request("subscribe"), unsubscribe: request("unsubscribe") }
    }
}

impl Subject for Coming {
    /// What others are to be told waits then: to send it is fan-out.
    fn run(&mut self) {
        self.crowd.receive(self.session, &self.subscribe);
    }

    fn restore(&mut self) {
        assert!(self.crowd.flush().sends > 0, "it is told that it subscribed");
        self.crowd.receive(self.session, &self.unsubscribe);
        assert!(self.crowd.flush().sends > 0, "it is told that it left");
    }
}

fn subscribe() -> Box<dyn Subject> {
    let (mut crowd, _) = Crowd::following(MEMBERS);
    let session = crowd.connect();
    Box::new(Coming::new(crowd, session, "world"))
}

/// The joiner is given the list of all who were there, and everybody is told of it.
fn join() -> Box<dyn Subject> {
    let mut crowd = Crowd::new(MEMBERS + 1);
    crowd.open("presence-world");
    let subscribe = masked(r#"{"subscribe":{"channel":"presence-world","data":{"name":"Ann"}}}"#);
    for member in 0..MEMBERS {
        let session = crowd.connect_as(&format!("u{member}"));
        crowd.receive(session, &subscribe);
        crowd.flush();
    }
    let session = crowd.connect_as(&format!("u{MEMBERS}"));
    Box::new(Coming::new(crowd, session, "presence-world"))
}
