//! Opening and closing channels, for operators, backends and sessions alike; and what backends
//! send: broadcasts and direct messages.
//!
//! A change is stored, then sent to the channel's owner, then answered. Changes that come in
//! together are stored together: they cost one transaction. An owner that refuses to open a
//! channel (the vhost is full) makes the store forget it again.

use tokio::sync::oneshot;
use uuid::Uuid;
use webrocket_state::{
    Command,
    command::{Changed, ChannelInfo, Described, Found, Heard, NotChanged},
    exchange::ExchangeCommand,
};
use webrocket_wire::{ChannelName, SharedPublication, VhostPath};

use super::{
    actor::Actor,
    channel_changes::{Asker, ChannelChange},
    link::{Then, tell},
    refusal::Refusal,
    request::{Caller, Pass, Reply, Sent},
};
use crate::store::ChannelWrite;

/// A change that is stored and on its way to the owner.
struct SentChannel {
    change: ChannelChange,
    /// Whether the store changed.
    changed: bool,
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
    pub(super) fn list_channels(&mut self, path: &VhostPath) -> Result<Sent<(), Vec<ChannelInfo>>, Refusal> {
        let vhost = self.vhosts.at(path)?.vhost.id;
        let (told, replies) = oneshot::channel();
        self.link.ask_all(|ticket| Command::ListChannels { ticket, vhost }, tell(told));
        Ok(Sent { value: (), replies })
    }

    /// Asks a channel's owner for it.
    pub(super) fn describe_channel(
        &mut self,
        caller: &Caller,
        channel: ChannelName,
    ) -> Result<Sent<(), Described>, Refusal> {
        let vhost = self.vhosts.of_caller(caller)?.vhost.id;
        let (told, replies) = oneshot::channel();
        let owner = self.directory.owner(vhost, &channel);
        let command = |ticket| Command::DescribeChannel { ticket, vhost, channel };
        self.link.ask(owner, command, tell(told));
        Ok(Sent { value: (), replies })
    }

    /// Sends a backend's broadcasts to the channel's owner, in their order.
    pub(super) fn publish(
        &mut self,
        pass: &Pass,
        channel: &ChannelName,
        publications: Vec<SharedPublication>,
    ) -> Result<Sent<(), Found>, Refusal> {
        let vhost = self.vhosts.of_pass(pass)?.vhost.id;
        let (told, replies) = oneshot::channel();
        let owner = self.directory.owner(vhost, channel);
        let command =
            |ticket, publication| Command::Publish { ticket, vhost, channel: channel.clone(), publication };
        self.link.ask_each(owner, publications, command, tell(told));
        Ok(Sent { value: (), replies })
    }

    /// Sends a backend's messages for one session to all shards: none but its own knows where it is.
    pub(super) fn send_messages(
        &mut self,
        pass: &Pass,
        sid: Uuid,
        messages: &[SharedPublication],
    ) -> Result<Sent<(), Heard>, Refusal> {
        let vhost = self.vhosts.of_pass(pass)?.vhost.id;
        let (told, replies) = oneshot::channel();
        let command = |ticket, message: &SharedPublication| Command::DirectMessage {
            ticket,
            vhost,
            sid,
            message: message.clone(),
        };
        self.link.ask_all_each(messages, command, tell(told));
        Ok(Sent { value: (), replies })
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
                None => self.answer_channel(change, false, Err(NotChanged::VhostNotFound)),
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
                    self.answer_channel(change, false, Err(NotChanged::StoreFailed));
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
        let sent = SentChannel { change, changed };
        let ticket = if open {
            let command = |ticket| Command::OpenChannel { ticket, vhost, channel };
            self.link.ask(owner, command, conclude(sent)).number()
        } else {
            let command = |ticket| Command::CloseChannel { ticket, vhost, channel };
            self.link.ask(owner, command, conclude(sent)).number()
        };
        self.channels_in_flight.sent(key, ticket, open, changed);
    }

    /// Concludes a change to which the channel's owner has replied.
    fn channel_applied(&mut self, sent: SentChannel, ticket: u64, outcome: Changed) {
        let SentChannel { change, changed } = sent;
        let fresh = self.channels_in_flight.over(&(change.vhost, change.channel.clone()), ticket);
        if change.open && outcome.is_err() && fresh {
            self.channel_changes.push(ChannelChange {
                vhost: change.vhost,
                channel: change.channel.clone(),
                open: false,
                asker: Asker::Refused,
            });
        }
        // It was stored, but over the limit when the node started: closing it was not in vain.
        let outcome = match outcome {
            Err(NotChanged::ChannelNotFound) if !change.open && changed => Ok(()),
            other => other,
        };
        self.answer_channel(change, changed, outcome);
    }

    fn answer_channel(&mut self, change: ChannelChange, changed: bool, outcome: Changed) {
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
                    Ok(()) if change.open && !changed => Err(Refusal::ChannelExists(change.channel)),
                    Ok(()) => Ok(()),
                    Err(NotChanged::ChannelLimit) => Err(Refusal::ChannelLimit),
                    Err(NotChanged::ChannelNotFound | NotChanged::VhostNotFound) => {
                        Err(Refusal::NoChannel(change.channel))
                    }
                    Err(NotChanged::StoreFailed) => Err(Refusal::StoreFailed),
                };
                let _ = reply.send(answer);
            }
        }
    }
}

/// What follows when a channel's owner has opened or closed it, or has not.
fn conclude<E>(sent: SentChannel) -> Then<Actor, Result<(), E>>
where
    NotChanged: From<E>,
{
    Box::new(move |actor, ticket, replies| {
        if let Some(reply) = replies.into_iter().next() {
            actor.channel_applied(sent, ticket.number(), reply.map_err(NotChanged::from));
        }
    })
}
