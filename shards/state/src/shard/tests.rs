//! One shard by hand: what the simulation is too random to pin down.

mod encodings;
mod leaving;
mod limits;
mod publishing;
mod triggers;

use std::{sync::Arc, time::Duration};

use webrocket_wire::{ChannelName, frame, handshake::example_head};

use super::{bounds::SLICE_SESSIONS, *};
use crate::{
    command::Ticket,
    encoding::Encoding,
    settings::{Anonymous, Settings},
    slots::{ChannelSlot, SessionSlot},
    vhost::{ChannelCount, Vhost, VhostId},
};

/// The shard beside the one that is tested.
const OTHER: ShardId = ShardId(1);

/// A shard with one vhost, `/w`, where everybody may read and write.
struct Bench {
    shard: Shard,
    now: Instant,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        Self::among(1, settings)
    }

    /// The first of so many shards; the test plays the others.
    fn among(shards: u16, settings: Settings) -> Self {
        Self::with(shards, settings, Encodings::default())
    }

    /// The same, where sessions may receive in these encodings.
    fn with(shards: u16, settings: Settings, encodings: Encodings) -> Self {
        let mut shard = Shard::new(ShardConfig {
            id: ShardId(0),
            directory: Directory::new(shards, 1),
            encodings,
            seed: [7; 32],
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
        });
        let now = Instant::now();
        let vhost = Arc::new(Vhost {
            id: VhostId(0),
            path: "/w".parse().unwrap(),
            settings: Settings { anonymous: Anonymous::ReadWrite, ..settings },
            users: Default::default(),
            channels: Arc::new(ChannelCount::default()),
        });
        shard.handle(now, Input::Command(Command::PutVhost { ticket: Ticket::new(0), vhost }));
        assert_eq!(applied(&mut shard), Some(true));
        Self { shard, now }
    }

    fn connect(&mut self) -> SessionRef {
        self.connect_to("/w")
    }

    fn connect_to(&mut self, target: &str) -> SessionRef {
        let session = self.shard.accept(self.now, "127.0.0.1:1".parse().unwrap());
        let mut request = example_head(target, "").into_bytes();
        self.shard.handle(self.now, Input::Received { session, bytes: &mut request });
        self.flush(usize::MAX);
        session
    }

    /// So many open channels that a shard owns.
    fn channels_of(&self, owner: ShardId, count: usize) -> Vec<ChannelName> {
        let names = (0..).map(|number| format!("c{number}").parse::<ChannelName>().unwrap());
        let directory = &self.shard.directory;
        names.filter(|name| directory.owner(VhostId(0), name) == owner).take(count).collect()
    }

    /// A message of another shard or the exchange; sessions that may be read again are read.
    fn hear(&mut self, from: ShardId, message: ShardMessage) {
        self.shard.handle(self.now, Input::Message { from, message });
        self.resume_all();
    }

    fn resume_all(&mut self) {
        while self.shard.sessions.has_resumed() {
            self.shard.handle(self.now, Input::Proceed);
        }
    }

    fn send(&mut self, session: SessionRef, text: &str) {
        let mut bytes = vec![0x81, 0x80 | 126];
        bytes.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        if text.len() < 126 {
            bytes = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap()];
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(text.as_bytes());
        self.shard.handle(self.now, Input::Received { session, bytes: &mut bytes });
    }

    /// Flushes, each send taking at most `most` bytes; returns what each session was sent.
    fn flush(&mut self, most: usize) -> Vec<(SessionRef, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(session) = self.shard.next_flush(self.now) {
            let bytes = self.shard.pending(session);
            let taken = bytes[..bytes.len().min(most)].to_vec();
            let bytes = taken.len();
            sent.push((session, taken));
            self.shard.handle(self.now, Input::Sent { session, bytes });
        }
        sent
    }

    /// Everything that `session` is sent now, as texts.
    fn texts(&mut self, session: SessionRef) -> Vec<String> {
        let sent = self.flush(usize::MAX);
        let mine: Vec<u8> =
            sent.into_iter().filter(|(of, _)| *of == session).flat_map(|(_, bytes)| bytes).collect();
        texts(&mine)
    }
}

fn texts(mut frames: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while !frames.is_empty() {
        let length = frame::encoded_length(frames);
        let header = if frames[1] < 126 { 2 } else { 4 };
        texts.push(String::from_utf8_lossy(&frames[header..length]).into_owned());
        frames = &frames[length..];
    }
    texts
}

/// Whether the next command that is replied was carried out.
fn applied(shard: &mut Shard) -> Option<bool> {
    match shard.next_report()? {
        Report::Replied(CommandReply::Applied(_)) => Some(true),
        Report::Replied(CommandReply::Opened(_, opened)) => Some(opened.is_ok()),
        Report::Replied(CommandReply::Found(_, found)) => Some(found.is_ok()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_end_of_a_closed_channel_is_told_before_its_namesake_begins() {
    let mut bench = Bench::new(Settings::default());
    let sessions: Vec<_> = (0..SLICE_SESSIONS + 10).map(|_| bench.connect()).collect();
    for session in &sessions {
        bench.send(*session, r#"{"subscribe":{"channel":"c"}}"#);
    }
    bench.flush(usize::MAX);
    let close =
        Command::CloseChannel { ticket: Ticket::new(1), vhost: VhostId(0), channel: "c".parse().unwrap() };
    bench.shard.handle(bench.now, Input::Command(close));
    let told: Vec<_> = bench.flush(usize::MAX).into_iter().map(|(session, _)| session).collect();
    let untold = *sessions.iter().find(|session| !told.contains(session)).expect("a second slice is left");
    assert!(bench.shard.has_work());

    bench.send(untold, r#"{"subscribe":{"channel":"c"}}"#);
    assert_eq!(bench.texts(untold), [r#"{"unsubscribed":"c"}"#, r#"{"subscribed":"c"}"#]);
    while bench.shard.has_work() {
        bench.shard.handle(bench.now, Input::Proceed);
        let after = bench.texts(untold);
        assert!(after.is_empty(), "{after:?}");
    }
    bench.send(untold, r#"{"broadcast":{"event":"e","channel":"c"}}"#);
    assert_eq!(bench.texts(untold).len(), 2);
}

#[test]
fn a_sweep_applies_the_newest_snapshot() {
    let mut bench = Bench::new(Settings::default());
    let others: Vec<_> = (0..SLICE_SESSIONS).map(|_| bench.connect()).collect();
    let older = Arc::clone(bench.shard.vhosts.get(VhostId(0)).unwrap());
    let ann: webrocket_wire::UserName = "ann".parse().unwrap();
    let mut newer = Vhost::clone(&older);
    let user = crate::vhost::User { rights: webrocket_wire::Rights::ALL, has_secret: false, generation: 1 };
    newer.users.insert(ann, user);
    for (ticket, vhost) in [(1, older), (2, Arc::new(newer))] {
        let put = Command::PutVhost { ticket: Ticket::new(ticket), vhost };
        bench.shard.handle(bench.now, Input::Command(put));
    }
    // Both sweeps have slots left, and one of them will be hers.
    let session = bench.connect();
    bench.send(session, r#"{"authenticate":{"user":"ann"}}"#);
    bench.send(session, r#"{"subscribe":{"channel":"private-a"}}"#);
    let answers = [r#"{"authenticated":"ann"}"#, r#"{"subscribed":"private-a"}"#];
    assert_eq!(bench.texts(session), answers);
    while bench.shard.has_work() {
        bench.shard.handle(bench.now, Input::Proceed);
    }
    assert_eq!(bench.texts(session), Vec::<String>::new());
    assert_eq!(bench.shard.lag(others[0]), 0);
    assert!(matches!(
        bench.shard.sessions.open(session.slot).identity,
        crate::identity::Identity::User { .. }
    ));
}

#[test]
fn long_work_waits_while_there_is_much_to_flush() {
    let mut bench = Bench::new(Settings::default());
    let sessions: Vec<_> = (0..20).map(|_| bench.connect()).collect();
    for session in &sessions {
        bench.send(*session, r#"{"subscribe":{"channel":"c"}}"#);
    }
    bench.flush(usize::MAX);
    let broadcast =
        format!(r#"{{"broadcast":{{"event":"e","channel":"c","data":"{}"}}}}"#, "x".repeat(60_000));
    let sender = bench.connect();
    for _ in 0..10 {
        bench.send(sender, &broadcast);
    }
    assert!(bench.shard.wants_flush());
    bench.shard.handle(bench.now, Input::Command(Command::Shutdown));
    bench.shard.handle(bench.now, Input::Proceed);
    assert!(bench.shard.has_work());
    let open = |bench: &Bench| {
        let is_open = |session: &&SessionRef| bench.shard.sessions.slots[session.slot].connection.is_open();
        sessions.iter().filter(is_open).count()
    };
    assert_eq!(open(&bench), 20);
    bench.flush(usize::MAX);
    bench.shard.handle(bench.now, Input::Proceed);
    assert_eq!(open(&bench), 0);
}

#[test]
fn a_stopping_shard_closes_newcomers_and_stops() {
    let mut bench = Bench::new(Settings::default());
    let session = bench.connect();
    bench.shard.handle(bench.now, Input::Command(Command::Shutdown));
    let newcomer = bench.shard.accept(bench.now, "127.0.0.1:1".parse().unwrap());
    assert_eq!(bench.shard.next_action(), Some(Action::Close(newcomer)));
    assert_eq!(bench.shard.next_action(), None);
    bench.now += Duration::from_secs(5);
    bench.shard.handle(bench.now, Input::Deadline);
    assert_eq!(bench.shard.next_action(), Some(Action::Close(session)));
    assert_eq!(bench.shard.next_action(), Some(Action::Stop));
    let late = bench.shard.accept(bench.now, "127.0.0.1:1".parse().unwrap());
    assert_eq!(bench.shard.next_action(), Some(Action::Close(late)));
    assert_eq!(bench.shard.next_action(), None);
}

#[test]
fn a_slow_consumer_is_closed_at_a_frame_boundary() {
    let mut bench = Bench::new(Settings { lag_bytes_max: 1024, ..Settings::default() });
    let (slow, quick) = (bench.connect(), bench.connect());
    bench.send(slow, r#"{"subscribe":{"channel":"c"}}"#);
    bench.flush(usize::MAX);
    let mut received = Vec::new();
    let broadcast = format!(r#"{{"broadcast":{{"event":"e","channel":"c","data":"{}"}}}}"#, "x".repeat(300));
    for _ in 0..6 {
        bench.send(quick, &broadcast);
        // It takes 100 bytes once, and no more.
        while let Some(session) = bench.shard.next_flush(bench.now) {
            let bytes = bench.shard.pending(session);
            let taken = if session == quick { bytes.len() } else { 100 };
            received.extend_from_slice(if session == slow { &bytes[..taken] } else { &[] });
            bench.shard.handle(bench.now, Input::Sent { session, bytes: taken });
        }
    }
    assert_eq!(bench.shard.figures.value(Figure::SlowConsumers), 1);
    bench.shard.handle(bench.now, Input::Writable { session: slow });
    for (session, bytes) in bench.flush(usize::MAX) {
        assert_eq!(session, slow);
        received.extend_from_slice(&bytes);
    }
    let length = frame::encoded_length(&received);
    assert_eq!(&received[length + 2..length + 4], 4008u16.to_be_bytes(), "one whole event, then the close");
    assert_eq!(received.len(), length + frame::encoded_length(&received[length..]));
}

#[test]
fn sessions_with_several_channels_see_them_interleave() {
    let mut bench = Bench::new(Settings::default());
    let (both, one, other) = (bench.connect(), bench.connect(), bench.connect());
    for (session, channel) in [(both, "a"), (both, "b"), (one, "a"), (other, "b")] {
        bench.send(session, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
    }
    bench.flush(usize::MAX);
    for (number, channel) in ["a", "b", "a", "a", "b"].into_iter().enumerate() {
        let session = if number % 2 == 0 { one } else { other };
        bench.send(session, &format!(r#"{{"broadcast":{{"event":"{number}","channel":"{channel}"}}}}"#));
    }
    let sent = bench.flush(usize::MAX);
    let numbers = |session: SessionRef| -> String {
        let mine: Vec<u8> =
            sent.iter().filter(|(of, _)| *of == session).flat_map(|(_, bytes)| bytes.clone()).collect();
        texts(&mine).iter().filter(|text| text.contains("sid")).map(|text| text[2..3].to_owned()).collect()
    };
    assert_eq!((numbers(both), numbers(one), numbers(other)), ("01234".into(), "023".into(), "14".into()));
    // One subscription less, and its log is followed again; nothing is lost on the way.
    bench.send(other, r#"{"broadcast":{"event":"5","channel":"b"}}"#);
    bench.send(both, r#"{"unsubscribe":{"channel":"a"}}"#);
    bench.send(one, r#"{"broadcast":{"event":"6","channel":"a"}}"#);
    bench.send(other, r#"{"broadcast":{"event":"7","channel":"b"}}"#);
    let events: Vec<String> = bench.texts(both).iter().map(|text| text[2..3].to_owned()).collect();
    assert_eq!(events, ["5", "u", "7"]);
}

#[test]
fn everything_is_freed_when_the_last_session_goes() {
    let mut bench = Bench::new(Settings::default());
    let sessions: Vec<_> = (0..5).map(|_| bench.connect()).collect();
    for (index, session) in sessions.iter().enumerate() {
        for channel in 0..=index {
            bench.send(*session, &format!(r#"{{"subscribe":{{"channel":"c{channel}"}}}}"#));
        }
    }
    bench.send(sessions[0], r#"{"broadcast":{"event":"e","channel":"c0"}}"#);
    for session in sessions {
        bench.shard.handle(bench.now, Input::Disconnected { session });
        assert_eq!(bench.shard.next_action(), Some(Action::Close(session)));
    }
    let figures = bench.shard.figures().to_vec();
    for gauge in
        [Figure::Connections, Figure::Sessions, Figure::Subscriptions, Figure::Channels, Figure::LogBytes]
    {
        assert_eq!(figures[gauge as usize], 0, "{gauge:?}");
    }
    assert_eq!(bench.shard.vhosts.get(VhostId(0)).unwrap().channels.get(), 0);
}

#[test]
fn silence_while_a_session_is_not_read_is_not_its_own() {
    let mut bench =
        Bench::new(Settings { ping_interval_ms: 1000, idle_timeout_ms: 2000, ..Settings::default() });
    let session = bench.connect();
    bench.shard.sessions.slots[session.slot].pause.requests = true;
    bench.now += Duration::from_secs(3600);
    bench.shard.handle(bench.now, Input::Deadline);
    assert!(bench.shard.sessions.peek(session).is_some());
    bench.shard.sessions.slots[session.slot].pause.requests = false;
    bench.now += Duration::from_secs(3600);
    bench.shard.handle(bench.now, Input::Deadline);
    assert_eq!(bench.shard.figures.value(Figure::IdleTimeouts), 1);
}

#[test]
fn connections_are_wanted_once_everything_stored_is_known() {
    let mut bench = Bench::new(Settings::default());
    assert!(!bench.shard.wants_connections());
    bench.shard.handle(bench.now, Input::Command(Command::Serve));
    assert!(bench.shard.wants_connections());
}

#[test]
fn a_crowd_that_is_due_at_once_is_looked_after_in_slices() {
    let mut bench = Bench::new(Settings::default());
    let count = SLICE_SESSIONS + 50;
    for _ in 0..count {
        bench.connect();
    }
    bench.now += Duration::from_millis(u64::from(Settings::default().ping_interval_ms));
    let mut pinged = Vec::new();
    while bench.shard.next_deadline().is_some_and(|deadline| deadline <= bench.now) {
        bench.shard.handle(bench.now, Input::Deadline);
        pinged.push(bench.flush(usize::MAX).len());
    }
    assert!(pinged.len() > 1 && pinged.iter().all(|slice| *slice <= SLICE_SESSIONS), "{pinged:?}");
    assert_eq!(pinged.iter().sum::<usize>(), count);
}

#[test]
fn a_peer_that_answers_pings_gets_one_after_each_interval() {
    let settings = Settings { ping_interval_ms: 100, idle_timeout_ms: 1000, ..Settings::default() };
    let mut bench = Bench::new(settings);
    let session = bench.connect();
    let (mut pings, start) = (Vec::new(), bench.now);
    for _ in 0..500 {
        bench.now += Duration::from_millis(1);
        if bench.shard.next_deadline().is_some_and(|deadline| deadline <= bench.now) {
            bench.shard.handle(bench.now, Input::Deadline);
        }
        if !bench.flush(usize::MAX).is_empty() {
            pings.push((bench.now - start).as_millis());
            let mut pong = [0x8a, 0x80, 0, 0, 0, 0];
            bench.shard.handle(bench.now, Input::Received { session, bytes: &mut pong });
        }
    }
    assert_eq!(pings, [100, 200, 300, 400, 500]);
}

/// Lets ten sessions with 100 subscriptions each lose them; returns how many ended in each slice.
fn slices_of_losses(lose: impl Fn(&mut Bench)) -> Vec<u64> {
    let mut bench = Bench::new(Settings::default());
    for _ in 0..10 {
        let session = bench.connect();
        for channel in 0..100 {
            bench.send(session, &format!(r#"{{"subscribe":{{"channel":"c{channel}"}}}}"#));
        }
    }
    bench.flush(usize::MAX);
    let mut slices = Vec::new();
    let mut subscribed = bench.shard.figures.value(Figure::Subscriptions);
    assert_eq!(subscribed, 1000);
    while subscribed > 0 {
        lose(&mut bench);
        bench.flush(usize::MAX);
        let left = bench.shard.figures.value(Figure::Subscriptions);
        slices.push(subscribed - left);
        subscribed = left;
    }
    slices
}

#[test]
fn sessions_lose_many_subscriptions_in_slices() {
    let shut = |bench: &mut Bench| {
        let vhost = bench.shard.vhosts.get(VhostId(0)).unwrap();
        if vhost.settings.anonymous == Anonymous::None {
            return bench.shard.handle(bench.now, Input::Proceed);
        }
        let settings = Settings { anonymous: Anonymous::None, ..vhost.settings };
        let vhost = Arc::new(Vhost { settings, ..Vhost::clone(vhost) });
        bench.shard.handle(bench.now, Input::Command(Command::PutVhost { ticket: Ticket::new(1), vhost }));
    };
    let fall_silent = |bench: &mut Bench| {
        bench.now += Duration::from_secs(3600);
        bench.shard.handle(bench.now, Input::Deadline);
    };
    let lost: [&dyn Fn(&mut Bench); 2] = [&shut, &fall_silent];
    for lose in lost {
        let slices = slices_of_losses(lose);
        assert!(slices.iter().all(|ended| (1..SLICE_SESSIONS as u64 + 100).contains(ended)), "{slices:?}");
    }
}
