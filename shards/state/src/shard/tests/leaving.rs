//! What is answered only when the owners of channels have taken that a session left.

use webrocket_wire::{Rights, UserName};

use super::*;
use crate::{
    ids::{ChannelRef, RequestRef},
    message::{Answer, Waiter},
    vhost::User,
};

/// The first of three shards; `ann`, who reads and writes, needs no secret.
fn bench() -> Bench {
    let mut bench = Bench::among(3, Settings::default());
    let mut vhost = Vhost::clone(bench.shard.vhosts.get(VhostId(0)).unwrap());
    let user = User { rights: Rights::READ_WRITE, has_secret: false, generation: 1 };
    vhost.users.insert("ann".parse::<UserName>().unwrap(), user);
    bench.put(1, vhost);
    assert_eq!(applied(&mut bench.shard), Some(true));
    bench
}

impl Bench {
    fn put(&mut self, ticket: u64, vhost: Vhost) {
        let put = Command::PutVhost { ticket: Ticket::new(ticket), vhost: Arc::new(vhost) };
        self.shard.handle(self.now, Input::Command(put));
    }

    fn next(&mut self, shard: ShardId) -> Option<ShardMessage> {
        self.shard.next_message(self.now, shard)
    }

    fn answer_from(&mut self, from: ShardId, request: RequestRef, answer: Answer) {
        self.hear(from, ShardMessage::Answer { request, answer, bytes: 0 });
    }

    /// Lets a session subscribe a channel of another shard.
    fn subscribe_at(&mut self, session: SessionRef, owner: ShardId) -> ChannelName {
        let channel = self.channels_of(owner, 1).remove(0);
        self.send(session, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
        let Some(ShardMessage::Request(OwnerRequest::Subscribe { request, .. })) = self.next(owner) else {
            panic!("not asked")
        };
        let place = ChannelRef { slot: ChannelSlot(0), generation: 0 };
        self.answer_from(
            owner,
            request,
            Answer::Subscribed { channel: place, encoding: Encoding::PLAIN, present: None },
        );
        assert_eq!(self.texts(session).len(), 1);
        channel
    }

    /// The owner is told of a leave, and of a fence behind it.
    fn told_of_leave(&mut self, owner: ShardId) -> Waiter {
        assert!(matches!(self.next(owner), Some(ShardMessage::Request(OwnerRequest::Leave { .. }))));
        let Some(ShardMessage::Request(OwnerRequest::Fence(waiter))) = self.next(owner) else {
            panic!("no fence")
        };
        assert!(self.next(owner).is_none());
        waiter
    }
}

#[test]
fn an_unsubscribe_is_answered_when_the_owner_has_taken_the_leave() {
    let mut bench = bench();
    let session = bench.connect();
    let channel = bench.subscribe_at(session, OTHER);
    bench.send(session, &format!(r#"{{"unsubscribe":{{"channel":"{channel}"}}}}"#));
    bench.send(session, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
    let Some(ShardMessage::Request(OwnerRequest::Find { request, .. })) = bench.next(OTHER) else {
        panic!("not asked")
    };
    assert!(bench.next(OTHER).is_none(), "the owner must take the leave before it hears of the next joining");
    bench.answer_from(OTHER, request, Answer::Found);
    let waiter = bench.told_of_leave(OTHER);
    assert_eq!(bench.texts(session), Vec::<String>::new());
    bench.hear(OTHER, ShardMessage::Event(OwnerEvent::FencePassed(waiter)));
    assert_eq!(bench.texts(session), [format!(r#"{{"unsubscribed":"{channel}"}}"#)]);
    assert!(matches!(bench.next(OTHER), Some(ShardMessage::Request(OwnerRequest::Subscribe { .. }))));
}

#[test]
fn who_leaves_all_channels_is_answered_when_all_owners_have_taken_it() {
    let cases = [
        ("/w", r#"{"authenticate":{"user":"ann"}}"#, vec![r#"{"authenticated":"ann"}"#], false),
        ("/w", r#"{"logout":true}"#, vec![r#"{"loggedOut":true}"#], false),
        ("/w", r#"{"disconnect":true}"#, vec![], true),
        ("/w?protocol=wwfp", r#"{"auth":{"user":"ann"}}"#, vec![r#"{":authenticated":{}}"#], false),
        ("/w?protocol=wwfp", r#"{"close":{"ref":7}}"#, vec![r#","ref":7}}"#], true),
    ];
    for (target, request, expected, closes) in cases {
        let mut bench = bench();
        let session = bench.connect_to(target);
        let authenticate = if target.len() == 2 {
            r#"{"authenticate":{"user":"ann"}}"#
        } else {
            r#"{"auth":{"user":"ann"}}"#
        };
        bench.send(session, authenticate);
        bench.texts(session);
        for owner in [OTHER, ShardId(2)] {
            bench.subscribe_at(session, owner);
        }
        bench.send(session, request);
        let waiters = [OTHER, ShardId(2)].map(|owner| (owner, bench.told_of_leave(owner)));
        for (owner, waiter) in waiters {
            assert_eq!(bench.texts(session), Vec::<String>::new(), "{request}");
            assert!(bench.shard.sessions.slots[session.slot].connection.is_open());
            bench.hear(owner, ShardMessage::Event(OwnerEvent::FencePassed(waiter)));
        }
        let mut told = bench.texts(session);
        if closes {
            // The code 1000 is no UTF-8.
            assert_eq!(told.pop().as_deref(), Some("\u{3}\u{fffd}"));
        }
        assert_eq!(told.len(), expected.len(), "{told:?}");
        assert!(told.iter().zip(&expected).all(|(text, end)| text.ends_with(end)), "{told:?}");
    }
}

#[test]
fn a_session_that_ends_meanwhile_is_answered_by_nobody() {
    let mut bench = bench();
    let session = bench.connect();
    bench.subscribe_at(session, OTHER);
    bench.send(session, r#"{"disconnect":true}"#);
    let waiter = bench.told_of_leave(OTHER);
    bench.shard.handle(bench.now, Input::Command(Command::Shutdown));
    let told = bench.flush(usize::MAX);
    assert_eq!(told.len(), 1);
    bench.hear(OTHER, ShardMessage::Event(OwnerEvent::FencePassed(waiter)));
    assert!(bench.flush(usize::MAX).is_empty(), "one close frame is enough");
}

#[test]
fn a_changed_vhost_is_applied_when_other_shards_have_taken_who_left() {
    let mut bench = bench();
    let session = bench.connect();
    bench.subscribe_at(session, OTHER);
    let vhost = Vhost::clone(bench.shard.vhosts.get(VhostId(0)).unwrap());
    let settings = Settings { anonymous: Anonymous::None, ..vhost.settings };
    bench.put(2, Vhost { settings, ..vhost.clone() });
    assert_eq!(bench.texts(session).len(), 1, "it is told that it lost the channel");
    assert!(bench.shard.next_report().is_none());
    let waiter = bench.told_of_leave(OTHER);
    bench.hear(OTHER, ShardMessage::Event(OwnerEvent::FencePassed(waiter)));
    assert!(bench.shard.next_report().is_none());
    let Some(ShardMessage::Request(OwnerRequest::Fence(waiter))) = bench.next(ShardId(2)) else {
        panic!("no fence")
    };
    bench.hear(ShardId(2), ShardMessage::Event(OwnerEvent::FencePassed(waiter)));
    assert_eq!(applied(&mut bench.shard), Some(true));
    // Where nobody loses anything, nobody is waited for.
    bench.put(3, vhost);
    assert_eq!(applied(&mut bench.shard), Some(true));
}

impl Bench {
    /// Takes what waits for the other shards; answers the fences if `answers`.
    fn pass_fences(&mut self, answers: bool) -> usize {
        let mut fences = Vec::new();
        for shard in [OTHER, ShardId(2)] {
            while let Some(message) = self.next(shard) {
                if let ShardMessage::Request(OwnerRequest::Fence(waiter)) = message {
                    fences.push((shard, waiter));
                }
            }
        }
        let count = fences.len();
        for (shard, waiter) in fences.into_iter().filter(|_| answers) {
            self.hear(shard, ShardMessage::Event(OwnerEvent::FencePassed(waiter)));
        }
        count
    }
}

#[test]
fn a_change_waits_for_leaves_that_the_sweep_of_another_has_caused() {
    let mut bench = bench();
    let sessions: Vec<_> = (0..=SLICE_SESSIONS).map(|_| bench.connect()).collect();
    bench.subscribe_at(sessions[SLICE_SESSIONS], OTHER);
    let vhost = Vhost::clone(bench.shard.vhosts.get(VhostId(0)).unwrap());
    let shut = Vhost { settings: Settings { anonymous: Anonymous::None, ..vhost.settings }, ..vhost.clone() };
    // The first sweep comes to the last session when the second change is known, and applies that.
    bench.put(2, vhost);
    bench.put(3, shut);
    while bench.shard.has_work() {
        bench.flush(usize::MAX);
        bench.shard.handle(bench.now, Input::Proceed);
    }
    assert!(bench.shard.next_report().is_none());
    assert!(bench.pass_fences(false) >= 4, "both wait for both other shards");
}

#[test]
fn a_change_waits_for_subscriptions_that_it_refuses_too_late() {
    let mut bench = bench();
    let session = bench.connect();
    let channel = bench.channels_of(OTHER, 1).remove(0);
    bench.send(session, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
    let Some(ShardMessage::Request(OwnerRequest::Subscribe { request, .. })) = bench.next(OTHER) else {
        panic!("not asked")
    };
    let vhost = Vhost::clone(bench.shard.vhosts.get(VhostId(0)).unwrap());
    bench.put(2, Vhost { settings: Settings { anonymous: Anonymous::None, ..vhost.settings }, ..vhost });
    assert!(bench.shard.next_report().is_none());
    // The owner's answer comes before the fence does, and leads to a leave.
    let place = ChannelRef { slot: ChannelSlot(0), generation: 0 };
    bench.answer_from(
        OTHER,
        request,
        Answer::Subscribed { channel: place, encoding: Encoding::PLAIN, present: None },
    );
    assert_eq!(bench.texts(session), [r#"{"err":"ACCESS_DENIED"}"#]);
    assert_eq!(bench.pass_fences(true), 2);
    assert!(bench.shard.next_report().is_none());
    assert_eq!(bench.pass_fences(true), 2);
    assert_eq!(applied(&mut bench.shard), Some(true));
}
