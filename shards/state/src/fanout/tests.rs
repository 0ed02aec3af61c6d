use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use proptest::prelude::*;
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

/// What a session does, or what is done to it.
#[derive(Debug, Clone)]
enum Step {
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    /// A frame of so many bytes for the subscribers of a view, but for one of them.
    Append(usize, u16, Option<usize>),
    /// A frame for one session.
    Say(usize, u16),
    /// So many steps of the flush, in which sockets take so many bytes.
    Flush(usize, u16),
    Writable(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let session = 0..4usize;
    let view = 0..3usize;
    prop_oneof![
        2 => (session.clone(), view.clone()).prop_map(|(who, what)| Step::Subscribe(who, what)),
        1 => (session.clone(), view.clone()).prop_map(|(who, what)| Step::Unsubscribe(who, what)),
        4 => (view, 1..40_000u16, proptest::option::of(session.clone()))
            .prop_map(|(what, bytes, left_out)| Step::Append(what, bytes, left_out)),
        1 => (session.clone(), 1..300u16).prop_map(|(who, bytes)| Step::Say(who, bytes)),
        3 => (1..6usize, any::<u16>()).prop_map(|(steps, bytes)| Step::Flush(steps, bytes)),
        1 => session.prop_map(Step::Writable),
    ]
}

/// A naive fan-out: everybody has a copy of everything that he has to take.
struct Naive {
    now: Instant,
    fanout: Fanout,
    sessions: Receivers,
    slots: Vec<SessionSlot>,
    views: Vec<Option<ViewSlot>>,
    subscribes: BTreeSet<(usize, usize)>,
    waits_for: Vec<Vec<u8>>,
    frames: u8,
}

impl Naive {
    fn new() -> Self {
        let (mut sessions, now) = (Receivers::default(), Instant::now());
        let session = || Session::new(now, IpAddr::from([127, 0, 0, 1]), now);
        let slots = (0..4).map(|_| sessions.insert(session()).0).collect();
        let (views, waits_for) = (vec![None; 3], vec![Vec::new(); 4]);
        let (fanout, subscribes) = (Fanout::default(), BTreeSet::new());
        Self { now, fanout, sessions, slots, views, subscribes, waits_for, frames: 0 }
    }

    fn frame(&mut self, bytes: u16) -> Vec<u8> {
        self.frames = self.frames.wrapping_add(1);
        let mut frame = Vec::new();
        encode(&mut frame, Opcode::Text, &vec![self.frames; bytes.into()]);
        frame
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Subscribe(who, what) if self.subscribes.insert((who, what)) => {
                let key = (VhostId(0), format!("c{what}").parse().unwrap());
                let channel = ChannelRef { slot: ChannelSlot(what as u32), generation: 0 };
                let view = self.fanout.views.find_or_create(&key, ShardId(0), channel, Encoding::PLAIN);
                self.views[what] = Some(view);
                self.fanout.subscribe(&mut self.sessions, self.slots[who], view);
            }
            Step::Unsubscribe(who, what) if self.subscribes.remove(&(who, what)) => {
                let view = self.views[what].unwrap();
                if self.fanout.unsubscribe(&mut self.sessions, self.slots[who], view) {
                    self.views[what] = None;
                }
            }
            Step::Append(what, bytes, left_out) => {
                let Some(view) = self.views[what] else { return };
                let frame = self.frame(bytes);
                let expected =
                    (0..4).filter(|who| self.subscribes.contains(&(*who, what)) && left_out != Some(*who));
                let mut count = 0;
                for who in expected {
                    self.waits_for[who].extend_from_slice(&frame);
                    count += 1;
                }
                let write = |out: &mut Vec<u8>| out.extend_from_slice(&frame);
                let told = match left_out {
                    None => self.fanout.append(&mut self.sessions, view, write),
                    Some(who) => {
                        self.fanout.append_leaving_out(&mut self.sessions, view, self.slots[who], write)
                    }
                };
                assert_eq!(told, count);
            }
            Step::Say(who, bytes) => {
                let frame = self.frame(bytes);
                let slot = self.slots[who];
                self.fanout.frames(&mut self.sessions[slot], slot).extend_from_slice(&frame);
                self.waits_for[who].extend_from_slice(&frame);
            }
            Step::Flush(steps, bytes) => {
                for _ in 0..steps {
                    self.send(bytes.into());
                }
            }
            Step::Writable(who) => {
                let slot = self.slots[who];
                self.sessions[slot].connection.sent(self.now, 0, false);
                self.fanout.enqueue(&mut self.sessions[slot], slot);
            }
            Step::Subscribe(..) | Step::Unsubscribe(..) => {}
        }
    }

    /// One step of the flush; whether there was one.
    fn send(&mut self, most: usize) -> bool {
        let Some(FlushStep::Send(slot)) = self.fanout.next_step(&mut self.sessions, false) else {
            return false;
        };
        let session = &mut self.sessions[slot];
        let who = self.slots.iter().position(|of| *of == slot).unwrap();
        let offered = self.fanout.pending(session);
        let count = offered.len().min(most);
        assert!(!offered.is_empty() && self.waits_for[who].starts_with(offered));
        let all = self.fanout.sent(session, slot, count);
        session.connection.sent(self.now, count, !all);
        self.waits_for[who].drain(..count);
        true
    }
}

proptest! {
    #[test]
    fn everybody_takes_what_a_naive_fan_out_gives_him(steps in proptest::collection::vec(step(), 1..60)) {
        let mut naive = Naive::new();
        for step in steps {
            naive.take(&step);
        }
        for who in 0..4 {
            naive.take(&Step::Writable(who));
        }
        while naive.send(usize::MAX) {}
        prop_assert!(naive.waits_for.iter().all(Vec::is_empty));
        prop_assert_eq!((naive.fanout.log_bytes(), naive.fanout.fresh_bytes()), (0, 0));
    }
}
