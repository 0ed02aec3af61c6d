//! The requests of WWFP.
//!
//! A malformed message, an unknown event, a wrong type, a missing or empty name are 400; after that
//! a request's checks run in the order in which its row lists their codes, and the first that fails
//! is the answer. Of private and presence channels to which it has no right a session learns
//! nothing, not even whether they exist.
//!
//! Source: docs/protocol.md, "WWFP".

use std::borrow::Cow;

use webrocket_wire::{
    ChannelKind, ChannelName, Data, EventName, Json, MemberData, Reply, Rights, Status, UserName,
    message::{self, ClientMessage, Fields, Payload},
    wwfp::{Reference, Request},
};

use crate::{answers::Completion, identity::Identity, slots::SessionSlot};

use super::request::{Held, Managing, Requests, Step, Stop, Subscribing};

/// A request's payload, and what the client calls the request.
#[derive(Clone, Copy)]
struct Asked<'a> {
    fields: &'a Fields<'a>,
    reference: Option<&'a Reference>,
}

impl Requests<'_> {
    /// Carries out one message of a browser.
    pub(super) fn wwfp_request(&mut self, slot: SessionSlot, text: &str) -> Result<(), Held> {
        let Ok(message) = ClientMessage::parse(text) else {
            self.reply(slot, &Reply::Error(Status::InvalidPayload), None);
            return Ok(());
        };
        let fields = match &message.payload {
            Payload::Object(fields) => *fields,
            Payload::True | Payload::Other => {
                self.reply(slot, &Reply::Error(Status::InvalidPayload), None);
                return Ok(());
            }
        };
        let Ok(reference) = fields.reference.map(Reference::new).transpose() else {
            self.reply(slot, &Reply::Error(Status::InvalidPayload), None);
            return Ok(());
        };
        let asked = Asked { fields: &fields, reference: reference.as_ref() };
        let Some(request) = Request::named(&message.event) else {
            self.reply(slot, &Reply::UndefinedEvent(&message.event), asked.reference);
            return Ok(());
        };
        let step = match request {
            Request::Broadcast => self.wwfp_broadcast(slot, asked),
            Request::Subscribe => self.wwfp_subscribe(slot, asked),
            Request::Unsubscribe => self.wwfp_unsubscribe(slot, asked),
            Request::Trigger => self.wwfp_trigger(slot, asked),
            Request::Auth => self.wwfp_auth(slot, asked),
            Request::OpenChannel => self.wwfp_manage(slot, Managing::Open, asked),
            Request::CloseChannel => self.wwfp_manage(slot, Managing::Close, asked),
            Request::Close => self.wwfp_close(slot, asked, text),
        };
        match step {
            Ok(()) => {}
            Err(Stop::Refused(status)) => self.reply(slot, &Reply::Error(status), asked.reference),
            Err(Stop::Held) => return Err(Held),
        }
        Ok(())
    }

    fn wwfp_broadcast(&mut self, slot: SessionSlot, Asked { fields, reference }: Asked<'_>) -> Step {
        let channel = channel_text(fields)?;
        let event = checked_event(fields.event.ok_or(Status::InvalidPayload)?)?;
        let trigger = fields.trigger.map(checked_event).transpose()?;
        let channel = self.named_channel(slot, &channel).map_err(|_| Status::ChannelNotFound)?;
        // Whether it subscribes is known only when what it asked before is answered.
        if self.session(slot).answers.as_ref().is_some_and(|answers| answers.changes(&channel.name)) {
            return Err(self.hold(slot));
        }
        if channel.view.is_none() {
            return self.refuse_unless_found(slot, channel.name, Status::NotSubscribed, reference);
        }
        if trigger.is_some() {
            self.require_authenticated(slot)?;
        }
        self.require_on(slot, Rights::WRITE, &channel.name)?;
        match trigger {
            Some(trigger) => {
                self.publish_triggering(slot, channel.name, event, trigger, fields.data, reference)
            }
            None => self.publish(slot, channel, event, fields.data, reference),
        }
    }

    fn wwfp_subscribe(&mut self, slot: SessionSlot, Asked { fields, reference }: Asked<'_>) -> Step {
        let channel = channel_text(fields)?;
        let hidden = match fields.hidden.map(Json::text) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Status::InvalidPayload.into()),
        };
        let data = self.member_data(slot, fields)?;
        let channel: ChannelName = channel.parse().map_err(|_| Status::ChannelNotFound)?;
        if !self.rights(slot, channel.as_str()).contains(Rights::READ) {
            return match channel.kind() {
                ChannelKind::Open => self.refuse_on(slot, channel, Status::AccessDenied, reference),
                ChannelKind::Private | ChannelKind::Presence => Err(Status::AccessDenied.into()),
            };
        }
        if self.is_at_subscription_limit(slot, &channel)? {
            return self.refuse_on(slot, channel, Status::SubscriptionLimit, reference);
        }
        let how = Subscribing { may_create: false, data, hidden };
        self.subscribe(slot, channel, how, reference)
    }

    fn wwfp_unsubscribe(&mut self, slot: SessionSlot, Asked { fields, reference }: Asked<'_>) -> Step {
        let channel = channel_text(fields)?;
        let data = self.member_data(slot, fields)?;
        let channel: ChannelName = channel.parse().map_err(|_| Status::ChannelNotFound)?;
        if self.is_secret(slot, &channel) {
            return Err(Status::NotSubscribed.into());
        }
        self.unsubscribe(slot, channel, data, reference)
    }

    fn wwfp_trigger(&mut self, slot: SessionSlot, Asked { fields, reference }: Asked<'_>) -> Step {
        let event = checked_event(fields.event.ok_or(Status::InvalidPayload)?)?;
        self.require_authenticated(slot)?;
        self.trigger(slot, event, fields.data, reference)
    }

    fn wwfp_auth(&mut self, slot: SessionSlot, Asked { fields, reference }: Asked<'_>) -> Step {
        let text = |json| Json::string(json).ok_or(Status::InvalidPayload);
        let token = fields.token.map(text).transpose()?;
        let user = fields.user.map(text).transpose()?;
        let secret = fields.secret.map(text).transpose()?;
        if [&token, &user].into_iter().flatten().any(|text| text.is_empty()) {
            return Err(Status::InvalidPayload.into());
        }
        self.require_order(slot, None)?;
        match (user, token) {
            (Some(user), _) => {
                let user: UserName = user.parse().map_err(|_| Status::UserNotFound)?;
                self.authenticate_user(slot, &user, secret.as_deref(), reference)
            }
            (None, Some(token)) => self.authenticate_token(slot, &token, reference),
            (None, None) => Err(Status::InvalidPayload.into()),
        }
    }

    fn wwfp_manage(
        &mut self,
        slot: SessionSlot,
        what: Managing,
        Asked { fields, reference }: Asked<'_>,
    ) -> Step {
        let channel = channel_text(fields)?;
        // A token grants no MANAGE, and neither does being anonymous.
        if !self.session(slot).rights.contains(Rights::MANAGE) {
            return Err(Status::AccessDenied.into());
        }
        let channel = channel.parse().map_err(|_| Status::InvalidChannelName)?;
        self.manage(slot, what, channel, reference)
    }

    fn wwfp_close(&mut self, slot: SessionSlot, Asked { reference, .. }: Asked<'_>, text: &str) -> Step {
        let payload = message::payload_text(text).ok_or(Status::InvalidPayload)?;
        if payload.len() > self.data_bytes_max(slot) {
            return Err(Status::DataTooLong.into());
        }
        self.require_order(slot, None)?;
        let owners = self.serving.drop_subscriptions(slot, &MemberData::of_close(payload));
        self.serving.request_leave(slot, &owners, Completion::Closed, reference);
        Ok(())
    }

    /// What the session shows of itself to other subscribers.
    fn member_data(&self, slot: SessionSlot, fields: &Fields<'_>) -> Result<MemberData, Status> {
        let Some(data) = fields.data.map(Data::text) else {
            return Ok(MemberData::default());
        };
        if !data.starts_with('{') {
            return Err(Status::InvalidPayload);
        }
        if data.len() > self.data_bytes_max(slot) {
            return Err(Status::DataTooLong);
        }
        Ok(MemberData::new(data))
    }

    fn data_bytes_max(&self, slot: SessionSlot) -> usize {
        self.session(slot).vhost.settings.presence_data_bytes_max as usize
    }

    /// Whether the session may not know whether the channel exists.
    fn is_secret(&self, slot: SessionSlot, channel: &ChannelName) -> bool {
        match channel.kind() {
            ChannelKind::Open => false,
            ChannelKind::Private | ChannelKind::Presence => {
                self.rights(slot, channel.as_str()) == Rights::NONE
            }
        }
    }

    /// Refuses a request about a channel: with 454 if it does not exist, unless that is a secret.
    fn refuse_unless_found(
        &mut self,
        slot: SessionSlot,
        channel: ChannelName,
        status: Status,
        reference: Option<&Reference>,
    ) -> Step {
        if self.is_secret(slot, &channel) {
            return Err(status.into());
        }
        self.refuse_on(slot, channel, status, reference)
    }

    /// The session may trigger work in the backend.
    fn require_authenticated(&self, slot: SessionSlot) -> Step {
        let session = self.session(slot);
        let may = match session.identity {
            Identity::Anonymous => false,
            Identity::User { .. } => session.rights.contains(Rights::WRITE),
            Identity::Token(_) => true,
        };
        if may { Ok(()) } else { Err(Status::AccessDenied.into()) }
    }
}

/// The channel that a request names; whether that is a channel's name is another question.
fn channel_text<'a>(fields: &Fields<'a>) -> Result<Cow<'a, str>, Status> {
    let name = fields.channel.and_then(Json::string).ok_or(Status::InvalidPayload)?;
    if name.is_empty() { Err(Status::InvalidPayload) } else { Ok(name) }
}

/// An event's name, checked, as it stands in the message.
fn checked_event(json: Json<'_>) -> Result<Json<'_>, Status> {
    let name = json.string().ok_or(Status::InvalidPayload)?;
    EventName::check(&name).map_err(|_| Status::InvalidEventName)?;
    Ok(json)
}
