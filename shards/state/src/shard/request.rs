//! What sessions ask: from a message to its dialect, and what both dialects ask for, once a dialect has checked what
//! it checks.

use std::collections::VecDeque;

use webrocket_wire::{
    ChannelKind, ChannelName, CloseCode, Data, EventName, Json, MemberData, NameError, Publication, Reply,
    Rights, SingleAccessToken, Status, UserName, frame::Message, handshake::Dialect, message::Fields,
    wwfp::Reference,
};

use crate::{
    answers::{Answerer, Completion, Open},
    channels::Channels,
    command::Report,
    directory::Directory,
    encoding::{Encodings, Made},
    event::{ChannelEvent, Said},
    identity::{Identity, Secret},
    ids::{ChannelRef, ShardId},
    message::{Joining, OwnerRequest, Publisher},
    metrics::Figure,
    session::OpenSession,
    slots::{SessionSlot, ViewSlot},
    vhost::VhostId,
    vhosts::Vhosts,
};

use super::{
    fences::Fences,
    owner::{Owner, Sent},
    serving::Serving,
};

/// What sessions ask, carried out.
pub(super) struct Requests<'a> {
    pub(super) serving: Serving<'a>,
    pub(super) channels: &'a mut Channels,
    pub(super) vhosts: &'a Vhosts,
    pub(super) encodings: &'a Encodings,
    pub(super) directory: &'a Directory,
    pub(super) fences: &'a mut Fences,
    pub(super) reports: &'a mut VecDeque<Report>,
}

/// A request that cannot be acted upon yet; the reason is noted in the session's pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held;

/// Why a request goes no further: it is refused, or held until it may be carried out.
pub(super) enum Stop {
    Refused(Status),
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

/// What comes of a request so far.
pub(super) type Step = Result<(), Stop>;

/// How a session subscribes a channel.
pub(super) struct Subscribing {
    pub(super) may_create: bool,
    pub(super) data: MemberData,
    pub(super) hidden: bool,
}

/// A channel that a request names.
pub(super) struct NamedChannel {
    pub(super) name: ChannelName,
    /// The view of it, if the session subscribes it.
    pub(super) view: Option<ViewSlot>,
}

/// A channel that is to be opened or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Managing {
    Open,
    Close,
}

impl Requests<'_> {
    /// Acts upon a message.
    pub(super) fn message(&mut self, slot: SessionSlot, message: &Message<'_>) {
        let now = self.serving.now;
        self.serving.figures.add(Figure::MessagesReceived, 1);
        let Message::Text(text) = message else {
            self.serving.figures.add(Figure::ProtocolErrors, 1);
            return self.serving.close(slot, CloseCode::Unsupported, &MemberData::default());
        };
        if let Some(rate) = &mut self.serving.sessions.open_mut(slot).rate
            && !rate.admit(now, text.len())
        {
            self.serving.figures.add(Figure::RateLimited, 1);
            return self.serving.close(slot, CloseCode::PolicyViolation, &MemberData::default());
        }
        self.request(slot, text);
    }

    /// Carries out a request, or parks its message.
    pub(super) fn request(&mut self, slot: SessionSlot, text: &str) {
        let done = match self.session(slot).dialect {
            Dialect::Classic => self.classic_request(slot, text),
            Dialect::Wwfp => self.wwfp_request(slot, text),
        };
        if done == Err(Held) {
            self.serving.sessions.park(slot).message = Some(text.to_owned());
        }
    }

    /// The session that asks.
    pub(super) fn session(&self, slot: SessionSlot) -> &OpenSession {
        self.serving.sessions.open(slot)
    }

    /// What the session may do on a channel.
    pub(super) fn rights(&self, slot: SessionSlot, channel: &str) -> Rights {
        self.session(slot).rights_on(channel)
    }

    /// Answers a request at once, behind the answers of earlier ones.
    pub(super) fn reply(&mut self, slot: SessionSlot, reply: &Reply<'_>, reference: Option<&Reference>) {
        self.serving.reply(slot, reply, reference);
    }

    /// The channel of that name, as far as the session need not ask for it: one that it subscribes is known.
    pub(super) fn named_channel(&self, slot: SessionSlot, name: &str) -> Result<NamedChannel, NameError> {
        let fanout = &self.serving.fanout;
        let view = fanout.subscribed(&self.serving.sessions.slots[slot], name);
        let name = match view {
            Some(view) => fanout.views[view].name().clone(),
            None => name.parse()?,
        };
        Ok(NamedChannel { name, view })
    }

    /// Broadcasts on a channel on which the session may.
    pub(super) fn publish(
        &mut self,
        slot: SessionSlot,
        NamedChannel { name: channel, view }: NamedChannel,
        event: Json<'_>,
        data: Option<Data<'_>>,
        reference: Option<&Reference>,
    ) -> Step {
        let (vhost, sid) = (self.vhost_of(slot), self.session(slot).sid);
        let broadcast = Publication::new(event, data, &channel, Some(sid));
        let owner = match view {
            Some(view) => self.serving.fanout.views[view].owner,
            None => self.directory.owner(vhost, &channel),
        };
        if owner == self.serving.links.here() {
            let known = match view {
                Some(view) => Some(self.serving.fanout.views[view].channel),
                None => self.channels.find(&(vhost, channel.clone())),
            };
            let known = known.ok_or(Status::ChannelNotFound)?;
            return self.publish_here(slot, known, &channel, broadcast, reference);
        }
        self.require_room(slot, owner)?;
        let publication = broadcast.by(self.session(slot).identity.name()).share();
        let open = Open::Broadcast { channel: channel.clone(), bytes: publication.len() };
        let request = self.serving.open_request(slot, open, Answerer::Whenever, reference);
        self.serving.links.ask(owner, OwnerRequest::Publish { request, vhost, channel, publication });
        Ok(())
    }

    /// Broadcasts on a channel that this shard owns: straight into the logs of its subscribers here, and if there are
    /// others, by one shared allocation to their shards.
    fn publish_here(
        &mut self,
        slot: SessionSlot,
        channel: ChannelRef,
        name: &ChannelName,
        broadcast: Publication<'_>,
        reference: Option<&Reference>,
    ) -> Step {
        debug_assert!(self.serving.links.is_own_empty(), "what was said before is said before");
        let here = self.serving.links.here();
        let entry = self.channels.entry(channel).ok_or(Status::ChannelNotFound)?;
        let position = entry.next_position();
        self.serving.figures.add(Figure::Broadcasts, 1);
        if entry.audience.sorts().all(|shard| shard == here) {
            let said = Said::Published(position, broadcast);
            self.serving.deliver(self.encodings, (here, channel), &said, &Made::default());
            self.reply(slot, &Reply::Broadcasted(name), reference);
            return Ok(());
        }
        let publication = broadcast.by(self.session(slot).identity.name()).share();
        let bytes = publication.len();
        let event = ChannelEvent::Published(position, publication);
        let Sent { congested, made } = self.owner().send_elsewhere(channel, &event);
        self.serving.deliver(self.encodings, (here, channel), &event.said(), &made);
        if congested.is_empty() {
            self.reply(slot, &Reply::Broadcasted(name), reference);
        } else {
            let open = Open::Broadcast { channel: name.clone(), bytes };
            let request = self.serving.open_request(slot, open, Answerer::Whenever, reference);
            self.owner().acknowledge(Publisher::Session(request), congested, bytes);
        }
        Ok(())
    }

    /// This shard as the owner of channels.
    fn owner(&mut self) -> Owner<'_> {
        Owner {
            channels: self.channels,
            vhosts: self.vhosts,
            encodings: self.encodings,
            links: self.serving.links,
            reports: self.reports,
            figures: self.serving.figures,
        }
    }

    /// Asks the owner of a channel that the session may read to count it as a subscriber.
    pub(super) fn subscribe(
        &mut self,
        slot: SessionSlot,
        channel: ChannelName,
        how: Subscribing,
        reference: Option<&Reference>,
    ) -> Step {
        let session = self.session(slot);
        let (vhost, encoding) = (session.vhost.id, session.encoding);
        let owner = self.directory.owner(vhost, &channel);
        // Lists are long: one at a time.
        let is_presence = channel.kind() == ChannelKind::Presence;
        let lists = is_presence && session.answers.as_ref().is_some_and(|answers| answers.awaits_list());
        self.require_order(slot, (!lists).then_some(owner))?;
        self.require_room(slot, owner)?;
        let Subscribing { may_create, data, hidden } = how;
        let uid = if is_presence { self.session(slot).identity.uid() } else { None };
        let joining = uid.map(|uid| Box::new(Joining { uid, data, hidden }));
        let open = Open::Subscribe(channel.clone());
        let request = self.serving.open_request(slot, open, Answerer::Owner(owner), reference);
        let asked = OwnerRequest::Subscribe { request, vhost, channel, encoding, may_create, joining };
        self.serving.links.ask(owner, asked);
        Ok(())
    }

    /// Whether one more subscription would be more than the session may have.
    ///
    /// If that depends on what it asked before, the request is held until that is answered.
    pub(super) fn is_at_subscription_limit(
        &mut self,
        slot: SessionSlot,
        channel: &ChannelName,
    ) -> Result<bool, Stop> {
        let session = &self.serving.sessions.slots[slot];
        let open = self.session(slot);
        let asked = open.answers.as_ref().map_or(0, |answers| answers.subscribes());
        let count = session.inbox.subscriptions.len() + asked;
        let is_at_limit = count >= open.vhost.settings.subscriptions_max as usize
            && self.serving.fanout.subscribed(session, channel.as_str()).is_none();
        if is_at_limit {
            self.require_order(slot, None)?;
            self.serving.figures.add(Figure::SubscriptionLimitHits, 1);
        }
        Ok(is_at_limit)
    }

    /// Ends a subscription, if there is one, once the channel's owner has said whether the channel exists.
    pub(super) fn unsubscribe(
        &mut self,
        slot: SessionSlot,
        channel: ChannelName,
        data: MemberData,
        reference: Option<&Reference>,
    ) -> Step {
        let open = Open::Unsubscribe(channel.clone(), data);
        self.find(slot, channel, open, reference)
    }

    /// Refuses a request with `status`, unless the channel does not exist: then with that.
    pub(super) fn refuse_on(
        &mut self,
        slot: SessionSlot,
        channel: ChannelName,
        status: Status,
        reference: Option<&Reference>,
    ) -> Step {
        self.find(slot, channel, Open::Fail(status), reference)
    }

    /// Asks a channel's owner whether it exists.
    fn find(
        &mut self,
        slot: SessionSlot,
        channel: ChannelName,
        open: Open,
        reference: Option<&Reference>,
    ) -> Step {
        let vhost = self.vhost_of(slot);
        let owner = self.directory.owner(vhost, &channel);
        self.require_room(slot, owner)?;
        // A leave may follow. The owner must take it before it hears that the session comes again.
        let answerer = match open {
            Open::Unsubscribe(..) => Answerer::Whenever,
            _ => Answerer::Owner(owner),
        };
        let request = self.serving.open_request(slot, open, answerer, reference);
        self.serving.links.ask(owner, OwnerRequest::Find { request, vhost, channel });
        Ok(())
    }

    /// Makes the session a user: at once if he has no secret, otherwise once that is verified.
    pub(super) fn authenticate_user(
        &mut self,
        slot: SessionSlot,
        name: &UserName,
        secret: Option<&str>,
        reference: Option<&Reference>,
    ) -> Step {
        let vhost = &self.session(slot).vhost;
        let user = *vhost.users.get(name).ok_or(Status::UserNotFound)?;
        if !user.has_secret {
            let identity = Identity::User { name: name.clone(), generation: user.generation };
            let owners = self.serving.become_identity(slot, identity);
            let completion = Completion::Authenticated(name.as_str().into());
            self.serving.request_leave(slot, &owners, completion, reference);
            return Ok(());
        }
        let secret = Secret::new(secret.ok_or(Status::InvalidCredentials)?);
        let (vhost, peer) = (vhost.id, self.serving.sessions.slots[slot].peer);
        let request = self.serving.open_request(slot, Open::Authenticate, Answerer::Barrier, reference);
        self.reports.push_back(Report::VerifySecret { request, vhost, user: name.clone(), secret, peer });
        Ok(())
    }

    /// Makes the session the holder of a token, if it is valid.
    pub(super) fn authenticate_token(
        &mut self,
        slot: SessionSlot,
        token: &str,
        reference: Option<&Reference>,
    ) -> Step {
        let token: SingleAccessToken = token.parse().map_err(|_| Status::InvalidCredentials)?;
        let vhost = self.vhost_of(slot);
        let request = self.serving.open_request(slot, Open::Authenticate, Answerer::Barrier, reference);
        self.reports.push_back(Report::ConsumeToken { request, vhost, token });
        Ok(())
    }

    /// Opens or closes a channel for a session that may.
    pub(super) fn manage(
        &mut self,
        slot: SessionSlot,
        what: Managing,
        channel: ChannelName,
        reference: Option<&Reference>,
    ) -> Step {
        self.require_order(slot, None)?;
        let vhost = self.vhost_of(slot);
        let open = match what {
            Managing::Open => Open::OpenChannel(channel.clone()),
            Managing::Close => Open::CloseChannel(channel.clone()),
        };
        let request = self.serving.open_request(slot, open, Answerer::Barrier, reference);
        self.reports.push_back(match what {
            Managing::Open => Report::OpenChannel { request, vhost, channel },
            Managing::Close => Report::CloseChannel { request, vhost, channel },
        });
        Ok(())
    }

    /// The session's vhost.
    pub(super) fn vhost_of(&self, slot: SessionSlot) -> VhostId {
        self.session(slot).vhost.id
    }

    /// The session has these rights on this channel.
    pub(super) fn require_on(&self, slot: SessionSlot, needed: Rights, channel: &ChannelName) -> Step {
        let rights = self.rights(slot, channel.as_str());
        if rights.contains(needed) { Ok(()) } else { Err(Status::AccessDenied.into()) }
    }

    /// No earlier request is open, or all are answered in order by `owner`. Otherwise the request
    /// is held: its effect must not be seen before theirs.
    pub(super) fn require_order(&mut self, slot: SessionSlot, owner: Option<ShardId>) -> Step {
        let in_order = match (&self.session(slot).answers, owner) {
            (None, _) => true,
            (Some(answers), Some(owner)) => answers.are_in_order_at(owner),
            (Some(_), None) => false,
        };
        if in_order { Ok(()) } else { Err(self.hold(slot)) }
    }

    /// The request waits until all earlier ones are answered.
    pub(super) fn hold(&mut self, slot: SessionSlot) -> Stop {
        self.serving.sessions.slots[slot].pause.requests = true;
        self.serving.figures.add(Figure::RequestPauses, 1);
        Stop::Held
    }

    /// The way to the owner, or to the exchange, has room. Otherwise the request is held until it has.
    pub(super) fn require_room(&mut self, slot: SessionSlot, owner: ShardId) -> Step {
        if self.serving.links.has_room(owner) {
            return Ok(());
        }
        let session = self.serving.sessions.reference(slot);
        self.serving.links.to(owner).stop(session);
        self.serving.sessions.slots[slot].pause.link = true;
        self.serving.figures.add(Figure::LinkPauses, 1);
        Err(Stop::Held)
    }
}

/// The checked event name, as it stands in the message.
pub(super) fn event_name<'a>(fields: &Fields<'a>) -> Result<Json<'a>, Status> {
    let event = fields.event.ok_or(Status::InvalidEventName)?;
    let name = event.string().ok_or(Status::InvalidEventName)?;
    EventName::check(&name).map_err(|_| Status::InvalidEventName)?;
    Ok(event)
}
