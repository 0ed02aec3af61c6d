//! What a driver drives: the closed set of inputs, and what to do in turn.
//!
//! The contract, in the order of one turn:
//!
//! 1. The driver hands over what happened: [`Machine::accept`], [`Machine::handle`].
//! 2. It does what the machine asks: [`Machine::next_action`] until there is none, and again
//!    before it accepts another connection, because a closed session's slot may be given anew.
//! 3. It flushes: [`Machine::next_flush`] names one or several sessions, [`Machine::pending`] has the
//!    bytes that wait for each, one contiguous range; one `send` each, the outcomes go back as
//!    [`Input::Sent`] before anything else is handed over or asked; those that are
//!    [`Input::Disconnected`] last, for others may be told of that.
//! 4. It passes messages on to other shards, [`Party::next_message`], as long as their queues
//!    have room, and reports to the control thread, [`Party::next_report`].
//! 5. It sleeps until input or [`Machine::next_deadline`], unless [`Machine::has_work`].

use std::{net::SocketAddr, time::Instant};

use crate::ids::{SessionRef, ShardId};

/// Who takes part in what the threads of a node say to each other: the shards and the exchange.
pub trait Party {
    /// What parties say to each other.
    type Message: Send + 'static;
    /// What the control thread says to a party.
    type Command: Send + 'static;
    /// What a party says to the control thread.
    type Report: Send + 'static;

    /// The next message to `party`, if any. Taken only when its queue has room.
    fn next_message(&mut self, now: Instant, party: ShardId) -> Option<Self::Message>;

    /// Whether a message to `party` waits.
    fn has_message(&self, party: ShardId) -> bool;

    /// The next report to the control thread, if any.
    fn next_report(&mut self) -> Option<Self::Report>;
}

/// A state machine that a driver can run: no sockets, no threads, no clock.
pub trait Machine: Party {
    /// Whether connections shall be accepted; until then they wait in the backlog.
    fn wants_connections(&self) -> bool {
        true
    }

    /// A connection from `peer` was accepted. The slot of the returned session is the driver's
    /// index for its socket.
    fn accept(&mut self, now: Instant, peer: SocketAddr) -> SessionRef;

    /// Takes one input. Never blocks; work that is not bounded by the input's size goes on at
    /// [`Input::Proceed`].
    fn handle(&mut self, now: Instant, input: Input<'_, Self::Message, Self::Command>);

    /// Whether the session's socket shall be read. When it turns true again, an
    /// [`Action::Resume`] says so.
    fn wants_input(&self, session: SessionRef) -> bool;

    /// Whether so much waits to be sent that the driver shall flush before it reads more.
    fn wants_flush(&self) -> bool {
        false
    }

    /// The next thing to do, if any.
    fn next_action(&mut self) -> Option<Action>;

    /// The next session with bytes to send. It is not named again before the driver has answered for it with
    /// [`Input::Sent`] or [`Input::Disconnected`]; meanwhile nothing changes for any that was named. The
    /// flush is over when there is none though all that were named have been answered for: while some have
    /// not, `None` may also mean that the machine waits for the answers.
    fn next_flush(&mut self, now: Instant) -> Option<SessionRef>;

    /// What waits for a session that was named and not answered for: one contiguous range, never empty.
    fn pending(&self, session: SessionRef) -> &[u8];

    /// Whether a slice of long work waits for [`Input::Proceed`].
    fn has_work(&self) -> bool;

    /// When [`Input::Deadline`] is due at the latest.
    fn next_deadline(&self) -> Option<Instant>;

    /// The machine's figures, in the order of its own table; the driver publishes them.
    fn figures(&mut self) -> &[u64];
}

/// Everything that can happen to a machine, accepted connections apart.
#[derive(Debug)]
pub enum Input<'a, M, C> {
    /// Bytes arrived, in order; the machine may change them in place.
    Received {
        /// Whose bytes.
        session: SessionRef,
        /// The bytes. What the machine cannot take yet it copies.
        bytes: &'a mut [u8],
    },
    /// The kernel took the first `bytes` of what [`Machine::pending`] offered.
    Sent {
        /// Whose bytes.
        session: SessionRef,
        /// How many. Fewer than offered means that the socket is full.
        bytes: usize,
    },
    /// A socket that was full has room again.
    Writable {
        /// Which one.
        session: SessionRef,
    },
    /// The peer sends nothing more, orderly or not.
    Disconnected {
        /// Which one.
        session: SessionRef,
    },
    /// Another shard's message, in the order in which it sent them.
    Message {
        /// The sender.
        from: ShardId,
        /// What it says.
        message: M,
    },
    /// A command of the control thread, in order.
    Command(C),
    /// The deadline is reached.
    Deadline,
    /// Do the next slice of long work.
    Proceed,
}

/// What a machine asks of its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the session's socket again.
    Resume(SessionRef),
    /// Send FIN, but go on reading: everything has been written.
    ShutdownWrite(SessionRef),
    /// Close the socket. The session is gone, its slot may be given anew.
    Close(SessionRef),
    /// Hand the socket over to the control thread's HTTP server; the session is gone.
    HandOff {
        /// Which one.
        session: SessionRef,
        /// The bytes read so far.
        head: Vec<u8>,
    },
    /// All sessions are closed after a shutdown: the driver can end.
    Stop,
}
