//! The channel owner's half, and what shards say to each other.

use std::{sync::Arc, time::Instant};

use webrocket_wire::{
    ChannelKind, ChannelName, Rights, Status,
    classic::{self, Limit, Reply},
    event::Delivery as Broadcast,
};

use crate::{
    answers::{Answerer, Open},
    channels::ChannelKey,
    link::Deferred,
    message::{Answer, ChannelRef, Frame, RequestRef, ShardId, ShardMessage},
    metrics::Figure,
    vhost::VhostId,
};

use super::{Job, SLICE_SESSIONS, Shard};

type Stopped = Result<(), super::classic::Stop>;

impl Shard {
    /// A message of another shard.
    pub(super) fn message(&mut self, now: Instant, from: ShardId, message: ShardMessage) {
        match message {
            ShardMessage::Subscribe { .. }
            | ShardMessage::Find { .. }
            | ShardMessage::Publish { .. }
            | ShardMessage::Admit { .. } => self.owner_request(now, message),
            ShardMessage::Dismiss { vhost, address } => self.admitted.dismiss(vhost, address),
            ShardMessage::Leave { channel, uid } => self.owner_leave(from, channel, uid),
            ShardMessage::Answer { request, answer, bytes } => {
                self.links[from.index()].request_closed(bytes);
                self.resume_stopped(from);
                self.answered(now, from, request, answer);
            }
            ShardMessage::Deliver { channel, frame } => {
                if let Some(view) = self.delivery.find_channel(from, channel) {
                    self.deliver(view, |out| out.extend_from_slice(&frame));
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
            self.send_request(owner, message, 0);
        }
    }

    /// Sends a request to another shard.
    pub(super) fn send_request(&mut self, owner: ShardId, message: ShardMessage, bytes: usize) {
        let link = &mut self.links[owner.index()];
        link.request_opened(bytes);
        link.push(message);
    }

    fn owner_request(&mut self, now: Instant, message: ShardMessage) {
        match message {
            ShardMessage::Subscribe { request, vhost, channel, may_create, uid } => {
                self.owner_subscribe(now, request, vhost, channel, may_create, uid);
            }
            ShardMessage::Find { request, vhost, channel } => {
                let answer = match self.channels.find(&(vhost, channel)) {
                    Some(_) => Answer::Found,
                    None => Answer::ChannelNotFound,
                };
                self.answer(now, request, answer, 0);
            }
            ShardMessage::Publish { request, vhost, channel, frame } => {
                self.owner_publish(now, request, &(vhost, channel), &frame);
            }
            ShardMessage::Admit { request, vhost, address, max } => {
                let answer = self.admit(vhost, address, max);
                self.answer(now, request, answer, 0);
            }
            ShardMessage::Dismiss { .. }
            | ShardMessage::Leave { .. }
            | ShardMessage::Answer { .. }
            | ShardMessage::Deliver { .. }
            | ShardMessage::Closed { .. } => unreachable!("only requests are asked"),
        }
    }

    fn owner_subscribe(
        &mut self,
        now: Instant,
        request: RequestRef,
        vhost: VhostId,
        name: ChannelName,
        may_create: bool,
        uid: Option<Arc<str>>,
    ) {
        let key = (vhost, name);
        let channel = match (self.channels.find(&key), self.vhost(vhost)) {
            (Some(channel), _) => channel,
            (None, Some(snapshot)) if may_create => {
                let snapshot = Arc::clone(snapshot);
                let Ok(channel) = self.channels.create(&snapshot, key.1, false) else {
                    self.figures.add(Figure::ChannelLimitHits, 1);
                    return self.answer(now, request, Answer::ChannelLimit, 0);
                };
                channel
            }
            (None, Some(_) | None) => return self.answer(now, request, Answer::ChannelNotFound, 0),
        };
        let entry = self.channels.entry(channel).expect("just found");
        entry.join(request.session.shard);
        let present = entry.members.as_ref().map(|members| members.present());
        let joined = match (&mut entry.members, &uid) {
            (Some(members), Some(uid)) => members.join(uid),
            (Some(_) | None, _) => false,
        };
        let name = entry.key.1.clone();
        self.answer(now, request, Answer::Subscribed { channel, uid: uid.clone(), present }, 0);
        // The answer may have been declined at once, and the channel gone with it.
        if let (true, Some(uid), Some(_)) = (joined, uid, self.channels.entry(channel)) {
            let mut frame = Vec::new();
            classic::encode_member_joined(&mut frame, &uid, &name);
            self.distribute(channel, &frame.into());
        }
    }

    fn owner_publish(&mut self, now: Instant, request: RequestRef, key: &ChannelKey, frame: &Frame) {
        let bytes = frame.len();
        let Some(channel) = self.channels.find(key) else {
            return self.answer(now, request, Answer::ChannelNotFound, bytes);
        };
        self.figures.add(Figure::Broadcasts, 1);
        let congested = self.distribute(channel, frame);
        self.acknowledge(now, request, congested, bytes);
    }

    /// A broadcast of a session of this shard, which owns the channel.
    pub(super) fn broadcast_here(
        &mut self,
        now: Instant,
        slot: u32,
        vhost: VhostId,
        name: &ChannelName,
        broadcast: &Broadcast<'_>,
    ) -> Stopped {
        let key = (vhost, name.clone());
        let channel = self.channels.find(&key).ok_or(Status::ChannelNotFound)?;
        self.figures.add(Figure::Broadcasts, 1);
        let here = self.config.id;
        let entry = self.channels.entry(channel).expect("just found");
        if entry.audience.iter().all(|(shard, _)| *shard == here) {
            if let Some(view) = self.delivery.find_channel(here, channel) {
                self.deliver(view, |out| broadcast.encode(out));
            }
            self.reply(slot, Reply::Broadcasted(name));
            return Ok(());
        }
        let mut frame = Vec::new();
        broadcast.encode(&mut frame);
        let bytes = frame.len();
        let congested = self.distribute(channel, &frame.into());
        if congested.is_empty() {
            self.reply(slot, Reply::Broadcasted(name));
        } else {
            let open = Open::Broadcast { channel: name.clone(), bytes };
            let request = self.open_request(slot, open, Answerer::Whenever);
            self.acknowledge(now, request, congested, bytes);
        }
        Ok(())
    }

    /// Gives a frame its place in the channel's order: appends it here, sends it to every other
    /// shard with subscribers. Returns the congested ways, with the message's number on each.
    fn distribute(&mut self, channel: ChannelRef, frame: &Frame) -> Vec<(ShardId, u64)> {
        let mut congested = Vec::new();
        let here = self.config.id;
        let entry = self.channels.entry(channel).expect("an open channel");
        for (shard, _) in &entry.audience {
            if *shard != here {
                let link = &mut self.links[shard.index()];
                let number = link.push(ShardMessage::Deliver { channel, frame: Arc::clone(frame) });
                if link.is_congested() {
                    congested.push((*shard, number));
                }
            }
        }
        if let Some(view) = self.delivery.find_channel(here, channel) {
            self.deliver(view, |out| out.extend_from_slice(frame));
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
        request: RequestRef,
        mut congested: Vec<(ShardId, u64)>,
        bytes: usize,
    ) {
        while let Some((shard, number)) = congested.pop() {
            let link = &mut self.links[shard.index()];
            if !link.has_left(number) {
                return link.defer(number, Deferred { request, others: congested, bytes });
            }
        }
        self.answer(now, request, Answer::Published, bytes);
    }

    /// The next message to a shard; what waited for it to leave goes on.
    pub(super) fn take_message(&mut self, now: Instant, shard: ShardId) -> Option<ShardMessage> {
        let message = self.links[shard.index()].next_message()?;
        while let Some(Deferred { request, others, bytes }) = self.links[shard.index()].next_deferred() {
            self.acknowledge(now, request, others, bytes);
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

    /// Tells a channel's owner that a subscription is over.
    pub(super) fn tell_leave(&mut self, owner: ShardId, channel: ChannelRef, uid: Option<Arc<str>>) {
        if owner == self.config.id {
            self.owner_leave(owner, channel, uid);
        } else {
            self.links[owner.index()].push(ShardMessage::Leave { channel, uid });
        }
    }

    fn owner_leave(&mut self, from: ShardId, channel: ChannelRef, uid: Option<Arc<str>>) {
        let Some(entry) = self.channels.entry(channel) else { return };
        entry.leave(from);
        let left = match (&mut entry.members, &uid) {
            (Some(members), Some(uid)) => members.leave(uid),
            (Some(_) | None, _) => false,
        };
        if entry.is_over() {
            self.channels.remove(channel);
        } else if let (true, Some(uid)) = (left, uid) {
            let name = entry.key.1.clone();
            let mut frame = Vec::new();
            classic::encode_member_left(&mut frame, &uid, &name);
            self.distribute(channel, &frame.into());
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
            let place = self.delivery.view(view);
            let name = place.name().clone();
            let slot = place.any_subscriber().expect("a view goes with its last subscriber");
            self.delivery.unsubscribe(&mut self.sessions, slot, view);
            self.figures.subtract(Figure::Subscriptions, 1);
            self.tell_unsubscribed(slot, &name);
        }
        if self.delivery.holds(view, generation) {
            self.jobs.push_back(Job::CloseView { view, generation });
        }
    }

    /// Tells a session that a subscription ended without its asking.
    pub(super) fn tell_unsubscribed(&mut self, slot: u32, name: &ChannelName) {
        let session = &mut self.sessions[slot];
        Reply::Unsubscribed(name).encode(self.delivery.frames(session, slot));
    }

    /// The `uid` with which the session appears on a channel.
    pub(super) fn presence_uid(&self, slot: u32, channel: &ChannelName) -> Option<Arc<str>> {
        match channel.kind() {
            ChannelKind::Presence => self.sessions[slot].identity.uid(),
            ChannelKind::Open | ChannelKind::Private => None,
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

    /// An owner's answer to a request of a session of this shard.
    fn answered(&mut self, now: Instant, owner: ShardId, request: RequestRef, answer: Answer) {
        let session = request.session;
        let open = self
            .sessions
            .entry(session.slot, session.generation)
            .and_then(|entry| entry.answers.as_mut())
            .and_then(|answers| answers.open(request.number));
        match (open, answer) {
            (None, Answer::Subscribed { channel, uid, .. }) => self.tell_leave(owner, channel, uid),
            (None, Answer::Admitted { vhost, address }) => self.tell_dismissed(vhost, address),
            (None, _) => {}
            (Some(Open::Admit(_)), answer) => self.admit_answered(now, request, &answer),
            (Some(Open::Subscribe(name)), answer) => {
                let name = name.clone();
                self.subscribe_answered(owner, request, &name, answer);
            }
            (Some(Open::Unsubscribe(name)), answer) => {
                let name = name.clone();
                self.unsubscribe_answered(request, &name, &answer);
            }
            (Some(Open::Broadcast { channel, .. }), answer) => {
                let channel = channel.clone();
                let reply = match answer {
                    Answer::Published => Reply::Broadcasted(&channel),
                    _ => Reply::Error(Status::ChannelNotFound),
                };
                self.complete(request, &[reply]);
            }
            (Some(Open::Authenticate(_) | Open::OpenChannel(_) | Open::CloseChannel(_)), _) => {
                unreachable!("the control thread answers those")
            }
        }
    }

    fn subscribe_answered(
        &mut self,
        owner: ShardId,
        request: RequestRef,
        name: &ChannelName,
        answer: Answer,
    ) {
        let slot = request.session.slot;
        let (channel, uid, present) = match answer {
            Answer::Subscribed { channel, uid, present } => (channel, uid, present),
            Answer::ChannelLimit => return self.complete(request, &[Reply::Limit(Limit::Channels)]),
            // The session may not create it, and whether it exists is not its business.
            Answer::Found
            | Answer::Published
            | Answer::ChannelNotFound
            | Answer::Admitted { .. }
            | Answer::TooManyConnections => {
                return self.complete(request, &[Reply::Error(Status::AccessDenied)]);
            }
        };
        // Its rights may have changed while the owner was asked.
        let Some(vhost) = self.sessions[slot].vhost.as_ref().map(|vhost| vhost.id) else { return };
        if !self.rights(slot, name.as_str()).contains(Rights::READ) {
            self.tell_leave(owner, channel, uid);
            return self.complete(request, &[Reply::Error(Status::AccessDenied)]);
        }
        let key = (vhost, name.clone());
        if self.end_closed_subscription(slot, &key) {
            self.tell_unsubscribed(slot, name);
        }
        let replies = [
            Some(Reply::Subscribed(name)),
            present.as_ref().map(|present| Reply::Presence {
                channel: name,
                uids: &present.uids,
                total: present.total,
            }),
        ];
        let replies: Vec<_> = replies.into_iter().flatten().collect();
        self.complete(request, &replies);
        let view = self.delivery.find_or_create(&key, owner, channel);
        if self.delivery.subscribes(&self.sessions[slot], view) {
            // It subscribed already: the owner counts it once.
            return self.tell_leave(owner, channel, uid);
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

    fn unsubscribe_answered(&mut self, request: RequestRef, name: &ChannelName, answer: &Answer) {
        let slot = request.session.slot;
        let session = &self.sessions[slot];
        let Some(vhost) = session.vhost.as_ref().map(|vhost| vhost.id) else { return };
        let key = (vhost, name.clone());
        self.end_closed_subscription(slot, &key);
        if let Some(view) = self.delivery.find(&key)
            && self.delivery.subscribes(&self.sessions[slot], view)
        {
            self.leave_view(slot, view);
        }
        let reply = match answer {
            Answer::Found => Reply::Unsubscribed(name),
            _ => Reply::Error(Status::ChannelNotFound),
        };
        self.complete(request, &[reply]);
    }
}
