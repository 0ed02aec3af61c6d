//! From a valid handshake to an open session: the vhost, its limits, and who is let in.

use std::{net::IpAddr, sync::Arc, time::Instant};

use rand::Rng;
use uuid::Builder;
use webrocket_wire::{
    handshake::{Dialect, Refusal, Upgrade},
    wwfp,
};

use crate::{
    answers::{Answerer, Open},
    message::{Answer, RequestRef, ShardId, ShardMessage},
    metrics::Figure,
    rate::Rate,
    vhost::{Vhost, VhostId},
};

use super::{Life, Shard};

impl Shard {
    /// Opens a session, refuses it, or asks whether one more may come from its address.
    pub(super) fn upgrade(&mut self, now: Instant, slot: u32, upgrade: Upgrade) {
        let vhost = self.paths.get(upgrade.path.as_str()).and_then(|id| self.vhost(*id)).cloned();
        match vhost {
            _ if self.life != Life::Serving => self.refuse(now, slot, Refusal::ShuttingDown),
            None => self.refuse(now, slot, Refusal::VhostNotFound),
            Some(vhost) if vhost.settings.connections_per_address_max > 0 => {
                let (id, address) = (vhost.id, self.sessions[slot].peer);
                let max = vhost.settings.connections_per_address_max;
                self.sessions[slot].vhost = Some(vhost);
                let counter = self.config.directory.counter(id, address);
                let request =
                    self.open_request(slot, Open::Admit(Box::new(upgrade)), Answerer::Barrier, None);
                self.sessions[slot].pause.requests = true;
                self.ask_owner(now, counter, ShardMessage::Admit { request, vhost: id, address, max });
            }
            Some(vhost) => self.open_session(now, slot, vhost, &upgrade),
        }
    }

    fn refuse(&mut self, now: Instant, slot: u32, refusal: Refusal) {
        self.dismiss(slot);
        let session = &mut self.sessions[slot];
        session.vhost = None;
        let timeouts = Self::timeouts(&self.config, session);
        session.connection.refuse(now, refusal, &timeouts);
        self.delivery.enqueue(session, slot);
        self.figures.add(Figure::Refused, 1);
        self.schedule(slot);
    }

    fn open_session(&mut self, now: Instant, slot: u32, vhost: Arc<Vhost>, upgrade: &Upgrade) {
        let mut sid = [0; 16];
        self.random.fill_bytes(&mut sid);
        let session = &mut self.sessions[slot];
        session.sid = Builder::from_random_bytes(sid).into_uuid();
        session.dialect = upgrade.dialect;
        session.rate = Rate::new(&vhost.settings, now);
        session.rights = vhost.anonymous_rights(upgrade.dialect);
        session.vhost = Some(vhost);
        session.connection.open(now, upgrade);
        let (sid, frames) = (session.sid, self.delivery.frames(session, slot));
        match upgrade.dialect {
            Dialect::Classic => {}
            Dialect::Wwfp => wwfp::encode_connected(frames, sid),
        }
        self.sids.insert(&self.sessions, slot);
        self.figures.add(Figure::Sessions, 1);
        self.schedule(slot);
    }

    /// This shard counts the address: may one more come?
    pub(super) fn admit(&mut self, vhost: VhostId, address: IpAddr, max: u32) -> Answer {
        if self.admitted.admit(vhost, address, max) {
            Answer::Admitted { vhost, address }
        } else {
            Answer::TooManyConnections
        }
    }

    /// The answer to a handshake that waited for it.
    pub(super) fn admit_answered(&mut self, now: Instant, request: RequestRef, answer: &Answer) {
        let slot = request.session.slot;
        let session = &mut self.sessions[slot];
        let upgrade = session.answers.as_mut().and_then(|answers| answers.take_upgrade(request.number));
        let upgrade = upgrade.expect("the request was found open");
        session.is_counted = matches!(answer, Answer::Admitted { .. });
        // The vhost may have gone, or been changed, meanwhile.
        let vhost = session.vhost.as_ref().map(|vhost| vhost.id).and_then(|id| self.vhost(id)).cloned();
        match vhost {
            _ if self.life != Life::Serving => self.refuse(now, slot, Refusal::ShuttingDown),
            None => self.refuse(now, slot, Refusal::VhostNotFound),
            Some(vhost) if matches!(answer, Answer::Admitted { .. }) => {
                self.open_session(now, slot, vhost, &upgrade);
            }
            Some(_) => self.refuse(now, slot, Refusal::TooManyConnections),
        }
        self.release_answers(request.session);
    }

    /// A counted session is over.
    pub(super) fn dismiss(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        if !std::mem::take(&mut session.is_counted) {
            return;
        }
        let address = session.peer;
        if let Some(vhost) = session.vhost.as_ref().map(|vhost| vhost.id) {
            self.tell_dismissed(vhost, address);
        }
    }

    pub(super) fn tell_dismissed(&mut self, vhost: VhostId, address: IpAddr) {
        let counter: ShardId = self.config.directory.counter(vhost, address);
        if counter == self.config.id {
            self.admitted.dismiss(vhost, address);
        } else {
            self.links[counter.index()].push(ShardMessage::Dismiss { vhost, address });
        }
    }
}
