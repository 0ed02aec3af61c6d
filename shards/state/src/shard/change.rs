//! What a changed vhost means for its sessions.

use std::sync::Arc;

use uuid::Uuid;
use webrocket_wire::{MemberData, Reply, Rights, SharedPublication};

use crate::{
    command::{Heard, SessionNotFound},
    encoding::Encodings,
    identity::Identity,
    metrics::Figure,
    rate::Rate,
    session::limits,
    slots::{SessionSlot, ViewSlot},
    vhost::{Vhost, VhostId},
};

use super::{fences::Fences, leaving::Owners, serving::Serving};

impl Serving<'_> {
    /// A backend speaks to one session.
    pub(super) fn direct_message(
        &mut self,
        encodings: &Encodings,
        vhost: VhostId,
        sid: Uuid,
        message: &SharedPublication,
    ) -> Heard {
        let slot = self.sessions.find(sid).ok_or(SessionNotFound)?;
        let open = self.sessions.open(slot);
        if open.vhost.id != vhost {
            return Err(SessionNotFound);
        }
        let encoding = open.encoding;
        encodings.encode_direct(encoding, &message.parts(), self.frames(slot));
        self.figures.add(Figure::DirectMessages, 1);
        Ok(())
    }

    /// Whether an open session of the vhost stands in the slot.
    pub(super) fn is_of(&mut self, slot: SessionSlot, vhost: VhostId) -> bool {
        let session = self.sessions.slots.at(slot).map(|(session, _)| session);
        session.and_then(|session| session.open()).is_some_and(|open| open.vhost.id == vhost)
    }

    /// Applies a vhost's new snapshot to one session: it keeps what it still may.
    pub(super) fn apply_vhost(&mut self, fences: &mut Fences, slot: SessionSlot, vhost: &Arc<Vhost>) {
        let session = &mut self.sessions.slots[slot];
        session.connection.set_limits(limits(vhost));
        let Some(open) = session.open_mut() else { return };
        let before = std::mem::replace(&mut open.vhost, Arc::clone(vhost));
        if before.settings != vhost.settings {
            open.rate = Rate::new(&vhost.settings, self.now);
        }
        let anonymous = vhost.anonymous_rights(open.dialect);
        let (identity, rights) = match &open.identity {
            Identity::User { name, generation } => match vhost.users.get(name) {
                Some(user) if user.generation == *generation => (None, user.rights),
                Some(_) | None => (Some(Identity::Anonymous), anonymous),
            },
            Identity::Anonymous | Identity::Token(_) => (None, anonymous),
        };
        // What it asks to subscribe now it may have to leave when the owner answers.
        let is_asking = open.answers.as_ref().is_some_and(|answers| answers.subscribes() > 0);
        fences.cause(u64::from(is_asking));
        open.rights = rights;
        if let Some(identity) = identity {
            open.identity = identity;
        }
        for view in self.unreadable(slot) {
            let name = self.fanout.views[view].name().clone();
            let owner = self.leave_view(slot, view, MemberData::default());
            fences.cause(u64::from(owner.is_some()));
            self.tell(slot, &Reply::Unsubscribed(&name));
        }
        self.sessions.schedule(slot);
    }

    /// What a session subscribes without being allowed to.
    fn unreadable(&self, slot: SessionSlot) -> Vec<ViewSlot> {
        let session = &self.sessions.slots[slot];
        let open = self.sessions.open(slot);
        let is_unreadable = |view: &ViewSlot| {
            let name = self.fanout.views[*view].name();
            !open.rights_on(name.as_str()).contains(Rights::READ)
        };
        let views = session.inbox.subscriptions.iter().map(|subscription| subscription.view);
        views.filter(is_unreadable).collect()
    }

    /// The session is somebody else now: it keeps no subscription.
    pub(super) fn become_identity(&mut self, slot: SessionSlot, identity: Identity) -> Owners {
        let owners = self.drop_subscriptions(slot, &MemberData::default());
        let open = self.sessions.open_mut(slot);
        open.rights = match &identity {
            Identity::User { name, .. } => {
                open.vhost.users.get(name).map_or(Rights::NONE, |user| user.rights)
            }
            Identity::Anonymous | Identity::Token(_) => open.vhost.anonymous_rights(open.dialect),
        };
        open.identity = identity;
        owners
    }
}
