//! From a valid handshake to an open session: the vhost, its limits, and who is let in.

use std::sync::Arc;

use rand::{Rng, rngs::StdRng};
use uuid::Builder;
use webrocket_wire::{
    handshake::{Dialect, Refusal, Upgrade},
    wwfp,
};

use crate::{
    directory::Directory,
    encoding::Encodings,
    ids::{RequestRef, ShardId},
    message::OwnerRequest,
    metrics::Figure,
    session::{Counted, OpenSession, State, Waiting},
    slots::SessionSlot,
    vhost::Vhost,
    vhosts::Vhosts,
};

use super::serving::Serving;

/// What decides who is let in.
pub(super) struct Admission<'a> {
    pub(super) serving: Serving<'a>,
    pub(super) vhosts: &'a Vhosts,
    pub(super) encodings: &'a Encodings,
    pub(super) directory: &'a Directory,
    pub(super) random: &'a mut StdRng,
    /// Whether nobody is let in any more.
    pub(super) is_stopping: bool,
}

impl Admission<'_> {
    /// Opens a session, refuses it, or asks whether one more may come from its address.
    pub(super) fn upgrade(&mut self, slot: SessionSlot, upgrade: Upgrade) {
        let vhost = match self.vhosts.at(&upgrade.path).cloned() {
            _ if self.is_stopping => return self.refuse(slot, Refusal::ShuttingDown),
            None => return self.refuse(slot, Refusal::VhostNotFound),
            Some(vhost) => vhost,
        };
        let max = vhost.settings.connections_per_address_max;
        if max == 0 {
            return self.open(slot, vhost, &upgrade);
        }
        let id = vhost.id;
        let session = self.serving.sessions.reference(slot);
        let entry = &mut self.serving.sessions.slots[slot];
        entry.state = State::Handshaking(Some(Box::new(Waiting { upgrade, vhost: id })));
        entry.pause.requests = true;
        let address = entry.peer;
        // A session asks this once, before anything else.
        let request = RequestRef { session, number: 0 };
        let counter = self.directory.counter(id, address);
        self.serving.links.ask(counter, OwnerRequest::Admit { request, vhost: id, address, max });
    }

    /// The shard that counts an address answers a handshake; whether one waits for it still.
    pub(super) fn answered(&mut self, counter: ShardId, request: RequestRef, is_admitted: bool) -> bool {
        let Some(entry) = self.serving.sessions.entry(request.session) else { return false };
        let State::Handshaking(waiting) = &mut entry.state else { return false };
        let Some(waiting) = waiting.take() else { return false };
        let Waiting { upgrade, vhost } = *waiting;
        if is_admitted {
            entry.counted = Some(Counted { vhost, counter });
        }
        entry.pause.requests = false;
        let slot = request.session.slot;
        // The vhost may have gone, or been changed, meanwhile.
        match self.vhosts.get(vhost).cloned() {
            _ if self.is_stopping => self.refuse(slot, Refusal::ShuttingDown),
            None => self.refuse(slot, Refusal::VhostNotFound),
            Some(vhost) if is_admitted => self.open(slot, vhost, &upgrade),
            Some(_) => self.refuse(slot, Refusal::TooManyConnections),
        }
        self.serving.sessions.resume(request.session);
        true
    }

    fn refuse(&mut self, slot: SessionSlot, refusal: Refusal) {
        self.serving.dismiss(slot);
        self.serving.leave_open(slot);
        let timeouts = self.serving.sessions.timeouts();
        let session = &mut self.serving.sessions.slots[slot];
        session.connection.refuse(self.serving.now, refusal, &timeouts);
        self.serving.fanout.enqueue(session, slot);
        self.serving.figures.add(Figure::Refused, 1);
        self.serving.sessions.schedule(slot);
    }

    fn open(&mut self, slot: SessionSlot, vhost: Arc<Vhost>, upgrade: &Upgrade) {
        let mut sid = [0; 16];
        self.random.fill_bytes(&mut sid);
        let sid = Builder::from_random_bytes(sid).into_uuid();
        let encoding = self.encodings.of(upgrade);
        let now = self.serving.now;
        let open = OpenSession::new(now, sid, upgrade.dialect, encoding, vhost);
        self.serving.sessions.slots[slot].begin(now, upgrade, open);
        let frames = self.serving.frames(slot);
        match upgrade.dialect {
            Dialect::Classic => {}
            Dialect::Wwfp => wwfp::encode_connected(frames, sid),
        }
        self.serving.sessions.list_sid(slot);
        self.serving.figures.add(Figure::Sessions, 1);
        self.serving.sessions.schedule(slot);
    }
}
