//! The requests of the classic dialect.
//!
//! Checks run in this order, the first that fails is the answer: message shape, rights, payload
//! shape, event name, channel name, existence.
//!
//! Source: docs/protocol.md, "Classic".

use std::time::Instant;

use serde_json::value::RawValue;
use webrocket_wire::{
    ChannelKind, ChannelName, CloseCode, EventName, Rights, SingleAccessToken, Status, UserName,
    classic::{Limit, Reply, Request},
    event::Delivery as Broadcast,
    message::{self, ClientMessage, Fields, Payload},
};

use crate::{
    answers::{Answerer, Open},
    message::{Identity, Report, Secret, ShardMessage},
    metrics::Figure,
};

use super::{Shard, browser::Held};

/// What a request comes to: an answer that is given already, a refusal, or a wait.
pub(super) enum Stop {
    Refused(Status),
    Limit(Limit),
    Held,
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl From<Held> for Stop {
    fn from(Held: Held) -> Self {
        Self::Held
    }
}

type Step = Result<(), Stop>;

impl Shard {
    /// Carries out one message of a browser.
    pub(super) fn classic_request(&mut self, now: Instant, slot: u32, text: &str) -> Result<(), Held> {
        let Ok(message) = ClientMessage::parse(text) else {
            self.reply(slot, Reply::Error(Status::InvalidPayload));
            return Ok(());
        };
        let Some(request) = Request::named(&message.event) else {
            self.reply(slot, Reply::UndefinedEvent(&message.event));
            return Ok(());
        };
        let payload = &message.payload;
        let step = match request {
            Request::Broadcast => self.classic_broadcast(now, slot, payload),
            Request::Subscribe => self.classic_subscribe(now, slot, payload),
            Request::Unsubscribe => self.classic_unsubscribe(now, slot, payload),
            Request::Trigger => self.classic_trigger(slot, payload),
            Request::Authenticate => self.classic_authenticate(slot, payload),
            Request::OpenChannel | Request::CloseChannel => self.classic_manage(slot, request, payload),
            Request::Logout => self.classic_logout(slot, payload),
            Request::Disconnect => self.classic_disconnect(now, slot, payload),
        };
        match step {
            Ok(()) => {}
            Err(Stop::Refused(status)) => self.reply(slot, Reply::Error(status)),
            Err(Stop::Limit(limit)) => self.reply(slot, Reply::Limit(limit)),
            Err(Stop::Held) => return Err(Held),
        }
        Ok(())
    }

    fn classic_broadcast(&mut self, now: Instant, slot: u32, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::WRITE)?;
        let fields = object(payload)?;
        let event = event_name(fields)?;
        let channel = channel_name(fields)?;
        self.require_on(slot, Rights::WRITE, &channel)?;
        let session = &self.sessions[slot];
        let vhost = session.vhost.as_ref().ok_or(Status::Internal)?.id;
        let sid = Some(session.sid);
        let broadcast = Broadcast::new(event, fields.data, &channel, sid);
        let owner = self.config.directory.owner(vhost, &channel);
        if owner == self.config.id {
            return self.broadcast_here(now, slot, vhost, &channel, &broadcast);
        }
        self.require_room(slot, owner)?;
        let mut frame = Vec::new();
        broadcast.encode(&mut frame);
        let bytes = frame.len();
        let open = Open::Broadcast { channel: channel.clone(), bytes };
        let request = self.open_request(slot, open, Answerer::Whenever);
        let message = ShardMessage::Publish { request, vhost, channel, frame: frame.into() };
        self.send_request(owner, message, bytes);
        Ok(())
    }

    fn classic_subscribe(&mut self, now: Instant, slot: u32, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::READ)?;
        let channel = channel_name(object(payload)?)?;
        self.require_on(slot, Rights::READ, &channel)?;
        let session = &self.sessions[slot];
        let vhost = session.vhost.as_ref().ok_or(Status::Internal)?;
        let key = (vhost.id, channel);
        let subscribed = self.delivery.find(&key).is_some_and(|view| self.delivery.subscribes(session, view));
        let asked = session.answers.as_ref().map_or(0, |answers| answers.subscribes());
        let count = session.inbox.subscriptions.len() + asked;
        if !subscribed && count >= vhost.settings.subscriptions_max as usize {
            self.figures.add(Figure::SubscriptionLimitHits, 1);
            return Err(Stop::Limit(Limit::Subscriptions));
        }
        let (vhost, channel) = key;
        let owner = self.config.directory.owner(vhost, &channel);
        // The owner must hear that the session left before it hears that it comes again.
        let leaves =
            self.sessions[slot].answers.as_ref().is_some_and(|answers| answers.unsubscribes(&channel));
        self.require_order(slot, (!leaves).then_some(owner))?;
        self.require_room(slot, owner)?;
        let rights = self.rights(slot, channel.as_str());
        let may_create = channel.kind() == ChannelKind::Open || rights.contains(Rights::MANAGE);
        let uid = self.presence_uid(slot, &channel);
        let request = self.open_request(slot, Open::Subscribe(channel.clone()), Answerer::Owner(owner));
        self.ask_owner(now, owner, ShardMessage::Subscribe { request, vhost, channel, may_create, uid });
        Ok(())
    }

    fn classic_unsubscribe(&mut self, now: Instant, slot: u32, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::READ)?;
        let channel = channel_name(object(payload)?)?;
        self.require_on(slot, Rights::READ, &channel)?;
        let vhost = self.sessions[slot].vhost.as_ref().ok_or(Status::Internal)?.id;
        let owner = self.config.directory.owner(vhost, &channel);
        self.require_room(slot, owner)?;
        let request = self.open_request(slot, Open::Unsubscribe(channel.clone()), Answerer::Owner(owner));
        self.ask_owner(now, owner, ShardMessage::Find { request, vhost, channel });
        Ok(())
    }

    /// No backend can be connected to this node, so no trigger finds a worker.
    fn classic_trigger(&mut self, slot: u32, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::WRITE)?;
        event_name(object(payload)?)?;
        Err(Status::AssignationFailed.into())
    }

    fn classic_authenticate(&mut self, slot: u32, payload: &Payload<'_>) -> Step {
        let fields = *object(payload)?;
        self.require_order(slot, None)?;
        if let (Some(token), None) = (fields.token, fields.user) {
            return self.authenticate_by_token(slot, token);
        }
        let name: UserName = fields
            .user
            .and_then(message::string)
            .and_then(|name| name.parse().ok())
            .ok_or(Status::InvalidUserName)?;
        let session = &self.sessions[slot];
        let vhost = session.vhost.as_ref().ok_or(Status::Internal)?;
        let user = *vhost.users.get(&name).ok_or(Status::UserNotFound)?;
        let secret = fields.secret.map(|secret| message::string(secret).ok_or(Status::InvalidCredentials));
        let secret = secret.transpose()?;
        if !user.has_secret {
            self.become_identity(slot, Identity::User { name: name.clone(), generation: user.generation });
            self.reply(slot, Reply::Authenticated(&name));
            return Ok(());
        }
        let secret = Secret::new(&secret.ok_or(Status::InvalidCredentials)?);
        let (vhost, peer) = (vhost.id, session.peer);
        let request = self.open_request(slot, Open::Authenticate(Some(name.clone())), Answerer::Control);
        self.reports.push_back(Report::VerifySecret { request, vhost, user: name, secret, peer });
        Ok(())
    }

    fn authenticate_by_token(&mut self, slot: u32, token: &RawValue) -> Step {
        let token: SingleAccessToken =
            message::string(token).and_then(|token| token.parse().ok()).ok_or(Status::InvalidCredentials)?;
        let vhost = self.sessions[slot].vhost.as_ref().ok_or(Status::Internal)?.id;
        let request = self.open_request(slot, Open::Authenticate(None), Answerer::Control);
        self.reports.push_back(Report::ConsumeToken { request, vhost, token });
        Ok(())
    }

    fn classic_manage(&mut self, slot: u32, what: Request, payload: &Payload<'_>) -> Step {
        self.require(slot, Rights::MANAGE)?;
        let channel = channel_name(object(payload)?)?;
        self.require_order(slot, None)?;
        let vhost = self.sessions[slot].vhost.as_ref().ok_or(Status::Internal)?.id;
        let report = if what == Request::OpenChannel {
            let request = self.open_request(slot, Open::OpenChannel(channel.clone()), Answerer::Control);
            Report::OpenChannel { request, vhost, channel }
        } else {
            let request = self.open_request(slot, Open::CloseChannel(channel.clone()), Answerer::Control);
            Report::CloseChannel { request, vhost, channel }
        };
        self.reports.push_back(report);
        Ok(())
    }

    fn classic_logout(&mut self, slot: u32, payload: &Payload<'_>) -> Step {
        // Whether it is authenticated is known only when earlier requests are answered.
        self.require_order(slot, None)?;
        if matches!(self.sessions[slot].identity, Identity::Anonymous) {
            return Err(Status::AccessDenied.into());
        }
        if !matches!(payload, Payload::True) {
            return Err(Status::InvalidPayload.into());
        }
        self.become_identity(slot, Identity::Anonymous);
        self.reply(slot, Reply::LoggedOut);
        Ok(())
    }

    fn classic_disconnect(&mut self, now: Instant, slot: u32, payload: &Payload<'_>) -> Step {
        if !matches!(payload, Payload::True) {
            return Err(Status::InvalidPayload.into());
        }
        self.require_order(slot, None)?;
        self.close_session(now, slot, CloseCode::Normal);
        Ok(())
    }

    /// The session has these rights on some channel.
    fn require(&self, slot: u32, needed: Rights) -> Step {
        let session = &self.sessions[slot];
        let rights = match session.identity {
            Identity::Token(_) => session.rights.union(Rights::READ_WRITE),
            Identity::Anonymous | Identity::User { .. } => session.rights,
        };
        if rights.contains(needed) { Ok(()) } else { Err(Status::AccessDenied.into()) }
    }

    /// The session has these rights on this channel.
    fn require_on(&self, slot: u32, needed: Rights, channel: &ChannelName) -> Step {
        let rights = self.rights(slot, channel.as_str());
        if rights.contains(needed) { Ok(()) } else { Err(Status::AccessDenied.into()) }
    }

    /// No earlier request is open, or all are answered in order by `owner`. Otherwise the request
    /// is held: its effect must not be seen before theirs.
    fn require_order(&mut self, slot: u32, owner: Option<crate::message::ShardId>) -> Step {
        let session = &mut self.sessions[slot];
        let in_order = match (&session.answers, owner) {
            (None, _) => true,
            (Some(answers), Some(owner)) => answers.are_in_order_at(owner),
            (Some(_), None) => false,
        };
        if in_order {
            return Ok(());
        }
        session.pause.requests = true;
        self.figures.add(Figure::RequestPauses, 1);
        Err(Stop::Held)
    }

    /// The way to the owner has room. Otherwise the request is held until it has.
    fn require_room(&mut self, slot: u32, owner: crate::message::ShardId) -> Step {
        if owner == self.config.id || self.links[owner.index()].has_room() {
            return Ok(());
        }
        let session = self.reference(slot);
        self.links[owner.index()].stop(session);
        self.sessions[slot].pause.link = true;
        self.figures.add(Figure::LinkPauses, 1);
        Err(Stop::Held)
    }
}

fn object<'a, 'b>(payload: &'b Payload<'a>) -> Result<&'b Fields<'a>, Status> {
    match payload {
        Payload::Object(fields) => Ok(fields),
        Payload::True | Payload::Other => Err(Status::InvalidPayload),
    }
}

/// The checked event name, raw as it stands in the message.
fn event_name<'a>(fields: &Fields<'a>) -> Result<&'a RawValue, Status> {
    let raw = fields.event.ok_or(Status::InvalidEventName)?;
    let name = message::string(raw).ok_or(Status::InvalidEventName)?;
    EventName::check(&name).map_err(|_| Status::InvalidEventName)?;
    Ok(raw)
}

fn channel_name(fields: &Fields<'_>) -> Result<ChannelName, Status> {
    let name = fields.channel.and_then(message::string).ok_or(Status::InvalidChannelName)?;
    name.parse().map_err(|_| Status::InvalidChannelName)
}
