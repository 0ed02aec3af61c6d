//! What a session may have at most, who it may become, and who is read again when there is room.

use webrocket_wire::{Rights, UserName};

use super::*;
use crate::{
    identity::Identity,
    ids::{ChannelRef, RequestRef},
    link::{CONGESTED_MESSAGES, OPEN_REQUESTS_MAX},
    message::Answer,
    vhost::User,
};

impl Bench {
    /// What the other shard has been asked, and not answered.
    fn asked(&mut self) -> Vec<RequestRef> {
        let next = || match self.shard.next_message(self.now, OTHER)? {
            ShardMessage::Request(OwnerRequest::Subscribe { request, .. })
            | ShardMessage::Request(OwnerRequest::Find { request, .. }) => Some(request),
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(next).collect()
    }

    fn answered_by_other(&mut self, request: RequestRef, answer: Answer) {
        let message = ShardMessage::Answer { request, answer, bytes: 0 };
        self.shard.handle(self.now, Input::Message { from: OTHER, message });
    }
}

#[test]
fn subscriptions_that_are_asked_for_count_too() {
    let mut bench = Bench::among(2, Settings { subscriptions_max: 2, ..Settings::default() });
    let session = bench.connect();
    let channels = bench.channels_of(OTHER, 3);
    for channel in &channels {
        bench.send(session, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
    }
    let asked = bench.asked();
    assert_eq!(asked.len(), 2, "the third waits until it is known whether it may");
    for (slot, request) in (0..).map(ChannelSlot).zip(asked) {
        let channel = ChannelRef { slot, generation: 0 };
        bench.answered_by_other(
            request,
            Answer::Subscribed { channel, encoding: Encoding::PLAIN, present: None },
        );
    }
    bench.resume_all();
    let subscribed = channels[..2].iter().map(|channel| format!(r#"{{"subscribed":"{channel}"}}"#));
    let refused = r#"{"err":"ACCESS_DENIED","reason":"subscription limit reached"}"#.to_owned();
    assert_eq!(bench.texts(session), subscribed.chain([refused]).collect::<Vec<_>>());
    assert!(bench.asked().is_empty());
}

#[test]
fn a_user_who_is_replaced_while_the_secret_is_verified_is_not_let_in() {
    for (generation, expected) in [(1, r#"{"authenticated":"ann"}"#), (2, r#"{"err":"INVALID_CREDENTIALS"}"#)]
    {
        let mut bench = Bench::new(Settings::default());
        let name: UserName = "ann".parse().unwrap();
        let put = |bench: &mut Bench, generation| {
            let mut vhost = Vhost::clone(bench.shard.vhosts.get(VhostId(0)).unwrap());
            vhost.users.insert(name.clone(), User { rights: Rights::ALL, has_secret: true, generation });
            let put = Command::PutVhost { ticket: Ticket::new(0), vhost: Arc::new(vhost) };
            bench.shard.handle(bench.now, Input::Command(put));
            assert_eq!(applied(&mut bench.shard), Some(true));
        };
        put(&mut bench, 1);
        let session = bench.connect();
        bench.send(session, r#"{"authenticate":{"user":"ann","secret":"s"}}"#);
        let Some(Report::VerifySecret { request, .. }) = bench.shard.next_report() else {
            panic!("not asked")
        };
        put(&mut bench, generation);
        let identity = Ok(Identity::User { name: name.clone(), generation: 1 });
        bench.shard.handle(bench.now, Input::Command(Command::Authenticated { request, identity }));
        assert_eq!(bench.texts(session), [expected]);
    }
}

#[test]
fn sessions_that_wait_for_room_at_another_shard_are_read_again_when_it_has_answered() {
    let mut bench = Bench::among(2, Settings { requests_outstanding_max: 1000, ..Settings::default() });
    let [channel] = <[_; 1]>::try_from(bench.channels_of(OTHER, 1)).unwrap();
    let ask = format!(r#"{{"unsubscribe":{{"channel":"{channel}"}}}}"#);
    let mut asked = Vec::new();
    while asked.len() < OPEN_REQUESTS_MAX {
        let session = bench.connect();
        for _ in 0..500 {
            bench.send(session, &ask);
        }
        asked.extend(bench.asked());
    }
    assert_eq!(asked.len(), OPEN_REQUESTS_MAX);
    let late = bench.connect();
    bench.send(late, &ask);
    assert!(bench.asked().is_empty() && !bench.shard.wants_input(late));
    // It goes on when half of them are answered.
    for request in asked.drain(..OPEN_REQUESTS_MAX / 2) {
        assert!(!bench.shard.wants_input(late));
        bench.answered_by_other(request, Answer::ChannelNotFound);
    }
    bench.resume_all();
    let again: Vec<_> = bench.asked().into_iter().filter(|request| request.session == late).collect();
    assert_eq!(again.len(), 1);
    assert!(bench.shard.wants_input(late));
}

#[test]
fn a_broadcast_on_a_congested_link_is_acknowledged_when_it_has_left() {
    let mut bench = Bench::among(2, Settings::default());
    let [channel] = <[_; 1]>::try_from(bench.channels_of(ShardId(0), 1)).unwrap();
    let listener = SessionRef { shard: OTHER, slot: SessionSlot(0), generation: 0 };
    let request = RequestRef { session: listener, number: 0 };
    let (vhost, name) = (VhostId(0), channel.clone());
    bench.hear(
        OTHER,
        ShardMessage::Request(OwnerRequest::Subscribe {
            request,
            vhost,
            channel: name,
            may_create: true,
            encoding: Encoding::PLAIN,
            joining: None,
        }),
    );
    let (publisher, broadcast) =
        (bench.connect(), format!(r#"{{"broadcast":{{"event":"e","channel":"{channel}"}}}}"#));
    // The answer to the subscription waits too.
    for _ in 1..CONGESTED_MESSAGES {
        bench.send(publisher, &broadcast);
        assert_eq!(bench.texts(publisher).len(), 1);
    }
    for _ in 0..3 {
        bench.send(publisher, &broadcast);
        assert_eq!(bench.texts(publisher).len(), 0);
    }
    let mut left = 0;
    while bench.shard.next_message(bench.now, OTHER).is_some() {
        left += 1;
        // All that stood before the three has left, and so many of them.
        let acknowledged = usize::from(left > CONGESTED_MESSAGES);
        assert_eq!(bench.texts(publisher).len(), acknowledged, "after {left}");
    }
    assert_eq!(left, CONGESTED_MESSAGES + 3);
}

#[test]
fn sessions_that_are_idle_together_leave_in_slices_and_see_each_other_leave() {
    const SESSIONS: usize = 100;
    let settings = Settings { ping_interval_ms: 1_000, idle_timeout_ms: 2_000, ..Settings::default() };
    let mut bench = Bench::new(settings);
    let mut vhost = Vhost::clone(bench.shard.vhosts.get(VhostId(0)).unwrap());
    for number in 0..SESSIONS {
        let user = User { rights: Rights::ALL, has_secret: false, generation: 1 };
        vhost.users.insert(format!("u{number}").parse().unwrap(), user);
    }
    let put = Command::PutVhost { ticket: Ticket::new(0), vhost: Arc::new(vhost) };
    bench.shard.handle(bench.now, Input::Command(put));
    assert_eq!(applied(&mut bench.shard), Some(true));
    let channels = ["presence-a", "presence-b"];
    for channel in channels {
        let (ticket, channel) = (Ticket::new(0), channel.parse().unwrap());
        let open = Command::OpenChannel { ticket, vhost: VhostId(0), channel };
        bench.shard.handle(bench.now, Input::Command(open));
        assert_eq!(applied(&mut bench.shard), Some(true));
    }
    // Where channels alternate, everybody is told by copy.
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(1_000));
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let session = bench.connect_to("/w?protocol=wwfp");
        bench.send(session, &format!(r#"{{"auth":{{"user":"u{number}"}}}}"#));
        for channel in channels {
            bench.send(session, &format!(r#"{{"subscribe":{{"channel":"{channel}","data":{data}}}}}"#));
            // With a long list waiting for it, it is not read.
            bench.flush(usize::MAX);
            bench.resume_all();
        }
        sessions.push(session);
    }
    bench.now += Duration::from_secs(2);
    bench.shard.handle(bench.now, Input::Deadline);
    let one_leaves = 2 * SESSIONS * (data.len() + 100);
    let fresh = bench.shard.fanout.fresh_bytes();
    assert!(fresh < 512 * 1024 + one_leaves, "{fresh} bytes wait for the flush");

    let mut told: Vec<Vec<u8>> = vec![Vec::new(); SESSIONS];
    loop {
        let sent = bench.flush(usize::MAX);
        if sent.is_empty() {
            break;
        }
        for (session, bytes) in sent {
            told[sessions.iter().position(|of| *of == session).unwrap()].extend_from_slice(&bytes);
        }
        bench.shard.handle(bench.now, Input::Deadline);
    }
    let left = told.iter().map(|told| texts(told).iter().filter(|text| text.contains("memberLeft")).count());
    let mut left: Vec<usize> = left.collect();
    left.sort_unstable();
    assert_eq!(left, (0..SESSIONS).map(|before| 2 * before).collect::<Vec<_>>());
}
