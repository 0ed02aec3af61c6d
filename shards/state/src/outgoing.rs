//! The bytes that wait for one session alone: answers, and events that stand between them.
//!
//! Holds whole frames behind the rest of at most one frame of which a part was sent, and knows
//! where that rest ends: what has not begun can be dropped, and a close frame put in its place,
//! without the peer ever seeing half a frame.

use webrocket_wire::frame;

/// Sent bytes are kept up to this length, or as many as still wait, so that moving the rest down
/// costs no more than sending it did.
const SENT_BYTES_KEPT: usize = 16 * 1024;

/// A session's own outgoing bytes.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// The end of the frame that is partly sent; everything behind it is whole frames.
    begun: usize,
}

impl Outgoing {
    /// The bytes to send next, one contiguous range.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Where to append whole frames.
    pub fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends bytes that are no frames and must be sent as a whole; only while nothing waits.
    pub fn push_opaque(&mut self, bytes: &[u8]) {
        assert!(self.is_empty(), "opaque bytes come first");
        self.bytes.extend_from_slice(bytes);
        self.begun = self.bytes.len();
    }

    /// The first `count` bytes of [`Outgoing::pending`] were sent. A drained buffer is freed.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        assert!(self.sent <= self.bytes.len(), "more sent than waited");
        if self.is_empty() {
            *self = Self::default();
            return;
        }
        while self.begun < self.sent {
            self.begun += frame::encoded_length(&self.bytes[self.begun..]);
        }
        if self.sent > SENT_BYTES_KEPT.max(self.bytes.len() - self.sent) {
            self.bytes.drain(..self.sent);
            self.begun -= self.sent;
            self.sent = 0;
        }
    }

    /// Drops every frame that has not begun.
    pub fn drop_unbegun(&mut self) {
        self.bytes.truncate(self.begun);
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use webrocket_wire::frame::{Opcode, encode};

    use super::*;

    fn with_frames(count: usize) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for _ in 0..count {
            encode(outgoing.frames(), Opcode::Text, b"12345678");
        }
        outgoing
    }

    #[test]
    fn what_has_begun_is_finished() {
        for sent in 0..=30 {
            let mut outgoing = with_frames(3);
            outgoing.advance(sent);
            outgoing.drop_unbegun();
            let rest = if sent == 30 { 0 } else { (10 - sent % 10) % 10 };
            assert_eq!(outgoing.pending().len(), rest, "after {sent}");
        }
    }

    #[test]
    fn what_is_never_drained_stays_small() {
        let mut outgoing = with_frames(1);
        let mut expected: Vec<u8> = outgoing.pending().to_vec();
        for step in 0..100_000 {
            encode(outgoing.frames(), Opcode::Text, &[step as u8; 8]);
            encode(&mut expected, Opcode::Text, &[step as u8; 8]);
            outgoing.advance(10);
            expected.drain(..10);
            assert_eq!(outgoing.pending(), expected);
        }
        assert!(outgoing.bytes.len() <= 2 * SENT_BYTES_KEPT, "{}", outgoing.bytes.len());
        outgoing.advance(3);
        outgoing.drop_unbegun();
        assert_eq!(outgoing.pending(), &expected[3..]);
    }

    #[test]
    fn opaque_bytes_are_sent_as_a_whole() {
        let mut outgoing = Outgoing::default();
        outgoing.push_opaque(b"HTTP/1.1 101");
        encode(outgoing.frames(), Opcode::Text, b"x");
        outgoing.drop_unbegun();
        assert_eq!(outgoing.pending(), b"HTTP/1.1 101");
        outgoing.advance(3);
        outgoing.drop_unbegun();
        assert_eq!(outgoing.pending(), b"P/1.1 101");
        outgoing.advance(9);
        assert!(outgoing.is_empty());
        assert_eq!(outgoing.bytes.capacity(), 0);
    }
}
