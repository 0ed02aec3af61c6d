//! The open requests of one client: they take effect in their order, and are answered in it.
//!
//! Broadcasts are pipelined: they wait for nobody but a request of another kind, because their
//! owners order them. Everything else begins when all before it is answered, and what comes
//! behind it waits.
//!
//! Does not: ask anybody, or send anything.

use std::collections::VecDeque;

use webrocket_wire::{ChannelName, SharedPublication, Status};

use super::{PeerMessage, message::ClientQuestion};
use crate::ids::ShardId;

/// The most requests of one client that are not answered. One more is refused, in its place.
pub const CLIENT_REQUESTS_MAX: usize = 1_000;

/// The most bytes of them.
pub const CLIENT_BYTES_MAX: usize = 16 << 20;

/// What a client asks, checked as far as it can be without asking anybody.
#[derive(Debug)]
pub(super) enum Request {
    Broadcast { owner: ShardId, channel: ChannelName, publication: SharedPublication },
    OpenChannel(ChannelName),
    CloseChannel(ChannelName),
    Ask(ClientQuestion),
}

impl Request {
    /// What it counts for while it is open.
    fn bytes(&self) -> usize {
        match self {
            Self::Broadcast { publication: sent, .. }
            | Self::Ask(ClientQuestion::SendMessage { message: sent, .. }) => sent.len(),
            Self::OpenChannel(channel)
            | Self::CloseChannel(channel)
            | Self::Ask(ClientQuestion::ListMembers { channel }) => channel.as_str().len(),
            Self::Ask(ClientQuestion::IssueToken { uid, pattern }) => uid.len() + pattern.len(),
        }
    }

    fn is_pipelined(&self) -> bool {
        matches!(self, Self::Broadcast { .. })
    }
}

#[derive(Debug)]
enum Place {
    Waits(Request),
    /// Somebody was asked.
    Open {
        bytes: usize,
    },
    /// Answered, behind requests that are not.
    Ready(PeerMessage),
    /// So many requests in a row that were over the bound: however many, they take one place.
    Refused(u64),
}

/// The requests of a client that are not answered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Requests {
    places: VecDeque<Place>,
    /// The number of the oldest.
    first: u32,
    /// How many places from the front do not wait.
    begun: usize,
    bytes: usize,
    /// How many requests stand in all places.
    unanswered: u64,
    /// The request that is open is one that others wait for.
    is_held: bool,
}

impl Requests {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Adds a request, or the error that it ends with; one over the bounds is refused.
    pub(super) fn push(&mut self, request: Result<Request, Status>) {
        self.unanswered += 1;
        let bytes = request.as_ref().map_or(0, Request::bytes);
        if self.places.len() >= CLIENT_REQUESTS_MAX || self.bytes + bytes > CLIENT_BYTES_MAX {
            return match self.places.back_mut() {
                Some(Place::Refused(times)) => *times += 1,
                _ => self.places.push_back(Place::Refused(1)),
            };
        }
        self.bytes += bytes;
        self.places.push_back(match request {
            Ok(request) => Place::Waits(request),
            Err(status) => Place::Ready(PeerMessage::Error(status)),
        });
    }

    /// The request that may begin now.
    pub(super) fn next_to_begin(&mut self) -> Option<&Request> {
        while matches!(self.places.get(self.begun), Some(Place::Ready(_) | Place::Refused(_))) {
            self.begun += 1;
        }
        let Some(Place::Waits(request)) = self.places.get(self.begun) else { return None };
        let may_begin = self.begun == 0 || (request.is_pipelined() && !self.is_held);
        may_begin.then_some(request)
    }

    /// Begins the request of [`Requests::next_to_begin`]; returns its number too.
    pub(super) fn begin(&mut self) -> (u32, Request) {
        let place = &mut self.places[self.begun];
        let Place::Waits(request) = std::mem::replace(place, Place::Open { bytes: 0 }) else {
            panic!("a request begins once");
        };
        *place = Place::Open { bytes: request.bytes() };
        self.is_held = !request.is_pipelined();
        let number = self.first.wrapping_add(u32::try_from(self.begun).expect("requests are bounded"));
        self.begun += 1;
        (number, request)
    }

    /// Ends the request `number`, which was begun.
    pub(super) fn complete(&mut self, number: u32, message: PeerMessage) {
        let index = number.wrapping_sub(self.first) as usize;
        let place = self.places.get_mut(index).expect("an open request");
        let Place::Open { bytes } = std::mem::replace(place, Place::Ready(message)) else {
            panic!("a request is answered once");
        };
        self.bytes -= bytes;
        self.is_held = false;
    }

    /// The next reply whose turn it is, and how often it is given.
    pub(super) fn next_reply(&mut self) -> Option<(PeerMessage, u64)> {
        if matches!(self.places.front()?, Place::Waits(_) | Place::Open { .. }) {
            return None;
        }
        let reply = match self.places.pop_front()? {
            Place::Ready(message) => (message, 1),
            Place::Refused(times) => (PeerMessage::Error(Status::TooManyRequests), times),
            Place::Waits(_) | Place::Open { .. } => unreachable!("looked at before"),
        };
        self.first = self.first.wrapping_add(1);
        self.begun = self.begun.saturating_sub(1);
        self.unanswered -= reply.1;
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use webrocket_wire::{Json, Publication};

    use super::*;

    /// A broadcast that counts for so many bytes, or for as few as one can.
    fn broadcast(bytes: usize) -> Request {
        let channel = "a".parse().unwrap();
        let named = |letters: usize| {
            let event = format!("\"{}\"", "e".repeat(letters));
            Publication::direct(Json::parse(&event).unwrap(), None).share()
        };
        let publication = named(bytes.saturating_sub(named(0).len()));
        Request::Broadcast { owner: ShardId(0), channel, publication }
    }

    fn open_channel() -> Request {
        Request::OpenChannel("a".parse().unwrap())
    }

    fn begin(requests: &mut Requests) -> Option<u32> {
        requests.next_to_begin().is_some().then(|| requests.begin().0)
    }

    #[test]
    fn other_requests_wait_and_are_waited_for() {
        let mut requests = Requests::default();
        for request in [broadcast(3), broadcast(3), open_channel(), broadcast(3)] {
            requests.push(Ok(request));
        }
        assert_eq!((begin(&mut requests), begin(&mut requests)), (Some(0), Some(1)));
        assert_eq!(begin(&mut requests), None);
        requests.complete(1, PeerMessage::Done);
        assert_eq!(requests.next_reply(), None);
        requests.complete(0, PeerMessage::Done);
        while requests.next_reply().is_some() {}
        assert_eq!((begin(&mut requests), begin(&mut requests)), (Some(2), None));
        requests.complete(2, PeerMessage::Error(Status::ChannelLimit));
        assert_eq!(begin(&mut requests), Some(3), "its answer need not have left");
        assert_eq!(requests.next_reply(), Some((PeerMessage::Error(Status::ChannelLimit), 1)));
    }

    #[test]
    fn what_is_over_the_bounds_takes_one_place() {
        let mut requests = Requests::default();
        for _ in 0..CLIENT_REQUESTS_MAX {
            requests.push(Ok(open_channel()));
        }
        for _ in 0..1_000_000 {
            requests.push(Ok(open_channel()));
        }
        assert_eq!(requests.places.len(), CLIENT_REQUESTS_MAX + 1);
        for _ in 0..CLIENT_REQUESTS_MAX {
            let number = begin(&mut requests).unwrap();
            requests.complete(number, PeerMessage::Done);
            assert_eq!(requests.next_reply(), Some((PeerMessage::Done, 1)));
        }
        let refused = PeerMessage::Error(Status::TooManyRequests);
        assert_eq!(requests.next_reply(), Some((refused, 1_000_000)));
        assert!(requests.is_empty() && requests.unanswered() == 0);
    }

    #[test]
    fn bytes_are_bounded() {
        let mut requests = Requests::default();
        requests.push(Ok(broadcast(CLIENT_BYTES_MAX)));
        requests.push(Ok(broadcast(3)));
        assert_eq!((begin(&mut requests), begin(&mut requests)), (Some(0), None));
        requests.complete(0, PeerMessage::Done);
        requests.push(Ok(broadcast(3)));
        assert_eq!(begin(&mut requests), Some(2), "answered ones count no more");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Broadcast,
        Ask,
        Fail,
        Begin,
        Complete(usize),
        Reply,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Broadcast),
            1 => Just(Step::Ask),
            1 => Just(Step::Fail),
            4 => Just(Step::Begin),
            4 => (0..8usize).prop_map(Step::Complete),
            2 => Just(Step::Reply),
        ]
    }

    proptest! {
        /// Whatever is answered when, replies come in order, and what is no broadcast is alone.
        #[test]
        fn replies_come_in_order(steps in proptest::collection::vec(step(), 0..200)) {
            let mut requests = Requests::default();
            // By number in order: what the reply must be; open ones, and whether each is a broadcast.
            let (mut pushed, mut replied) = (0_u32, 0_u32);
            let mut kinds = Vec::new();
            let mut open: BTreeMap<u32, bool> = BTreeMap::new();
            let present = |number: u32| PeerMessage::Present(number.to_string().into());
            for step in steps.into_iter().chain(std::iter::repeat_n([Step::Begin, Step::Complete(0), Step::Reply], 400).flatten()) {
                match step {
                    Step::Broadcast => requests.push(Ok(broadcast(3))),
                    Step::Ask => requests.push(Ok(open_channel())),
                    Step::Fail => requests.push(Err(Status::InvalidPayload)),
                    Step::Begin => {
                        if requests.next_to_begin().is_some() {
                            let (number, request) = requests.begin();
                            prop_assert!(open.is_empty() || (request.is_pipelined() && open.values().all(|kind| *kind)));
                            prop_assert!(request.is_pipelined() || number == replied);
                            open.insert(number, request.is_pipelined());
                        }
                    }
                    Step::Complete(index) => {
                        if let Some(number) = open.keys().nth(index % open.len().max(1)).copied() {
                            open.remove(&number);
                            requests.complete(number, present(number));
                        }
                    }
                    Step::Reply => {
                        if let Some((reply, times)) = requests.next_reply() {
                            let failed: bool = kinds[replied as usize];
                            let expected = if failed { PeerMessage::Error(Status::InvalidPayload) } else { present(replied) };
                            prop_assert_eq!((reply, times), (expected, 1));
                            replied += 1;
                        }
                    }
                }
                if u64::from(pushed - replied) < requests.unanswered() {
                    pushed += 1;
                    kinds.push(matches!(requests.places.back(), Some(Place::Ready(_))));
                }
            }
            prop_assert_eq!((replied, requests.is_empty(), requests.bytes), (pushed, true, 0));
        }
    }
}
