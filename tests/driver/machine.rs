//! A machine that shows what its driver does: it echoes, pauses, floods, talks to other shards,
//! and reports everything that happens to it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use webrocket_state::{Action, Input, Machine, Party, SessionRef, ShardId, slots::SessionSlot};

/// How a machine treats its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Sends back what it receives; hands over who begins with `GET `.
    Echo,
    /// Reads once and then only after each [`Command::Resume`].
    Pause,
    /// Echoes, but wants no connections before [`Command::Open`].
    Shut,
}

#[derive(Debug)]
pub(crate) enum Command {
    /// Read the session again.
    Resume(SessionRef),
    /// Send the session this many bytes.
    Flood(SessionRef, usize),
    /// Say so many numbers to the other shard, counting from where the last count ended.
    Count(ShardId, u64),
    /// Answer with [`Report::Pong`].
    Ping,
    /// Report [`Report::Pong`] after this time.
    PingAfter(Duration),
    /// Do so many slices of work, then report [`Report::Pong`].
    Work(u64),
    /// Accept connections from now on.
    Open,
    /// Close everything and stop.
    Stop,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Accepted(SessionRef, SocketAddr),
    Received(SessionRef, Vec<u8>),
    Full(SessionRef),
    Writable(SessionRef),
    Disconnected(SessionRef),
    /// All numbers up to this one came, in order.
    Counted(ShardId, u64),
    Pong,
}

struct Session {
    generation: u32,
    is_open: bool,
    is_paused: bool,
    is_at_end: bool,
    is_full: bool,
    out: VecDeque<u8>,
}

pub(crate) struct Shower {
    id: ShardId,
    manner: Manner,
    sessions: Vec<Session>,
    /// The last freed is given anew first: as often as possible.
    free: Vec<u32>,
    actions: VecDeque<Action>,
    reports: VecDeque<Report>,
    flushes: VecDeque<SessionRef>,
    /// Per shard: the next number to say, and how many numbers are left to say.
    to_say: Vec<(u64, u64)>,
    heard: Vec<u64>,
    pong_at: Option<Instant>,
    slices: u64,
}

impl Shower {
    pub(crate) fn new(id: ShardId, shards: u16, manner: Manner) -> Self {
        Self {
            id,
            manner,
            sessions: Vec::new(),
            free: Vec::new(),
            actions: VecDeque::new(),
            reports: VecDeque::new(),
            flushes: VecDeque::new(),
            to_say: vec![(0, 0); usize::from(shards)],
            heard: vec![0; usize::from(shards)],
            pong_at: None,
            slices: 0,
        }
    }

    fn session(&mut self, session: SessionRef) -> Option<&mut Session> {
        let state = &mut self.sessions[session.slot.index()];
        (state.is_open && state.generation == session.generation).then_some(state)
    }

    fn received(&mut self, session: SessionRef, bytes: &[u8]) {
        assert!(self.wants_input(session), "read though it does not want to be");
        match self.manner {
            Manner::Echo if bytes.starts_with(b"GET ") => {
                self.forget(session);
                self.actions.push_back(Action::HandOff { session, head: bytes.to_vec() });
            }
            Manner::Echo | Manner::Shut => self.send(session, bytes),
            Manner::Pause => {
                self.session(session).expect("wants input").is_paused = true;
                self.reports.push_back(Report::Received(session, bytes.to_vec()));
            }
        }
    }

    fn send(&mut self, session: SessionRef, bytes: &[u8]) {
        let Some(state) = self.session(session) else { return };
        let is_waiting = !state.out.is_empty();
        state.out.extend(bytes);
        if !is_waiting {
            self.flushes.push_back(session);
        }
    }

    fn sent(&mut self, session: SessionRef, bytes: usize) {
        let Some(state) = self.session(session) else { return };
        let offered = state.out.as_slices().0.len();
        state.out.drain(..bytes);
        if bytes < offered {
            state.is_full = true;
            self.reports.push_back(Report::Full(session));
        } else if !state.out.is_empty() {
            self.flushes.push_back(session);
        } else if state.is_at_end {
            self.close(session);
        }
    }

    fn disconnected(&mut self, session: SessionRef) {
        self.reports.push_back(Report::Disconnected(session));
        let Some(state) = self.session(session) else { return };
        if state.out.is_empty() || state.is_at_end {
            self.close(session);
        } else {
            state.is_at_end = true;
        }
    }

    fn close(&mut self, session: SessionRef) {
        self.forget(session);
        self.actions.push_back(Action::Close(session));
    }

    fn forget(&mut self, session: SessionRef) {
        let state = self.session(session).expect("open");
        state.is_open = false;
        state.out.clear();
        self.free.push(session.slot.0);
        self.flushes.retain(|&waiting| waiting != session);
    }

    fn command(&mut self, now: Instant, command: &Command) {
        match *command {
            Command::Resume(session) => {
                self.session(session).expect("open").is_paused = false;
                self.actions.push_back(Action::Resume(session));
            }
            Command::Flood(session, bytes) => self.send(session, &vec![b'x'; bytes]),
            Command::Count(shard, count) => self.to_say[shard.index()].1 += count,
            Command::Ping => self.reports.push_back(Report::Pong),
            Command::PingAfter(delay) => self.pong_at = Some(now + delay),
            Command::Work(slices) => self.slices = slices,
            Command::Open => self.manner = Manner::Echo,
            Command::Stop => {
                for slot in 0..self.sessions.len() {
                    let Session { generation, is_open, .. } = self.sessions[slot];
                    if is_open {
                        let slot = u32::try_from(slot).unwrap();
                        self.close(SessionRef { shard: self.id, slot: SessionSlot(slot), generation });
                    }
                }
                self.actions.push_back(Action::Stop);
            }
        }
    }
}

impl Party for Shower {
    type Message = u64;
    type Command = Command;
    type Report = Report;

    fn next_message(&mut self, _: Instant, shard: ShardId) -> Option<u64> {
        let (said, left) = &mut self.to_say[shard.index()];
        *left = left.checked_sub(1)?;
        *said += 1;
        Some(*said)
    }

    fn has_message(&self, shard: ShardId) -> bool {
        self.to_say[shard.index()].1 > 0
    }

    fn next_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }
}

impl Machine for Shower {
    fn wants_connections(&self) -> bool {
        self.manner != Manner::Shut
    }

    fn accept(&mut self, _: Instant, peer: SocketAddr) -> SessionRef {
        let slot = self.free.pop().unwrap_or_else(|| {
            let state = Session {
                generation: 0,
                is_open: false,
                is_paused: false,
                is_at_end: false,
                is_full: false,
                out: VecDeque::new(),
            };
            self.sessions.push(state);
            u32::try_from(self.sessions.len() - 1).unwrap()
        });
        let state = &mut self.sessions[slot as usize];
        state.generation += 1;
        (state.is_open, state.is_paused, state.is_at_end, state.is_full) = (true, false, false, false);
        let session = SessionRef { shard: self.id, slot: SessionSlot(slot), generation: state.generation };
        self.reports.push_back(Report::Accepted(session, peer));
        session
    }

    fn handle(&mut self, now: Instant, input: Input<'_, u64, Command>) {
        match input {
            Input::Received { session, bytes } => self.received(session, bytes),
            Input::Sent { session, bytes } => self.sent(session, bytes),
            Input::Writable { session } => {
                self.reports.push_back(Report::Writable(session));
                let state = self.session(session).expect("open");
                assert!(std::mem::replace(&mut state.is_full, false), "writable though it was not full");
                self.flushes.push_back(session);
            }
            Input::Disconnected { session } => self.disconnected(session),
            Input::Message { from, message } => {
                let heard = &mut self.heard[from.index()];
                *heard += 1;
                assert_eq!(message, *heard, "in order, none lost");
                if heard.is_multiple_of(1000) {
                    self.reports.push_back(Report::Counted(from, *heard));
                }
            }
            Input::Command(command) => self.command(now, &command),
            Input::Deadline => {
                assert!(self.pong_at.take().is_some_and(|at| at <= now), "not early, not twice");
                self.reports.push_back(Report::Pong);
            }
            Input::Proceed => {
                self.slices -= 1;
                if self.slices == 0 {
                    self.reports.push_back(Report::Pong);
                }
            }
        }
    }

    fn wants_input(&self, session: SessionRef) -> bool {
        let state = &self.sessions[session.slot.index()];
        state.is_open && state.generation == session.generation && !state.is_paused
    }

    fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn next_flush(&mut self, _: Instant) -> Option<SessionRef> {
        self.flushes.pop_front()
    }

    fn pending(&self, session: SessionRef) -> &[u8] {
        self.sessions[session.slot.index()].out.as_slices().0
    }

    fn has_work(&self) -> bool {
        self.slices > 0
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.pong_at
    }

    fn figures(&mut self) -> &[u64] {
        &[]
    }
}
