//! Triggers of sessions: their way to the exchange, and what comes of it.
//!
//! Who handles a trigger, and where it waits for him, is the exchange's business. A trigger leaves
//! when everything that the session asked before has had its effect, so that what a backend does in
//! return comes behind that. Only triggers need not wait for triggers: the exchange places them in
//! the order in which they come, at once. A broadcast that triggers goes to its channel's owner when
//! its trigger has been placed; until it is done, the session's later requests wait.
//!
//! Source: docs/protocol.md, "What subscribers receive", "Classic" and "WWFP".

use webrocket_wire::{
    ChannelName, Data, Json, Publication, Reply, Rights, SharedPublication, Status, Trigger, trigger::Origin,
    wwfp::Reference,
};

use crate::{
    answers::{Answerer, Open},
    ids::RequestRef,
    message::{Answer, OwnerRequest},
    metrics::Figure,
    slots::SessionSlot,
};

use super::request::{Requests, Step};

impl Requests<'_> {
    /// Triggers an event for a session that may.
    pub(super) fn trigger(
        &mut self,
        slot: SessionSlot,
        event: Json<'_>,
        data: Option<Data<'_>>,
        reference: Option<&Reference>,
    ) -> Step {
        self.require_way_to_exchange(slot)?;
        let trigger = self.make_trigger(slot, event, data, None);
        let open = Open::Trigger { event: event.text().into(), bytes: trigger.bytes() };
        let answerer = Answerer::Owner(self.directory.exchange());
        self.send_trigger(slot, trigger, open, answerer, reference)
    }

    /// Broadcasts on a channel on which the session may, once `trigger` has been placed with the same data.
    pub(super) fn publish_triggering(
        &mut self,
        slot: SessionSlot,
        channel: ChannelName,
        event: Json<'_>,
        trigger: Json<'_>,
        data: Option<Data<'_>>,
        reference: Option<&Reference>,
    ) -> Step {
        self.require_way_to_exchange(slot)?;
        let owner = self.directory.owner(self.vhost_of(slot), &channel);
        self.require_room(slot, owner)?;
        let session = self.session(slot);
        let publication = Publication::new(event, data, &channel, Some(session.sid));
        let publication = publication.by(session.identity.name()).share();
        let trigger = self.make_trigger(slot, trigger, data, Some(&channel));
        let open = Open::TriggeringBroadcast { channel, publication, bytes: trigger.bytes() };
        self.send_trigger(slot, trigger, open, Answerer::Barrier, reference)
    }

    /// Everything before is done, or stands before it at the exchange, to which there is room.
    fn require_way_to_exchange(&mut self, slot: SessionSlot) -> Step {
        let exchange = self.directory.exchange();
        self.require_order(slot, Some(exchange))?;
        self.require_room(slot, exchange)
    }

    fn make_trigger(
        &self,
        slot: SessionSlot,
        event: Json<'_>,
        data: Option<Data<'_>>,
        channel: Option<&ChannelName>,
    ) -> Trigger {
        let session = self.session(slot);
        let uid = session.identity.uid();
        Trigger::new(event, data, Origin { sid: session.sid, uid: uid.as_deref(), channel })
    }

    fn send_trigger(
        &mut self,
        slot: SessionSlot,
        trigger: Trigger,
        open: Open,
        answerer: Answerer,
        reference: Option<&Reference>,
    ) -> Step {
        let vhost = self.vhost_of(slot);
        let request = self.serving.open_request(slot, open, answerer, reference);
        let exchange = self.directory.exchange();
        self.serving.links.ask(exchange, OwnerRequest::Trigger { request, vhost, trigger });
        self.serving.figures.add(Figure::Triggers, 1);
        Ok(())
    }

    /// The exchange's answer to a trigger.
    pub(super) fn trigger_answered(&mut self, request: RequestRef, event: &str, answer: &Answer) {
        let is_placed = *answer == Answer::Triggered;
        let reply = if is_placed { Reply::Triggered(event) } else { self.assignation_failed() };
        self.serving.complete(request, &reply);
    }

    /// The exchange's answer to the trigger of a broadcast, which goes on if it was placed.
    pub(super) fn broadcast_triggered(
        &mut self,
        request: RequestRef,
        channel: ChannelName,
        publication: SharedPublication,
        answer: &Answer,
    ) {
        if *answer != Answer::Triggered {
            let reply = self.assignation_failed();
            return self.serving.complete(request, &reply);
        }
        let slot = request.session.slot;
        // Its rights and its subscription may have changed while the exchange was asked.
        if !self.rights(slot, channel.as_str()).contains(Rights::WRITE) {
            return self.serving.complete(request, &Reply::Error(Status::AccessDenied));
        }
        let vhost = self.vhost_of(slot);
        let owner = self.directory.owner(vhost, &channel);
        let subscribes =
            self.serving.fanout.subscribed(&self.serving.sessions.slots[slot], channel.as_str()).is_some();
        let (open, asked) = if subscribes {
            let open = Open::Broadcast { channel: channel.clone(), bytes: publication.len() };
            (open, OwnerRequest::Publish { request, vhost, channel, publication })
        } else {
            (Open::Fail(Status::NotSubscribed), OwnerRequest::Find { request, vhost, channel })
        };
        let answers = self.serving.sessions.slots[slot].answers().expect("the request is open");
        answers.go_on(request.number, open);
        self.serving.links.ask(owner, asked);
    }

    fn assignation_failed(&mut self) -> Reply<'static> {
        self.serving.figures.add(Figure::TriggersFailed, 1);
        Reply::Error(Status::AssignationFailed)
    }
}
