//! The control thread's commands: vhosts and channels come, change and go; answers to questions.

use std::{sync::Arc, time::Instant};

use rand::RngExt;
use uuid::Uuid;
use webrocket_wire::{CloseCode, MemberData, Reply, Rights, SharedPublication, Status};

use crate::{
    answers::{Completion, Open},
    channels::ChannelLimit,
    message::{
        Changed, ChannelNotFound, Command, CommandReply, Heard, Identity, InvalidCredentials, NotChanged,
        NotOpened, Opened, Publisher, Report, RequestRef, SessionNotFound, Ticket, rights_on,
    },
    metrics::Figure,
    rate::Rate,
    vhost::{Vhost, VhostId},
};

use super::{Job, Life, Shard, leaving::Owners};

impl Shard {
    /// Carries out a command.
    pub(super) fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::PutVhost { ticket, vhost } => self.put_vhost(now, ticket, vhost),
            Command::RemoveVhost { ticket, vhost } => self.remove_vhost(now, ticket, vhost),
            Command::OpenChannel { ticket, vhost, channel } => {
                let opened = self.open_channel(vhost, channel);
                self.command_reply(CommandReply::Opened(ticket, opened));
            }
            Command::CloseChannel { ticket, vhost, channel } => {
                let found = self.channels.find(&(vhost, channel)).ok_or(ChannelNotFound);
                let closed = found.map(|channel| self.owner_close(channel));
                self.command_reply(CommandReply::Found(ticket, closed));
            }
            Command::Publish { ticket, vhost, channel, publication } => {
                self.owner_publish(now, Publisher::Backend(ticket), &(vhost, channel), publication);
            }
            Command::DirectMessage { ticket, vhost, sid, message } => {
                let heard = self.direct_message(vhost, sid, &message);
                self.command_reply(CommandReply::Heard(ticket, heard));
            }
            Command::ListChannels { ticket, vhost } => {
                let channels = self.channels.of_vhost(vhost);
                let channels = channels
                    .into_iter()
                    .filter_map(|(_, channel)| self.channels.entry(channel).map(|entry| entry.summary()))
                    .collect();
                self.command_reply(CommandReply::Listed(ticket, channels));
            }
            Command::DescribeChannel { ticket, vhost, channel } => {
                let found = self.channels.find(&(vhost, channel));
                let info = found.and_then(|channel| self.channels.entry(channel)).map(|entry| entry.info());
                self.command_reply(CommandReply::Described(ticket, info.ok_or(ChannelNotFound)));
            }
            Command::Authenticated { request, identity } => self.authenticated(now, request, identity),
            Command::ChannelChanged { request, outcome } => self.channel_changed(request, outcome),
            Command::Serve => self.is_complete = true,
            Command::Shutdown => {
                self.life = Life::Stopping;
                self.run_shutdown(now, 0);
                self.check_stopped();
            }
        }
    }

    pub(super) fn command_reply(&mut self, reply: CommandReply) {
        self.reports.push_back(Report::Replied(reply));
    }

    fn put_vhost(&mut self, now: Instant, ticket: Ticket<()>, vhost: Arc<Vhost>) {
        let index = vhost.id.0 as usize;
        if self.vhosts.len() <= index {
            self.vhosts.resize(index + 1, None);
        }
        let (id, path) = (vhost.id, vhost.path.clone());
        if self.vhosts[index].replace(vhost).is_some() {
            self.run_sweep_vhost(now, ticket, id, 0);
        } else {
            self.paths.insert(path, id);
            self.command_reply(CommandReply::Applied(ticket));
        }
    }

    fn remove_vhost(&mut self, now: Instant, ticket: Ticket<()>, id: VhostId) {
        if let Some(vhost) = self.vhosts.get_mut(id.0 as usize).and_then(Option::take)
            && self.paths.get(&vhost.path) == Some(&id)
        {
            self.paths.remove(&vhost.path);
        }
        // Every shard closes the vhost's sessions itself: nobody needs to be told.
        for (_, channel) in self.channels.of_vhost(id) {
            self.channels.remove(channel);
        }
        self.run_close_vhost(now, ticket, id, 0);
    }

    fn open_channel(&mut self, vhost: VhostId, channel: webrocket_wire::ChannelName) -> Opened {
        let Some(snapshot) = self.vhost(vhost).cloned() else {
            return Err(NotOpened::VhostNotFound);
        };
        let key = (vhost, channel);
        if let Some(found) = self.channels.find(&key) {
            self.channels.entry(found).expect("just found").opened = true;
            return Ok(());
        }
        let epoch = self.random.random();
        match self.channels.create(&snapshot, key.1, epoch, true) {
            Ok(_) => Ok(()),
            Err(ChannelLimit) => Err(NotOpened::ChannelLimit),
        }
    }

    fn direct_message(&mut self, vhost: VhostId, sid: Uuid, message: &SharedPublication) -> Heard {
        let Some(slot) = self.sids.find(&self.sessions, sid) else { return Err(SessionNotFound) };
        let session = &mut self.sessions[slot];
        let is_there =
            session.connection.is_open() && session.vhost.as_ref().is_some_and(|of| of.id == vhost);
        if !is_there {
            return Err(SessionNotFound);
        }
        message.encode(self.delivery.frames(session, slot));
        self.figures.add(Figure::DirectMessages, 1);
        Ok(())
    }

    /// Whether a session of the vhost stands in the slot.
    fn is_of(&mut self, slot: u32, vhost: VhostId) -> bool {
        let session = self.sessions.at(slot).map(|(session, _)| session);
        session.is_some_and(|session| session.vhost.as_ref().is_some_and(|of| of.id == vhost))
    }

    /// Applies the vhost's snapshot to its sessions: always the newest, for sessions that came
    /// after a newer one know it already.
    pub(super) fn run_sweep_vhost(&mut self, now: Instant, ticket: Ticket<()>, id: VhostId, next: u32) {
        let vhost = self.vhost(id).cloned();
        let rest = vhost.and_then(|vhost| {
            self.slice(next, |shard, slot| {
                if shard.is_of(slot, id) {
                    shard.apply_vhost(now, slot, &vhost);
                }
            })
        });
        match rest {
            Some(next) => self.jobs.push_back(Job::SweepVhost { ticket, vhost: id, next }),
            None => self.swept(ticket),
        }
    }

    /// Applies a vhost's new snapshot to one session: it keeps what it still may.
    fn apply_vhost(&mut self, now: Instant, slot: u32, vhost: &Arc<Vhost>) {
        let session = &mut self.sessions[slot];
        let before = session.vhost.replace(Arc::clone(vhost));
        if before.is_none_or(|before| before.settings != vhost.settings) {
            session.rate = Rate::new(&vhost.settings, now);
        }
        let anonymous = vhost.anonymous_rights(session.dialect);
        let (identity, rights) = match &session.identity {
            Identity::User { name, generation } => match vhost.users.get(name) {
                Some(user) if user.generation == *generation => (None, user.rights),
                Some(_) | None => (Some(Identity::Anonymous), anonymous),
            },
            Identity::Anonymous | Identity::Token(_) => (None, anonymous),
        };
        let next = identity.as_ref().unwrap_or(&session.identity);
        let lost: Vec<u32> = session
            .inbox
            .subscriptions
            .iter()
            .map(|subscription| subscription.view)
            .filter(|view| {
                let name = self.delivery.view(*view).name();
                !rights_on(next, rights, anonymous, name.as_str()).contains(Rights::READ)
            })
            .collect();
        // What it asks to subscribe now it may have to leave when the owner answers.
        let is_asking = session.answers.as_ref().is_some_and(|answers| answers.subscribes() > 0);
        self.leaves_caused += u64::from(is_asking);
        for view in lost {
            let name = self.delivery.view(view).name().clone();
            let owner = self.leave_view(slot, view, MemberData::default());
            self.leaves_caused += u64::from(owner.is_some());
            self.tell(slot, &Reply::Unsubscribed(&name));
        }
        let session = &mut self.sessions[slot];
        session.rights = rights;
        if let Some(identity) = identity {
            session.identity = identity;
        }
        self.schedule(slot);
    }

    pub(super) fn run_close_vhost(&mut self, now: Instant, ticket: Ticket<()>, vhost: VhostId, next: u32) {
        let rest = self.slice(next, |shard, slot| {
            if shard.is_of(slot, vhost) {
                shard.close_session(now, slot, CloseCode::VhostClosed, &MemberData::default());
            }
        });
        match rest {
            Some(next) => self.jobs.push_back(Job::CloseVhost { ticket, vhost, next }),
            None => self.command_reply(CommandReply::Applied(ticket)),
        }
    }

    pub(super) fn run_shutdown(&mut self, now: Instant, next: u32) {
        let rest = self.slice(next, |shard, slot| {
            let Some((session, _)) = shard.sessions.at(slot) else { return };
            if session.connection.is_open() {
                shard.close_session(now, slot, CloseCode::Restart, &MemberData::default());
            } else if session.vhost.is_none() {
                shard.end_session(slot);
            }
        });
        if let Some(next) = rest {
            self.jobs.push_back(Job::Shutdown { next });
        }
    }

    /// The session is somebody else now: it keeps no subscription.
    pub(super) fn become_identity(&mut self, slot: u32, identity: Identity) -> Owners {
        let owners = self.drop_subscriptions(slot, &MemberData::default());
        let session = &mut self.sessions[slot];
        let Some(vhost) = &session.vhost else { return owners };
        session.rights = match &identity {
            Identity::User { name, .. } => vhost.users.get(name).map_or(Rights::NONE, |user| user.rights),
            Identity::Anonymous | Identity::Token(_) => vhost.anonymous_rights(session.dialect),
        };
        session.identity = identity;
        owners
    }

    fn authenticated(
        &mut self,
        now: Instant,
        request: RequestRef,
        identity: Result<Identity, InvalidCredentials>,
    ) {
        let session = request.session;
        let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
        let (Some(vhost), Some(answers)) = (&entry.vhost, &mut entry.answers) else { return };
        let Some(Open::Authenticate) = answers.open(request.number) else { return };
        // The user may have gone, or been replaced, while the secret was verified.
        let identity = identity.ok().filter(|identity| match identity {
            Identity::User { name, generation } => {
                vhost.users.get(name).is_some_and(|user| user.generation == *generation)
            }
            Identity::Token(_) => true,
            Identity::Anonymous => false,
        });
        let Some(identity) = identity else {
            return self.complete(request, &Reply::Error(Status::InvalidCredentials));
        };
        let who = identity.uid().expect("only credentials of somebody are valid");
        let owners = self.become_identity(session.slot, identity);
        self.complete_behind(now, request, &owners, Completion::Authenticated(who));
    }

    fn channel_changed(&mut self, request: RequestRef, outcome: Changed) {
        let session = request.session;
        let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
        let Some(answers) = &mut entry.answers else { return };
        let (name, opened) = match answers.open(request.number) {
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
                | Open::Admit(_)
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
        self.complete(request, &reply);
    }
}
