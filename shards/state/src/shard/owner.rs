//! A shard as the owner of channels: their order, their audience, and who is present.
//!
//! Knows no session and no view. What it says goes by the links, to the subscribers of its own shard too, so that
//! it arrives everywhere in the order in which it was said.

use std::{collections::VecDeque, sync::Arc};

use webrocket_wire::{ChannelName, Member, MemberData, SharedPublication, presence::PresenceChange};

use crate::{
    channels::{ChannelKey, ChannelLimit, Channels},
    command::{ChannelInfo, ChannelNotFound, CommandReply, Described, Found, NotOpened, Opened, Report},
    encoding::{Encoding, Encodings, Made},
    event::ChannelEvent,
    ids::{ChannelRef, RequestRef, SessionRef, ShardId},
    link::{Deferred, Links},
    message::{Answer, Joining, OwnerEvent, Publisher},
    metrics::{Figure, Figures},
    vhost::VhostId,
    vhosts::Vhosts,
};

/// The channels that hash to this shard, and the ways by which it speaks.
pub(super) struct Owner<'a> {
    pub(super) channels: &'a mut Channels,
    pub(super) vhosts: &'a Vhosts,
    pub(super) encodings: &'a Encodings,
    pub(super) links: &'a mut Links,
    pub(super) reports: &'a mut VecDeque<Report>,
    pub(super) figures: &'a mut Figures,
}

/// A session that asks to be counted as a subscriber.
pub(super) struct Subscriber {
    pub(super) request: RequestRef,
    pub(super) encoding: Encoding,
    pub(super) may_create: bool,
    pub(super) joining: Option<Box<Joining>>,
}

/// Ways that are congested, with the number of a message on each.
pub(super) type Congested = Vec<(ShardId, u64)>;

/// What came of sending an event to other shards.
pub(super) struct Sent {
    /// The ways on which it waits.
    pub(super) congested: Congested,
    /// Its frames in the encodings that this owner makes.
    pub(super) made: Made,
}

impl Owner<'_> {
    /// Counts a subscriber.
    pub(super) fn subscribe(&mut self, key: ChannelKey, subscriber: Subscriber) {
        let Subscriber { request, encoding, may_create, joining } = subscriber;
        let channel = match (self.channels.find(&key), self.vhosts.get(key.0)) {
            (Some(channel), _) => channel,
            (None, Some(vhost)) if may_create => match self.channels.create(vhost, key.1, false) {
                Ok(channel) => channel,
                Err(ChannelLimit) => {
                    self.figures.add(Figure::ChannelLimitHits, 1);
                    return self.links.answer(request, Answer::ChannelLimit, 0);
                }
            },
            (None, _) => return self.links.answer(request, Answer::ChannelNotFound, 0),
        };
        self.channels.join(channel, request.session.shard, encoding);
        let entry = self.channels.entry(channel).expect("just found");
        let present = entry.members.as_mut().map(|members| Box::new(members.present()));
        self.links.answer(request, Answer::Subscribed { channel, encoding, present }, 0);
        if let (Some(members), Some(joining)) = (&mut entry.members, joining)
            && members.join(request.session, &joining)
        {
            let channel_name = entry.key.1.clone();
            let member = Member { uid: joining.uid, data: joining.data };
            self.tell_presence(channel, PresenceChange { channel: channel_name, member, has_joined: true });
        }
    }

    /// Whether a channel exists.
    pub(super) fn find(&mut self, request: RequestRef, key: &ChannelKey) {
        let is_found = self.channels.find(key).is_some();
        let answer = if is_found { Answer::Found } else { Answer::ChannelNotFound };
        self.links.answer(request, answer, 0);
    }

    /// Gives a broadcast its place in its channel's order.
    pub(super) fn publish(&mut self, publisher: Publisher, key: &ChannelKey, publication: SharedPublication) {
        let bytes = publication.len();
        let Some(channel) = self.channels.find(key) else {
            return self.published(publisher, Err(ChannelNotFound), bytes);
        };
        self.figures.add(Figure::Broadcasts, 1);
        let position = self.channels.entry(channel).expect("just found").next_position();
        let congested = self.distribute(channel, &ChannelEvent::Published(position, publication));
        self.acknowledge(publisher, congested, bytes);
    }

    fn tell_presence(&mut self, channel: ChannelRef, change: PresenceChange) {
        self.distribute(channel, &ChannelEvent::Presence(Arc::new(change)));
    }

    /// Gives an event its place in the channel's order: sends it to every shard with subscribers, this one
    /// included.
    fn distribute(&mut self, channel: ChannelRef, event: &ChannelEvent) -> Congested {
        let Sent { congested, made } = self.send_elsewhere(channel, event);
        let (here, event) = (self.links.here(), event.clone());
        let entry = self.channels.entry(channel).expect("an open channel");
        if entry.audience.sorts().any(|shard| shard == here) {
            self.links.tell(here, OwnerEvent::Deliver { channel, event, made });
        }
        congested
    }

    /// Sends an event to every other shard with subscribers. Whoever calls this tells those of this one.
    pub(super) fn send_elsewhere(&mut self, channel: ChannelRef, event: &ChannelEvent) -> Sent {
        let mut congested = Congested::new();
        let here = self.links.here();
        let entry = self.channels.entry(channel).expect("an open channel");
        let made = self.encodings.make(entry.made.sorts(), event);
        for shard in entry.audience.sorts().filter(|shard| *shard != here) {
            let (event, made) = (event.clone(), made.clone());
            if let Some(number) = self.links.tell(shard, OwnerEvent::Deliver { channel, event, made }) {
                congested.push((shard, number));
            }
        }
        Sent { congested, made }
    }

    /// Acknowledges a broadcast once it has left on every congested way.
    pub(super) fn acknowledge(&mut self, publisher: Publisher, mut congested: Congested, bytes: usize) {
        while let Some((shard, number)) = congested.pop() {
            let link = self.links.to(shard);
            if !link.has_left(number) {
                return link.defer(number, Deferred { publisher, others: congested, bytes });
            }
        }
        self.published(publisher, Ok(()), bytes);
    }

    /// Goes on with what waited for messages to leave on the way to a shard.
    pub(super) fn acknowledge_left(&mut self, shard: ShardId) {
        while let Some(Deferred { publisher, others, bytes }) = self.links.to(shard).next_deferred() {
            self.acknowledge(publisher, others, bytes);
        }
    }

    /// Tells whoever broadcast what came of it.
    fn published(&mut self, publisher: Publisher, found: Found, bytes: usize) {
        match publisher {
            Publisher::Session(request) => {
                let answer = if found.is_ok() { Answer::Published } else { Answer::ChannelNotFound };
                self.links.answer(request, answer, bytes);
            }
            Publisher::Backend(ticket) => {
                self.reports.push_back(Report::Replied(CommandReply::Found(ticket, found)));
            }
        }
    }

    /// One subscription of a shard is over. `data` is what the session said when it left.
    pub(super) fn leave(
        &mut self,
        from: ShardId,
        channel: ChannelRef,
        session: SessionRef,
        encoding: Encoding,
        data: &MemberData,
    ) {
        self.channels.leave(channel, from, encoding);
        let Some(entry) = self.channels.entry(channel) else { return };
        let left = entry.members.as_mut().and_then(|members| members.leave(session));
        if entry.is_over() {
            self.channels.remove(channel);
        } else if let Some(Member { uid, data: joined_with }) = left {
            let channel_name = entry.key.1.clone();
            let member = Member { uid, data: joined_with.overlaid_by(data) };
            self.tell_presence(channel, PresenceChange { channel: channel_name, member, has_joined: false });
        }
    }

    /// Opens a channel, which may be open already.
    pub(super) fn open(&mut self, vhost: VhostId, name: ChannelName) -> Opened {
        let vhost = self.vhosts.get(vhost).ok_or(NotOpened::VhostNotFound)?;
        let key = (vhost.id, name);
        if let Some(found) = self.channels.find(&key) {
            self.channels.entry(found).expect("just found").opened = true;
            return Ok(());
        }
        self.channels.create(vhost, key.1, true).map(drop).map_err(|ChannelLimit| NotOpened::ChannelLimit)
    }

    /// Closes a channel: its subscribers are told, on every shard.
    pub(super) fn close(&mut self, key: &ChannelKey) -> Found {
        let channel = self.channels.find(key).ok_or(ChannelNotFound)?;
        let removed = self.channels.remove(channel);
        for shard in removed.audience.sorts() {
            self.links.tell(shard, OwnerEvent::Closed { channel });
        }
        Ok(())
    }

    /// Forgets a vhost's channels. Every shard closes the vhost's sessions itself: nobody needs to be told.
    pub(super) fn forget(&mut self, vhost: VhostId) {
        for (_, channel) in self.channels.of_vhost(vhost) {
            self.channels.remove(channel);
        }
    }

    /// A vhost's channels, by name, without members.
    pub(super) fn list(&mut self, vhost: VhostId) -> Vec<ChannelInfo> {
        let channels = self.channels.of_vhost(vhost);
        let summary = |(_, channel)| self.channels.entry(channel).map(|entry| entry.summary());
        channels.into_iter().filter_map(summary).collect()
    }

    /// A channel with its members.
    pub(super) fn describe(&mut self, key: &ChannelKey) -> Described {
        let channel = self.channels.find(key).ok_or(ChannelNotFound)?;
        self.channels.entry(channel).map(|entry| entry.info()).ok_or(ChannelNotFound)
    }
}
