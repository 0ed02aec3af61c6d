//! Long work, done in slices between which other input is served.

use std::time::Instant;

use webrocket_wire::{CloseCode, MemberData, Reply};

use crate::{
    command::{CommandReply, Ticket},
    connection::Due,
    fanout::Fanout,
    session::State,
    sessions::Sessions,
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

    /// Looks after a slice of the sessions that are due; the next turn goes on with the rest.
    pub(super) fn check_deadlines(&mut self, now: Instant) {
        let mut left = SLICE_SESSIONS;
        while !self.fanout.wants_flush()
            && let Some((session, due)) = self.sessions.next_due(now, &mut left)
        {
            if !matches!(due, Due::At(_) | Due::Pinged) {
                let subscriptions = self.sessions.slots[session.slot].inbox.subscriptions.len();
                left = left.saturating_sub(subscriptions);
            }
            self.serving(now).look_after(session, due);
            self.serve_own(now);
        }
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
        let mut slice = Slice::from(next);
        let vhost = self.vhosts.get(id).cloned();
        while let Some(vhost) = &vhost
            && let Some(slot) = slice.next(&mut self.sessions, &self.fanout)
        {
            let Self { sessions, fanout, links, figures, fences, .. } = self;
            let mut serving = Serving { now, sessions, fanout, links, figures };
            if serving.is_of(slot, id) {
                serving.apply_vhost(fences, slot, vhost);
            }
            self.serve_own(now);
        }
        // Nothing is left to do for a vhost that is gone.
        match slice.rest().filter(|_| vhost.is_some()) {
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
        let mut slice = Slice::from(next);
        while let Some(slot) = slice.next(&mut self.sessions, &self.fanout) {
            let mut serving = self.serving(now);
            if serving.is_of(slot, vhost) {
                serving.close(slot, CloseCode::VhostClosed, &MemberData::default());
            }
            self.serve_own(now);
        }
        match slice.rest() {
            Some(next) => self.jobs.push_back(Job::CloseVhost { ticket, vhost, next }),
            None => self.command_reply(CommandReply::Applied(ticket)),
        }
    }

    /// Closes all sessions.
    pub(super) fn run_shutdown(&mut self, now: Instant, next: SessionSlot) {
        let mut slice = Slice::from(next);
        while let Some(slot) = slice.next(&mut self.sessions, &self.fanout) {
            let state = self.sessions.slots.at(slot).map(|(session, _)| &session.state);
            match state {
                Some(State::Open(_)) => {
                    self.serving(now).close(slot, CloseCode::Restart, &MemberData::default());
                }
                Some(State::Handshaking(None)) => self.serving(now).end(slot),
                // They are refused when their address has been counted, or end by themselves.
                Some(State::Handshaking(Some(_)) | State::Closing) | None => {}
            }
            self.serve_own(now);
        }
        if let Some(next) = slice.rest() {
            self.jobs.push_back(Job::Shutdown { next });
        }
    }
}

/// A slice of the sessions.
///
/// Each of a session's subscriptions may have to end, so it counts for as much as a session. Who
/// leaves channels is told what waits there by copy, so a slice also ends when there is enough
/// to flush.
struct Slice {
    next: SessionSlot,
    left: usize,
    is_last: bool,
}

impl Slice {
    fn from(next: SessionSlot) -> Self {
        Self { next, left: SLICE_SESSIONS, is_last: false }
    }

    /// The next slot of the slice.
    fn next(&mut self, sessions: &mut Sessions, fanout: &Fanout) -> Option<SessionSlot> {
        let Some(slot) = sessions.slots.from(self.next).next() else {
            self.is_last = true;
            return None;
        };
        if self.left == 0 || fanout.wants_flush() {
            return None;
        }
        let session = sessions.slots.at(slot);
        let subscriptions = session.map_or(0, |(session, _)| session.inbox.subscriptions.len());
        self.left = self.left.saturating_sub(1 + subscriptions);
        self.next = SessionSlot(slot.0 + 1);
        Some(slot)
    }

    /// Where to go on, unless all slots have been seen.
    fn rest(&self) -> Option<SessionSlot> {
        (!self.is_last).then_some(self.next)
    }
}
