//! Long work, done in slices between which other input is served.

use std::time::Instant;

use webrocket_wire::{CloseCode, MemberData, Reply};

use crate::{
    command::{CommandReply, Ticket},
    session::State,
    slots::{SessionSlot, ViewSlot},
    vhost::VhostId,
};

use super::{Shard, bounds::SLICE_SESSIONS, job::Job, serving::Serving};

impl Shard {
    /// Does one slice of long work.
    pub(super) fn proceed(&mut self, now: Instant) {
        for _ in 0..SLICE_SESSIONS {
            let Some(session) = self.sessions.next_resumed() else { break };
            self.resume(now, session);
            self.serve_own(now);
        }
        match self.jobs.pop_front() {
            None => {}
            Some(Job::CloseView { view, generation }) => self.run_close_view(now, view, generation),
            Some(Job::SweepVhost { ticket, vhost, next }) => self.run_sweep_vhost(now, ticket, vhost, next),
            Some(Job::CloseVhost { ticket, vhost, next }) => self.run_close_vhost(now, ticket, vhost, next),
            Some(Job::Shutdown { next }) => self.run_shutdown(now, next),
        }
    }

    /// Does `work` on a slice of the slots, from `next` on; returns where to go on if that is not all.
    ///
    /// Each of a session's subscriptions may have to end, so it counts for as much as a session. Who
    /// leaves channels is told what waits there by copy, so a slice also ends when there is enough
    /// to flush.
    fn slice(
        &mut self,
        now: Instant,
        next: SessionSlot,
        mut work: impl FnMut(&mut Self, SessionSlot),
    ) -> Option<SessionSlot> {
        let mut left = SLICE_SESSIONS;
        for slot in self.sessions.slots.from(next) {
            if left == 0 || self.fanout.wants_flush() {
                return Some(slot);
            }
            let session = self.sessions.slots.at(slot);
            let subscriptions = session.map_or(0, |(session, _)| session.inbox.subscriptions.len());
            left = left.saturating_sub(1 + subscriptions);
            work(self, slot);
            self.serve_own(now);
        }
        None
    }

    /// Tells the subscribers of a closed channel.
    pub(super) fn run_close_view(&mut self, now: Instant, view: ViewSlot, generation: u32) {
        for _ in 0..SLICE_SESSIONS {
            if !self.fanout.views.holds(view, generation) {
                return;
            }
            if self.fanout.wants_flush() {
                break;
            }
            let place = &self.fanout.views[view];
            let name = place.name().clone();
            let slot = place.any_subscriber().expect("a view goes with its last subscriber");
            let mut serving = self.serving(now);
            serving.unsubscribe(slot, view);
            serving.tell(slot, &Reply::Unsubscribed(&name));
        }
        if self.fanout.views.holds(view, generation) {
            self.jobs.push_back(Job::CloseView { view, generation });
        }
    }

    /// Applies the vhost's snapshot to its sessions: always the newest, for sessions that came
    /// after a newer one know it already.
    pub(super) fn run_sweep_vhost(
        &mut self,
        now: Instant,
        ticket: Ticket<()>,
        id: VhostId,
        next: SessionSlot,
    ) {
        let vhost = self.vhosts.get(id).cloned();
        let rest = vhost.and_then(|vhost| {
            self.slice(now, next, |shard, slot| {
                let Self { sessions, fanout, links, figures, fences, .. } = shard;
                let mut serving = Serving { now, sessions, fanout, links, figures };
                if serving.is_of(slot, id) {
                    serving.apply_vhost(fences, slot, &vhost);
                }
            })
        });
        match rest {
            Some(next) => self.jobs.push_back(Job::SweepVhost { ticket, vhost: id, next }),
            None => self.fences.report(ticket, &mut self.links, &mut self.reports),
        }
    }

    /// Closes a vhost's sessions.
    pub(super) fn run_close_vhost(
        &mut self,
        now: Instant,
        ticket: Ticket<()>,
        vhost: VhostId,
        next: SessionSlot,
    ) {
        let rest = self.slice(now, next, |shard, slot| {
            let mut serving = shard.serving(now);
            if serving.is_of(slot, vhost) {
                serving.close(slot, CloseCode::VhostClosed, &MemberData::default());
            }
        });
        match rest {
            Some(next) => self.jobs.push_back(Job::CloseVhost { ticket, vhost, next }),
            None => self.command_reply(CommandReply::Applied(ticket)),
        }
    }

    /// Closes all sessions.
    pub(super) fn run_shutdown(&mut self, now: Instant, next: SessionSlot) {
        let rest = self.slice(now, next, |shard, slot| {
            let Some((session, _)) = shard.sessions.slots.at(slot) else { return };
            match session.state {
                State::Open(_) => shard.serving(now).close(slot, CloseCode::Restart, &MemberData::default()),
                State::Handshaking(None) => shard.serving(now).end(slot),
                // They are refused when their address has been counted, or end by themselves.
                State::Handshaking(Some(_)) | State::Closing => {}
            }
        });
        if let Some(next) = rest {
            self.jobs.push_back(Job::Shutdown { next });
        }
    }
}
