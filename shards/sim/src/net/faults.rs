//! Puts a fault in: into what is said between shards, at a moment at which somebody would notice.

use webrocket_state::{
    SessionRef, ShardMessage,
    event::ChannelEvent,
    ids::RequestRef,
    message::{Answer, OwnerEvent, OwnerRequest, Present, Waiter},
};

use super::{Actor, Net, Queue};
use crate::{canary::Canary, scenario::CHANNELS, time::Micros};

/// How much later a late leave arrives: long after its session has read that it left.
const LATE: Micros = 5_000_000;

impl Queue<ShardMessage> {
    /// Where the youngest leave of `session` waits.
    fn leave_of(&self, session: SessionRef) -> Option<usize> {
        self.entries.iter().rposition(
            |(_, message)| matches!(message, ShardMessage::Request(OwnerRequest::Leave { session: of, .. }) if *of == session),
        )
    }
}

impl Net {
    /// The fault to put in at this message, if it is its turn, it may be put in here, and somebody
    /// would notice.
    pub(super) fn fault(&mut self, from: usize, to: usize, message: &ShardMessage) -> Option<Canary> {
        let (canary, countdown) = self.canary?;
        let queue = &self.queues[from][to];
        let has_room = queue.entries.len() + 2 <= queue.capacity;
        if canary == Canary::LateLeave {
            return self.delays_leave(from, to, message).then_some(canary);
        }
        let (channel, listener) = match (canary, message) {
            (Canary::Drop, ShardMessage::Event(OwnerEvent::Deliver { event, .. })) => {
                (broadcast_on(event)?, None)
            }
            (Canary::Double, ShardMessage::Event(OwnerEvent::Deliver { event, .. })) if has_room => {
                (broadcast_on(event)?, None)
            }
            (Canary::Swap, ShardMessage::Event(OwnerEvent::Deliver { channel, event, .. })) => {
                let is_behind_another = queue.entries.back().is_some_and(|(_, before)| {
                    matches!(before, ShardMessage::Event(OwnerEvent::Deliver { channel: of, event, .. })
                        if of == channel && broadcast_on(event).is_some())
                });
                (broadcast_on(event).filter(|_| is_behind_another)?, None)
            }
            (Canary::LostLeave, ShardMessage::Event(OwnerEvent::Deliver { event, .. })) => {
                (presence_on(event, false)?, None)
            }
            (Canary::DoubledJoin, ShardMessage::Event(OwnerEvent::Deliver { event, .. })) if has_room => {
                (presence_on(event, true)?, None)
            }
            (Canary::ShortList, ShardMessage::Answer { request, answer, .. }) => {
                shortened(answer)?;
                let socket = self.sockets.iter().find(|socket| socket.session == Some(request.session))?;
                ("", Some(socket.browser))
            }
            _ => return None,
        };
        self.canary = Some((canary, countdown.saturating_sub(1)));
        let listens = |here: bool| {
            self.listeners.values().any(|(shard, own)| (*shard == to) == here && own.contains(&channel))
        };
        let is_noticed = match listener {
            Some(browser) => self.stayers.contains(&browser),
            // What is missing, or has changed places, shows beside what others were told.
            None if matches!(canary, Canary::Swap | Canary::Drop | Canary::LostLeave) => {
                listens(true) && listens(false)
            }
            None => listens(true),
        };
        (countdown <= 1 && is_noticed).then(|| {
            self.canary = None;
            self.counters.faults += 1;
            canary
        })
    }

    /// Whether a leave that waits in the queue is to arrive behind this fence.
    fn delays_leave(&mut self, from: usize, to: usize, message: &ShardMessage) -> bool {
        let ShardMessage::Request(OwnerRequest::Fence(Waiter::Request(RequestRef { session, .. }))) = message
        else {
            return false;
        };
        let socket = self.sockets.iter().find(|socket| socket.session == Some(*session));
        let is_member = socket.is_some_and(|socket| self.members.contains(&socket.browser));
        is_member && self.queues[from][to].leave_of(*session).is_some() && self.misdirects(Canary::LateLeave)
    }

    /// Whether this fault is to be put in at this opportunity.
    pub fn misdirects(&mut self, fault: Canary) -> bool {
        let Some((canary, countdown)) = self.canary.filter(|(canary, _)| *canary == fault) else {
            return false;
        };
        let is_now = countdown <= 1;
        self.canary = (!is_now).then_some((canary, countdown.saturating_sub(1)));
        self.counters.faults += u64::from(is_now);
        is_now
    }

    pub(super) fn send_faulty(
        &mut self,
        canary: Canary,
        from: usize,
        to: usize,
        at: Micros,
        message: ShardMessage,
    ) {
        let queue = &mut self.queues[from][to];
        match (canary, message) {
            (Canary::Drop | Canary::LostLeave, _) => {}
            (
                Canary::Double | Canary::DoubledJoin,
                ShardMessage::Event(OwnerEvent::Deliver { channel, event, made }),
            ) => {
                let again = ShardMessage::Event(OwnerEvent::Deliver {
                    channel,
                    event: event.clone(),
                    made: made.clone(),
                });
                queue.push(at, again);
                queue.push(at, ShardMessage::Event(OwnerEvent::Deliver { channel, event, made }));
            }
            (Canary::ShortList, ShardMessage::Answer { request, answer, bytes }) => {
                let answer = shortened(&answer).unwrap_or(answer);
                queue.push(at, ShardMessage::Answer { request, answer, bytes });
            }
            (Canary::LateLeave, ShardMessage::Request(OwnerRequest::Fence(Waiter::Request(request)))) => {
                let leave = queue.leave_of(request.session).and_then(|index| queue.entries.remove(index));
                let (_, leave) = leave.expect("a leave that waits");
                queue.push(at, ShardMessage::Request(OwnerRequest::Fence(Waiter::Request(request))));
                self.wakes.push((Actor::Shard(to), at));
                let at = queue.push(at + LATE, leave);
                return self.wakes.push((Actor::Shard(to), at));
            }
            (_, message) => {
                queue.push(at, message);
                let last = queue.entries.len() - 1;
                let (earlier, later) = (queue.entries[last - 1].0, queue.entries[last].0);
                queue.entries.swap(last - 1, last);
                (queue.entries[last - 1].0, queue.entries[last].0) = (earlier, later);
            }
        }
        self.wakes.push((Actor::Shard(to), at));
    }
}

/// The channel of a broadcast.
fn broadcast_on(event: &ChannelEvent) -> Option<&'static str> {
    match event {
        ChannelEvent::Published(_, publication) => {
            CHANNELS.into_iter().find(|channel| channel.as_bytes() == publication.parts().channel())
        }
        ChannelEvent::Presence(_) => None,
    }
}

/// The channel to which somebody has come, or from which somebody has gone.
fn presence_on(event: &ChannelEvent, joined: bool) -> Option<&'static str> {
    match event {
        ChannelEvent::Presence(change) if change.has_joined == joined => {
            CHANNELS.into_iter().find(|channel| *channel == change.channel.as_str())
        }
        ChannelEvent::Presence(_) | ChannelEvent::Published(..) => None,
    }
}

/// An answer whose list misses its last member, if there is one.
fn shortened(answer: &Answer) -> Option<Answer> {
    let Answer::Subscribed { channel, encoding, present: Some(present) } = answer else { return None };
    let start = present.list.rfind(r#"{"uid":"#)?;
    let list = present.list[..start].trim_end_matches(',').into();
    let present = Some(Box::new(Present { list, ..Present::clone(present) }));
    Some(Answer::Subscribed { channel: *channel, encoding: *encoding, present })
}
