//! What a scenario wants done: messages to send, connections to close and to open.
//!
//! Frames are masked here. Also keeps the numbers of connections, because a scenario wants to know the number of one
//! that it opens before it is there.

use std::collections::VecDeque;
use std::ops::Range;

use crate::connection::ConnectionId;
use crate::frames::{self, Opcode};

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// As a browser does it: a close frame, then waiting for the server's end. A connection that is not open yet is
    /// dropped.
    Clean,
    /// By a reset (RST), without a word.
    Abrupt,
}

/// What a scenario wants done. Frames are masked here; the engine acts when the scenario returns: it sends first,
/// then closes, then opens.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    frames: Vec<(ConnectionId, Range<usize>)>,
    mask: u32,
    closings: Vec<(ConnectionId, Closing)>,
    /// Connections that are not begun yet, in the order in which they were asked for.
    to_begin: VecDeque<ConnectionId>,
    /// The numbers of connections that have ended.
    free: Vec<ConnectionId>,
    /// How many numbers have ever been given.
    given: u32,
}

impl Outbox {
    /// Opens one more connection. Returns its number: the lowest that has never been given, or that of a connection
    /// that has ended.
    pub(crate) fn open(&mut self) -> ConnectionId {
        let connection = self.free.pop().unwrap_or_else(|| {
            self.given += 1;
            ConnectionId(self.given - 1)
        });
        self.to_begin.push_back(connection);
        connection
    }

    /// Closes a connection. Nothing that it receives from now on is told; its end is, by [`super::Scenario::closed`].
    pub(crate) fn close(&mut self, connection: ConnectionId, how: Closing) {
        self.closings.push((connection, how));
    }

    /// Sends a text message; nothing, if the connection is not open or is being closed.
    pub(crate) fn text(&mut self, connection: ConnectionId, message: &[u8]) {
        self.frame(connection, Opcode::Text, message);
    }

    /// Sends a binary message.
    pub(crate) fn binary(&mut self, connection: ConnectionId, message: &[u8]) {
        self.frame(connection, Opcode::Binary, message);
    }

    pub(super) fn frame(&mut self, connection: ConnectionId, opcode: Opcode, payload: &[u8]) {
        // Masks protect proxies from forged requests; here they only have to differ.
        self.mask = self.mask.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let start = self.bytes.len();
        frames::encode(&mut self.bytes, opcode, self.mask.to_be_bytes(), payload);
        let end = self.bytes.len();
        match self.frames.last_mut() {
            // One send carries what one connection has to say.
            Some((last, range)) if *last == connection => range.end = end,
            Some(_) | None => self.frames.push((connection, start..end)),
        }
    }

    /// Whether there is nothing to send and nothing to close.
    pub(super) fn is_idle(&self) -> bool {
        self.frames.is_empty() && self.closings.is_empty()
    }

    /// What is to be sent: bytes, and which of them to whom. To be given back once it is sent.
    pub(super) fn take_frames(&mut self) -> (Vec<u8>, Vec<(ConnectionId, Range<usize>)>) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.frames))
    }

    /// Gives back the room that [`Self::take_frames`] has taken.
    pub(super) fn give_back(&mut self, mut bytes: Vec<u8>, mut frames: Vec<(ConnectionId, Range<usize>)>) {
        bytes.clear();
        frames.clear();
        (self.bytes, self.frames) = (bytes, frames);
    }

    pub(super) fn take_closings(&mut self) -> Vec<(ConnectionId, Closing)> {
        std::mem::take(&mut self.closings)
    }

    /// The next connection to begin.
    pub(super) fn next_to_begin(&mut self) -> Option<ConnectionId> {
        self.to_begin.pop_front()
    }

    /// Does not open `connection` after all. Returns whether it was not begun.
    pub(super) fn withdraw(&mut self, connection: ConnectionId) -> bool {
        let position = self.to_begin.iter().position(|waiting| *waiting == connection);
        position.and_then(|position| self.to_begin.remove(position)).is_some()
    }

    /// Lets the number of a connection that has ended be given again.
    pub(super) fn free(&mut self, connection: ConnectionId) {
        self.free.push(connection);
    }

    /// How many numbers have ever been given.
    pub(super) fn given(&self) -> u32 {
        self.given
    }
}
