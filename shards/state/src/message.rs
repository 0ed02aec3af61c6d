//! What shards say to each other.
//!
//! A shard asks whoever owns something by an [`OwnerRequest`]: the owner of a channel, the shard that counts an
//! address, or the exchange, which owns the triggers. What the owner says unasked is an [`OwnerEvent`].

use std::{net::IpAddr, sync::Arc};

use webrocket_wire::{ChannelName, MemberData, SharedPublication, Trigger};

use crate::{
    command::{Found, Ticket},
    encoding::{Encoding, Made},
    event::ChannelEvent,
    ids::{ChannelRef, RequestRef, SessionRef},
    vhost::VhostId,
};

/// What one shard says to another, all of it in order between two shards.
#[derive(Debug)]
pub enum ShardMessage {
    /// To the owner.
    Request(OwnerRequest),
    /// From the owner, unasked.
    Event(OwnerEvent),
    /// From the owner: the answer to a request.
    Answer {
        /// The request.
        request: RequestRef,
        /// What the owner says.
        answer: Answer,
        /// The bytes of the broadcast or trigger that is answered: they are not open any more.
        bytes: usize,
    },
}

// Messages are copied into queues and out of them.
const _: () = assert!(size_of::<ShardMessage>() <= 64, "a message fits a cache line");

/// What an owner is asked or told.
#[derive(Debug)]
pub enum OwnerRequest {
    /// A session subscribes.
    Subscribe {
        /// The request to answer.
        request: RequestRef,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
        /// How the session receives.
        encoding: Encoding,
        /// Whether the session may create the channel where it does not exist.
        may_create: bool,
        /// Who joins, on presence channels.
        joining: Option<Box<Joining>>,
    },
    /// Does the channel exist?
    Find {
        /// The request to answer.
        request: RequestRef,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
    },
    /// Order this broadcast and deliver it.
    Publish {
        /// The request to answer.
        request: RequestRef,
        /// The channel's vhost.
        vhost: VhostId,
        /// Its name.
        channel: ChannelName,
        /// What subscribers receive.
        publication: SharedPublication,
    },
    /// To the exchange: somebody shall handle this.
    Trigger {
        /// The request to answer.
        request: RequestRef,
        /// The session's vhost.
        vhost: VhostId,
        /// What is to be handled.
        trigger: Trigger,
    },
    /// To the shard that counts an address: may one more connection come from there?
    Admit {
        /// The request to answer.
        request: RequestRef,
        /// The vhost that the connection is for.
        vhost: VhostId,
        /// Where it comes from.
        address: IpAddr,
        /// How many there may be.
        max: u32,
    },
    /// To the shard that counts an address: an admitted connection is over. Not answered.
    Dismiss {
        /// The vhost that the connection was for.
        vhost: VhostId,
        /// Where it came from.
        address: IpAddr,
    },
    /// One subscription of the sending shard is over. Not answered.
    Leave {
        /// The channel.
        channel: ChannelRef,
        /// Whose it was.
        session: SessionRef,
        /// How it received.
        encoding: Encoding,
        /// What it said when it left.
        data: MemberData,
    },
    /// [`OwnerEvent::FencePassed`] shall follow when everything that the sender said before has been taken.
    Fence(Waiter),
}

impl OwnerRequest {
    /// What a request is open for at its owner, in bytes of a broadcast or trigger; `None` if nobody answers it.
    #[must_use]
    pub fn open_bytes(&self) -> Option<usize> {
        match self {
            Self::Publish { publication, .. } => Some(publication.len()),
            Self::Trigger { trigger, .. } => Some(trigger.bytes()),
            Self::Subscribe { .. } | Self::Find { .. } | Self::Admit { .. } => Some(0),
            Self::Dismiss { .. } | Self::Leave { .. } | Self::Fence(_) => None,
        }
    }
}

/// What an owner says unasked.
#[derive(Debug)]
pub enum OwnerEvent {
    /// Tell this your subscribers of the channel.
    Deliver {
        /// The channel.
        channel: ChannelRef,
        /// What they are told.
        event: ChannelEvent,
        /// Its frames in the encodings that the owner makes.
        made: Made,
    },
    /// The channel is closed; its subscribers are no more.
    Closed {
        /// The channel.
        channel: ChannelRef,
    },
    /// Everything that the receiver said before this fence has been taken.
    FencePassed(Waiter),
}

/// What waits until another shard has taken everything that was said to it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter {
    /// A request of a session.
    Request(RequestRef),
    /// A command of the control thread.
    Command(Ticket<()>),
}

/// An owner's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The session is counted as a subscriber; what follows from the owner is for it too.
    Subscribed {
        /// The channel.
        channel: ChannelRef,
        /// How it was counted to receive.
        encoding: Encoding,
        /// On presence channels: those present before, and how many there are in all.
        present: Option<Box<Present>>,
    },
    /// The channel exists.
    Found,
    /// The broadcast has its place in the channel's order, and every shard concerned has room for it.
    Published,
    /// There is no such channel.
    ChannelNotFound,
    /// The vhost has as many channels as its settings allow.
    ChannelLimit,
    /// The connection is counted; [`OwnerRequest::Dismiss`] takes it back.
    Admitted {
        /// The vhost that it is for.
        vhost: VhostId,
        /// Where it comes from.
        address: IpAddr,
    },
    /// There are as many connections from the address as may be.
    TooManyConnections,
    /// A worker has the trigger, or it waits for one.
    Triggered,
    /// No worker can take the trigger.
    AssignationFailed,
}

/// Who joins a presence channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// By what others know the subscriber.
    pub uid: Arc<str>,
    /// What it shows of itself.
    pub data: MemberData,
    /// Whether nobody is to know.
    pub hidden: bool,
}

/// Who is present, at most 1,000 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The visible subscribers in order of joining, as JSON objects separated by commas. Shared by all who
    /// are given the same list.
    pub list: Arc<str>,
    /// How many there are, if the list is cut.
    pub total: Option<u64>,
}

impl Present {
    /// As a reply names them.
    #[must_use]
    pub fn as_reply(&self) -> webrocket_wire::Present<'_> {
        webrocket_wire::Present { list: &self.list, total: self.total }
    }
}

/// Who broadcasts, and is told when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// A session.
    Session(RequestRef),
    /// A backend, through the control thread.
    Backend(Ticket<Found>),
}
