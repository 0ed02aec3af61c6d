//! From one broadcast to all who receive it; an operation is a delivery.
//!
//! Data are 64 bytes of text, which makes a frame of 154 bytes with its names and its `sid`.

use std::hint::black_box;

use webrocket_state::{
    SessionRef,
    log::{Cursor, Log, SparePool},
};

use super::case::{Case, Subject};
use crate::crowd::{Crowd, Flushed, broadcast, masked};

const SUBSCRIBERS: usize = 1_000;
const FRAME_BYTES: usize = 154;

pub(super) const CASES: &[Case] = &[
    case("log", "1 record, 1,000 cursors", SUBSCRIBERS, || drain(1)),
    case("log", "16 records, 1,000 cursors", 16 * SUBSCRIBERS, || drain(16)),
    case("fan-out", "1 follower", 1, || followers(1, 1)),
    case("fan-out", "1,000 followers", SUBSCRIBERS, || followers(SUBSCRIBERS, 1)),
    case("fan-out", "1,000 followers, 16 waiting", 16 * SUBSCRIBERS, || followers(SUBSCRIBERS, 16)),
    case("fan-out", "1,000 visitors", SUBSCRIBERS, || visitors(&["world"])),
    case("fan-out", "1,000 visitors, 2 channels waiting", 2 * SUBSCRIBERS, || visitors(&["world", "moon"])),
];

const fn case(
    group: &'static str,
    name: &'static str,
    deliveries: usize,
    prepare: fn() -> Box<dyn Subject>,
) -> Case {
    Case { group, name, operations: deliveries as u64, prepare }
}

/// Appends and lets every cursor take it all: what remains of fan-out without sessions.
fn drain(records: usize) -> Box<dyn Subject> {
    let (mut log, mut pool) = (Log::default(), SparePool::default());
    let record = [b'x'; FRAME_BYTES];
    let mut cursors: Vec<u64> = (0..SUBSCRIBERS).map(|_| log.follow()).collect();
    Box::new(move || {
        for _ in 0..records {
            log.append(&mut pool, |out| out.extend_from_slice(black_box(&record)));
            log.trim(&mut pool);
        }
        for cursor in &mut cursors {
            black_box(log.slice(*cursor));
            let end = log.end();
            log.advance(Cursor::Follower, *cursor, end, &mut pool);
            *cursor = end;
        }
    })
}

/// Broadcasts through a whole shard to sessions that subscribe nothing else.
fn followers(followers: usize, waiting: usize) -> Box<dyn Subject> {
    let (crowd, sessions) = Crowd::following(followers);
    Box::new(move_through(crowd, sessions[0], &["world"], waiting, followers))
}

/// Broadcasts through a whole shard to sessions that subscribe two channels, one on each of `channels`.
fn visitors(channels: &[&str]) -> Box<dyn Subject> {
    let (mut crowd, sessions) = Crowd::following(SUBSCRIBERS);
    crowd.open("moon");
    let subscribe = masked(r#"{"subscribe":{"channel":"moon"}}"#);
    for session in &sessions {
        crowd.receive(*session, &subscribe);
    }
    crowd.flush();
    Box::new(move_through(crowd, sessions[0], channels, 1, SUBSCRIBERS))
}

fn move_through(
    mut crowd: Crowd,
    sender: SessionRef,
    channels: &[&str],
    waiting: usize,
    subscribers: usize,
) -> impl FnMut() + use<> {
    let frames: Vec<_> = channels.iter().map(|channel| broadcast(channel, 64)).collect();
    // Names of channels differ in length.
    let bytes: usize = channels.iter().map(|channel| FRAME_BYTES - "world".len() + channel.len()).sum();
    let expected = Flushed { sends: subscribers, bytes: subscribers * waiting * bytes };
    move || {
        for _ in 0..waiting {
            for frame in &frames {
                crowd.receive(sender, frame);
            }
        }
        assert_eq!(crowd.flush(), expected);
    }
}
