use std::{net::IpAddr, time::Instant};

use webrocket_wire::frame::{Opcode, encode};

use super::*;
use crate::{
    encoding::Encoding,
    ids::{ChannelRef, ShardId},
    slots::ChannelSlot,
    vhost::VhostId,
};

const CHANNEL: ChannelRef = ChannelRef { slot: ChannelSlot(0), generation: 0 };

/// A shard's deliveries with `count` followers of one channel.
fn crowd(count: usize) -> (Fanout, Slots<SessionSlot, Session>, ViewSlot, Vec<SessionSlot>) {
    let (mut fanout, mut sessions, now) = (Fanout::default(), Slots::default(), Instant::now());
    let key = (VhostId(0), "world".parse().unwrap());
    let view = fanout.views.find_or_create(&key, ShardId(0), CHANNEL, Encoding::PLAIN);
    let mut slots = Vec::new();
    for _ in 0..count {
        let (slot, _) = sessions.insert(Session::new(now, IpAddr::from([127, 0, 0, 1]), now));
        fanout.subscribe(&mut sessions, slot, view);
        slots.push(slot);
    }
    (fanout, sessions, view, slots)
}

/// Whom the next step sends to; he takes everything.
fn next(fanout: &mut Fanout, sessions: &mut Slots<SessionSlot, Session>) -> Option<SessionSlot> {
    let Some(FlushStep::Send(slot)) = fanout.next_step(sessions, false) else { return None };
    let bytes = fanout.pending(&sessions[slot]).len();
    fanout.sent(&mut sessions[slot], slot, bytes);
    Some(slot)
}

#[test]
fn an_answer_does_not_wait_for_a_crowd_and_the_crowd_not_for_answers() {
    let (mut fanout, mut sessions, view, slots) = crowd(100);
    fanout.append(&mut sessions, view, |out| encode(out, Opcode::Text, b"hello"));
    let first = next(&mut fanout, &mut sessions).unwrap();
    let asking: Vec<SessionSlot> = slots.into_iter().filter(|slot| *slot != first).take(50).collect();
    for slot in &asking {
        encode(fanout.frames(&mut sessions[*slot], *slot), Opcode::Text, b"answer");
    }
    let order: Vec<SessionSlot> = std::iter::from_fn(|| next(&mut fanout, &mut sessions)).take(99).collect();
    let answered = order.iter().position(|slot| *slot == asking[49]).unwrap();
    assert!((49..=49 + 49 / 3 + 1).contains(&answered), "{answered}");
    let bulk_before = order[..answered].iter().filter(|slot| !asking.contains(slot)).count();
    assert!(bulk_before >= 10, "{bulk_before} of the crowd were served meanwhile");
}

#[test]
fn bytes_are_fresh_until_everybody_was_offered_them() {
    let (mut fanout, mut sessions, view, _) = crowd(4);
    let broadcast = |fanout: &mut Fanout, sessions: &mut Slots<SessionSlot, Session>| {
        fanout.append(sessions, view, |out| encode(out, Opcode::Text, b"12345678"));
    };
    broadcast(&mut fanout, &mut sessions);
    for _ in 0..3 {
        next(&mut fanout, &mut sessions);
        assert_eq!(fanout.fresh_bytes(), 10);
    }
    broadcast(&mut fanout, &mut sessions);
    assert_eq!(fanout.fresh_bytes(), 20);
    // The fourth is offered both, then those who had the first already are offered the second.
    next(&mut fanout, &mut sessions);
    next(&mut fanout, &mut sessions);
    broadcast(&mut fanout, &mut sessions);
    while next(&mut fanout, &mut sessions).is_some() {
        assert!(fanout.fresh_bytes() <= 30);
    }
    assert_eq!((fanout.fresh_bytes(), fanout.is_flushed()), (0, true));
}

#[test]
fn what_waits_behind_an_offer_goes_before_the_mark() {
    let (mut fanout, mut sessions, view, _) = crowd(3);
    let record = vec![b'x'; SETTLE_BYTES_MAX as usize];
    for _ in 0..5 {
        fanout.append(&mut sessions, view, |out| encode(out, Opcode::Text, &record));
    }
    let mut offered = Vec::new();
    while let Some(FlushStep::Send(slot)) = fanout.next_step(&mut sessions, !offered.is_empty()) {
        sessions[slot].inbox.is_offered = true;
        offered.push(slot);
    }
    assert_eq!(offered.len(), 3);
    assert!(fanout.fresh_bytes() > 0, "of five records each was offered one");
    for slot in offered {
        sessions[slot].inbox.is_offered = false;
        let bytes = fanout.pending(&sessions[slot]).len();
        fanout.sent(&mut sessions[slot], slot, bytes);
    }
    while next(&mut fanout, &mut sessions).is_some() {}
    assert_eq!((fanout.fresh_bytes(), fanout.log_bytes()), (0, 0));
}

#[test]
fn more_than_one_send_can_carry_is_fresh_until_all_of_it_was_offered() {
    let (mut fanout, mut sessions, view, slots) = crowd(3);
    let record = vec![b'x'; SETTLE_BYTES_MAX as usize];
    for _ in 0..5 {
        fanout.append(&mut sessions, view, |out| encode(out, Opcode::Text, &record));
    }
    while fanout.fresh_bytes() > 0 {
        assert!(next(&mut fanout, &mut sessions).is_some() || fanout.is_flushed());
    }
    let lags: Vec<u64> = slots.iter().map(|slot| fanout.lag(&sessions[*slot])).collect();
    assert_eq!((lags, fanout.log_bytes()), (vec![0; 3], 0));
}

#[test]
fn what_a_follower_waits_for_is_sent_after_it_has_left() {
    let (mut fanout, mut sessions) = (Fanout::default(), Slots::default());
    let now = Instant::now();
    let (slot, _) = sessions.insert(Session::new(now, IpAddr::from([127, 0, 0, 1]), now));
    let key = (VhostId(0), "world".parse().unwrap());
    let view = fanout.views.find_or_create(&key, ShardId(0), CHANNEL, Encoding::PLAIN);
    fanout.subscribe(&mut sessions, slot, view);
    fanout.append(&mut sessions, view, |out| encode(out, Opcode::Text, b"hello"));
    fanout.unsubscribe(&mut sessions, slot, view);
    assert_eq!(fanout.next_step(&mut sessions, false), Some(FlushStep::Send(slot)));
    assert!(fanout.pending(&sessions[slot]).ends_with(b"hello"));
}
