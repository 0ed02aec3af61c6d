//! The open requests of one session: answers leave in the order of the requests, whichever shard
//! gives them and whenever.

use std::{collections::VecDeque, sync::Arc};

use webrocket_wire::{ChannelKind, ChannelName, MemberData, SharedPublication, Status, wwfp::Reference};

use crate::ids::ShardId;

/// A request that waits for somebody's answer, with what its answer will need.
#[derive(Debug)]
pub enum Open {
    /// At the channel's owner.
    Subscribe(ChannelName),
    /// At the channel's owner, with what the session says when it leaves.
    Unsubscribe(ChannelName, MemberData),
    /// At the owners of the channels that the session has left: how many of them have not confirmed it yet, and
    /// what follows when all have.
    Leave(usize, Completion),
    /// At the channel's owner: the request fails in any case, with this status if the channel exists.
    Fail(Status),
    /// At the channel's owner.
    Broadcast {
        /// Where to.
        channel: ChannelName,
        /// What the publication counts for.
        bytes: usize,
    },
    /// At the exchange.
    Trigger {
        /// The event's name, a raw JSON string.
        event: Box<str>,
        /// What the trigger counts for.
        bytes: usize,
    },
    /// At the exchange: once the trigger has its place, the broadcast goes to its channel's owner.
    TriggeringBroadcast {
        /// Where to.
        channel: ChannelName,
        /// What subscribers will receive.
        publication: SharedPublication,
        /// What the trigger counts for.
        bytes: usize,
    },
    /// At the control thread.
    Authenticate,
    /// At the control thread.
    OpenChannel(ChannelName),
    /// At the control thread.
    CloseChannel(ChannelName),
}

/// What follows when the owners of all channels that a session has left have confirmed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// The session is told that it does not subscribe the channel.
    Unsubscribed(ChannelName),
    /// The session is told who it is.
    Authenticated(Arc<str>),
    /// The session is told that it is anonymous again.
    LoggedOut,
    /// The connection is closed.
    Disconnected,
    /// The session is told that it ends, and the connection is closed.
    Closed,
}

impl Open {
    fn bytes(&self) -> usize {
        match self {
            Self::Broadcast { bytes, .. } | Self::Trigger { bytes, .. } => *bytes,
            Self::TriggeringBroadcast { publication, bytes, .. } => publication.len() + bytes,
            Self::Subscribe(_)
            | Self::Unsubscribe(..)
            | Self::Leave(..)
            | Self::Fail(_)
            | Self::Authenticate
            | Self::OpenChannel(_)
            | Self::CloseChannel(_) => 0,
        }
    }
}

/// Who answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answerer {
    /// The channel's owner or the exchange, at once when it comes to the request: its answers arrive
    /// in order.
    Owner(ShardId),
    /// The owner, perhaps later than to requests behind this one.
    Whenever,
    /// Somebody on whose answer it depends what later requests find: they wait for it.
    Barrier,
}

#[derive(Debug)]
enum Slot {
    Waits(Open, Option<Reference>),
    /// Encoded, waiting for those before it.
    Ready(Vec<u8>),
}

/// The open requests of a session, oldest first.
#[derive(Debug)]
pub struct Answers {
    /// The number of the oldest.
    first: u32,
    slots: VecDeque<Slot>,
    bytes: usize,
    /// The one owner that answers all of them in order, if there is one.
    in_order: Option<ShardId>,
    has_barrier: bool,
}

impl Answers {
    /// No request is open; the next one is `number`.
    #[must_use]
    pub fn new(number: u32) -> Self {
        Self { first: number, slots: VecDeque::new(), bytes: 0, in_order: None, has_barrier: false }
    }

    /// How many requests are open, those included whose answer waits for another's.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no request is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The bytes of open broadcasts and triggers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all open requests are answered by `owner` in order.
    #[must_use]
    pub fn are_in_order_at(&self, owner: ShardId) -> bool {
        self.in_order == Some(owner)
    }

    /// Whether a request is open for which later ones must wait.
    #[must_use]
    pub fn has_barrier(&self) -> bool {
        self.has_barrier
    }

    /// How many subscriptions are being asked for.
    #[must_use]
    pub fn subscribes(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Waits(Open::Subscribe(_), _))).count()
    }

    /// Whether the end of a subscription of `channel` is being asked for.
    fn unsubscribes(&self, channel: &ChannelName) -> bool {
        self.slots.iter().any(|slot| match slot {
            Slot::Waits(Open::Unsubscribe(of, _) | Open::Leave(_, Completion::Unsubscribed(of)), _) => {
                of == channel
            }
            Slot::Waits(..) | Slot::Ready(_) => false,
        })
    }

    /// Whether the begin or end of a subscription of `channel` is being asked for.
    #[must_use]
    pub fn changes(&self, channel: &ChannelName) -> bool {
        let subscribes = |slot: &Slot| matches!(slot, Slot::Waits(Open::Subscribe(of), _) if of == channel);
        self.slots.iter().any(subscribes) || self.unsubscribes(channel)
    }

    /// Whether a list of those present is being asked for.
    #[must_use]
    pub fn awaits_list(&self) -> bool {
        let is_presence = |channel: &ChannelName| channel.kind() == ChannelKind::Presence;
        self.slots.iter().any(|slot| matches!(slot, Slot::Waits(Open::Subscribe(of), _) if is_presence(of)))
    }

    /// Opens a request; returns its number.
    pub fn push(&mut self, open: Open, answerer: Answerer, reference: Option<Reference>) -> u32 {
        self.in_order = match answerer {
            Answerer::Owner(owner) if self.is_empty() || self.in_order == Some(owner) => Some(owner),
            Answerer::Owner(_) | Answerer::Whenever | Answerer::Barrier => None,
        };
        self.has_barrier |= answerer == Answerer::Barrier;
        self.bytes += open.bytes();
        self.slots.push_back(Slot::Waits(open, reference));
        self.first.wrapping_add(u32::try_from(self.slots.len() - 1).expect("requests are bounded"))
    }

    /// Queues an answer that is known already behind the open requests.
    pub fn push_ready(&mut self, frames: Vec<u8>) {
        assert!(!self.is_empty(), "with no request open, answers go straight to the peer");
        self.slots.push_back(Slot::Ready(frames));
    }

    /// What request `number` asked; `None` if it is not open.
    pub fn open(&mut self, number: u32) -> Option<&Open> {
        match self.slots.get(self.index_of(number)?) {
            Some(Slot::Waits(open, _)) => Some(open),
            Some(Slot::Ready(_)) | None => None,
        }
    }

    /// Request `number` goes on: from now on it waits for what `open` says.
    pub fn go_on(&mut self, number: u32, open: Open) {
        let index = self.index_of(number).expect("an open request");
        let Slot::Waits(before, _) = &mut self.slots[index] else {
            panic!("an answered request cannot go on");
        };
        self.bytes = self.bytes - before.bytes() + open.bytes();
        *before = open;
    }

    /// One of the owners that request `number` waits for has confirmed that the session left; what follows if it
    /// was the last.
    pub fn confirm_leave(&mut self, number: u32) -> Option<Completion> {
        let index = self.index_of(number)?;
        let Slot::Waits(Open::Leave(owners, completion), _) = &mut self.slots[index] else { return None };
        *owners -= 1;
        (*owners == 0).then(|| completion.clone())
    }

    /// What the client calls request `number`.
    pub fn take_reference(&mut self, number: u32) -> Option<Reference> {
        match self.slots.get_mut(self.index_of(number)?) {
            Some(Slot::Waits(_, reference)) => reference.take(),
            Some(Slot::Ready(_)) | None => None,
        }
    }

    /// Puts the encoded answer of request `number` into its place.
    pub fn complete(&mut self, number: u32, frames: Vec<u8>) {
        let index = self.index_of(number).expect("an open request");
        let Slot::Waits(open, _) = std::mem::replace(&mut self.slots[index], Slot::Ready(frames)) else {
            panic!("a request was answered twice");
        };
        self.bytes -= open.bytes();
    }

    /// The next answer whose turn it is.
    pub fn next_ready(&mut self) -> Option<Vec<u8>> {
        let frames = match self.slots.front_mut()? {
            Slot::Waits(..) => return None,
            Slot::Ready(frames) => std::mem::take(frames),
        };
        self.slots.pop_front();
        self.first = self.first.wrapping_add(1);
        if self.is_empty() {
            self.in_order = None;
            self.has_barrier = false;
        }
        Some(frames)
    }

    /// The number after the youngest.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.slots.len()).expect("requests are bounded"))
    }

    fn index_of(&self, number: u32) -> Option<usize> {
        let index = usize::try_from(number.wrapping_sub(self.first)).ok()?;
        (index < self.slots.len()).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use webrocket_wire::{Json, Publication};

    use super::*;

    fn channel() -> ChannelName {
        "a".parse().unwrap()
    }

    #[test]
    fn answers_leave_in_the_order_of_requests() {
        let mut answers = Answers::new(u32::MAX);
        let first = answers.push(Open::Broadcast { channel: channel(), bytes: 10 }, Answerer::Whenever, None);
        answers.push_ready(b"second".to_vec());
        let third = answers.push(Open::Subscribe(channel()), Answerer::Owner(ShardId(1)), None);
        assert_eq!((first, third, answers.bytes(), answers.subscribes()), (u32::MAX, 1, 10, 1));
        answers.complete(third, b"third".to_vec());
        assert_eq!(answers.next_ready(), None);
        assert!(answers.open(third).is_none());
        answers.complete(first, b"first".to_vec());
        let left: Vec<_> = std::iter::from_fn(|| answers.next_ready()).collect();
        assert_eq!(left, [b"first".to_vec(), b"second".to_vec(), b"third".to_vec()]);
        assert!(answers.is_empty() && answers.next_number() == 2 && answers.bytes() == 0);
    }

    #[test]
    fn a_request_that_goes_on_keeps_its_place() {
        let mut answers = Answers::new(0);
        let publication = Publication::direct(Json::parse("\"event\"").unwrap(), None).share();
        let bytes = publication.len() + 3;
        let open = Open::TriggeringBroadcast { channel: channel(), publication, bytes: 3 };
        let first = answers.push(open, Answerer::Barrier, None);
        answers.push_ready(b"second".to_vec());
        assert_eq!((answers.bytes(), answers.has_barrier()), (bytes, true));
        answers.go_on(first, Open::Broadcast { channel: channel(), bytes: 7 });
        assert_eq!((answers.bytes(), answers.has_barrier()), (7, true));
        assert!(answers.next_ready().is_none());
        answers.complete(first, b"first".to_vec());
        let left: Vec<_> = std::iter::from_fn(|| answers.next_ready()).collect();
        assert_eq!(left, [b"first".to_vec(), b"second".to_vec()]);
        assert_eq!((answers.bytes(), answers.has_barrier()), (0, false));
    }

    #[test]
    fn one_owner_answers_in_order_until_somebody_else_is_asked() {
        let mut answers = Answers::new(0);
        assert!(!answers.are_in_order_at(ShardId(1)));
        answers.push(Open::Subscribe(channel()), Answerer::Owner(ShardId(1)), None);
        assert!(answers.are_in_order_at(ShardId(1)) && !answers.are_in_order_at(ShardId(2)));
        answers.push(Open::Broadcast { channel: channel(), bytes: 1 }, Answerer::Whenever, None);
        answers.push(Open::Subscribe(channel()), Answerer::Owner(ShardId(1)), None);
        assert!(!answers.are_in_order_at(ShardId(1)));
    }
}
