//! What both dialects ask for, once a dialect has checked what it checks.

use std::time::Instant;

use webrocket_wire::{
    ChannelKind, ChannelName, Data, EventName, Json, MemberData, NameError, Publication, Rights,
    SingleAccessToken, Status, UserName, message::Fields, wwfp::Reference,
};

use crate::{
    answers::{Answerer, Completion, Open},
    message::{Identity, Joining, Report, Secret, ShardId, ShardMessage},
    metrics::Figure,
    vhost::VhostId,
};

use super::{Shard, browser::Held};

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
    pub(super) view: Option<u32>,
}

/// A channel that is to be opened or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Managing {
    Open,
    Close,
}

impl Shard {
    /// The channel of that name, as far as the session need not ask for it: one that it subscribes is known.
    pub(super) fn named_channel(&self, slot: u32, name: &str) -> Result<NamedChannel, NameError> {
        let view = self.delivery.subscribed(&self.sessions[slot], name);
        let name = match view {
            Some(view) => self.delivery.view(view).name().clone(),
            None => name.parse()?,
        };
        Ok(NamedChannel { name, view })
    }

    /// Broadcasts on a channel on which the session may.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        slot: u32,
        NamedChannel { name: channel, view }: NamedChannel,
        event: Json<'_>,
        data: Option<Data<'_>>,
        reference: Option<&Reference>,
    ) -> Step {
        let vhost = self.vhost_of(slot)?;
        let broadcast = Publication::new(event, data, &channel, Some(self.sessions[slot].sid));
        let owner = match view {
            Some(view) => self.delivery.view(view).owner,
            None => self.config.directory.owner(vhost, &channel),
        };
        if owner == self.config.id {
            let known = match view {
                Some(view) => Some(self.delivery.view(view).channel),
                None => self.channels.find(&(vhost, channel.clone())),
            };
            let known = known.ok_or(Status::ChannelNotFound)?;
            return self.broadcast_here(now, slot, known, &channel, broadcast, reference);
        }
        self.require_room(slot, owner)?;
        let publication = broadcast.by(self.sessions[slot].identity.name()).share();
        let bytes = publication.len();
        let open = Open::Broadcast { channel: channel.clone(), bytes };
        let request = self.open_request(slot, open, Answerer::Whenever, reference);
        let message = ShardMessage::Publish { request, vhost, channel, publication };
        self.send_request(owner, message);
        Ok(())
    }

    /// Asks the owner of a channel that the session may read to count it as a subscriber.
    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        slot: u32,
        channel: ChannelName,
        how: Subscribing,
        reference: Option<&Reference>,
    ) -> Step {
        let vhost = self.vhost_of(slot)?;
        let owner = self.config.directory.owner(vhost, &channel);
        let answers = self.sessions[slot].answers.as_ref();
        // Lists are long: one at a time.
        let is_presence = channel.kind() == ChannelKind::Presence;
        let lists = is_presence && answers.is_some_and(|answers| answers.awaits_list());
        self.require_order(slot, (!lists).then_some(owner))?;
        self.require_room(slot, owner)?;
        let Subscribing { may_create, data, hidden } = how;
        let uid = if is_presence { self.sessions[slot].identity.uid() } else { None };
        let joining = uid.map(|uid| Joining { uid, data, hidden });
        let open = Open::Subscribe(channel.clone());
        let request = self.open_request(slot, open, Answerer::Owner(owner), reference);
        let message = ShardMessage::Subscribe { request, vhost, channel, may_create, joining };
        self.ask_owner(now, owner, message);
        Ok(())
    }

    /// Whether one more subscription would be more than the session may have.
    ///
    /// If that depends on what it asked before, the request is held until that is answered.
    pub(super) fn is_at_subscription_limit(
        &mut self,
        slot: u32,
        channel: &ChannelName,
    ) -> Result<bool, Stop> {
        let session = &self.sessions[slot];
        let Some(vhost) = &session.vhost else { return Ok(true) };
        let key = (vhost.id, channel.clone());
        let subscribed = self.delivery.find(&key).is_some_and(|view| self.delivery.subscribes(session, view));
        let asked = session.answers.as_ref().map_or(0, |answers| answers.subscribes());
        let count = session.inbox.subscriptions.len() + asked;
        let is_at_limit = !subscribed && count >= vhost.settings.subscriptions_max as usize;
        if is_at_limit {
            self.require_order(slot, None)?;
            self.figures.add(Figure::SubscriptionLimitHits, 1);
        }
        Ok(is_at_limit)
    }

    /// Ends a subscription, if there is one, once the channel's owner has said whether the channel exists.
    pub(super) fn unsubscribe(
        &mut self,
        now: Instant,
        slot: u32,
        channel: ChannelName,
        data: MemberData,
        reference: Option<&Reference>,
    ) -> Step {
        let open = Open::Unsubscribe(channel.clone(), data);
        self.find(now, slot, channel, open, reference)
    }

    /// Refuses a request with `status`, unless the channel does not exist: then with that.
    pub(super) fn refuse_on(
        &mut self,
        now: Instant,
        slot: u32,
        channel: ChannelName,
        status: Status,
        reference: Option<&Reference>,
    ) -> Step {
        self.find(now, slot, channel, Open::Fail(status), reference)
    }

    /// Asks a channel's owner whether it exists.
    fn find(
        &mut self,
        now: Instant,
        slot: u32,
        channel: ChannelName,
        open: Open,
        reference: Option<&Reference>,
    ) -> Step {
        let vhost = self.vhost_of(slot)?;
        let owner = self.config.directory.owner(vhost, &channel);
        self.require_room(slot, owner)?;
        // A leave may follow. The owner must take it before it hears that the session comes again.
        let answerer = match open {
            Open::Unsubscribe(..) => Answerer::Whenever,
            _ => Answerer::Owner(owner),
        };
        let request = self.open_request(slot, open, answerer, reference);
        self.ask_owner(now, owner, ShardMessage::Find { request, vhost, channel });
        Ok(())
    }

    /// Whether the session's vhost has this user.
    pub(super) fn knows_user(&self, slot: u32, name: &UserName) -> bool {
        self.sessions[slot].vhost.as_ref().is_some_and(|vhost| vhost.users.contains_key(name))
    }

    /// Makes the session a user: at once if he has no secret, otherwise once that is verified.
    pub(super) fn authenticate_user(
        &mut self,
        now: Instant,
        slot: u32,
        name: &UserName,
        secret: Option<&str>,
        reference: Option<&Reference>,
    ) -> Step {
        let session = &self.sessions[slot];
        let vhost = session.vhost.as_ref().ok_or(Status::Internal)?;
        let user = *vhost.users.get(name).ok_or(Status::UserNotFound)?;
        if !user.has_secret {
            let identity = Identity::User { name: name.clone(), generation: user.generation };
            let owners = self.become_identity(slot, identity);
            let completion = Completion::Authenticated(name.as_str().into());
            self.request_leave(now, slot, &owners, completion, reference);
            return Ok(());
        }
        let secret = Secret::new(secret.ok_or(Status::InvalidCredentials)?);
        let (vhost, peer) = (vhost.id, session.peer);
        let request = self.open_request(slot, Open::Authenticate, Answerer::Barrier, reference);
        self.reports.push_back(Report::VerifySecret { request, vhost, user: name.clone(), secret, peer });
        Ok(())
    }

    /// Makes the session the holder of a token, if it is valid.
    pub(super) fn authenticate_token(
        &mut self,
        slot: u32,
        token: &str,
        reference: Option<&Reference>,
    ) -> Step {
        let token: SingleAccessToken = token.parse().map_err(|_| Status::InvalidCredentials)?;
        let vhost = self.vhost_of(slot)?;
        let request = self.open_request(slot, Open::Authenticate, Answerer::Barrier, reference);
        self.reports.push_back(Report::ConsumeToken { request, vhost, token });
        Ok(())
    }

    /// Opens or closes a channel for a session that may.
    pub(super) fn manage(
        &mut self,
        slot: u32,
        what: Managing,
        channel: ChannelName,
        reference: Option<&Reference>,
    ) -> Step {
        self.require_order(slot, None)?;
        let vhost = self.vhost_of(slot)?;
        let open = match what {
            Managing::Open => Open::OpenChannel(channel.clone()),
            Managing::Close => Open::CloseChannel(channel.clone()),
        };
        let request = self.open_request(slot, open, Answerer::Barrier, reference);
        self.reports.push_back(match what {
            Managing::Open => Report::OpenChannel { request, vhost, channel },
            Managing::Close => Report::CloseChannel { request, vhost, channel },
        });
        Ok(())
    }

    /// The session's vhost.
    pub(super) fn vhost_of(&self, slot: u32) -> Result<VhostId, Status> {
        self.sessions[slot].vhost.as_ref().map(|vhost| vhost.id).ok_or(Status::Internal)
    }

    /// The session has these rights on this channel.
    pub(super) fn require_on(&self, slot: u32, needed: Rights, channel: &ChannelName) -> Step {
        let rights = self.rights(slot, channel.as_str());
        if rights.contains(needed) { Ok(()) } else { Err(Status::AccessDenied.into()) }
    }

    /// No earlier request is open, or all are answered in order by `owner`. Otherwise the request
    /// is held: its effect must not be seen before theirs.
    pub(super) fn require_order(&mut self, slot: u32, owner: Option<ShardId>) -> Step {
        let in_order = match (&self.sessions[slot].answers, owner) {
            (None, _) => true,
            (Some(answers), Some(owner)) => answers.are_in_order_at(owner),
            (Some(_), None) => false,
        };
        if in_order { Ok(()) } else { Err(self.hold(slot)) }
    }

    /// The request waits until all earlier ones are answered.
    pub(super) fn hold(&mut self, slot: u32) -> Stop {
        self.sessions[slot].pause.requests = true;
        self.figures.add(Figure::RequestPauses, 1);
        Stop::Held
    }

    /// The way to the owner, or to the exchange, has room. Otherwise the request is held until it has.
    pub(super) fn require_room(&mut self, slot: u32, owner: ShardId) -> Step {
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

/// The checked event name, as it stands in the message.
pub(super) fn event_name<'a>(fields: &Fields<'a>) -> Result<Json<'a>, Status> {
    let event = fields.event.ok_or(Status::InvalidEventName)?;
    let name = event.string().ok_or(Status::InvalidEventName)?;
    EventName::check(&name).map_err(|_| Status::InvalidEventName)?;
    Ok(event)
}
