//! The judge of deliveries: one order for all subscribers of a channel, each sender's own order, nothing lost,
//! nothing doubled.
//!
//! The first connection that is ahead writes a channel's reference sequence; every other one is only a cursor into
//! it. All subscribers of a channel receive the same bytes, so a delivery that is right is recognised by comparing
//! it with the reference: constant time, no allocation, and no byte goes unchecked. The stamp is read once a
//! broadcast, and when something is wrong, to say what. An entry is dropped when the last subscriber has passed it.
//!
//! Knows no sockets and no clock.

use std::collections::VecDeque;

use thiserror::Error;

use crate::broadcast::{Format, Stamp};
use crate::connection::ConnectionId;
use crate::excerpt::excerpt;

/// A broken guarantee.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    #[error(
        "two connections disagree on the order of channel {channel}: as its delivery no. {position} \
         {connection} received {got}, where {reference_connection} received {expected} ({hint})",
        got = describe(*.got), expected = describe(*.expected)
    )]
    Disagreement {
        channel: String,
        /// Counts from 1.
        position: u64,
        connection: ConnectionId,
        got: Stamp,
        reference_connection: ConnectionId,
        expected: Stamp,
        hint: Hint,
    },
    #[error(
        "two connections received different bytes for one broadcast on channel {channel} ({got}): \
         {connection} received {message:?}, {reference_connection} received {reference:?}",
        got = describe(*.got)
    )]
    DifferentBytes {
        channel: String,
        got: Stamp,
        connection: ConnectionId,
        message: String,
        reference_connection: ConnectionId,
        reference: String,
    },
    #[error(
        "a sender's own order is broken on channel {channel}: {connection} received {got} \
         where number {due} of that publisher was due ({hint})",
        got = describe(*.got)
    )]
    SenderOrder { channel: String, connection: ConnectionId, got: Stamp, due: u32, hint: Hint },
    #[error("{connection} received on channel {channel} what nobody broadcast: {message:?}")]
    Foreign { channel: String, connection: ConnectionId, message: String },
}

/// What a mismatch most likely is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Hint {
    #[error("it had received that one before: a double")]
    Double,
    #[error("that one comes later: what is before it was lost or overtaken")]
    LostOrOvertaken,
}

fn describe(stamp: Stamp) -> String {
    format!("publisher {} number {}", stamp.publisher, stamp.number)
}

/// A broadcast as the first connection received it.
struct Reference {
    message: Vec<u8>,
    stamp: Stamp,
    connection: ConnectionId,
    /// How many subscribers have received it.
    receivers: u32,
}

struct Channel {
    name: String,
    subscribers: u32,
    /// The position of the oldest entry of `reference`.
    first: u64,
    reference: VecDeque<Reference>,
    /// By publisher.
    due: Vec<u32>,
    /// Buffers of dropped entries, to be used again.
    spare: Vec<Vec<u8>>,
}

/// Where a connection is in its channel's sequence.
struct Cursor {
    channel: u32,
    /// The next position, which is also how many deliveries it has received.
    position: u64,
}

/// A delivery that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// When its broadcast was sent.
    pub(crate) sent_ns: u64,
    /// Whether all subscribers have received that broadcast now.
    pub(crate) is_last: bool,
}

pub(crate) struct OrderChecker {
    format: Format,
    channels: Vec<Channel>,
    /// By [`ConnectionId`].
    cursors: Vec<Cursor>,
    scratch: Vec<u8>,
}

impl OrderChecker {
    /// A judge for `connections` connections, where connection `i` subscribes to channel `i mod channels.len()`.
    pub(crate) fn new(format: Format, channels: &[String], publishers: u32, connections: u32) -> Self {
        assert!(!channels.is_empty(), "there is at least one channel");
        let mut channels: Vec<Channel> = channels
            .iter()
            .map(|name| Channel {
                name: name.clone(),
                subscribers: 0,
                first: 0,
                reference: VecDeque::new(),
                due: vec![0; publishers as usize],
                spare: Vec::new(),
            })
            .collect();
        let count = channels.len() as u32;
        let cursors = (0..connections).map(|connection| Cursor { channel: connection % count, position: 0 });
        let cursors: Vec<Cursor> = cursors.collect();
        for cursor in &cursors {
            channels[cursor.channel as usize].subscribers += 1;
        }
        Self { format, channels, cursors, scratch: Vec::new() }
    }

    /// How many deliveries `connection` has received.
    pub(crate) fn received(&self, connection: ConnectionId) -> u64 {
        self.cursors[connection.index()].position
    }

    /// Judges one delivery.
    ///
    /// # Errors
    /// The guarantee that it breaks; the judge is of no use afterwards.
    pub(crate) fn deliver(
        &mut self,
        connection: ConnectionId,
        message: &[u8],
    ) -> Result<Delivered, Violation> {
        let cursor = &mut self.cursors[connection.index()];
        let channel = &mut self.channels[cursor.channel as usize];
        // A cursor never falls behind `first`: entries are dropped only when all subscribers have passed them.
        let index = (cursor.position - channel.first) as usize;
        if index == channel.reference.len() {
            channel.extend(self.format, &mut self.scratch, connection, message)?;
        }
        let reference = &mut channel.reference[index];
        if reference.message != message {
            return Err(channel.mismatch(self.format, index, connection, message));
        }
        let sent_ns = reference.stamp.sent_ns;
        reference.receivers += 1;
        cursor.position += 1;
        let is_last = reference.receivers == channel.subscribers;
        if is_last {
            channel.drop_oldest();
        }
        Ok(Delivered { sent_ns, is_last })
    }
}

impl Channel {
    /// Appends `message` to the reference: `connection` is the first to receive it.
    fn extend(
        &mut self,
        format: Format,
        scratch: &mut Vec<u8>,
        connection: ConnectionId,
        message: &[u8],
    ) -> Result<(), Violation> {
        let stamp = format.read_delivery(scratch, &self.name, message);
        let due = stamp.and_then(|stamp| self.due.get_mut(stamp.publisher as usize));
        let (Some(stamp), Some(due)) = (stamp, due) else {
            return Err(Violation::Foreign {
                channel: self.name.clone(),
                connection,
                message: excerpt(message),
            });
        };
        if stamp.number != *due {
            return Err(Violation::SenderOrder {
                channel: self.name.clone(),
                connection,
                got: stamp,
                due: *due,
                hint: if stamp.number < *due { Hint::Double } else { Hint::LostOrOvertaken },
            });
        }
        *due += 1;
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(message);
        self.reference.push_back(Reference { message: copy, stamp, connection, receivers: 0 });
        Ok(())
    }

    /// Says what is wrong with `message`, which is not what stands at `index` of the reference.
    fn mismatch(&self, format: Format, index: usize, connection: ConnectionId, message: &[u8]) -> Violation {
        let channel = self.name.clone();
        let reference = &self.reference[index];
        let same = |one: Stamp, other: Stamp| (one.publisher, one.number) == (other.publisher, other.number);
        let Some(got) = format.read_stamp(message) else {
            return Violation::Foreign { channel, connection, message: excerpt(message) };
        };
        if same(got, reference.stamp) {
            return Violation::DifferentBytes {
                channel,
                got,
                connection,
                message: excerpt(message),
                reference_connection: reference.connection,
                reference: excerpt(&reference.message),
            };
        }
        let due = self.due.get(got.publisher as usize).copied().unwrap_or_default();
        let ahead = self.reference.range(index..).any(|later| same(later.stamp, got));
        let hint = if ahead || got.number >= due { Hint::LostOrOvertaken } else { Hint::Double };
        Violation::Disagreement {
            channel,
            position: self.first + index as u64 + 1,
            connection,
            got,
            reference_connection: reference.connection,
            expected: reference.stamp,
            hint,
        }
    }

    /// Drops the oldest entry: all subscribers have passed it. Cursors move in order, so the first entry that is
    /// complete is always the oldest.
    fn drop_oldest(&mut self) {
        let oldest = self.reference.pop_front().expect("an entry was just received");
        assert_eq!(oldest.receivers, self.subscribers, "entries complete in their order");
        self.spare.push(oldest.message);
        self.first += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broadcast::tests::delivery;
    use crate::dialect::Dialect;

    const FORMAT: Format = Format { dialect: Dialect::Classic, payload_bytes: 128 };
    const A: ConnectionId = ConnectionId(0);
    const B: ConnectionId = ConnectionId(1);
    const C: ConnectionId = ConnectionId(2);

    fn checker() -> OrderChecker {
        OrderChecker::new(FORMAT, &["load-0".to_owned()], 2, 3)
    }

    /// Publishers 0 and 1 in turn, each counting from 0.
    fn sequence(length: u32) -> Vec<Vec<u8>> {
        let stamp =
            |index| Stamp { publisher: index % 2, number: index / 2, sent_ns: 1000 + u64::from(index) };
        (0..length).map(|index| delivery(FORMAT, "load-0", stamp(index))).collect()
    }

    /// Delivers `messages` to `connection`; stops at the first violation.
    fn deliver(
        checker: &mut OrderChecker,
        connection: ConnectionId,
        messages: &[Vec<u8>],
    ) -> Result<(), Violation> {
        messages.iter().try_for_each(|message| checker.deliver(connection, message).map(|_| ()))
    }

    #[test]
    fn equal_sequences_pass_and_leave_nothing_behind() {
        let (mut checker, messages) = (checker(), sequence(10));
        deliver(&mut checker, A, &messages[..6]).expect("A leads");
        deliver(&mut checker, B, &messages).expect("B overtakes");
        deliver(&mut checker, C, &messages).expect("C follows");
        deliver(&mut checker, A, &messages[6..]).expect("A follows");
        assert!([A, B, C].iter().all(|connection| checker.received(*connection) == 10));
        assert!(checker.channels[0].reference.is_empty());
        assert_eq!(
            checker.deliver(A, &delivery(FORMAT, "load-0", stamp(0, 5, 77))),
            Ok(Delivered { sent_ns: 77, is_last: false })
        );
    }

    fn stamp(publisher: u32, number: u32, sent_ns: u64) -> Stamp {
        Stamp { publisher, number, sent_ns }
    }

    #[test]
    fn canary_a_swapped_pair_of_two_senders_is_caught_with_both_sides() {
        let (mut checker, mut messages) = (checker(), sequence(10));
        deliver(&mut checker, A, &messages).expect("A leads");
        messages.swap(4, 5);
        let violation = deliver(&mut checker, B, &messages).expect_err("B saw another order");
        let expected = Violation::Disagreement {
            channel: "load-0".to_owned(),
            position: 5,
            connection: B,
            got: stamp(1, 2, 1005),
            reference_connection: A,
            expected: stamp(0, 2, 1004),
            hint: Hint::LostOrOvertaken,
        };
        assert_eq!(violation, expected);
        let text = violation.to_string();
        assert!(text.contains("connection 1 received publisher 1 number 2"), "{text}");
        assert!(text.contains("connection 0 received publisher 0 number 2"), "{text}");
    }

    #[test]
    fn canary_a_swapped_pair_of_one_sender_is_caught_even_by_the_first_receiver() {
        let (mut checker, mut messages) = (checker(), sequence(10));
        messages.swap(4, 6);
        let violation = deliver(&mut checker, A, &messages).expect_err("publisher 0 was reordered");
        assert!(matches!(violation, Violation::SenderOrder { got, due: 2, .. } if got == stamp(0, 3, 1006)));
    }

    #[test]
    fn canary_a_loss_is_caught_by_the_next_delivery() {
        let (mut checker, mut messages) = (checker(), sequence(10));
        deliver(&mut checker, A, &messages).expect("A leads");
        messages.remove(3);
        let violation = deliver(&mut checker, B, &messages).expect_err("B misses one");
        assert!(
            matches!(violation, Violation::Disagreement { position: 4, hint: Hint::LostOrOvertaken, .. }),
            "{violation}"
        );
    }

    #[test]
    fn canary_a_loss_is_caught_on_the_first_receiver_too() {
        let (mut checker, mut messages) = (checker(), sequence(10));
        messages.remove(3);
        let violation = deliver(&mut checker, A, &messages).expect_err("A misses one");
        assert!(matches!(violation, Violation::SenderOrder { hint: Hint::LostOrOvertaken, .. }));
    }

    #[test]
    fn canary_a_lost_last_delivery_is_missing_in_the_count() {
        let (mut checker, messages) = (checker(), sequence(10));
        deliver(&mut checker, A, &messages).expect("A leads");
        deliver(&mut checker, B, &messages[..9]).expect("the loss cannot be seen yet");
        assert_eq!((checker.received(A), checker.received(B)), (10, 9));
    }

    #[test]
    fn canary_a_double_is_caught() {
        let (mut checker, mut messages) = (checker(), sequence(10));
        deliver(&mut checker, A, &messages).expect("A leads");
        messages.insert(4, messages[3].clone());
        let violation = deliver(&mut checker, B, &messages).expect_err("B received one twice");
        assert!(matches!(violation, Violation::Disagreement { position: 5, hint: Hint::Double, .. }));
    }

    #[test]
    fn canary_a_doubled_last_delivery_is_caught() {
        let (mut checker, messages) = (checker(), sequence(10));
        for connection in [A, B, C] {
            deliver(&mut checker, connection, &messages).expect("all is well");
        }
        let violation = checker.deliver(C, &messages[9]).expect_err("C received the last one twice");
        assert!(matches!(violation, Violation::SenderOrder { hint: Hint::Double, connection: C, .. }));
    }

    #[test]
    fn canary_different_bytes_for_one_broadcast_are_caught() {
        let (mut checker, messages) = (checker(), sequence(1));
        deliver(&mut checker, A, &messages).expect("A leads");
        let mut other = messages[0].clone();
        let sid = other.len() - 4;
        other[sid] = b'0';
        let violation = checker.deliver(B, &other).expect_err("another sid");
        assert!(matches!(violation, Violation::DifferentBytes { .. }));
    }

    #[test]
    fn what_nobody_broadcast_is_caught() {
        let unknown_publisher = delivery(FORMAT, "load-0", stamp(2, 0, 1));
        let other_channel = delivery(FORMAT, "load-1", stamp(0, 0, 1));
        for message in [unknown_publisher, other_channel, b"{\"load\":{}}".to_vec()] {
            let violation = checker().deliver(A, &message).expect_err("foreign");
            assert!(matches!(violation, Violation::Foreign { .. }));
        }
    }

    #[test]
    fn channels_are_judged_apart() {
        let names = ["load-0".to_owned(), "load-1".to_owned()];
        let mut checker = OrderChecker::new(FORMAT, &names, 1, 3);
        let message = |channel: &str| delivery(FORMAT, channel, stamp(0, 0, 1));
        checker.deliver(A, &message("load-0")).expect("A is on load-0");
        checker.deliver(B, &message("load-1")).expect("B is on load-1");
        checker.deliver(C, &message("load-0")).expect("C is on load-0");
        assert!(matches!(checker.deliver(B, &message("load-0")), Err(Violation::Foreign { .. })));
    }
}
