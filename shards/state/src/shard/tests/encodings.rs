//! Sessions that receive in another encoding than the plain one.

use std::sync::atomic::{AtomicUsize, Ordering};

use webrocket_wire::{MemberData, Publication, frame::Opcode, handshake::Upgrade};

use super::*;
use crate::{
    encoding::{Encoder, Encoding},
    event::{ChannelEvent, Said},
    ids::{ChannelRef, RequestRef},
    slots::ChannelSlot,
};

/// Costly: counts how often it is made.
#[derive(Debug)]
struct Counting(Arc<AtomicUsize>);

const COSTLY: Encoding = Encoding::numbered(1);
const TOLD: &str = "costly";

impl Encoder for Counting {
    fn is_costly(&self) -> bool {
        true
    }

    fn encode(&self, _: &Said<'_>, out: &mut Vec<u8>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        frame::encode(out, Opcode::Text, TOLD.as_bytes());
    }

    fn encode_direct(&self, _: &Publication<'_>, out: &mut Vec<u8>) {
        frame::encode(out, Opcode::Text, TOLD.as_bytes());
    }
}

/// The first of so many shards, and how often it has made the costly encoding.
fn bench(shards: u16) -> (Bench, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let choose = |upgrade: &Upgrade| usize::from(upgrade.query.contains("costly"));
    let encodings = Encodings::with(vec![Box::new(Counting(Arc::clone(&made)))], choose);
    (Bench::with(shards, Settings::default(), encodings), made)
}

impl Bench {
    fn subscribe_to(&mut self, session: SessionRef, channel: &ChannelName) {
        self.send(session, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
        assert_eq!(self.texts(session), [format!(r#"{{"subscribed":"{channel}"}}"#)]);
    }

    fn broadcast_on(&mut self, session: SessionRef, channel: &ChannelName) {
        self.send(session, &format!(r#"{{"broadcast":{{"event":"e","channel":"{channel}"}}}}"#));
    }

    /// What the other shard is told of broadcasts in the costly encoding.
    fn made_for(&mut self, shard: ShardId) -> Vec<Option<String>> {
        let mut told = Vec::new();
        while let Some(message) = self.shard.next_message(self.now, shard) {
            if let ShardMessage::Event(OwnerEvent::Deliver { made, .. }) = message {
                told.push(made.frame(COSTLY).map(|frame| texts(frame).concat()));
            }
        }
        told
    }
}

#[test]
fn a_costly_encoding_is_made_once_by_the_owner_while_somebody_receives_in_it() {
    let (mut bench, made) = bench(3);
    let channel = bench.channels_of(ShardId(0), 1).remove(0);
    let sender = bench.connect();
    bench.subscribe_to(sender, &channel);
    let session = SessionRef { shard: OTHER, slot: SessionSlot(0), generation: 0 };
    let mut number = 0;
    let mut subscribe = |bench: &mut Bench, shard: ShardId, encoding| {
        number += 1;
        let request = RequestRef { session: SessionRef { shard, ..session }, number };
        let (vhost, channel) = (VhostId(0), channel.clone());
        let asked =
            OwnerRequest::Subscribe { request, vhost, channel, encoding, may_create: false, joining: None };
        bench.hear(shard, ShardMessage::Request(asked));
        match bench.shard.next_message(bench.now, shard) {
            Some(ShardMessage::Answer { answer: Answer::Subscribed { channel, .. }, .. }) => channel,
            other => panic!("{other:?}"),
        }
    };
    let third = ShardId(2);
    subscribe(&mut bench, third, Encoding::PLAIN);
    bench.broadcast_on(sender, &channel);
    assert_eq!((bench.made_for(third), made.load(Ordering::Relaxed)), (vec![None], 0));

    // Two sessions of one shard, and one of another: still once.
    let place = subscribe(&mut bench, OTHER, COSTLY);
    subscribe(&mut bench, OTHER, COSTLY);
    subscribe(&mut bench, third, COSTLY);
    bench.broadcast_on(sender, &channel);
    for shard in [OTHER, third] {
        assert_eq!(bench.made_for(shard), [Some(TOLD.to_owned())]);
    }
    assert_eq!(made.load(Ordering::Relaxed), 1);

    for (shard, made_after) in [(OTHER, 2), (OTHER, 3), (third, 3)] {
        let (channel_ref, session) = (place, SessionRef { shard, ..session });
        let left = OwnerRequest::Leave {
            channel: channel_ref,
            session,
            encoding: COSTLY,
            data: MemberData::default(),
        };
        bench.hear(shard, ShardMessage::Request(left));
        bench.broadcast_on(sender, &channel);
        assert_eq!(made.load(Ordering::Relaxed), made_after);
    }
    assert_eq!(bench.made_for(third), [Some(TOLD.to_owned()), Some(TOLD.to_owned()), None]);
}

#[test]
fn all_see_one_order_whatever_their_encoding_and_a_shard_alone_needs_no_values() {
    let (mut bench, made) = bench(1);
    let channel = bench.channels_of(ShardId(0), 1).remove(0);
    let (plain, costly) = (bench.connect(), bench.connect_to("/w?costly"));
    for session in [plain, costly] {
        bench.subscribe_to(session, &channel);
    }
    let other = bench.channels_of(ShardId(0), 2).remove(1);
    bench.subscribe_to(costly, &other);
    for channel in [&channel, &other, &channel] {
        bench.broadcast_on(plain, channel);
    }
    let sent = bench.flush(usize::MAX);
    let of = |session: SessionRef| -> Vec<String> {
        let mine: Vec<u8> =
            sent.iter().filter(|(of, _)| *of == session).flat_map(|(_, bytes)| bytes.clone()).collect();
        texts(&mine)
    };
    let events = of(plain).into_iter().filter(|text| text.starts_with(r#"{"e":"#)).count();
    assert_eq!((events, of(costly)), (2, vec![TOLD.to_owned(); 3]));
    assert_eq!(made.load(Ordering::Relaxed), 3);

    // The view goes with its last subscriber, and with it the work.
    for channel in [&channel, &other] {
        bench.send(costly, &format!(r#"{{"unsubscribe":{{"channel":"{channel}"}}}}"#));
    }
    bench.broadcast_on(plain, &channel);
    assert_eq!(made.load(Ordering::Relaxed), 3);
    bench.send(plain, &format!(r#"{{"unsubscribe":{{"channel":"{channel}"}}}}"#));
    bench.flush(usize::MAX);
    let figures = bench.shard.figures().to_vec();
    for gauge in [Figure::Subscriptions, Figure::Channels, Figure::LogBytes] {
        assert_eq!(figures[gauge as usize], 0, "{gauge:?}");
    }
}

#[test]
fn a_shard_passes_on_what_the_owner_has_made() {
    let (mut bench, made) = bench(2);
    let channel = bench.channels_of(OTHER, 1).remove(0);
    let (plain, costly) = (bench.connect(), bench.connect_to("/w?costly"));
    let place = ChannelRef { slot: ChannelSlot(7), generation: 0 };
    for session in [plain, costly] {
        bench.send(session, &format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#));
        let Some(ShardMessage::Request(OwnerRequest::Subscribe { request, encoding, .. })) =
            bench.shard.next_message(bench.now, OTHER)
        else {
            panic!("the owner is asked")
        };
        let answer = Answer::Subscribed { channel: place, encoding, present: None };
        bench.hear(OTHER, ShardMessage::Answer { request, answer, bytes: 0 });
    }
    bench.flush(usize::MAX);
    let publication =
        Publication::new(webrocket_wire::Json::parse("\"e\"").unwrap(), None, &channel, None).share();
    let position = webrocket_wire::Position { epoch: 1, offset: 1 };
    let event = ChannelEvent::Published(position, publication);
    // Another node's encodings count elsewhere.
    let elsewhere = Encodings::with(vec![Box::new(Counting(Arc::default()))], |_| 0);
    let event_made = elsewhere.make([COSTLY], &event);
    bench.hear(OTHER, ShardMessage::Event(OwnerEvent::Deliver { channel: place, event, made: event_made }));
    let sent = bench.flush(usize::MAX);
    let told: Vec<_> = sent.iter().map(|(session, bytes)| (*session, texts(bytes).concat())).collect();
    let plain_text = format!(r#"{{"e":{{"channel":"{channel}"}}}}"#);
    assert!(told.contains(&(plain, plain_text)) && told.contains(&(costly, TOLD.to_owned())), "{told:?}");
    assert_eq!(made.load(Ordering::Relaxed), 0);
}
