//! Long work is done in slices: what happens between two of them must fit what went before.

use std::{sync::Arc, time::Instant};

use webrocket_sim::{
    chance::Chance,
    frames::{self, Item, ServerStream},
};
use webrocket_state::{
    Command, Directory, Input, Machine, Party, SessionRef, Settings, Shard, ShardConfig, ShardId, User,
    Vhost, VhostId,
    command::{ChannelInfo, CommandReply, Ticket},
    encoding::Encodings,
    settings::Anonymous,
};
use webrocket_wire::Rights;

/// More sessions than one slice concerns.
const SESSIONS: usize = 600;

/// One shard and its sessions, all of whose bytes are taken at once.
struct Bench {
    now: Instant,
    shard: Shard,
    chance: Chance,
    sessions: Vec<(SessionRef, ServerStream)>,
}

impl Bench {
    fn new() -> Self {
        let config = ShardConfig {
            id: ShardId(0),
            directory: Directory::new(1, 1),
            encodings: Encodings::default(),
            seed: [7; 32],
            handshake_timeout: std::time::Duration::from_secs(5),
            close_timeout: std::time::Duration::from_secs(5),
        };
        let (now, chance) = (Instant::now(), Chance::new(1));
        let mut bench = Self { now, shard: Shard::new(config), chance, sessions: Vec::new() };
        bench.put_vhost(&[]);
        for _ in 0..SESSIONS {
            let session = bench.shard.accept(now, ([127, 0, 0, 1], 1).into());
            bench.sessions.push((session, ServerStream::default()));
            let mut head = Vec::new();
            frames::handshake(&mut head, "/a");
            bench.shard.handle(now, Input::Received { session, bytes: &mut head });
        }
        bench
    }

    /// Tells the shard of the vhost with these users, who may do everything.
    fn put_vhost(&mut self, users: &[(&str, u64)]) {
        let rights = Rights::ALL;
        let users = users.iter().map(|(name, generation)| {
            (name.parse().unwrap(), User { rights, has_secret: false, generation: *generation })
        });
        let vhost = Arc::new(Vhost {
            id: VhostId(0),
            path: "/a".parse().unwrap(),
            settings: Settings { anonymous: Anonymous::ReadWrite, ..Settings::default() },
            users: users.collect(),
            channels: Arc::default(),
        });
        self.command(Command::PutVhost { ticket: Ticket::new(0), vhost });
    }

    fn command(&mut self, command: Command) {
        self.shard.handle(self.now, Input::Command(command));
    }

    fn ask(&mut self, who: usize, text: &str) {
        let mut bytes = Vec::new();
        frames::frame(&mut bytes, &mut self.chance, 1, true, text.as_bytes());
        let session = self.sessions[who].0;
        self.shard.handle(self.now, Input::Received { session, bytes: &mut bytes });
    }

    /// Does all the work that is left.
    fn proceed(&mut self) {
        for _ in 0..10 {
            self.shard.handle(self.now, Input::Proceed);
        }
    }

    /// All texts that one session was sent since it was asked last.
    fn texts(&mut self, who: usize) -> Vec<String> {
        while let Some(session) = self.shard.next_flush(self.now) {
            let bytes = self.shard.pending(session).to_vec();
            let stream = self.sessions.iter_mut().find(|(known, _)| *known == session);
            stream.expect("a session that was accepted").1.extend(&bytes);
            self.shard.handle(self.now, Input::Sent { session, bytes: bytes.len() });
        }
        let mut texts = Vec::new();
        while let Some(item) = self.sessions[who].1.next_item().unwrap() {
            if let Item::Text(text) = item {
                texts.push(text);
            }
        }
        texts
    }

    fn channel(&mut self) -> Option<ChannelInfo> {
        while self.shard.next_report().is_some() {}
        let channel = "c".parse().unwrap();
        self.command(Command::DescribeChannel { ticket: Ticket::new(9), vhost: VhostId(0), channel });
        match self.shard.next_report() {
            Some(webrocket_state::Report::Replied(CommandReply::Described(_, described))) => described.ok(),
            _ => None,
        }
    }
}

/// A session that subscribes a channel anew before it was told that the old one is closed is told of
/// the end first, and is a subscriber of the new one after that.
#[test]
fn a_new_subscription_comes_after_the_end_of_the_old_one() {
    let mut bench = Bench::new();
    for who in 0..SESSIONS {
        bench.ask(who, r#"{"subscribe":{"channel":"c"}}"#);
    }
    let channel = "c".parse().unwrap();
    bench.command(Command::CloseChannel { ticket: Ticket::new(1), vhost: VhostId(0), channel });
    let told: Vec<_> = (0..SESSIONS).map(|who| bench.texts(who).len()).collect();
    let late = told.iter().position(|count| *count == 1).expect("one slice does not reach everybody");
    bench.ask(late, r#"{"subscribe":{"channel":"c"}}"#);
    bench.proceed();
    assert_eq!(bench.texts(late), [r#"{"unsubscribed":"c"}"#, r#"{"subscribed":"c"}"#]);
    assert_eq!(bench.channel().map(|info| info.subscribers), Some(1));
    bench.ask(late, r#"{"broadcast":{"event":"e","channel":"c"}}"#);
    assert_eq!(bench.texts(late).len(), 2, "the event and the answer");
}

/// The same with an `unsubscribe`: its answer is all that the session hears of the end.
#[test]
fn who_unsubscribes_what_is_closed_hears_of_one_end() {
    let mut bench = Bench::new();
    for who in 0..SESSIONS {
        bench.ask(who, r#"{"subscribe":{"channel":"c"}}"#);
    }
    let channel = "c".parse().unwrap();
    bench.command(Command::CloseChannel { ticket: Ticket::new(1), vhost: VhostId(0), channel });
    let told: Vec<_> = (0..SESSIONS).map(|who| bench.texts(who).len()).collect();
    let late = told.iter().position(|count| *count == 1).expect("one slice does not reach everybody");
    bench.ask(late, r#"{"unsubscribe":{"channel":"c"}}"#);
    bench.proceed();
    assert_eq!(bench.texts(late), [r#"{"err":"CHANNEL_NOT_FOUND"}"#]);
}

/// A session that knows the newest users does not lose its own to an older snapshot on its way.
#[test]
fn an_older_snapshot_does_not_undo_a_newer_one() {
    let mut bench = Bench::new();
    bench.put_vhost(&[("other", 1)]);
    bench.put_vhost(&[("other", 1), ("joe", 2)]);
    // A connection that comes now is judged by the newest snapshot, while sweeps of both are on their way.
    let session = bench.shard.accept(bench.now, ([127, 0, 0, 1], 1).into());
    bench.sessions.push((session, ServerStream::default()));
    let mut head = Vec::new();
    frames::handshake(&mut head, "/a");
    bench.shard.handle(bench.now, Input::Received { session, bytes: &mut head });
    bench.ask(SESSIONS, r#"{"authenticate":{"user":"joe"}}"#);
    bench.proceed();
    bench.ask(SESSIONS, r#"{"logout":true}"#);
    assert_eq!(bench.texts(SESSIONS), [r#"{"authenticated":"joe"}"#, r#"{"loggedOut":true}"#]);
}
