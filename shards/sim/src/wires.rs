//! The connections of backends over ZeroMQ: small, lost with their peer, let in with a pass.

use std::collections::VecDeque;

use webrocket_state::{VhostId, exchange::Pass};

/// A multipart message.
pub type Frames = Vec<Vec<u8>>;

/// One connection.
#[derive(Debug)]
pub struct Wire {
    /// What the peer calls itself. Not two connections at a time have the same name.
    pub name: Vec<u8>,
    /// What it was let in with.
    pub pass: Pass,
    /// From the peer to the exchange.
    pub to_exchange: VecDeque<Frames>,
    /// From the exchange to the peer.
    pub to_peer: VecDeque<Frames>,
    /// How many messages wait for the peer at most.
    pub capacity: usize,
    /// The peer is gone.
    pub is_cut: bool,
    /// The exchange knows it.
    pub is_told: bool,
    /// The peer is gone, and nobody will say so.
    pub is_mute: bool,
}

/// A stream's subscription.
#[derive(Debug)]
pub struct Subscription {
    /// What its connection was let in with.
    pub pass: Pass,
    /// The beginning of topics.
    pub topic: String,
    /// The exchange has been told.
    pub is_told: bool,
    /// It is over.
    pub is_over: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Wires {
    /// By number; a peer that comes again gets a new one.
    pub all: Vec<Wire>,
    /// Of streams.
    pub subscriptions: Vec<Subscription>,
}

impl Wires {
    /// A connection is made.
    pub fn connect(&mut self, name: Vec<u8>, pass: Pass, capacity: usize) -> usize {
        let (to_exchange, to_peer) = (VecDeque::new(), VecDeque::new());
        let (is_cut, is_told, is_mute) = Default::default();
        self.all.push(Wire { name, pass, to_exchange, to_peer, capacity, is_cut, is_told, is_mute });
        self.all.len() - 1
    }

    /// The connection that has this name, until its end is known.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        self.all.iter().position(|wire| wire.name == name && !wire.is_told)
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let is_gone = |wire: &Wire| wire.is_cut || wire.is_mute;
        let is_empty =
            |wire: &Wire| wire.to_exchange.is_empty() && (is_gone(wire) || wire.to_peer.is_empty());
        self.all.iter().all(|wire| is_empty(wire) && (wire.is_told || !wire.is_cut))
    }

    /// Whether a stream subscribes this topic, as far as the exchange knows; of this vhost alone, if one is named.
    #[must_use]
    pub fn is_subscribed(&self, vhost: Option<VhostId>, topic: &str) -> bool {
        let is_of = |subscription: &&Subscription| vhost.is_none_or(|vhost| subscription.pass.vhost == vhost);
        let mut told = self.subscriptions.iter().filter(|subscription| subscription.is_told).filter(is_of);
        told.any(|subscription| topic.starts_with(&subscription.topic))
    }
}
