//! The channel owner's half, and what shards say to each other.

use std::{sync::Arc, time::Instant};

use rand::RngExt;
use webrocket_wire::{
    ChannelKind, ChannelName, Member, MemberData, Publication, Reply, Rights, SharedPublication, Status,
    handshake::Dialect, presence::PresenceChange, wwfp::Reference,
};

use crate::{
    answers::{Answerer, Completion, Open},
    channels::ChannelKey,
    link::Deferred,
    machine::Machine as _,
    message::{
        Answer, ChannelEvent, ChannelNotFound, ChannelRef, CommandReply, Joining, Present, Publisher,
        RequestRef, SessionRef, ShardId, ShardMessage,
    },
    metrics::Figure,
    vhost::VhostId,
};

use super::{Job, SLICE_SESSIONS, Shard, request::Step};

impl Shard {
    /// A message of another shard.
    pub(super) fn message(&mut self, now: Instant, from: ShardId, message: ShardMessage) {
        match message {
            ShardMessage::Subscribe { .. }
            | ShardMessage::Find { .. }
            | ShardMessage::Publish { .. }
            | ShardMessage::Admit { .. } => self.owner_request(now, message),
            ShardMessage::Trigger { .. } => unreachable!("triggers go to the exchange"),
            ShardMessage::Dismiss { vhost, address } => self.admitted.dismiss(vhost, address),
            ShardMessage::Leave { channel, session, data } => self.owner_leave(from, channel, session, &data),
            ShardMessage::Fence(waiter) => {
                self.links[from.index()].push(ShardMessage::FencePassed(waiter));
            }
            ShardMessage::FencePassed(waiter) => self.fence_passed(now, waiter),
            ShardMessage::Answer { request, answer, bytes } => {
                self.links[from.index()].request_closed(bytes);
                self.resume_stopped(from);
                self.answered(now, from, request, answer);
            }
            ShardMessage::Deliver { channel, event } => {
                if let Some(view) = self.delivery.find_channel(from, channel) {
                    self.deliver(view, |out| event.encode(out));
                }
            }
            ShardMessage::Closed { channel } => {
                if let Some(view) = self.delivery.find_channel(from, channel) {
                    self.close_view(view);
                }
            }
        }
    }

    /// Asks a channel's owner, who may be this shard.
    pub(super) fn ask_owner(&mut self, now: Instant, owner: ShardId, message: ShardMessage) {
        if owner == self.config.id {
            self.owner_request(now, message);
        } else {
            self.send_request(owner, message);
        }
    }

    /// Sends a request to another shard or the exchange.
    pub(super) fn send_request(&mut self, owner: ShardId, message: ShardMessage) {
        let link = &mut self.links[owner.index()];
        link.request_opened(match &message {
            ShardMessage::Publish { publication, .. } => publication.len(),
            ShardMessage::Trigger { trigger, .. } => trigger.bytes(),
            ShardMessage::Subscribe { .. } | ShardMessage::Find { .. } | ShardMessage::Admit { .. } => 0,
            ShardMessage::Dismiss { .. }
            | ShardMessage::Leave { .. }
            | ShardMessage::Fence(_)
            | ShardMessage::FencePassed(_)
            | ShardMessage::Answer { .. }
            | ShardMessage::Deliver { .. }
            | ShardMessage::Closed { .. } => unreachable!("nobody answers those"),
        });
        link.push(message);
    }

    fn owner_request(&mut self, now: Instant, message: ShardMessage) {
        match message {
            ShardMessage::Subscribe { request, vhost, channel, may_create, joining } => {
                self.owner_subscribe(now, request, vhost, channel, may_create, joining);
            }
            ShardMessage::Find { request, vhost, channel } => {
                let answer = match self.channels.find(&(vhost, channel)) {
                    Some(_) => Answer::Found,
                    None => Answer::ChannelNotFound,
                };
                self.answer(now, request, answer, 0);
            }
            ShardMessage::Publish { request, vhost, channel, publication } => {
                self.owner_publish(now, Publisher::Session(request), &(vhost, channel), publication);
            }
            ShardMessage::Admit { request, vhost, address, max } => {
                let answer = self.admit(vhost, address, max);
                self.answer(now, request, answer, 0);
            }
            ShardMessage::Dismiss { .. }
            | ShardMessage::Leave { .. }
            | ShardMessage::Fence(_)
            | ShardMessage::FencePassed(_)
            | ShardMessage::Answer { .. }
            | ShardMessage::Deliver { .. }
            | ShardMessage::Closed { .. }
            | ShardMessage::Trigger { .. } => unreachable!("only an owner's requests are asked here"),
        }
    }

    fn owner_subscribe(
        &mut self,
        now: Instant,
        request: RequestRef,
        vhost: VhostId,
        name: ChannelName,
        may_create: bool,
        joining: Option<Joining>,
    ) {
        let key = (vhost, name);
        let channel = match (self.channels.find(&key), self.vhost(vhost)) {
            (Some(channel), _) => channel,
            (None, Some(snapshot)) if may_create => {
                let snapshot = Arc::clone(snapshot);
                let epoch = self.random.random();
                let Ok(channel) = self.channels.create(&snapshot, key.1, epoch, false) else {
                    self.figures.add(Figure::ChannelLimitHits, 1);
                    return self.answer(now, request, Answer::ChannelLimit, 0);
                };
                channel
            }
            (None, Some(_) | None) => return self.answer(now, request, Answer::ChannelNotFound, 0),
        };
        let entry = self.channels.entry(channel).expect("just found");
        entry.join(request.session.shard);
        let present = entry.members.as_mut().map(|members| members.present());
        let joined = match (&mut entry.members, &joining) {
            (Some(members), Some(joining)) => members.join(request.session, joining),
            (Some(_) | None, _) => false,
        };
        let name = entry.key.1.clone();
        self.answer(now, request, Answer::Subscribed { channel, present }, 0);
        // The answer may have been declined at once, and the channel gone with it.
        if let (true, Some(joining), Some(_)) = (joined, joining, self.channels.entry(channel)) {
            let member = Member { uid: joining.uid, data: joining.data };
            let change = PresenceChange { channel: name, member, has_joined: true };
            self.distribute(channel, &ChannelEvent::Presence(change));
        }
    }

    /// Gives a broadcast its place in its channel's order.
    pub(super) fn owner_publish(
        &mut self,
        now: Instant,
        publisher: Publisher,
        key: &ChannelKey,
        publication: SharedPublication,
    ) {
        let bytes = publication.len();
        let Some(channel) = self.channels.find(key) else {
            return self.published(now, publisher, Answer::ChannelNotFound, bytes);
        };
        self.figures.add(Figure::Broadcasts, 1);
        let position = self.channels.entry(channel).expect("just found").next_position();
        let congested = self.distribute(channel, &ChannelEvent::Published(position, publication));
        self.acknowledge(now, publisher, congested, bytes);
    }

    /// A broadcast of a session of this shard, which owns the channel.
    pub(super) fn broadcast_here(
        &mut self,
        now: Instant,
        slot: u32,
        channel: ChannelRef,
        name: &ChannelName,
        broadcast: Publication<'_>,
        reference: Option<&Reference>,
    ) -> Step {
        let entry = self.channels.entry(channel).ok_or(Status::ChannelNotFound)?;
        let position = entry.next_position();
        self.figures.add(Figure::Broadcasts, 1);
        let here = self.config.id;
        if entry.audience.iter().all(|(shard, _)| *shard == here) {
            if let Some(view) = self.delivery.find_channel(here, channel) {
                self.deliver(view, |out| broadcast.encode(out));
            }
            self.reply(slot, &Reply::Broadcasted(name), reference);
            return Ok(());
        }
        let publication = broadcast.by(self.sessions[slot].identity.name()).share();
        let bytes = publication.len();
        let congested = self.distribute(channel, &ChannelEvent::Published(position, publication));
        if congested.is_empty() {
            self.reply(slot, &Reply::Broadcasted(name), reference);
        } else {
            let open = Open::Broadcast { channel: name.clone(), bytes };
            let request = self.open_request(slot, open, Answerer::Whenever, reference);
            self.acknowledge(now, Publisher::Session(request), congested, bytes);
        }
        Ok(())
    }

    /// Gives an event its place in the channel's order: tells the subscribers here, sends it to every other
    /// shard with subscribers. Returns the congested ways, with the message's number on each.
    fn distribute(&mut self, channel: ChannelRef, event: &ChannelEvent) -> Vec<(ShardId, u64)> {
        let mut congested = Vec::new();
        let here = self.config.id;
        let entry = self.channels.entry(channel).expect("an open channel");
        for (shard, _) in &entry.audience {
            if *shard != here {
                let link = &mut self.links[shard.index()];
                let number = link.push(ShardMessage::Deliver { channel, event: event.clone() });
                if link.is_congested() {
                    congested.push((*shard, number));
                }
            }
        }
        if let Some(view) = self.delivery.find_channel(here, channel) {
            self.deliver(view, |out| event.encode(out));
        }
        congested
    }

    fn deliver(&mut self, view: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let subscribers = self.delivery.append(&mut self.sessions, view, write);
        self.figures.add(Figure::Deliveries, subscribers as u64);
    }

    /// Acknowledges a broadcast once it has left on every congested way.
    fn acknowledge(
        &mut self,
        now: Instant,
        publisher: Publisher,
        mut congested: Vec<(ShardId, u64)>,
        bytes: usize,
    ) {
        while let Some((shard, number)) = congested.pop() {
            let link = &mut self.links[shard.index()];
            if !link.has_left(number) {
                return link.defer(number, Deferred { publisher, others: congested, bytes });
            }
        }
        self.published(now, publisher, Answer::Published, bytes);
    }

    /// Tells whoever broadcast what came of it.
    fn published(&mut self, now: Instant, publisher: Publisher, answer: Answer, bytes: usize) {
        match publisher {
            Publisher::Session(request) => self.answer(now, request, answer, bytes),
            Publisher::Backend(ticket) => {
                let is_published = answer == Answer::Published;
                let found = is_published.then_some(()).ok_or(ChannelNotFound);
                self.command_reply(CommandReply::Found(ticket, found));
            }
        }
    }

    /// The next message to a shard; what waited for it to leave goes on.
    pub(super) fn take_message(&mut self, now: Instant, shard: ShardId) -> Option<ShardMessage> {
        let message = self.links[shard.index()].next_message()?;
        while let Some(Deferred { publisher, others, bytes }) = self.links[shard.index()].next_deferred() {
            self.acknowledge(now, publisher, others, bytes);
        }
        self.resume_stopped(shard);
        Some(message)
    }

    fn resume_stopped(&mut self, shard: ShardId) {
        if !self.links[shard.index()].has_stopped() {
            return;
        }
        for session in self.links[shard.index()].take_resumed() {
            if let Some(entry) = self.sessions.entry(session.slot, session.generation) {
                entry.pause.link = false;
                self.resumed.push_back(session);
            }
        }
    }

    pub(super) fn owner_leave(
        &mut self,
        from: ShardId,
        channel: ChannelRef,
        session: SessionRef,
        data: &MemberData,
    ) {
        let Some(entry) = self.channels.entry(channel) else { return };
        entry.leave(from);
        let left = entry.members.as_mut().and_then(|members| members.leave(session));
        if entry.is_over() {
            self.channels.remove(channel);
        } else if let Some(Member { uid, data: joined_with }) = left {
            let name = entry.key.1.clone();
            let member = Member { uid, data: joined_with.overlaid_by(data) };
            let change = PresenceChange { channel: name, member, has_joined: false };
            self.distribute(channel, &ChannelEvent::Presence(change));
        }
    }

    /// Closes a channel of this shard: its subscribers are told, on every shard.
    pub(super) fn owner_close(&mut self, channel: ChannelRef) {
        let removed = self.channels.remove(channel);
        for (shard, _) in removed.audience {
            if shard != self.config.id {
                self.links[shard.index()].push(ShardMessage::Closed { channel });
            } else if let Some(view) = self.delivery.find_channel(shard, channel) {
                self.close_view(view);
            }
        }
    }

    fn close_view(&mut self, view: u32) {
        self.delivery.detach(view);
        let generation = self.delivery.generation(view);
        self.run_close_view(view, generation);
    }

    pub(super) fn run_close_view(&mut self, view: u32, generation: u32) {
        for _ in 0..SLICE_SESSIONS {
            if !self.delivery.holds(view, generation) {
                return;
            }
            if self.wants_flush() {
                break;
            }
            let place = self.delivery.view(view);
            let name = place.name().clone();
            let slot = place.any_subscriber().expect("a view goes with its last subscriber");
            self.delivery.unsubscribe(&mut self.sessions, slot, view);
            self.figures.subtract(Figure::Subscriptions, 1);
            self.tell(slot, &Reply::Unsubscribed(&name));
        }
        if self.delivery.holds(view, generation) {
            self.jobs.push_back(Job::CloseView { view, generation });
        }
    }

    /// Answers a request of a session on this shard or another.
    fn answer(&mut self, now: Instant, request: RequestRef, answer: Answer, bytes: usize) {
        let shard = request.session.shard;
        if shard == self.config.id {
            self.answered(now, shard, request, answer);
        } else {
            self.links[shard.index()].push(ShardMessage::Answer { request, answer, bytes });
        }
    }

    /// The answer of an owner, or of the exchange, to a request of a session of this shard.
    fn answered(&mut self, now: Instant, owner: ShardId, request: RequestRef, answer: Answer) {
        let session = request.session;
        let open = self
            .sessions
            .entry(session.slot, session.generation)
            .and_then(|entry| entry.answers.as_mut())
            .and_then(|answers| answers.open(request.number));
        match (open, answer) {
            (None, Answer::Subscribed { channel, .. }) => {
                self.tell_leave(owner, channel, session, MemberData::default());
            }
            (None, Answer::Admitted { vhost, address }) => self.tell_dismissed(vhost, address),
            (None, _) => {}
            (Some(Open::Admit(_)), answer) => self.admit_answered(now, request, &answer),
            (Some(Open::Subscribe(name)), answer) => {
                let name = name.clone();
                self.subscribe_answered(owner, request, &name, answer);
            }
            (Some(Open::Unsubscribe(name, data)), answer) => {
                let (name, data) = (name.clone(), data.clone());
                self.unsubscribe_answered(now, request, &name, data, &answer);
            }
            (Some(Open::Fail(status)), answer) => {
                let status = if answer == Answer::Found { *status } else { Status::ChannelNotFound };
                self.complete(request, &Reply::Error(status));
            }
            (Some(Open::Broadcast { channel, .. }), answer) => {
                let channel = channel.clone();
                let reply = match answer {
                    Answer::Published => Reply::Broadcasted(&channel),
                    _ => Reply::Error(Status::ChannelNotFound),
                };
                self.complete(request, &reply);
            }
            (Some(Open::Trigger { event, .. }), answer) => {
                let event = event.clone();
                self.trigger_answered(request, &event, &answer);
            }
            (Some(Open::TriggeringBroadcast { channel, publication, .. }), answer) => {
                let (channel, publication) = (channel.clone(), publication.clone());
                self.broadcast_triggered(now, request, channel, publication, &answer);
            }
            (
                Some(Open::Authenticate | Open::OpenChannel(_) | Open::CloseChannel(_) | Open::Leave(..)),
                _,
            ) => unreachable!("the control thread or a fence answers those"),
        }
    }

    fn subscribe_answered(
        &mut self,
        owner: ShardId,
        request: RequestRef,
        name: &ChannelName,
        answer: Answer,
    ) {
        let session = request.session;
        let slot = session.slot;
        let (channel, present) = match (answer, self.sessions[slot].dialect) {
            (Answer::Subscribed { channel, present }, _) => (channel, present),
            (Answer::ChannelLimit, _) => return self.complete(request, &Reply::Error(Status::ChannelLimit)),
            (_, Dialect::Wwfp) => return self.complete(request, &Reply::Error(Status::ChannelNotFound)),
            // The session may not create it, and whether it exists is not its business.
            (_, Dialect::Classic) => return self.complete(request, &Reply::Error(Status::AccessDenied)),
        };
        // Its rights may have changed while the owner was asked.
        let Some(vhost) = self.sessions[slot].vhost.as_ref().map(|vhost| vhost.id) else { return };
        if !self.rights(slot, name.as_str()).contains(Rights::READ) {
            self.tell_leave(owner, channel, session, MemberData::default());
            self.leaves_caused += u64::from(owner != self.config.id);
            return self.complete(request, &Reply::Error(Status::AccessDenied));
        }
        let key = (vhost, name.clone());
        if self.end_closed_subscription(slot, &key) {
            self.tell(slot, &Reply::Unsubscribed(name));
        }
        let uid = match name.kind() {
            ChannelKind::Open => None,
            ChannelKind::Private | ChannelKind::Presence => self.sessions[slot].identity.uid(),
        };
        let present = present.as_ref().map(Present::as_reply);
        self.complete(request, &Reply::Subscribed { channel: name, uid: uid.as_deref(), present });
        let view = self.delivery.find_or_create(&key, owner, channel);
        if self.delivery.subscribes(&self.sessions[slot], view) {
            // It subscribed already: the owner counts it once.
            return self.tell_leave(owner, channel, session, MemberData::default());
        }
        self.delivery.subscribe(&mut self.sessions, slot, view);
        self.figures.add(Figure::Subscriptions, 1);
    }

    /// Ends the session's subscription of a closed channel of that name, if the closing has not
    /// come to it yet; whether there was one. The session must hear of it before anything of a
    /// new channel of the same name.
    fn end_closed_subscription(&mut self, slot: u32, key: &ChannelKey) -> bool {
        if !self.jobs.iter().any(|job| matches!(job, Job::CloseView { .. })) {
            return false;
        }
        let current = self.delivery.find(key);
        let closed = self.sessions[slot].inbox.subscriptions.iter().map(|subscription| subscription.view);
        let closed =
            closed.into_iter().find(|view| Some(*view) != current && self.delivery.view(*view).key == *key);
        if let Some(view) = closed {
            self.delivery.unsubscribe(&mut self.sessions, slot, view);
            self.figures.subtract(Figure::Subscriptions, 1);
        }
        closed.is_some()
    }

    fn unsubscribe_answered(
        &mut self,
        now: Instant,
        request: RequestRef,
        name: &ChannelName,
        data: MemberData,
        answer: &Answer,
    ) {
        let slot = request.session.slot;
        let session = &self.sessions[slot];
        let Some(vhost) = session.vhost.as_ref().map(|vhost| vhost.id) else { return };
        let key = (vhost, name.clone());
        self.end_closed_subscription(slot, &key);
        let view = self.delivery.find(&key);
        let view = view.filter(|view| self.delivery.subscribes(&self.sessions[slot], *view));
        let owner = view.and_then(|view| self.leave_view(slot, view, data));
        let status = match (answer, self.sessions[slot].dialect) {
            (Answer::Found, Dialect::Wwfp) if view.is_none() => Status::NotSubscribed,
            (Answer::Found, Dialect::Classic | Dialect::Wwfp) => {
                let completion = Completion::Unsubscribed(name.clone());
                return self.complete_behind(now, request, owner.as_slice(), completion);
            }
            _ => Status::ChannelNotFound,
        };
        self.complete(request, &Reply::Error(status));
    }
}
