//! The requests of the classic dialect.
//!
//! Checks run in this order, the first that fails is the answer: message shape, rights, payload
//! shape, event name, channel name, existence.
//!
//! Source: docs/protocol.md, "Classic".

use std::borrow::Cow;

use webrocket_wire::{
    ChannelKind, ChannelName, Json, MemberData, Reply, Rights, Status, UserName,
    classic::Request,
    message::{ClientMessage, Fields, Payload},
};

use crate::{answers::Completion, identity::Identity, slots::SessionSlot};

use super::request::{Held, Managing, Requests, Step, Stop, Subscribing, event_name};

impl Requests<'_> {
    /// Carries out one message of a browser.
    pub(super) fn classic_request(&mut self, slot: SessionSlot, text: &str) -> Result<(), Held> {
        let Ok(message) = ClientMessage::parse(text) else {
            self.reply(slot, &Reply::Error(Status::InvalidPayload), None);
            return Ok(());
        };
        let Some(request) = Request::named(&message.event) else {
            self.reply(slot, &Reply::UndefinedEvent(&message.event), None);
            return Ok(());
        };
        let payload = &message.payload;
        let step = match request {
            Request::Broadcast => self.classic_broadcast(slot, payload),
            Request::Subscribe => self.classic_subscribe(slot, payload),
            Request::Unsubscribe => self.classic_unsubscribe(slot, payload),
            Request::Trigger => self.classic_trigger(slot, payload),
            Request::Authenticate => self.classic_authenticate(slot, payload),
            Request::OpenChannel => self.classic_manage(slot, Managing::Open, payload),
            Request::CloseChannel => self.classic_manage(slot, Managing::Close, payload),
            Request::Logout => self.classic_logout(slot, payload),
            Request::Disconnect => self.classic_disconnect(slot, payload),
        };
        match step {
            Ok(()) => {}
            Err(Stop::Refused(status)) => self.reply(slot, &Reply::Error(status), None),
            Err(Stop::Held) => return Err(Held),
        }
        Ok(())
    }

    fn classic_broadcast(&mut self, slot: SessionSlot, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::WRITE)?;
        let fields = object(payload)?;
        let event = event_name(fields)?;
        let channel = channel_text(fields)?;
        let channel = self.named_channel(slot, &channel).map_err(|_| Status::InvalidChannelName)?;
        self.require_on(slot, Rights::WRITE, &channel.name)?;
        self.publish(slot, channel, event, fields.data, None)
    }

    fn classic_subscribe(&mut self, slot: SessionSlot, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::READ)?;
        let channel = channel_name(object(payload)?)?;
        self.require_on(slot, Rights::READ, &channel)?;
        if self.is_at_subscription_limit(slot, &channel)? {
            return Err(Status::SubscriptionLimit.into());
        }
        let rights = self.rights(slot, channel.as_str());
        let may_create = channel.kind() == ChannelKind::Open || rights.contains(Rights::MANAGE);
        let how = Subscribing { may_create, data: MemberData::default(), hidden: false };
        self.subscribe(slot, channel, how, None)
    }

    fn classic_unsubscribe(&mut self, slot: SessionSlot, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::READ)?;
        let channel = channel_name(object(payload)?)?;
        self.require_on(slot, Rights::READ, &channel)?;
        self.unsubscribe(slot, channel, MemberData::default(), None)
    }

    fn classic_trigger(&mut self, slot: SessionSlot, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::WRITE)?;
        let fields = object(payload)?;
        let event = event_name(fields)?;
        self.trigger(slot, event, fields.data, None)
    }

    fn classic_authenticate(&mut self, slot: SessionSlot, payload: &Payload<'_>) -> Step {
        let fields = *object(payload)?;
        self.require_order(slot, None)?;
        if let (Some(token), None) = (fields.token, fields.user) {
            let token = token.string().ok_or(Status::InvalidCredentials)?;
            return self.authenticate_token(slot, &token, None);
        }
        let name: UserName = fields
            .user
            .and_then(Json::string)
            .and_then(|name| name.parse().ok())
            .ok_or(Status::InvalidUserName)?;
        let secret = fields.secret.map(|secret| secret.string().ok_or(Status::InvalidCredentials));
        if !self.session(slot).vhost.users.contains_key(&name) {
            return Err(Status::UserNotFound.into());
        }
        self.authenticate_user(slot, &name, secret.transpose()?.as_deref(), None)
    }

    fn classic_manage(&mut self, slot: SessionSlot, what: Managing, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::MANAGE)?;
        let channel = channel_name(object(payload)?)?;
        self.manage(slot, what, channel, None)
    }

    fn classic_logout(&mut self, slot: SessionSlot, payload: &Payload<'_>) -> Step {
        // Whether it is authenticated is known only when earlier requests are answered.
        self.require_order(slot, None)?;
        if matches!(self.session(slot).identity, Identity::Anonymous) {
            return Err(Status::AccessDenied.into());
        }
        if !matches!(payload, Payload::True) {
            return Err(Status::InvalidPayload.into());
        }
        let owners = self.serving.become_identity(slot, Identity::Anonymous);
        self.serving.request_leave(slot, &owners, Completion::LoggedOut, None);
        Ok(())
    }

    fn classic_disconnect(&mut self, slot: SessionSlot, payload: &Payload<'_>) -> Step {
        if !matches!(payload, Payload::True) {
            return Err(Status::InvalidPayload.into());
        }
        self.require_order(slot, None)?;
        let owners = self.serving.drop_subscriptions(slot, &MemberData::default());
        self.serving.request_leave(slot, &owners, Completion::Disconnected, None);
        Ok(())
    }

    /// The session has these rights on some channel.
    fn require(&self, slot: SessionSlot, needed: Rights) -> Step {
        let session = self.session(slot);
        let rights = match session.identity {
            Identity::Token(_) => session.rights.union(Rights::READ_WRITE),
            Identity::Anonymous | Identity::User { .. } => session.rights,
        };
        if rights.contains(needed) { Ok(()) } else { Err(Status::AccessDenied.into()) }
    }
}

fn object<'a, 'b>(payload: &'b Payload<'a>) -> Result<&'b Fields<'a>, Status> {
    match payload {
        Payload::Object(fields) => Ok(fields),
        Payload::True | Payload::Other => Err(Status::InvalidPayload),
    }
}

/// The channel that a request names; whether that is a channel's name is another question.
fn channel_text<'a>(fields: &Fields<'a>) -> Result<Cow<'a, str>, Status> {
    fields.channel.and_then(Json::string).ok_or(Status::InvalidChannelName)
}

fn channel_name(fields: &Fields<'_>) -> Result<ChannelName, Status> {
    channel_text(fields)?.parse().map_err(|_| Status::InvalidChannelName)
}
