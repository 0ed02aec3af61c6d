//! What a driver tells an exchange.

use super::{message::ExchangeCommand, order::ExchangeOrder, pass::Pass};
use crate::{ids::ShardId, message::ShardMessage};

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
    /// A stream subscribes to topics that begin so; [`Exchange::admits`](super::Exchange::admits) them.
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
    /// The driver was kept from its work, because the process was stopped or something took long. What
    /// peers said meanwhile is still to come: nobody counts as silent for it.
    Delayed,
    /// The deadline is reached.
    Deadline,
}
