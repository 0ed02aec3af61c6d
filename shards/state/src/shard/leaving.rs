//! How subscriptions and sessions end, and what waits for that.
//!
//! A leave has taken effect when the channel's owner has taken it: then the session is no member any more, and
//! the other subscribers are being told. What is said to another shard arrives in order, so a fence behind the leaves
//! comes back when they have all been taken. An answer whose effect includes leaves goes out then, and no earlier.
//!
//! Source: docs/protocol.md, "Presence".

use smallvec::SmallVec;
use webrocket_wire::{CloseCode, MemberData, Reply, classic, wwfp, wwfp::Reference};

use crate::{
    answers::{Answerer, Completion, Open},
    encoding::Encoding,
    ids::{ChannelRef, RequestRef, SessionRef, ShardId},
    machine::Action,
    message::{OwnerRequest, Waiter},
    metrics::Figure,
    session::State,
    slots::{SessionSlot, ViewSlot},
};

use super::serving::Serving;

/// Other shards that were told of leaves, each once.
pub(super) type Owners = SmallVec<[ShardId; 4]>;

impl Serving<'_> {
    /// Ends one subscription of a session and tells the channel's owner; which one, if that is another shard.
    pub(super) fn leave_view(
        &mut self,
        slot: SessionSlot,
        view: ViewSlot,
        data: MemberData,
    ) -> Option<ShardId> {
        let place = &self.fanout.views[view];
        let (owner, channel, encoding) = (place.owner, place.channel, place.encoding);
        self.unsubscribe(slot, view);
        let session = self.sessions.reference(slot);
        self.tell_leave(owner, channel, session, encoding, data);
        (owner != self.links.here()).then_some(owner)
    }

    /// Ends one subscription of a session.
    pub(super) fn unsubscribe(&mut self, slot: SessionSlot, view: ViewSlot) {
        self.fanout.unsubscribe(&mut self.sessions.slots, slot, view);
        self.figures.subtract(Figure::Subscriptions, 1);
    }

    /// Ends all subscriptions of a session; it is told nothing. `data` is what others are told.
    pub(super) fn drop_subscriptions(&mut self, slot: SessionSlot, data: &MemberData) -> Owners {
        let mut owners = Owners::new();
        while let Some(subscription) = self.sessions.slots[slot].inbox.subscriptions.last().copied() {
            if let Some(owner) = self.leave_view(slot, subscription.view, data.clone())
                && !owners.contains(&owner)
            {
                owners.push(owner);
            }
        }
        owners
    }

    /// Tells a channel's owner that a subscription is over.
    pub(super) fn tell_leave(
        &mut self,
        owner: ShardId,
        channel: ChannelRef,
        session: SessionRef,
        encoding: Encoding,
        data: MemberData,
    ) {
        self.links.ask(owner, OwnerRequest::Leave { channel, session, encoding, data });
    }

    /// Opens a request whose effect is that the session has left, and completes it when these owners know that.
    pub(super) fn request_leave(
        &mut self,
        slot: SessionSlot,
        owners: &[ShardId],
        completion: Completion,
        reference: Option<&Reference>,
    ) {
        let open = Open::Leave(owners.len(), completion.clone());
        let request = self.open_request(slot, open, Answerer::Barrier, reference);
        self.complete_behind(request, owners, completion);
    }

    /// Completes an open request when these owners know that the session has left: at once if there are none.
    pub(super) fn complete_behind(
        &mut self,
        request: RequestRef,
        owners: &[ShardId],
        completion: Completion,
    ) {
        if owners.is_empty() {
            return self.leave_completed(request, completion);
        }
        if let Some(answers) = self.sessions.slots[request.session.slot].answers() {
            answers.go_on(request.number, Open::Leave(owners.len(), completion));
        }
        for owner in owners {
            self.links.ask(*owner, OwnerRequest::Fence(Waiter::Request(request)));
        }
    }

    /// One of the owners that a request waits for has taken all leaves.
    pub(super) fn leaves_taken(&mut self, request: RequestRef) {
        let answers = self.sessions.entry(request.session).and_then(|entry| entry.answers());
        // A session that has ended meanwhile is told nothing more.
        let completion = answers.and_then(|answers| answers.confirm_leave(request.number));
        if let Some(completion) = completion {
            self.leave_completed(request, completion);
        }
    }

    fn leave_completed(&mut self, request: RequestRef, completion: Completion) {
        let slot = request.session.slot;
        match completion {
            Completion::Unsubscribed(channel) => self.complete(request, &Reply::Unsubscribed(&channel)),
            Completion::Authenticated(who) => self.complete(request, &Reply::Authenticated(&who)),
            Completion::LoggedOut => {
                self.complete_with(request, |out, _, _| classic::encode_logged_out(out));
            }
            Completion::Disconnected => self.close(slot, CloseCode::Normal, &MemberData::default()),
            Completion::Closed => {
                self.complete_with(request, |out, session, reference| {
                    wwfp::encode_closed(out, session.sid, reference);
                });
                self.close(slot, CloseCode::Normal, &MemberData::default());
            }
        }
    }

    /// Begins the closing handshake; what waits is sent before. `data` is what those are told who
    /// see it leave.
    pub(super) fn close(&mut self, slot: SessionSlot, code: CloseCode, data: &MemberData) {
        self.drop_subscriptions(slot, data);
        let timeouts = self.sessions.timeouts();
        let session = &mut self.sessions.slots[slot];
        if session.connection.is_open() {
            session.connection.close(self.now, code, &timeouts);
            self.fanout.enqueue(session, slot);
            self.finish_requests(slot);
        }
    }

    /// The peer has closed. Its close frame is answered, and that is the last that it gets.
    pub(super) fn peer_closed(&mut self, slot: SessionSlot) {
        self.fanout.drop_tail(&mut self.sessions.slots[slot]);
        self.drop_subscriptions(slot, &MemberData::default());
        self.finish_requests(slot);
    }

    /// The session asks nothing more: what it still sends is read only to find its end, and if
    /// that has come already, so has the session's.
    fn finish_requests(&mut self, slot: SessionSlot) {
        self.leave_open(slot);
        let session = &mut self.sessions.slots[slot];
        let was_paused = std::mem::take(&mut session.pause).any();
        let ended = session.parked.take().is_some_and(|parked| parked.ended);
        if ended {
            return self.end(slot);
        }
        if was_paused {
            let session = self.sessions.reference(slot);
            self.sessions.actions.push_back(Action::Resume(session));
        }
        self.sessions.schedule(slot);
    }

    /// The session is open no longer, or will not be.
    pub(super) fn leave_open(&mut self, slot: SessionSlot) {
        let before = std::mem::replace(&mut self.sessions.slots[slot].state, State::Closing);
        if let State::Open(open) = before {
            self.sessions.unlist_sid(slot, open.sid);
            self.figures.subtract(Figure::Sessions, 1);
        }
    }

    /// Removes a session: its subscriptions end, its socket is closed.
    pub(super) fn end(&mut self, slot: SessionSlot) {
        let session = self.remove(slot);
        self.sessions.actions.push_back(Action::Close(session));
    }

    /// Removes a session whose socket is somebody else's matter.
    pub(super) fn remove(&mut self, slot: SessionSlot) -> SessionRef {
        self.fanout.drop_tail(&mut self.sessions.slots[slot]);
        self.drop_subscriptions(slot, &MemberData::default());
        self.leave_open(slot);
        self.dismiss(slot);
        self.sessions.remove(slot).0
    }

    /// A session that was counted among the connections of its address is so no longer.
    pub(super) fn dismiss(&mut self, slot: SessionSlot) {
        let session = &mut self.sessions.slots[slot];
        if let Some(counted) = session.counted.take() {
            let address = session.peer;
            self.links.ask(counted.counter, OwnerRequest::Dismiss { vhost: counted.vhost, address });
        }
    }

    /// The peer sends nothing more.
    pub(super) fn disconnected(&mut self, session: SessionRef) {
        let Some(entry) = self.sessions.answered_for(session) else { return };
        match &mut entry.parked {
            // What it sent before it went is still carried out, unless that waits for itself.
            Some(parked) if entry.connection.is_open() && !entry.pause.output && !parked.ended => {
                parked.ended = true;
            }
            Some(_) | None => self.end(session.slot),
        }
    }
}
