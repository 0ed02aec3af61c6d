//! Opening and closing channels, for operators, backends and sessions alike; and what backends
//! send: broadcasts and direct messages.
//!
//! A change is stored, then sent to the channel's owner, then answered. Changes that come in
//! together are stored together: they cost one transaction. An owner that refuses to open a
//! channel (the vhost is full) makes the store forget it again.

use std::collections::HashMap;

use tokio::sync::oneshot;
use uuid::Uuid;
use webrocket_state::{
    Command, VhostId,
    exchange::ExchangeCommand,
    message::{Outcome, RequestRef, Ticket},
};
use webrocket_wire::{ChannelName, SharedPublication, VhostPath};

use super::{
    actor::Actor,
    link::Then,
    refusal::Refusal,
    request::{Caller, Pass, Reply, Sent},
};
use crate::store::ChannelWrite;

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

/// A change that is stored and on its way to the owner.
pub(super) struct SentChannel {
    change: ChannelChange,
    /// Whether the store changed.
    changed: bool,
}

/// Channels with changes on their way to the owner.
#[derive(Default)]
pub(super) struct ChannelsInFlight(HashMap<ChannelKey, InFlight>);

type ChannelKey = (VhostId, ChannelName);

struct InFlight {
    /// The latest change.
    ticket: Ticket,
    /// Whether the channel is in the store only because of changes on their way.
    fresh: bool,
}

impl ChannelsInFlight {
    /// Takes note of a change that was stored, and `changed` the store or did not.
    fn sent(&mut self, key: ChannelKey, ticket: Ticket, open: bool, changed: bool) {
        let fresh = open && (changed || self.0.get(&key).is_some_and(|earlier| earlier.fresh));
        self.0.insert(key, InFlight { ticket, fresh });
    }

    /// Takes note that a change is over. Returns whether the store holds the channel only for it.
    fn over(&mut self, key: &ChannelKey, ticket: Ticket) -> bool {
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

impl Actor {
    /// Takes a request to open or close a channel.
    pub(super) fn queue_channel_request(
        &mut self,
        caller: &Caller,
        channel: ChannelName,
        open: bool,
        reply: Reply<()>,
    ) {
        match self.vhosts.of_caller(caller).map(|entry| entry.vhost.id) {
            Ok(vhost) => {
                self.channel_changes.push(ChannelChange { vhost, channel, open, asker: Asker::Http(reply) });
            }
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    /// Asks all shards for their channels of a vhost.
    pub(super) fn list_channels(&mut self, path: &VhostPath) -> Result<Sent<()>, Refusal> {
        let vhost = self.vhosts.at(path)?.vhost.id;
        let (told, applied) = oneshot::channel();
        self.link.ask_all(|ticket| Command::ListChannels { ticket, vhost }, Then::Tell(told));
        Ok(Sent { value: (), applied })
    }

    /// Asks a channel's owner for it.
    pub(super) fn describe_channel(
        &mut self,
        caller: &Caller,
        channel: ChannelName,
    ) -> Result<Sent<()>, Refusal> {
        let vhost = self.vhosts.of_caller(caller)?.vhost.id;
        let (told, applied) = oneshot::channel();
        let owner = self.directory.owner(vhost, &channel);
        let command = |ticket| Command::DescribeChannel { ticket, vhost, channel };
        self.link.ask(owner, command, Then::Tell(told));
        Ok(Sent { value: (), applied })
    }

    /// Sends a backend's broadcasts to the channel's owner, in their order.
    pub(super) fn publish(
        &mut self,
        pass: &Pass,
        channel: &ChannelName,
        publications: Vec<SharedPublication>,
    ) -> Result<Sent<()>, Refusal> {
        let vhost = self.vhosts.of_pass(pass)?.vhost.id;
        let (told, applied) = oneshot::channel();
        let owner = self.directory.owner(vhost, channel);
        let command =
            |ticket, publication| Command::Publish { ticket, vhost, channel: channel.clone(), publication };
        self.link.ask_each(owner, publications, command, Then::Tell(told));
        Ok(Sent { value: (), applied })
    }

    /// Sends a backend's messages for one session to all shards: none but its own knows where it is.
    pub(super) fn send_messages(
        &mut self,
        pass: &Pass,
        sid: Uuid,
        messages: &[SharedPublication],
    ) -> Result<Sent<()>, Refusal> {
        let vhost = self.vhosts.of_pass(pass)?.vhost.id;
        let (told, applied) = oneshot::channel();
        let command = |ticket, message: &SharedPublication| Command::DirectMessage {
            ticket,
            vhost,
            sid,
            message: message.clone(),
        };
        self.link.ask_all_each(messages, command, Then::Tell(told));
        Ok(Sent { value: (), applied })
    }

    /// Stores the changes that have come in, and sends them to their channels' owners.
    pub(super) async fn commit_channel_changes(&mut self) {
        if self.channel_changes.is_empty() || self.is_starting() {
            return;
        }
        let (mut changes, mut writes) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut self.channel_changes) {
            match self.vhosts.of(change.vhost) {
                Some(entry) => {
                    let vhost = entry.vhost.path.clone();
                    writes.push(ChannelWrite { vhost, channel: change.channel.clone(), open: change.open });
                    changes.push(change);
                }
                None => self.answer_channel(change, false, Outcome::VhostNotFound),
            }
        }
        match self.stored(move |store| store.write_channels(&writes)).await {
            Ok(changed) => {
                for (change, changed) in changes.into_iter().zip(changed) {
                    self.send_channel(change, changed);
                }
            }
            Err(_) => {
                for change in changes {
                    self.answer_channel(change, false, Outcome::StoreFailed);
                }
            }
        }
    }

    fn send_channel(&mut self, change: ChannelChange, changed: bool) {
        if matches!(change.asker, Asker::Refused) {
            return;
        }
        let (vhost, channel, open) = (change.vhost, change.channel.clone(), change.open);
        let owner = self.directory.owner(vhost, &channel);
        let key = (vhost, channel.clone());
        let command = |ticket| match open {
            true => Command::OpenChannel { ticket, vhost, channel },
            false => Command::CloseChannel { ticket, vhost, channel },
        };
        let ticket = self.link.ask(owner, command, Then::Channel(SentChannel { change, changed }));
        self.channels_in_flight.sent(key, ticket, open, changed);
    }

    /// Concludes a change that the channel's owner has reported.
    pub(super) fn channel_applied(&mut self, sent: SentChannel, ticket: Ticket, outcome: Outcome) {
        let SentChannel { change, changed } = sent;
        let fresh = self.channels_in_flight.over(&(change.vhost, change.channel.clone()), ticket);
        if change.open && outcome != Outcome::Done && fresh {
            self.channel_changes.push(ChannelChange {
                vhost: change.vhost,
                channel: change.channel.clone(),
                open: false,
                asker: Asker::Refused,
            });
        }
        // It was stored, but over the limit when the node started: closing it was not in vain.
        let outcome = match outcome {
            Outcome::ChannelNotFound if !change.open && changed => Outcome::Done,
            other => other,
        };
        self.answer_channel(change, changed, outcome);
    }

    fn answer_channel(&mut self, change: ChannelChange, changed: bool, outcome: Outcome) {
        match change.asker {
            Asker::Refused => {}
            Asker::Session(request) => {
                self.link.send(request.session.shard, Command::ChannelChanged { request, outcome });
            }
            Asker::Client(request) => {
                self.link.send_exchange(ExchangeCommand::ChannelChanged { request, outcome });
            }
            Asker::Http(reply) => {
                let answer = match outcome {
                    Outcome::Done if change.open && !changed => Err(Refusal::ChannelExists(change.channel)),
                    Outcome::Done => Ok(()),
                    Outcome::ChannelLimit => Err(Refusal::ChannelLimit),
                    Outcome::ChannelNotFound | Outcome::VhostNotFound => {
                        Err(Refusal::NoChannel(change.channel))
                    }
                    Outcome::StoreFailed => Err(Refusal::StoreFailed),
                    Outcome::SessionNotFound
                    | Outcome::Channel(_)
                    | Outcome::Channels(_)
                    | Outcome::Workers(_)
                    | Outcome::Queue(_) => {
                        unreachable!("a channel was opened or closed")
                    }
                };
                let _ = reply.send(answer);
            }
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
        in_flight.sent(key(), Ticket(1), true, true);
        in_flight.sent(key(), Ticket(2), true, false);
        assert!(!in_flight.over(&key(), Ticket(1)), "a later opening decides");
        assert!(in_flight.over(&key(), Ticket(2)), "it is in the store because of the first one");
        assert!(in_flight.0.is_empty());
    }

    #[test]
    fn what_was_stored_before_stays_stored() {
        let mut in_flight = ChannelsInFlight::default();
        in_flight.sent(key(), Ticket(1), true, false);
        assert!(!in_flight.over(&key(), Ticket(1)));
        in_flight.sent(key(), Ticket(2), true, true);
        in_flight.sent(key(), Ticket(3), false, true);
        assert!(!in_flight.over(&key(), Ticket(2)));
        assert!(!in_flight.over(&key(), Ticket(3)), "closing removed it already");
        assert!(in_flight.0.is_empty());
    }
}
