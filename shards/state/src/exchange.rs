//! What the exchange decides: the backends' side of the broker, without a socket, a thread or a clock.
//!
//! The [`Exchange`] is told what its peers send, what shards and the control thread say, and the time;
//! it says what is to be sent. Peers are the connections of its ROUTER socket, *clients* and *workers*
//! alike; *sources* take events over HTTP, through the control thread; *streams* are the subscribers of
//! its XPUB socket. It takes part in what shards say to each other, so a client's broadcast reaches a
//! channel's owner like a session's, and a session's trigger comes here like a request to an owner.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`message`] | what the control thread and the exchange say to each other |
//! | [`figures`] | what is counted |
//! | `desks`, `desk`, `queue`, `worker` | who handles a trigger |
//!
//! Source: docs/protocol.md, "Triggers" and "ZeroMQ exchange".

mod desk;
mod desks;
pub mod figures;
pub mod message;
mod queue;
#[cfg(test)]
mod tests;
mod worker;

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc, time::Instant};

use webrocket_wire::{SingleAccessToken, Status, Trigger, VhostPath};

use crate::{
    machine::Party,
    message::{ShardId, ShardMessage},
    vhost::VhostId,
};

pub use desks::{AssignationFailed, SILENCE_MAX, TriggerId};
pub use figures::{ExchangeFigure, ExchangeFigures};
pub use message::{ExchangeCommand, ExchangeReport};
pub use queue::{QueueInfo, QueueLimits};
pub use worker::{Filter, Transport, WorkerInfo, WorkerRef};

/// The name of a peer on the ROUTER socket: its routing id.
pub type PeerName = Arc<[u8]>;

/// What somebody was let in with: a vhost, and which of its access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    /// The vhost.
    pub vhost: VhostId,
    /// Counts the vhost's access tokens: a pass of an earlier one is worth nothing.
    pub generation: u64,
}

/// As it stands in the `User-Id` of a connection.
impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.vhost.0, self.generation)
    }
}

/// A text that is no [`Pass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPass;

impl FromStr for Pass {
    type Err = NoPass;

    fn from_str(text: &str) -> Result<Self, NoPass> {
        let (vhost, generation) = text.split_once('.').ok_or(NoPass)?;
        Ok(Self {
            vhost: VhostId(vhost.parse().map_err(|_| NoPass)?),
            generation: generation.parse().map_err(|_| NoPass)?,
        })
    }
}

/// Everything that can happen to an exchange.
#[derive(Debug)]
pub enum ExchangeInput<'a> {
    /// A peer's message: its frames, the delimiter included, the routing id not.
    Received {
        /// The peer.
        peer: &'a [u8],
        /// What its connection was let in with.
        pass: Pass,
        /// At most [`webrocket_wire::wbp::FRAMES_MAX`] + 1 of its frames: one more than any message has.
        frames: &'a [&'a [u8]],
    },
    /// A peer's connection is gone.
    Gone {
        /// The peer.
        peer: &'a [u8],
    },
    /// The way to a peer was full when this was to be sent; it was not.
    Full {
        /// What was not sent.
        order: ExchangeOrder,
    },
    /// A stream subscribes to topics that begin so; [`Exchange::admits`] them.
    Subscribed {
        /// What its connection was let in with.
        pass: Pass,
        /// `<vhost>:<event prefix>`.
        topic: &'a [u8],
    },
    /// Such a subscription is over.
    Unsubscribed {
        /// What its connection was let in with.
        pass: Pass,
        /// As it subscribed.
        topic: &'a [u8],
    },
    /// A shard's message, in the order in which it sent them.
    Message {
        /// The sender.
        from: ShardId,
        /// What it says.
        message: ShardMessage,
    },
    /// A command of the control thread, in order.
    Command(ExchangeCommand),
    /// The deadline is reached.
    Deadline,
}

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
    /// [`Exchange::is_valid`] is false.
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

/// What an exchange is made of.
#[derive(Debug, Clone)]
pub struct ExchangeConfig {
    /// Where channels live; the same as the shards'.
    pub directory: crate::Directory,
}

/// The exchange.
#[derive(Debug)]
pub struct Exchange {
    config: ExchangeConfig,
    orders: VecDeque<ExchangeOrder>,
    reports: VecDeque<ExchangeReport>,
    figures: ExchangeFigures,
}

impl Exchange {
    /// An exchange without vhosts.
    #[must_use]
    pub fn new(config: ExchangeConfig) -> Self {
        Self { config, orders: VecDeque::new(), reports: VecDeque::new(), figures: ExchangeFigures::default() }
    }

    /// Lets in who presents a vhost's path and its access token; compared in constant time.
    #[must_use]
    pub fn authenticate(&self, path: &[u8], token: &[u8]) -> Option<Pass> {
        let _ = (path, token);
        None
    }

    /// Whether a pass is of its vhost's present access token.
    #[must_use]
    pub fn is_valid(&self, pass: Pass) -> bool {
        let _ = pass;
        false
    }

    /// Whether a stream with this pass may subscribe topics that begin so.
    #[must_use]
    pub fn admits(&self, pass: Pass, topic: &[u8]) -> bool {
        let _ = (pass, topic);
        false
    }

    /// Whether everything stored is in effect, so that backends may connect. Until then nobody is let in.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        false
    }

    /// The exchange's figures, to be published; in the order of [`figures::EXCHANGE_FIGURES`].
    pub fn figures(&mut self) -> &[u64] {
        self.figures.values()
    }

    /// Where the driver counts what only it sees.
    pub fn figures_mut(&mut self) -> &mut ExchangeFigures {
        &mut self.figures
    }

    /// Takes one input. Never blocks.
    pub fn handle(&mut self, now: Instant, input: ExchangeInput<'_>) {
        let _ = (now, input);
    }

    /// What to send next.
    pub fn next_order(&mut self) -> Option<ExchangeOrder> {
        self.orders.pop_front()
    }

    /// When [`ExchangeInput::Deadline`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }
}

impl Party for Exchange {
    type Message = ShardMessage;
    type Command = ExchangeCommand;
    type Report = ExchangeReport;

    fn next_message(&mut self, _: Instant, _: ShardId) -> Option<ShardMessage> {
        None
    }

    fn has_message(&self, _: ShardId) -> bool {
        false
    }

    fn next_report(&mut self) -> Option<ExchangeReport> {
        self.reports.pop_front()
    }
}
