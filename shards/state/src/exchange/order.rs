//! What an exchange tells its driver to send.

use std::sync::Arc;

use webrocket_wire::{SingleAccessToken, Status, Trigger, VhostPath, wbp::ServerMessage};

use super::ids::{PeerName, TriggerId, WorkerRef};
use crate::vhost::VhostId;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeOrder {
    /// A message to a peer.
    Send {
        /// Whom to.
        peer: PeerName,
        /// What.
        message: PeerMessage,
    },
    /// A copy of a trigger to all streams that subscribe it, as topic `<vhost>:<event>`.
    Stream {
        /// The vhost.
        vhost: VhostPath,
        /// What.
        trigger: Arc<Trigger>,
    },
    /// Cut off the connections of streams that were let in with this vhost's earlier passes: their
    /// [`Exchange::is_valid`](super::Exchange::is_valid) is false.
    CutStreams {
        /// The vhost.
        vhost: VhostId,
    },
    /// A trigger was given to so many workers in vain that it is given up: to be logged.
    GiveUp {
        /// The vhost.
        vhost: VhostPath,
        /// The event's name; what else it says is the application's business.
        event: Box<str>,
    },
    /// All is done: the exchange can end.
    Stop,
}

/// A message to a peer; see [`webrocket_wire::wbp::ServerMessage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// Done.
    Done,
    /// A single access token.
    Token(Box<SingleAccessToken>),
    /// Those present on a channel, the text of a JSON array.
    Present(Box<str>),
    /// An error.
    Error(Status),
    /// A trigger for a worker.
    Trigger {
        /// The worker.
        worker: WorkerRef,
        /// The trigger.
        trigger: Arc<Trigger>,
        /// Which one.
        id: TriggerId,
        /// Whether the worker acknowledges, and so is told the id.
        is_acknowledged: bool,
    },
    /// A heartbeat.
    Heartbeat,
    /// The peer shall reconnect, or go.
    Quit,
}

impl PeerMessage {
    /// As it is encoded.
    #[must_use]
    pub fn on_the_wire(&self) -> ServerMessage<'_> {
        match self {
            Self::Done => ServerMessage::Done,
            Self::Token(token) => ServerMessage::Token(token),
            Self::Present(list) => ServerMessage::Present(list),
            Self::Error(status) => ServerMessage::Error(*status),
            Self::Trigger { trigger, id, is_acknowledged, .. } => {
                ServerMessage::Trigger(trigger, is_acknowledged.then_some(id.0))
            }
            Self::Heartbeat => ServerMessage::Heartbeat,
            Self::Quit => ServerMessage::Quit,
        }
    }
}
