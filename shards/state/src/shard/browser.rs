//! From a browser's bytes to requests, and the order of their answers.

use std::time::Instant;

use webrocket_wire::{
    CloseCode, MemberData, Reply, classic,
    frame::Message,
    handshake::Dialect,
    wwfp::{self, Reference},
};

use crate::{
    answers::{Answerer, Open},
    connection::Event,
    machine::Action,
    message::{RequestRef, SessionRef, rights_on},
    metrics::Figure,
    session::{Parked, Session},
};

use super::{OUTPUT_PAUSE_BYTES, Shard};

/// With more bytes in open broadcasts of one session than this, it is not read.
const OPEN_BROADCAST_BYTES_MAX: usize = 256 * 1024;

/// A request that cannot be acted upon yet; the reason is noted in the session's pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held;

impl Shard {
    pub(super) fn received(&mut self, now: Instant, session: SessionRef, bytes: &mut [u8]) {
        let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
        self.figures.add(Figure::BytesReceived, bytes.len() as u64);
        if entry.pause.any() || entry.parked.is_some() {
            entry.parked.get_or_insert_default().bytes.extend_from_slice(bytes);
            return;
        }
        self.consume(now, session, bytes);
    }

    /// Acts upon input until it is used up or the session is paused; the rest is parked.
    fn consume(&mut self, now: Instant, session: SessionRef, bytes: &mut [u8]) {
        let mut input = bytes;
        loop {
            let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
            Self::pause_if_full(&mut self.figures, entry);
            if entry.pause.any() {
                entry.parked.get_or_insert_default().bytes.extend_from_slice(input);
                break;
            }
            let timeouts = Self::timeouts(&self.config, entry);
            let message_bytes_max =
                entry.vhost.as_ref().map_or(0, |vhost| vhost.settings.message_bytes_max as usize);
            let Some(event) = entry.connection.receive(now, &mut input, message_bytes_max, &timeouts) else {
                break;
            };
            match event {
                Event::Message(message) => self.browser_message(now, session.slot, &message),
                Event::Upgrade(upgrade) => self.upgrade(now, session.slot, upgrade),
                Event::Http(head) => {
                    let session = self.remove_session(session.slot);
                    self.actions.push_back(Action::HandOff { session, head });
                    self.check_stopped();
                    return;
                }
                Event::Refused(_) => {
                    self.figures.add(Figure::Refused, 1);
                    self.schedule(session.slot);
                }
                Event::Closed { broken } => self.peer_closed(session.slot, broken),
                Event::Finished => self.schedule(session.slot),
            }
        }
        if let Some(entry) = self.sessions.entry(session.slot, session.generation) {
            if !entry.connection.out.is_empty() {
                self.delivery.enqueue(entry, session.slot);
            } else if entry.connection.take_shutdown() {
                self.actions.push_back(Action::ShutdownWrite(session));
            }
        }
    }

    fn pause_if_full(figures: &mut crate::metrics::Figures, entry: &mut Session) {
        if entry.connection.out.pending().len() > OUTPUT_PAUSE_BYTES && !entry.pause.output {
            entry.pause.output = true;
            figures.add(Figure::OutputPauses, 1);
        }
        if let (Some(answers), Some(vhost)) = (&entry.answers, &entry.vhost) {
            let full = answers.len() >= vhost.settings.requests_outstanding_max as usize
                || answers.bytes() > OPEN_BROADCAST_BYTES_MAX
                || answers.has_barrier();
            if full && !entry.pause.requests {
                entry.pause.requests = true;
                figures.add(Figure::RequestPauses, 1);
            }
        }
    }

    fn peer_closed(&mut self, slot: u32, broken: bool) {
        self.figures.subtract(Figure::Sessions, 1);
        if broken {
            self.figures.add(Figure::ProtocolErrors, 1);
        }
        // The close frame is the last that the peer gets: nothing may follow it.
        let session = &mut self.sessions[slot];
        self.delivery.drop_tail(session);
        self.drop_subscriptions(slot, &MemberData::default());
        self.finish_requests(slot);
    }

    fn browser_message(&mut self, now: Instant, slot: u32, message: &Message<'_>) {
        self.figures.add(Figure::MessagesReceived, 1);
        let Message::Text(text) = message else {
            self.figures.add(Figure::ProtocolErrors, 1);
            return self.close_session(now, slot, CloseCode::Unsupported, &MemberData::default());
        };
        if let Some(rate) = &mut self.sessions[slot].rate
            && !rate.admit(now, text.len())
        {
            self.figures.add(Figure::RateLimited, 1);
            return self.close_session(now, slot, CloseCode::PolicyViolation, &MemberData::default());
        }
        self.request(now, slot, text);
    }

    /// Carries out a request, or parks its message.
    fn request(&mut self, now: Instant, slot: u32, text: &str) {
        let done = match self.sessions[slot].dialect {
            Dialect::Classic => self.classic_request(now, slot, text),
            Dialect::Wwfp => self.wwfp_request(now, slot, text),
        };
        if done == Err(Held) {
            self.sessions[slot].parked.get_or_insert_default().message = Some(text.to_owned());
        }
    }

    /// Goes on with a session for which a reason to pause is gone.
    pub(super) fn resume(&mut self, now: Instant, session: SessionRef) {
        let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
        if entry.pause.any() {
            return;
        }
        if let Some(parked) = entry.parked.take() {
            let Parked { message, mut bytes, ended } = *parked;
            if let Some(message) = message {
                self.request(now, session.slot, &message);
            }
            let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
            if entry.parked.is_some() {
                // It was held again; what stands behind it still does.
                let parked = entry.parked.get_or_insert_default();
                parked.bytes.append(&mut bytes);
                parked.ended |= ended;
                return;
            }
            self.consume(now, session, &mut bytes);
            let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
            if entry.pause.any() {
                entry.parked.get_or_insert_default().ended |= ended;
                return;
            }
            if ended {
                return self.end_session(session.slot);
            }
        }
        self.actions.push_back(Action::Resume(session));
    }

    pub(super) fn disconnected(&mut self, session: SessionRef) {
        let Some(entry) = self.sessions.entry(session.slot, session.generation) else { return };
        self.offered -= u32::from(std::mem::take(&mut entry.inbox.is_offered));
        match &mut entry.parked {
            // What it sent before it went is still carried out, unless that waits for itself.
            Some(parked) if entry.connection.is_open() && !entry.pause.output && !parked.ended => {
                parked.ended = true;
            }
            Some(_) | None => self.end_session(session.slot),
        }
    }

    /// What the session may do on a channel.
    pub(super) fn rights(&self, slot: u32, channel: &str) -> webrocket_wire::Rights {
        let session = &self.sessions[slot];
        let vhost = session.vhost.as_ref();
        let anonymous =
            vhost.map_or(webrocket_wire::Rights::NONE, |vhost| vhost.anonymous_rights(session.dialect));
        rights_on(&session.identity, session.rights, anonymous, channel)
    }

    /// Opens a request; its answer will find its place.
    pub(super) fn open_request(
        &mut self,
        slot: u32,
        open: Open,
        answerer: Answerer,
        reference: Option<&Reference>,
    ) -> RequestRef {
        let number = self.sessions[slot].answers().push(open, answerer, reference.cloned());
        RequestRef { session: self.reference(slot), number }
    }

    /// Answers a request at once, behind the answers of earlier ones.
    pub(super) fn reply(&mut self, slot: u32, reply: &Reply<'_>, reference: Option<&Reference>) {
        self.figures.add(Figure::Errors, u64::from(reply.is_error()));
        let session = &mut self.sessions[slot];
        if session.dialect == Dialect::Wwfp && reply.is_acknowledgement() && reference.is_none() {
            return;
        }
        if let Some(answers) = &mut session.answers {
            let mut frames = Vec::new();
            encode(&mut frames, session.dialect, reply, reference);
            answers.push_ready(frames);
        } else {
            let dialect = session.dialect;
            encode(self.delivery.frames(session, slot), dialect, reply, reference);
        }
    }

    /// Tells the session what it did not ask for.
    pub(super) fn tell(&mut self, slot: u32, reply: &Reply<'_>) {
        let session = &mut self.sessions[slot];
        let dialect = session.dialect;
        encode(self.delivery.frames(session, slot), dialect, reply, None);
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
        encode: impl FnOnce(&mut Vec<u8>, &Session, Option<&Reference>),
    ) {
        let session = &mut self.sessions[request.session.slot];
        let answers = session.answers.as_mut().expect("an open request has answers");
        let reference = answers.take_reference(request.number);
        let mut frames = Vec::new();
        encode(&mut frames, session, reference.as_ref());
        let answers = session.answers.as_mut().expect("just found");
        answers.complete(request.number, frames);
        self.release_answers(request.session);
    }

    /// Sends all answers whose turn it is.
    pub(super) fn release_answers(&mut self, reference: SessionRef) {
        let slot = reference.slot;
        let session = &mut self.sessions[slot];
        let Some(answers) = &mut session.answers else { return };
        let mut ready = Vec::new();
        while let Some(frames) = answers.next_ready() {
            ready.extend_from_slice(&frames);
        }
        if answers.is_empty() {
            session.next_request = answers.next_number();
            session.answers = None;
        }
        if !ready.is_empty() {
            self.delivery.frames(session, slot).extend_from_slice(&ready);
        }
        self.resume_after_answer(reference);
    }

    fn resume_after_answer(&mut self, session: SessionRef) {
        let entry = &mut self.sessions[session.slot];
        if !entry.pause.requests {
            return;
        }
        let holds_message = entry.parked.as_ref().is_some_and(|parked| parked.message.is_some());
        let max = entry.vhost.as_ref().map_or(0, |vhost| vhost.settings.requests_outstanding_max as usize);
        let enough = match &entry.answers {
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
            self.resumed.push_back(session);
        }
    }
}

fn encode(out: &mut Vec<u8>, dialect: Dialect, reply: &Reply<'_>, reference: Option<&Reference>) {
    match dialect {
        Dialect::Classic => classic::encode(out, reply),
        Dialect::Wwfp => wwfp::encode(out, reply, reference),
    }
}
