//! One connection: from the request head over WebSocket messages to the end, without a socket.
//!
//! Owns the stage of the connection, the decoder and the session's own outgoing bytes. Knows
//! nothing of vhosts, channels or dialects: a [`Shard`](crate::shard::Shard) puts a session on
//! top, a bare echo server does the same with less.
//!
//! Source: RFC 6455, sections 4, 5.5 and 7.

use std::time::{Duration, Instant};

use webrocket_wire::{
    CloseCode,
    frame::{self, Decoder, Message, Opcode, Received},
    handshake::{self, Head, Refusal, Upgrade},
};

use crate::outgoing::Outgoing;

/// The deadlines of a connection that is not open: of its handshake, and of its close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// How long the request head may take.
    pub handshake: Duration,
    /// How long the peer may take for its half of the close.
    pub close: Duration,
}

/// What an open connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length of one message, in bytes.
    pub message_bytes_max: u32,
    /// After how much silence a ping is sent, in milliseconds.
    pub ping_interval_ms: u32,
    /// After how much silence the connection is closed, in milliseconds.
    pub idle_timeout_ms: u32,
    /// How long waiting bytes may go without the peer taking any, in milliseconds.
    pub stall_timeout_ms: u32,
}

/// What the bytes of a connection amount to.
#[derive(Debug)]
pub enum Event<'a> {
    /// A valid handshake: answer with [`Connection::open`] or [`Connection::refuse`].
    Upgrade(Upgrade),
    /// Another HTTP request; all that was read. The connection is the HTTP server's.
    Http(Vec<u8>),
    /// The request was refused; nothing more will come.
    Refused(Refusal),
    /// A whole message.
    Message(Message<'a>),
    /// The peer closed, or broke the protocol; nothing more will come. The close frame waits.
    Closed {
        /// Whether the peer broke the protocol.
        broken: bool,
    },
    /// The peer sent its close frame, the closing handshake is complete.
    Finished,
}

/// What a deadline means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not yet: look again then.
    At(Instant),
    /// The request head did not come in time: close.
    Handshake,
    /// A ping was queued.
    Pinged,
    /// Nothing came for too long.
    Idle,
    /// The peer took nothing for too long.
    Stalled,
    /// The peer did not do its half of the close: close.
    CloseOverdue,
}

impl Limits {
    fn ping(&self) -> Duration {
        Duration::from_millis(self.ping_interval_ms.into())
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms.into())
    }

    fn stall(&self) -> Duration {
        Duration::from_millis(self.stall_timeout_ms.into())
    }
}

#[derive(Debug)]
enum Stage {
    /// The request head so far.
    Head(Vec<u8>),
    /// Head complete, waiting for [`Connection::open`] or [`Connection::refuse`].
    Judged,
    Open(Limits),
    /// Our close frame is queued; the peer's is awaited.
    AwaitingClose {
        until: Instant,
        message_bytes_max: u32,
    },
    /// Nothing more is decoded: what waits is written, then FIN, then EOF is awaited.
    Finishing {
        until: Instant,
        shut: bool,
    },
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    stage: Stage,
    decoder: Decoder,
    /// The session's own outgoing bytes.
    pub out: Outgoing,
    last_received: Instant,
    pinged: bool,
    /// Since when the socket has been full without taking anything.
    stalled_since: Option<Instant>,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            stage: Stage::Head(Vec::new()),
            decoder: Decoder::default(),
            out: Outgoing::default(),
            last_received: now,
            pinged: false,
            stalled_since: None,
        }
    }

    /// Whether messages flow in both directions.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// After how much silence it sends a ping, if it is open.
    #[must_use]
    pub fn ping_interval(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Open(limits) => Some(limits.ping()),
            Stage::Head(_) | Stage::Judged | Stage::AwaitingClose { .. } | Stage::Finishing { .. } => None,
        }
    }

    /// Sets what it may take from now on, if it is open.
    pub fn set_limits(&mut self, limits: Limits) {
        if let Stage::Open(of) = &mut self.stage {
            *of = limits;
        }
    }

    /// Whether the socket was full at the last send.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Whether nothing of its own waits, and the socket takes what it is sent.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.out.is_empty() && self.stalled_since.is_none()
    }

    /// Whether everything was written that ever will be and FIN is due; once.
    pub fn take_shutdown(&mut self) -> bool {
        match &mut self.stage {
            Stage::Finishing { shut, .. } if !*shut && self.out.is_empty() => {
                *shut = true;
                true
            }
            Stage::Finishing { .. }
            | Stage::Head(_)
            | Stage::Judged
            | Stage::Open(_)
            | Stage::AwaitingClose { .. } => false,
        }
    }

    /// Takes bytes from the front of `input` until something is whole; `None` when all is taken.
    pub fn receive<'a>(
        &mut self,
        now: Instant,
        input: &mut &'a mut [u8],
        timeouts: &Timeouts,
    ) -> Option<Event<'a>> {
        if self.is_open() {
            self.touch(now);
        } else if input.is_empty() {
            return None;
        }
        loop {
            match &mut self.stage {
                Stage::Head(_) => return self.receive_head(now, input, timeouts),
                Stage::Judged => return None,
                Stage::Open(Limits { message_bytes_max, .. }) => {
                    let message_bytes_max = *message_bytes_max as usize;
                    if let Some(event) = self.receive_open(now, input, message_bytes_max, timeouts)? {
                        return Some(event);
                    }
                }
                Stage::AwaitingClose { message_bytes_max, .. } => {
                    match self.decoder.next(input, *message_bytes_max as usize) {
                        Ok(Some(Received::Close(_))) | Err(_) => {
                            self.finish(now, timeouts);
                            return Some(Event::Finished);
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => return None,
                    }
                }
                Stage::Finishing { .. } => {
                    *input = &mut [];
                    return None;
                }
            }
        }
    }

    fn receive_head<'a>(
        &mut self,
        now: Instant,
        input: &mut &'a mut [u8],
        timeouts: &Timeouts,
    ) -> Option<Event<'a>> {
        let Stage::Head(head) = &mut self.stage else { unreachable!("the caller matched the stage") };
        let before = head.len();
        if before > 0 {
            head.extend_from_slice(input);
        }
        let whole = if before > 0 { &head[..] } else { &**input };
        match handshake::parse(whole) {
            Head::Partial => {
                if before == 0 {
                    head.extend_from_slice(input);
                }
                *input = &mut [];
                None
            }
            Head::Upgrade { bytes, upgrade } => {
                let rest = std::mem::take(input);
                *input = &mut rest[bytes - before..];
                self.stage = Stage::Judged;
                Some(Event::Upgrade(upgrade))
            }
            Head::Http => {
                let head = whole.to_vec();
                *input = &mut [];
                self.stage = Stage::Judged;
                Some(Event::Http(head))
            }
            Head::Refused(refusal) => {
                *input = &mut [];
                self.refuse(now, refusal, timeouts);
                Some(Event::Refused(refusal))
            }
        }
    }

    /// `None`: all input is taken. `Some(None)`: go on.
    #[expect(clippy::option_option, reason = "the caller's loop wants both answers at once")]
    fn receive_open<'a>(
        &mut self,
        now: Instant,
        input: &mut &'a mut [u8],
        message_bytes_max: usize,
        timeouts: &Timeouts,
    ) -> Option<Option<Event<'a>>> {
        match self.decoder.next(input, message_bytes_max) {
            Ok(Some(Received::Message(message))) => Some(Some(Event::Message(message))),
            Ok(Some(Received::Ping(payload))) => {
                frame::encode(self.out.frames(), Opcode::Pong, payload.as_bytes());
                Some(None)
            }
            Ok(Some(Received::Pong)) => Some(None),
            Ok(Some(Received::Close(code))) => {
                frame::encode_close_echo(self.out.frames(), code);
                self.finish(now, timeouts);
                Some(Some(Event::Closed { broken: false }))
            }
            Ok(None) => None,
            Err(code) => {
                frame::encode_close(self.out.frames(), code);
                self.finish(now, timeouts);
                Some(Some(Event::Closed { broken: true }))
            }
        }
    }

    /// Completes the handshake.
    pub fn open(&mut self, now: Instant, upgrade: &Upgrade, limits: Limits) {
        self.stage = Stage::Open(limits);
        self.last_received = now;
        self.out.push_opaque(&upgrade.response());
    }

    /// Refuses the handshake: the response waits, then the connection ends.
    pub fn refuse(&mut self, now: Instant, refusal: Refusal, timeouts: &Timeouts) {
        self.out.push_opaque(&refusal.response());
        self.finish(now, timeouts);
    }

    /// Begins the closing handshake with a code of ours.
    pub fn close(&mut self, now: Instant, code: CloseCode, timeouts: &Timeouts) {
        if let Stage::Open(Limits { message_bytes_max, .. }) = self.stage {
            frame::encode_close(self.out.frames(), code);
            self.stage = Stage::AwaitingClose { until: now + timeouts.close, message_bytes_max };
        }
    }

    fn finish(&mut self, now: Instant, timeouts: &Timeouts) {
        self.stage = Stage::Finishing { until: now + timeouts.close, shut: false };
    }

    /// The peer counts as heard now.
    pub fn touch(&mut self, now: Instant) {
        self.last_received = now;
        self.pinged = false;
    }

    /// The socket took some of what was offered; `full` if not all of it.
    pub fn sent(&mut self, now: Instant, bytes: usize, full: bool) {
        if !full {
            self.stalled_since = None;
        } else if bytes > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
    }

    /// When [`Connection::due`] is to be asked, at the latest.
    #[must_use]
    pub fn deadline(&self, timeouts: &Timeouts) -> Instant {
        match &self.stage {
            Stage::Head(_) | Stage::Judged => self.last_received + timeouts.handshake,
            Stage::Open(limits) => {
                let silence = if self.pinged { limits.idle() } else { limits.ping().min(limits.idle()) };
                let silent = self.last_received + silence;
                self.stalled_since.map_or(silent, |since| silent.min(since + limits.stall()))
            }
            Stage::AwaitingClose { until, .. } | Stage::Finishing { until, .. } => *until,
        }
    }

    /// What is due now.
    pub fn due(&mut self, now: Instant, timeouts: &Timeouts) -> Due {
        if now < self.deadline(timeouts) {
            return Due::At(self.deadline(timeouts));
        }
        match &self.stage {
            Stage::Head(_) | Stage::Judged => Due::Handshake,
            Stage::AwaitingClose { .. } | Stage::Finishing { .. } => Due::CloseOverdue,
            Stage::Open(limits) if self.stalled_since.is_some_and(|since| now >= since + limits.stall()) => {
                Due::Stalled
            }
            Stage::Open(limits) if now >= self.last_received + limits.idle() => Due::Idle,
            Stage::Open(_) => {
                self.pinged = true;
                frame::encode(self.out.frames(), Opcode::Ping, b"");
                Due::Pinged
            }
        }
    }
}

#[cfg(test)]
mod tests;
