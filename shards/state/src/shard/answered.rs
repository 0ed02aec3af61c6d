//! The answers to what sessions asked of owners, of the exchange and of the control thread.

use webrocket_wire::{ChannelName, MemberData, Reply, Rights, Status, handshake::Dialect};

use crate::{
    answers::{Completion, Open},
    channels::ChannelKey,
    command::{Changed, NotChanged},
    encoding::Encoding,
    identity::{Identity, InvalidCredentials},
    ids::{ChannelRef, RequestRef, ShardId},
    message::{Answer, Present},
    metrics::Figure,
    slots::{SessionSlot, ViewSlot},
};

use super::request::Requests;

/// A subscription as its channel's owner has counted it.
struct CountedSubscription {
    owner: ShardId,
    channel: ChannelRef,
    encoding: Encoding,
}

impl Requests<'_> {
    /// The answer of an owner, or of the exchange, to a request of a session of this shard.
    pub(super) fn answered(&mut self, owner: ShardId, request: RequestRef, answer: Answer) {
        let answers = self.serving.sessions.entry(request.session).and_then(|entry| entry.answers());
        let open = answers.and_then(|answers| answers.open(request.number));
        match (open, answer) {
            (None, Answer::Subscribed { channel, encoding, .. }) => {
                self.take_back(request, &CountedSubscription { owner, channel, encoding });
            }
            (None, _) => {}
            (Some(Open::Subscribe(name)), answer) => {
                let name = name.clone();
                self.subscribe_answered(owner, request, &name, answer);
            }
            (Some(Open::Unsubscribe(name, data)), answer) => {
                let (name, data) = (name.clone(), data.clone());
                self.unsubscribe_answered(request, &name, data, &answer);
            }
            (Some(Open::Fail(status)), answer) => {
                let status = if answer == Answer::Found { *status } else { Status::ChannelNotFound };
                self.serving.complete(request, &Reply::Error(status));
            }
            (Some(Open::Broadcast { channel, .. }), answer) => {
                let channel = channel.clone();
                let reply = match answer {
                    Answer::Published => Reply::Broadcasted(&channel),
                    _ => Reply::Error(Status::ChannelNotFound),
                };
                self.serving.complete(request, &reply);
            }
            (Some(Open::Trigger { event, .. }), answer) => {
                let event = event.clone();
                self.trigger_answered(request, &event, &answer);
            }
            (Some(Open::TriggeringBroadcast { channel, publication, .. }), answer) => {
                let (channel, publication) = (channel.clone(), publication.clone());
                self.broadcast_triggered(request, channel, publication, &answer);
            }
            (
                Some(Open::Authenticate | Open::OpenChannel(_) | Open::CloseChannel(_) | Open::Leave(..)),
                _,
            ) => unreachable!("the control thread or a fence answers those"),
        }
    }

    /// The session that was counted as a subscriber is none, or was one before.
    fn take_back(&mut self, request: RequestRef, counted: &CountedSubscription) {
        let CountedSubscription { owner, channel, encoding } = *counted;
        self.serving.tell_leave(owner, channel, request.session, encoding, MemberData::default());
    }

    fn subscribe_answered(
        &mut self,
        owner: ShardId,
        request: RequestRef,
        name: &ChannelName,
        answer: Answer,
    ) {
        let status = match (answer, self.session(request.session.slot).dialect) {
            (Answer::Subscribed { channel, encoding, present }, _) => {
                return self.subscribed(
                    request,
                    name,
                    &CountedSubscription { owner, channel, encoding },
                    present.as_deref(),
                );
            }
            (Answer::ChannelLimit, _) => Status::ChannelLimit,
            (_, Dialect::Wwfp) => Status::ChannelNotFound,
            // The session may not create it, and whether it exists is not its business.
            (_, Dialect::Classic) => Status::AccessDenied,
        };
        self.serving.complete(request, &Reply::Error(status));
    }

    fn subscribed(
        &mut self,
        request: RequestRef,
        name: &ChannelName,
        counted: &CountedSubscription,
        present: Option<&Present>,
    ) {
        let slot = request.session.slot;
        // Its rights may have changed while the owner was asked.
        if !self.rights(slot, name.as_str()).contains(Rights::READ) {
            self.take_back(request, counted);
            self.fences.cause(u64::from(counted.owner != self.serving.links.here()));
            return self.serving.complete(request, &Reply::Error(Status::AccessDenied));
        }
        let key = (self.vhost_of(slot), name.clone());
        if self.end_closed_subscription(slot, &key) {
            self.serving.tell(slot, &Reply::Unsubscribed(name));
        }
        let uid = self.session(slot).shown_uid(name.kind());
        let present = present.map(Present::as_reply);
        self.serving.complete(request, &Reply::Subscribed { channel: name, uid: uid.as_deref(), present });
        let CountedSubscription { owner, channel, encoding } = *counted;
        let fanout = &mut self.serving.fanout;
        let view = fanout.views.find_or_create(&key, owner, channel, encoding);
        let sessions = &mut self.serving.sessions.slots;
        if fanout.subscribes(&sessions[slot], view) {
            // It subscribed already: the owner counts it once.
            return self.take_back(request, counted);
        }
        fanout.subscribe(sessions, slot, view);
        self.serving.figures.add(Figure::Subscriptions, 1);
    }

    /// Ends the session's subscription of a closed channel of that name, if the closing has not
    /// come to it yet; whether there was one. The session must hear of it before anything of a
    /// new channel of the same name.
    fn end_closed_subscription(&mut self, slot: SessionSlot, key: &ChannelKey) -> bool {
        let views = &self.serving.fanout.views;
        if !views.has_detached() {
            return false;
        }
        let subscriptions = &self.serving.sessions.slots[slot].inbox.subscriptions;
        let mut of = subscriptions.iter().map(|subscription| subscription.view);
        let closed = of.find(|view| views[*view].is_detached() && views[*view].key == *key);
        if let Some(view) = closed {
            self.serving.unsubscribe(slot, view);
        }
        closed.is_some()
    }

    /// The view of a channel that the session subscribes.
    fn subscribed_view(&self, slot: SessionSlot, key: &ChannelKey) -> Option<ViewSlot> {
        let view = self.serving.fanout.views.find(key, self.session(slot).encoding)?;
        self.serving.fanout.subscribes(&self.serving.sessions.slots[slot], view).then_some(view)
    }

    fn unsubscribe_answered(
        &mut self,
        request: RequestRef,
        name: &ChannelName,
        data: MemberData,
        answer: &Answer,
    ) {
        let slot = request.session.slot;
        let key = (self.vhost_of(slot), name.clone());
        self.end_closed_subscription(slot, &key);
        let view = self.subscribed_view(slot, &key);
        let owner = view.and_then(|view| self.serving.leave_view(slot, view, data));
        let status = match (answer, self.session(slot).dialect) {
            (Answer::Found, Dialect::Wwfp) if view.is_none() => Status::NotSubscribed,
            (Answer::Found, Dialect::Classic | Dialect::Wwfp) => {
                let completion = Completion::Unsubscribed(name.clone());
                return self.serving.complete_behind(request, owner.as_slice(), completion);
            }
            _ => Status::ChannelNotFound,
        };
        self.serving.complete(request, &Reply::Error(status));
    }

    /// The control thread's answer to credentials.
    pub(super) fn authenticated(
        &mut self,
        request: RequestRef,
        identity: Result<Identity, InvalidCredentials>,
    ) {
        let Some(open) = self.serving.sessions.entry(request.session).and_then(|entry| entry.open_mut())
        else {
            return;
        };
        let asked = open.answers.as_mut().and_then(|answers| answers.open(request.number));
        let Some(Open::Authenticate) = asked else { return };
        // The user may have gone, or been replaced, while the secret was verified.
        let identity = identity.ok().filter(|identity| match identity {
            Identity::User { name, generation } => {
                open.vhost.users.get(name).is_some_and(|user| user.generation == *generation)
            }
            Identity::Token(_) => true,
            Identity::Anonymous => false,
        });
        let Some(identity) = identity else {
            return self.serving.complete(request, &Reply::Error(Status::InvalidCredentials));
        };
        let who = identity.uid().expect("only credentials of somebody are valid");
        let owners = self.serving.become_identity(request.session.slot, identity);
        self.serving.complete_behind(request, &owners, Completion::Authenticated(who));
    }

    /// The control thread's answer to a channel that was to be opened or closed.
    pub(super) fn channel_changed(&mut self, request: RequestRef, outcome: Changed) {
        let answers = self.serving.sessions.entry(request.session).and_then(|entry| entry.answers());
        let (name, opened) = match answers.and_then(|answers| answers.open(request.number)) {
            Some(Open::OpenChannel(name)) => (name.clone(), true),
            Some(Open::CloseChannel(name)) => (name.clone(), false),
            Some(
                Open::Subscribe(_)
                | Open::Unsubscribe(..)
                | Open::Leave(..)
                | Open::Fail(_)
                | Open::Broadcast { .. }
                | Open::Trigger { .. }
                | Open::TriggeringBroadcast { .. }
                | Open::Authenticate,
            )
            | None => return,
        };
        let reply = match outcome {
            Ok(()) if opened => Reply::ChannelOpened(&name),
            Ok(()) => Reply::ChannelClosed(&name),
            Err(NotChanged::ChannelLimit) => Reply::Error(Status::ChannelLimit),
            Err(NotChanged::ChannelNotFound | NotChanged::VhostNotFound) => {
                Reply::Error(Status::ChannelNotFound)
            }
            Err(NotChanged::StoreFailed) => Reply::Error(Status::Internal),
        };
        self.serving.complete(request, &reply);
    }
}
