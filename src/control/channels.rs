//! Opening and closing channels, for operators and for sessions alike.
//!
//! A change is stored, then sent to the channel's owner, then answered. Changes that come in
//! together are stored together: they cost one transaction. An owner that refuses to open a
//! channel (the vhost is full) makes the store forget it again.

use std::collections::HashMap;

use webrocket_state::{
    Command, VhostId,
    message::{Outcome, RequestRef, Ticket},
};
use webrocket_wire::ChannelName;

use super::{
    actor::Actor,
    link::Then,
    refusal::Refusal,
    request::{Reply, Request},
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
    /// The control API.
    Operator(Reply<()>),
    /// A session.
    Session(RequestRef),
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
pub(super) struct ChannelsInFlight(HashMap<(VhostId, ChannelName), InFlight>);

struct InFlight {
    /// The latest change.
    ticket: Ticket,
    /// Whether the channel is in the store only because of changes on their way.
    fresh: bool,
}

impl ChannelsInFlight {
    fn sent(&mut self, sent: &SentChannelKey, ticket: Ticket) {
        let fresh = sent.open && (sent.changed || self.0.get(&sent.key).is_some_and(|earlier| earlier.fresh));
        self.0.insert(sent.key.clone(), InFlight { ticket, fresh });
    }

    /// Takes note that a change is over. Returns whether the store holds the channel only for it.
    fn over(&mut self, key: &(VhostId, ChannelName), ticket: Ticket) -> bool {
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

struct SentChannelKey {
    key: (VhostId, ChannelName),
    open: bool,
    changed: bool,
}

impl Actor {
    /// Takes a request about a channel that changes it.
    pub(super) fn queue_channel_request(&mut self, request: Request) {
        let (path, channel, open, reply) = match request {
            Request::OpenChannel(path, channel, reply) => (path, channel, true, reply),
            Request::CloseChannel(path, channel, reply) => (path, channel, false, reply),
            _ => unreachable!("only requests that change channels come here"),
        };
        match self.vhosts.at(&path).map(|entry| entry.vhost.id) {
            Ok(vhost) => {
                self.channel_changes.push(ChannelChange {
                    vhost,
                    channel,
                    open,
                    asker: Asker::Operator(reply),
                });
            }
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
            }
        }
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
        let sent = SentChannelKey { key: (vhost, channel.clone()), open, changed };
        let command = |ticket| match open {
            true => Command::OpenChannel { ticket, vhost, channel },
            false => Command::CloseChannel { ticket, vhost, channel },
        };
        let ticket = self.link.ask(owner, command, Then::Channel(SentChannel { change, changed }));
        self.channels_in_flight.sent(&sent, ticket);
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
            Asker::Operator(reply) => {
                let answer = match outcome {
                    Outcome::Done if change.open && !changed => Err(Refusal::ChannelExists(change.channel)),
                    Outcome::Done => Ok(()),
                    Outcome::ChannelLimit => Err(Refusal::ChannelLimit),
                    Outcome::ChannelNotFound => Err(Refusal::NoChannel(change.channel)),
                    Outcome::StoreFailed => Err(Refusal::StoreFailed),
                    Outcome::VhostNotFound => Err(Refusal::NoChannel(change.channel)),
                    Outcome::Channel(_) | Outcome::Channels(_) => unreachable!("nobody asked for channels"),
                };
                let _ = reply.send(answer);
            }
        }
    }
}
