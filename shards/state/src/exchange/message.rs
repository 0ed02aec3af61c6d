//! What the control thread and the exchange say to each other.

use std::{collections::BTreeSet, sync::Arc};

use uuid::Uuid;
use webrocket_wire::{
    AccessToken, BackendKey, ChannelName, Member, SharedPublication, SingleAccessToken, Status, Trigger,
};

use super::{Filter, QueueInfo, TriggerId, WorkerInfo};
use crate::{
    command::{Changed, Ticket, VhostNotFound},
    ids::RequestRef,
    vhost::{Vhost, VhostId},
};

/// A command of the control thread to the exchange.
#[derive(Debug)]
pub enum ExchangeCommand {
    /// A vhost was added or changed.
    PutVhost {
        /// Names this command in its reply.
        ticket: Ticket<()>,
        /// The new snapshot.
        vhost: Arc<Vhost>,
    },
    /// A vhost is gone: its backends are cut off, what waits for its workers is dropped.
    RemoveVhost {
        /// Names this command in its reply.
        ticket: Ticket<()>,
        /// Which one.
        vhost: VhostId,
    },
    /// The vhost's backends present this token, or one of these keys, from now on. If they could present
    /// something else before, all of them are cut off. Comes before the vhost's first
    /// [`ExchangeCommand::PutVhost`].
    PutAccess {
        /// Names this command in its reply.
        ticket: Ticket<()>,
        /// The vhost.
        vhost: VhostId,
        /// The token.
        token: AccessToken,
        /// The keys; none of them is another vhost's.
        keys: Arc<BTreeSet<BackendKey>>,
    },
    /// The answer to [`ExchangeReport::AskForClient`].
    ClientAnswered {
        /// The request that asked.
        request: RequestRef,
        /// What came of it.
        answer: ClientAnswer,
    },
    /// Somebody takes events over HTTP.
    OpenSource {
        /// Names this command in its reply.
        ticket: Ticket<SourceOpened>,
        /// What the control thread calls it; never given twice.
        source: SourceId,
        /// The vhost.
        vhost: VhostId,
        /// Which events it takes.
        filter: Filter,
        /// Whether it is a worker, and for how many events there is room on its way.
        mode: SourceMode,
    },
    /// An event of [`ExchangeReport::SourceEvent`] has left for its peer. Not replied.
    SourceTook {
        /// Who took it.
        source: SourceId,
        /// Which one.
        id: TriggerId,
    },
    /// Nobody takes these events any more. Not replied.
    CloseSource {
        /// Who.
        source: SourceId,
    },
    /// Asks for a vhost's workers, in the order in which they came.
    ListWorkers {
        /// Names this command in its reply.
        ticket: Ticket<Vec<WorkerInfo>>,
        /// The vhost.
        vhost: VhostId,
    },
    /// Asks for what waits for a vhost's workers.
    ShowQueue {
        /// Names this command in its reply.
        ticket: Ticket<QueueShown>,
        /// The vhost.
        vhost: VhostId,
    },
    /// The answer to [`ExchangeReport::OpenChannel`] or [`ExchangeReport::CloseChannel`].
    ChannelChanged {
        /// The request that asked.
        request: RequestRef,
        /// What came of it.
        outcome: Changed,
    },
    /// Everything stored is in effect: backends may connect. Not replied.
    Serve,
    /// Tell all workers to go, then stop. Not replied.
    Shutdown,
}

/// Replied to [`ExchangeCommand::OpenSource`], once it is given events.
pub type SourceOpened = Result<(), VhostNotFound>;

/// Replied to [`ExchangeCommand::ShowQueue`].
pub type QueueShown = Result<QueueInfo, VhostNotFound>;

/// The exchange's reply to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeReply {
    /// To [`ExchangeCommand::PutVhost`], [`ExchangeCommand::RemoveVhost`] or [`ExchangeCommand::PutAccess`]: it is in
    /// effect.
    Applied(Ticket<()>),
    /// To [`ExchangeCommand::OpenSource`].
    SourceOpened(Ticket<SourceOpened>, SourceOpened),
    /// To [`ExchangeCommand::ListWorkers`].
    Workers(Ticket<Vec<WorkerInfo>>, Vec<WorkerInfo>),
    /// To [`ExchangeCommand::ShowQueue`].
    Queue(Ticket<QueueShown>, QueueShown),
}

/// The exchange's word to the control thread.
#[derive(Debug)]
pub enum ExchangeReport {
    /// A command was carried out.
    Replied(ExchangeReply),
    /// A client opens a channel. Answered by [`ExchangeCommand::ChannelChanged`].
    OpenChannel {
        /// The request that asks.
        request: RequestRef,
        /// The client's vhost.
        vhost: VhostId,
        /// The channel.
        channel: ChannelName,
    },
    /// A client closes a channel. Answered by [`ExchangeCommand::ChannelChanged`].
    CloseChannel {
        /// The request that asks.
        request: RequestRef,
        /// The client's vhost.
        vhost: VhostId,
        /// The channel.
        channel: ChannelName,
    },
    /// A client of the exchange asks. Answered by [`ExchangeCommand::ClientAnswered`].
    AskForClient {
        /// The request that asks.
        request: RequestRef,
        /// The client's vhost.
        vhost: VhostId,
        /// What it asks.
        question: ClientQuestion,
    },
    /// An event for somebody who takes them over HTTP.
    SourceEvent {
        /// Whom it is for.
        source: SourceId,
        /// What [`ExchangeCommand::SourceTook`] names it by.
        id: TriggerId,
        /// The event.
        trigger: Arc<Trigger>,
    },
    /// Somebody who takes events over HTTP is to be cut off: the vhost, or its access token, is not what it was.
    SourceClosed {
        /// Who.
        source: SourceId,
    },
}

/// What the control thread calls somebody who takes events over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u64);

/// How events are taken over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceMode {
    /// As a worker: each event goes to one of them.
    Worker {
        /// How many events may be on their way, not yet taken by [`ExchangeCommand::SourceTook`].
        window: u32,
    },
    /// A copy of every event; while so many are on their way, further ones are left out.
    Stream {
        /// How many.
        window: u32,
    },
}

/// What a client of the exchange asks of the control thread.
#[derive(Debug)]
pub enum ClientQuestion {
    /// A single access token. [`ClientAnswer::Token`] or [`ClientAnswer::Refused`].
    IssueToken {
        /// Whom it is for, unchecked.
        uid: Box<str>,
        /// Regular expression on channels, unchecked.
        pattern: Box<str>,
    },
    /// To send one session a message. [`ClientAnswer::Done`] or [`ClientAnswer::Refused`].
    SendMessage {
        /// The session.
        sid: Uuid,
        /// What it receives.
        message: SharedPublication,
    },
    /// Who is present on a channel. [`ClientAnswer::Present`] or [`ClientAnswer::Refused`].
    ListMembers {
        /// The channel.
        channel: ChannelName,
    },
}

/// What comes of a [`ClientQuestion`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAnswer {
    /// It was done.
    Done,
    /// The token.
    Token(Box<SingleAccessToken>),
    /// Those present in order of joining; empty on channels that do not track them.
    Present(Vec<Member>),
    /// It was refused.
    Refused(Status),
}
