//! Changes of channels: who asked for them, and which are on their way to the channels' owners.

use std::collections::HashMap;

use webrocket_state::{VhostId, ids::RequestRef};
use webrocket_wire::ChannelName;

use super::request::Reply;

/// A channel that is to be opened or closed.
pub(super) struct ChannelChange {
    pub(super) vhost: VhostId,
    pub(super) channel: ChannelName,
    pub(super) open: bool,
    pub(super) asker: Asker,
}

/// Who asked for it.
pub(super) enum Asker {
    /// An operator or a backend, over HTTP.
    Http(Reply<()>),
    /// A session.
    Session(RequestRef),
    /// A client of the exchange.
    Client(RequestRef),
    /// The owner refused to open the channel: the store shall forget it.
    Refused,
}

/// Channels with changes on their way to the owner.
#[derive(Default)]
pub(super) struct ChannelsInFlight(HashMap<ChannelKey, InFlight>);

type ChannelKey = (VhostId, ChannelName);

struct InFlight {
    /// The number of the latest change's ticket.
    ticket: u64,
    /// Whether the channel is in the store only because of changes on their way.
    fresh: bool,
}

impl ChannelsInFlight {
    /// Takes note of a change that was stored, and `changed` the store or did not.
    pub(super) fn sent(&mut self, key: ChannelKey, ticket: u64, open: bool, changed: bool) {
        let fresh = open && (changed || self.0.get(&key).is_some_and(|earlier| earlier.fresh));
        self.0.insert(key, InFlight { ticket, fresh });
    }

    /// Takes note that a change is over. Returns whether the store holds the channel only for it.
    pub(super) fn over(&mut self, key: &ChannelKey, ticket: u64) -> bool {
        match self.0.get(key) {
            Some(latest) if latest.ticket == ticket => {
                let fresh = latest.fresh;
                self.0.remove(key);
                fresh
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ChannelKey {
        (VhostId(1), "a".parse().unwrap())
    }

    #[test]
    fn a_refused_channel_is_forgotten_once_nothing_follows() {
        let mut in_flight = ChannelsInFlight::default();
        in_flight.sent(key(), 1, true, true);
        in_flight.sent(key(), 2, true, false);
        assert!(!in_flight.over(&key(), 1), "a later opening decides");
        assert!(in_flight.over(&key(), 2), "it is in the store because of the first one");
        assert!(in_flight.0.is_empty());
    }

    #[test]
    fn what_was_stored_before_stays_stored() {
        let mut in_flight = ChannelsInFlight::default();
        in_flight.sent(key(), 1, true, false);
        assert!(!in_flight.over(&key(), 1));
        in_flight.sent(key(), 2, true, true);
        in_flight.sent(key(), 3, false, true);
        assert!(!in_flight.over(&key(), 2));
        assert!(!in_flight.over(&key(), 3), "closing removed it already");
        assert!(in_flight.0.is_empty());
    }
}
