//! The open sessions of a shard: what they are told, in which order, and when they are looked after.

use std::{ops::ControlFlow, time::Instant};

use webrocket_wire::{CloseCode, MemberData, Reply, classic, handshake::Dialect, wwfp, wwfp::Reference};

use crate::{
    answers::{Answerer, Open},
    connection::Due,
    encoding::{Encodings, Made},
    event::Said,
    fanout::{Fanout, FlushStep},
    ids::{ChannelRef, RequestRef, SessionRef, ShardId},
    link::Links,
    machine::Action,
    metrics::{Figure, Figures},
    session::{OpenSession, Session},
    sessions::Sessions,
    slots::{SessionSlot, ViewSlot},
};

use super::bounds::{OPEN_BROADCAST_BYTES_MAX, OUTPUT_PAUSE_BYTES};

/// The sessions of a shard, what they receive, and the links by which owners hear of them.
pub(super) struct Serving<'a> {
    pub(super) now: Instant,
    pub(super) sessions: &'a mut Sessions,
    pub(super) fanout: &'a mut Fanout,
    pub(super) links: &'a mut Links,
    pub(super) figures: &'a mut Figures,
}

impl Serving<'_> {
    /// Opens a request; its answer will find its place.
    pub(super) fn open_request(
        &mut self,
        slot: SessionSlot,
        open: Open,
        answerer: Answerer,
        reference: Option<&Reference>,
    ) -> RequestRef {
        let answers = self.sessions.open_mut(slot).answers();
        let number = answers.push(open, answerer, reference.cloned());
        RequestRef { session: self.sessions.reference(slot), number }
    }

    /// Answers a request at once, behind the answers of earlier ones.
    pub(super) fn reply(&mut self, slot: SessionSlot, reply: &Reply<'_>, reference: Option<&Reference>) {
        self.figures.add(Figure::Errors, u64::from(reply.is_error()));
        let open = self.sessions.open_mut(slot);
        if open.dialect == Dialect::Wwfp && reply.is_acknowledgement() && reference.is_none() {
            return;
        }
        let dialect = open.dialect;
        if let Some(answers) = &mut open.answers {
            let mut frames = Vec::new();
            encode(&mut frames, dialect, reply, reference);
            answers.push_ready(frames);
        } else {
            encode(self.frames(slot), dialect, reply, reference);
        }
    }

    /// Tells the session what it did not ask for.
    pub(super) fn tell(&mut self, slot: SessionSlot, reply: &Reply<'_>) {
        let dialect = self.sessions.open(slot).dialect;
        encode(self.frames(slot), dialect, reply, None);
    }

    /// Where to append frames for one session, behind everything that it already has to take.
    pub(super) fn frames(&mut self, slot: SessionSlot) -> &mut Vec<u8> {
        self.fanout.frames(&mut self.sessions.slots[slot], slot)
    }

    /// Tells the subscribers of a channel here what it says; `made` has its frames in the encodings that the owner
    /// has made.
    ///
    /// # Panics
    /// Another shard owns the channel, and has not made a costly encoding in which somebody here receives.
    pub(super) fn deliver(
        &mut self,
        encodings: &Encodings,
        (owner, channel): (ShardId, ChannelRef),
        said: &Said<'_>,
        made: &Made,
    ) {
        let left_out = said.left_out().and_then(|sid| self.sessions.find(sid));
        let mut next = self.fanout.views.first(owner, channel);
        while let Some(view) = next {
            let place = &self.fanout.views[view];
            let encoding = place.encoding;
            next = place.next();
            let made = made.frame(encoding);
            let is_ours = owner == self.links.here();
            assert!(
                made.is_some() || is_ours || !encodings.is_costly(encoding),
                "the owner makes what is received"
            );
            self.append(view, left_out, |out| match made {
                Some(frame) => out.extend_from_slice(frame),
                None => encodings.encode(encoding, said, out),
            });
        }
    }

    /// Appends a frame for the subscribers of a view, but for one of them if it is `left_out`.
    fn append(&mut self, view: ViewSlot, left_out: Option<SessionSlot>, write: impl FnOnce(&mut Vec<u8>)) {
        let sessions = &mut self.sessions.slots;
        let subscribers = match left_out {
            None => self.fanout.append(sessions, view, write),
            Some(slot) => self.fanout.append_leaving_out(sessions, view, slot, write),
        };
        self.figures.add(Figure::Deliveries, subscribers as u64);
    }

    /// Puts the answer of an open request into its place, and sends all whose turn it is.
    pub(super) fn complete(&mut self, request: RequestRef, reply: &Reply<'_>) {
        self.figures.add(Figure::Errors, u64::from(reply.is_error()));
        self.complete_with(request, |out, session, reference| {
            encode(out, session.dialect, reply, reference);
        });
    }

    /// The same with an answer that only one dialect has.
    pub(super) fn complete_with(
        &mut self,
        request: RequestRef,
        encode: impl FnOnce(&mut Vec<u8>, &OpenSession, Option<&Reference>),
    ) {
        let session = self.sessions.open_mut(request.session.slot);
        let answers = session.answers.as_mut().expect("an open request has answers");
        let reference = answers.take_reference(request.number);
        let mut frames = Vec::new();
        encode(&mut frames, session, reference.as_ref());
        let answers = session.answers.as_mut().expect("just found");
        answers.complete(request.number, frames);
        self.release_answers(request.session);
    }

    /// Sends all answers whose turn it is.
    fn release_answers(&mut self, session: SessionRef) {
        let open = self.sessions.open_mut(session.slot);
        let Some(answers) = &mut open.answers else { return };
        let mut ready = Vec::new();
        while let Some(frames) = answers.next_ready() {
            ready.extend_from_slice(&frames);
        }
        if answers.is_empty() {
            open.next_request = answers.next_number();
            open.answers = None;
        }
        if !ready.is_empty() {
            self.frames(session.slot).extend_from_slice(&ready);
        }
        self.resume_after_answer(session);
    }

    fn resume_after_answer(&mut self, session: SessionRef) {
        let entry = &mut self.sessions.slots[session.slot];
        if !entry.pause.requests {
            return;
        }
        let holds_message = entry.parked.as_ref().is_some_and(|parked| parked.message.is_some());
        let open = entry.open().expect("it was answered");
        let max = open.vhost.settings.requests_outstanding_max as usize;
        let enough = match &open.answers {
            None => true,
            Some(answers) => {
                !holds_message
                    && !answers.has_barrier()
                    && answers.len() <= max / 2
                    && answers.bytes() <= OPEN_BROADCAST_BYTES_MAX / 2
            }
        };
        if enough {
            entry.pause.requests = false;
            self.sessions.resume(session);
        }
    }

    /// Does what is due for a session.
    pub(super) fn look_after(&mut self, session: SessionRef, due: Due) {
        let slot = session.slot;
        let entry = &mut self.sessions.slots[slot];
        let mut most = None;
        match due {
            Due::At(_) => {}
            Due::Pinged => {
                self.fanout.enqueue(entry, slot);
                // A pong brings the next ping nearer than the end that is feared now.
                most = entry.connection.ping_interval();
            }
            Due::Handshake => {
                self.figures.add(Figure::HandshakeTimeouts, 1);
                self.end(slot);
            }
            Due::CloseOverdue => self.end(slot),
            // While we do not read, silence is ours.
            Due::Idle if entry.pause.any() => entry.connection.touch(self.now),
            Due::Idle => {
                self.figures.add(Figure::IdleTimeouts, 1);
                self.close(slot, CloseCode::IdleTimeout, &MemberData::default());
            }
            Due::Stalled => self.condemn(slot),
        }
        self.sessions.reschedule(self.now, session, most);
    }

    /// The next step of the flush: whom to send to, nobody at its end or while it must be known first what those
    /// take who are offered something, or to go on once others have been told that a session has left.
    pub(super) fn next_flush(
        &mut self,
        condemned: &mut Option<SessionRef>,
    ) -> ControlFlow<Option<SessionRef>> {
        let is_offered = self.sessions.are_offered();
        if is_offered && condemned.is_some() {
            return ControlFlow::Break(None);
        }
        if let Some(session) = condemned.take() {
            self.condemn_still(session);
            return ControlFlow::Continue(());
        }
        match self.fanout.next_step(&mut self.sessions.slots, is_offered) {
            None => ControlFlow::Break(None),
            Some(FlushStep::Send(slot)) => ControlFlow::Break(Some(self.sessions.offer(slot))),
            Some(FlushStep::Condemn(slot)) if !is_offered => {
                self.condemn(slot);
                ControlFlow::Continue(())
            }
            Some(FlushStep::Condemn(slot)) => {
                // Others are told that it leaves: that must not touch what is offered to them.
                *condemned = Some(self.sessions.reference(slot));
                ControlFlow::Break(None)
            }
        }
    }

    /// Condemns a session that was to be condemned before, unless that has become wrong.
    fn condemn_still(&mut self, session: SessionRef) {
        let Some(entry) = self.sessions.entry(session) else { return };
        if self.fanout.lags_too_far(entry) {
            self.condemn(session.slot);
        } else {
            self.fanout.enqueue(entry, session.slot);
        }
    }

    /// Closes a session that takes its bytes too slowly: what has not begun is dropped.
    fn condemn(&mut self, slot: SessionSlot) {
        self.figures.add(Figure::SlowConsumers, 1);
        let session = &mut self.sessions.slots[slot];
        self.fanout.drop_tail(session);
        session.connection.out.drop_unbegun();
        self.close(slot, CloseCode::SlowConsumer, &MemberData::default());
    }

    /// The driver has sent the first `bytes` of what was offered.
    pub(super) fn sent(&mut self, session: SessionRef, bytes: usize) {
        let Some(entry) = self.sessions.answered_for(session) else { return };
        self.figures.add(Figure::BytesSent, bytes as u64);
        let all = self.fanout.sent(entry, session.slot, bytes);
        let stalls = !all && !entry.connection.is_stalled();
        entry.connection.sent(self.now, bytes, !all);
        let shuts = entry.connection.take_shutdown();
        if entry.pause.output && entry.connection.out.pending().len() <= OUTPUT_PAUSE_BYTES / 2 {
            entry.pause.output = false;
            self.sessions.resume(session);
        }
        if shuts {
            self.sessions.actions.push_back(Action::ShutdownWrite(session));
        }
        if stalls {
            self.sessions.schedule(session.slot);
        }
    }

    /// A socket that was full has room again.
    pub(super) fn writable(&mut self, session: SessionRef) {
        if let Some(entry) = self.sessions.entry(session)
            && entry.connection.is_stalled()
        {
            // The next send tells whether all of it goes.
            entry.connection.sent(self.now, 0, false);
            self.fanout.enqueue(entry, session.slot);
        }
    }
}

/// Stops reading a session whose answers or open requests are too many.
pub(super) fn pause_if_full(entry: &mut Session, figures: &mut Figures) {
    if entry.connection.out.pending().len() > OUTPUT_PAUSE_BYTES && !entry.pause.output {
        entry.pause.output = true;
        figures.add(Figure::OutputPauses, 1);
    }
    let full = entry.open().is_some_and(|open| {
        open.answers.as_ref().is_some_and(|answers| {
            answers.len() >= open.vhost.settings.requests_outstanding_max as usize
                || answers.bytes() > OPEN_BROADCAST_BYTES_MAX
                || answers.has_barrier()
        })
    });
    if full && !entry.pause.requests {
        entry.pause.requests = true;
        figures.add(Figure::RequestPauses, 1);
    }
}

fn encode(out: &mut Vec<u8>, dialect: Dialect, reply: &Reply<'_>, reference: Option<&Reference>) {
    match dialect {
        Dialect::Classic => classic::encode(out, reply),
        Dialect::Wwfp => wwfp::encode(out, reply, reference),
    }
}
