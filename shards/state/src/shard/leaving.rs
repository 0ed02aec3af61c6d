//! How subscriptions end, and what waits until the owners of their channels know it.
//!
//! A leave has taken effect when the channel's owner has taken it: then the session is no member any more, and
//! the other subscribers are being told. What is said to another shard arrives in order, so a fence behind the leaves
//! comes back when they have all been taken. An answer whose effect includes leaves goes out then, and no earlier.
//!
//! Source: docs/protocol.md, "Presence".

use std::time::Instant;

use smallvec::SmallVec;
use webrocket_wire::{CloseCode, MemberData, Reply, classic, wwfp, wwfp::Reference};

use crate::{
    answers::{Answerer, Completion, Open},
    message::{ChannelRef, CommandReply, RequestRef, SessionRef, ShardId, ShardMessage, Ticket, Waiter},
    metrics::Figure,
};

use super::Shard;

/// What a change of a vhost waits for.
#[derive(Debug)]
pub(super) struct Fence {
    /// From how many other shards it has to come back.
    shards: usize,
    /// How many leaves had been caused when it was sent.
    leaves: u64,
}

/// Other shards that were told of leaves, each once.
pub(super) type Owners = SmallVec<[ShardId; 4]>;

impl Shard {
    /// Ends one subscription of a session and tells the channel's owner; which one, if that is another shard.
    pub(super) fn leave_view(&mut self, slot: u32, view: u32, data: MemberData) -> Option<ShardId> {
        let place = self.delivery.view(view);
        let (owner, channel) = (place.owner, place.channel);
        self.delivery.unsubscribe(&mut self.sessions, slot, view);
        self.figures.subtract(Figure::Subscriptions, 1);
        let session = self.reference(slot);
        self.tell_leave(owner, channel, session, data);
        (owner != self.config.id).then_some(owner)
    }

    /// Ends all subscriptions of a session; it is told nothing. `data` is what others are told.
    pub(super) fn drop_subscriptions(&mut self, slot: u32, data: &MemberData) -> Owners {
        let mut owners = Owners::new();
        while let Some(subscription) = self.sessions[slot].inbox.subscriptions.last().copied() {
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
        data: MemberData,
    ) {
        if owner == self.config.id {
            self.owner_leave(owner, channel, session, &data);
        } else {
            self.links[owner.index()].push(ShardMessage::Leave { channel, session, data });
        }
    }

    /// Opens a request whose effect is that the session has left, and completes it when these owners know that.
    pub(super) fn request_leave(
        &mut self,
        now: Instant,
        slot: u32,
        owners: &[ShardId],
        completion: Completion,
        reference: Option<&Reference>,
    ) {
        let open = Open::Leave(owners.len(), completion.clone());
        let request = self.open_request(slot, open, Answerer::Barrier, reference);
        self.complete_behind(now, request, owners, completion);
    }

    /// Completes an open request when these owners know that the session has left: at once if there are none.
    pub(super) fn complete_behind(
        &mut self,
        now: Instant,
        request: RequestRef,
        owners: &[ShardId],
        completion: Completion,
    ) {
        if owners.is_empty() {
            return self.leave_completed(now, request, completion);
        }
        if let Some(answers) = &mut self.sessions[request.session.slot].answers {
            answers.go_on(request.number, Open::Leave(owners.len(), completion));
        }
        for owner in owners {
            self.links[owner.index()].push(ShardMessage::Fence(Waiter::Request(request)));
        }
    }

    /// A vhost's change has reached all sessions: reports it, as soon as all other shards have taken the leaves that
    /// this and other changes have caused.
    pub(super) fn swept(&mut self, ticket: Ticket<()>) {
        if self.leaves_caused > self.leaves_taken {
            self.apply_behind_all(ticket);
        } else {
            self.command_reply(CommandReply::Applied(ticket));
        }
    }

    /// Reports a command as carried out when all other shards have taken what this one said to them.
    fn apply_behind_all(&mut self, ticket: Ticket<()>) {
        let shards = (0..self.config.directory.shards()).map(ShardId);
        let others: Owners = shards.filter(|shard| *shard != self.config.id).collect();
        for shard in &others {
            self.links[shard.index()].push(ShardMessage::Fence(Waiter::Command(ticket)));
        }
        if others.is_empty() {
            return self.command_reply(CommandReply::Applied(ticket));
        }
        self.fences.insert(ticket, Fence { shards: others.len(), leaves: self.leaves_caused });
    }

    /// Another shard has taken everything that was said to it before a fence.
    pub(super) fn fence_passed(&mut self, now: Instant, waiter: Waiter) {
        match waiter {
            Waiter::Request(request) => {
                let entry = self.sessions.entry(request.session.slot, request.session.generation);
                let answers = entry.and_then(|entry| entry.answers.as_mut());
                // A session that has ended meanwhile is told nothing more.
                let completion = answers.and_then(|answers| answers.confirm_leave(request.number));
                if let Some(completion) = completion {
                    self.leave_completed(now, request, completion);
                }
            }
            Waiter::Command(ticket) => {
                let fence = self.fences.get_mut(&ticket).expect("a fence comes back once from each shard");
                fence.shards -= 1;
                if fence.shards == 0 {
                    self.leaves_taken = self.leaves_taken.max(fence.leaves);
                    self.fences.remove(&ticket);
                    // Answers that came back before the fence may have caused leaves of their own.
                    self.swept(ticket);
                }
            }
        }
    }

    fn leave_completed(&mut self, now: Instant, request: RequestRef, completion: Completion) {
        let slot = request.session.slot;
        match completion {
            Completion::Unsubscribed(channel) => self.complete(request, &Reply::Unsubscribed(&channel)),
            Completion::Authenticated(who) => self.complete(request, &Reply::Authenticated(&who)),
            Completion::LoggedOut => {
                self.complete_with(request, |out, _, _| classic::encode_logged_out(out));
            }
            Completion::Disconnected => {
                self.close_session(now, slot, CloseCode::Normal, &MemberData::default());
            }
            Completion::Closed => {
                self.complete_with(request, |out, session, reference| {
                    wwfp::encode_closed(out, session.sid, reference);
                });
                self.close_session(now, slot, CloseCode::Normal, &MemberData::default());
            }
        }
    }
}
