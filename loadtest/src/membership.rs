//! The judge of deliveries on channels whose subscribers come and go: one order for all of them, each sender's own
//! order, and for each nothing lost and nothing doubled from its `subscribed` on.
//!
//! As in [`crate::order`], the first connection that is ahead writes a channel's reference sequence, and a delivery
//! that is right is recognised by comparing bytes. What is more: where in the sequence a newcomer begins is not known
//! beforehand. Its first delivery tells, and must neither be older than its request to subscribe nor leave out what
//! was sent after its subscription had been answered. A newcomer that is ahead of all others keeps what it receives
//! until one of them has caught up and the two can be told to agree.
//!
//! A channel needs one subscriber at least that was there before the first broadcast and stays. An entry of the
//! reference is dropped when nobody needs it any more. Knows no sockets and no clock.

use std::collections::VecDeque;

use thiserror::Error;

use crate::broadcast::{Format, Stamp};
use crate::connection::ConnectionId;
use crate::excerpt::excerpt;
use crate::order::Hint;

/// A broken guarantee.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    #[error("{connection} received on channel {channel} what nobody broadcast: {message:?}")]
    Foreign { channel: String, connection: ConnectionId, message: String },
    #[error("{connection} received {got} on channel {channel} before its subscription was answered", got = describe(*.got))]
    TooEarly { channel: String, connection: ConnectionId, got: Stamp },
    #[error(
        "{connection} received {got} on channel {channel}, which others had received before it asked to subscribe",
        got = describe(*.got)
    )]
    Replayed { channel: String, connection: ConnectionId, got: Stamp },
    #[error(
        "the first delivery to {connection} on channel {channel} was {got}: {missed}, which was sent after its \
         subscription had been answered and comes before, was lost",
        got = describe(*.got), missed = describe(*.missed)
    )]
    Missed { channel: String, connection: ConnectionId, got: Stamp, missed: Stamp },
    #[error(
        "{connection} received {got} on channel {channel} where others received {expected} ({hint})",
        got = describe(*.got), expected = describe(*.expected)
    )]
    Disagreement { channel: String, connection: ConnectionId, got: Stamp, expected: Stamp, hint: Hint },
    #[error("{connection} received other bytes for {got} on channel {channel} than others: {message:?}", got = describe(*.got))]
    DifferentBytes { channel: String, connection: ConnectionId, got: Stamp, message: String },
    #[error(
        "a sender's own order is broken on channel {channel}: {connection} received {got} where number {due} of \
         that publisher was due ({hint})",
        got = describe(*.got)
    )]
    SenderOrder { channel: String, connection: ConnectionId, got: Stamp, due: u32, hint: Hint },
}

impl Violation {
    fn sender_order(channel: &str, connection: ConnectionId, got: Stamp, due: u32) -> Self {
        let hint = if got.number < due { Hint::Double } else { Hint::LostOrOvertaken };
        Self::SenderOrder { channel: channel.to_owned(), connection, got, due, hint }
    }
}

fn describe(stamp: Stamp) -> String {
    format!("publisher {} number {}", stamp.publisher, stamp.number)
}

/// A broadcast as the first connection received it.
struct Entry {
    message: Vec<u8>,
    stamp: Stamp,
    /// How many followers have not received it yet.
    remaining: u32,
}

struct Channel {
    name: String,
    /// How many broadcasts each publisher has sent, and how many of them the reference has had.
    sent: Vec<u32>,
    heard: Vec<u32>,
    /// When those were due that nobody has received yet, the oldest first.
    unheard_ns: VecDeque<u64>,
    /// The position of the oldest entry of `reference`.
    first: u64,
    reference: VecDeque<Entry>,
    followers: u32,
    /// Subscribers, and those who asked to be, whose place is not known yet.
    newcomers: Vec<ConnectionId>,
    /// Buffers of dropped entries, to be used again.
    spare: Vec<Vec<u8>>,
}

/// How far a connection is.
enum Standing {
    /// It asked to subscribe when the reference ended at `since`.
    Asked { since: u64 },
    /// It was answered, and it is not known yet where in the sequence it begins.
    Placeless {
        since: u64,
        /// How many broadcasts each publisher had sent when the answer came.
        sent: Vec<u32>,
        /// What it has received, ahead of all others.
        ahead: VecDeque<(Vec<u8>, Stamp)>,
    },
    /// It has received everything before `position`.
    Follower { position: u64 },
}

struct Member {
    channel: usize,
    /// How many broadcasts of each publisher others had received when it asked to subscribe.
    before: Vec<u32>,
    standing: Standing,
}

pub(crate) struct Membership {
    format: Format,
    channels: Vec<Channel>,
    /// By [`ConnectionId`].
    members: Vec<Option<Member>>,
    scratch: Vec<u8>,
}

impl Membership {
    /// A judge for these channels, with so many publishers each; nobody is subscribed.
    pub(crate) fn new(format: Format, names: &[String], publishers: u32) -> Self {
        let channels = names.iter().map(|name| Channel::new(name, publishers as usize)).collect();
        Self { format, channels, members: Vec::new(), scratch: Vec::new() }
    }

    /// `publisher` broadcasts on `channel` now. Returns the broadcast's stamp.
    pub(crate) fn send(&mut self, channel: usize, publisher: u32, due_ns: u64) -> Stamp {
        let channel = &mut self.channels[channel];
        let number = channel.sent[publisher as usize];
        channel.sent[publisher as usize] += 1;
        channel.unheard_ns.push_back(due_ns);
        Stamp { publisher, number, sent_ns: due_ns }
    }

    /// `connection` asks now to be subscribed.
    pub(crate) fn ask(&mut self, connection: ConnectionId, channel: usize) {
        if self.members.len() <= connection.index() {
            self.members.resize_with(connection.index() + 1, || None);
        }
        let (since, before) = (self.channels[channel].end(), self.channels[channel].heard.clone());
        self.channels[channel].newcomers.push(connection);
        let standing = Standing::Asked { since };
        self.members[connection.index()] = Some(Member { channel, before, standing });
    }

    /// `connection` is told that it is subscribed.
    pub(crate) fn subscribed(&mut self, connection: ConnectionId) {
        let Some(member) = &mut self.members[connection.index()] else { return };
        let Standing::Asked { since } = member.standing else { return };
        let channel = &mut self.channels[member.channel];
        if since == channel.end() && channel.sent == channel.heard {
            // Nothing is on its way: whatever comes next is its first.
            member.standing = Standing::Follower { position: since };
            channel.follow(connection, since);
        } else {
            let (sent, ahead) = (channel.sent.clone(), VecDeque::new());
            member.standing = Standing::Placeless { since, sent, ahead };
        }
    }

    /// `connection` leaves, or has left: nothing is due to it any more.
    pub(crate) fn leave(&mut self, connection: ConnectionId) {
        let Some(member) = self.members.get_mut(connection.index()).and_then(Option::take) else { return };
        let channel = &mut self.channels[member.channel];
        match member.standing {
            Standing::Follower { position } => channel.unfollow(position),
            Standing::Asked { .. } | Standing::Placeless { .. } => channel.forget_newcomer(connection),
        }
        self.drop_old(member.channel);
    }

    /// Judges one delivery. Returns when its broadcast was due.
    ///
    /// # Errors
    /// The guarantee that it breaks; the judge is of no use afterwards.
    pub(crate) fn deliver(&mut self, connection: ConnectionId, message: &[u8]) -> Result<u64, Violation> {
        let Some(member) = self.members.get_mut(connection.index()).and_then(Option::as_mut) else {
            let channel = String::from("(none)");
            return Err(Violation::Foreign { channel, connection, message: excerpt(message) });
        };
        let judged = match member.standing {
            Standing::Follower { .. } => self.follow(connection, message),
            Standing::Placeless { .. } => self.place(connection, message),
            Standing::Asked { .. } => {
                let channel = self.channels[member.channel].name.clone();
                return Err(match self.format.read_stamp(message) {
                    Some(got) => Violation::TooEarly { channel, connection, got },
                    None => Violation::Foreign { channel, connection, message: excerpt(message) },
                });
            }
        };
        judged.map_err(|violation| self.replayed(connection, message).unwrap_or(violation))
    }

    /// That this is older than the subscription, if it is: it breaks other guarantees too, and this one says why.
    fn replayed(&self, connection: ConnectionId, message: &[u8]) -> Option<Violation> {
        let member = self.members[connection.index()].as_ref()?;
        let got = self.format.read_stamp(message)?;
        let channel = &self.channels[member.channel].name;
        let is_older = got.number < *member.before.get(got.publisher as usize)?;
        is_older.then(|| Violation::Replayed { channel: channel.clone(), connection, got })
    }

    /// How many broadcasts are remembered because somebody has not received them yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.channels.iter().map(|channel| channel.unheard_ns.len() + channel.reference.len()).sum()
    }

    /// Whether every subscriber has received everything that is due to it.
    pub(crate) fn is_complete(&self) -> bool {
        self.channels.iter().all(|channel| channel.unheard_ns.is_empty()) && self.waiting().next().is_none()
    }

    /// Who has waited for longest, and since when: for the oldest broadcast that was due then and has not reached
    /// everybody. `None` if nobody waits.
    pub(crate) fn longest_waiting(&self) -> Option<(Option<ConnectionId>, u64)> {
        let unheard = self.channels.iter().filter_map(|channel| Some((None, *channel.unheard_ns.front()?)));
        let waiting = self.waiting().map(|(connection, due_ns)| (Some(connection), due_ns));
        unheard.chain(waiting).min_by_key(|(_, due_ns)| *due_ns)
    }

    /// The subscribers that have not received everything which is due to them, and since when they wait.
    fn waiting(&self) -> impl Iterator<Item = (ConnectionId, u64)> {
        let members = (0..).map(ConnectionId).zip(&self.members);
        members.filter_map(|(connection, member)| {
            let Member { channel, standing, .. } = member.as_ref()?;
            let channel = &self.channels[*channel];
            let due_ns = match standing {
                Standing::Asked { .. } => None,
                Standing::Follower { position } => channel.due_after(*position, &[]),
                Standing::Placeless { since, sent, .. } => channel.due_after(*since, sent),
            };
            Some((connection, due_ns?))
        })
    }

    /// A delivery to a connection whose place is known.
    fn follow(&mut self, connection: ConnectionId, message: &[u8]) -> Result<u64, Violation> {
        let member = self.members[connection.index()].as_mut().expect("it was just looked at");
        let Standing::Follower { position } = &mut member.standing else {
            unreachable!("its place is known")
        };
        let number = member.channel;
        let channel = &mut self.channels[number];
        // A follower never falls behind `first`: entries are dropped only when all have received them.
        let index = (*position - channel.first) as usize;
        let is_first = index == channel.reference.len();
        if is_first {
            channel.extend(self.format, &mut self.scratch, connection, message)?;
        }
        let entry = &mut channel.reference[index];
        if entry.message != message {
            return Err(channel.mismatch(self.format, index, connection, message));
        }
        let due_ns = entry.stamp.sent_ns;
        entry.remaining -= 1;
        let is_last = entry.remaining == 0;
        *position += 1;
        if is_first && !channel.newcomers.is_empty() {
            self.catch_up(number, index)?;
        }
        if is_last {
            self.drop_old(number);
        }
        Ok(due_ns)
    }

    /// A delivery to a connection whose place is not known: the reference may have it, or will.
    fn place(&mut self, connection: ConnectionId, message: &[u8]) -> Result<u64, Violation> {
        let member = self.members[connection.index()].as_mut().expect("it was just looked at");
        let Standing::Placeless { since, ahead, .. } = &mut member.standing else {
            unreachable!("it has none")
        };
        let channel = &mut self.channels[member.channel];
        if ahead.is_empty() {
            let from = (*since - channel.first) as usize;
            if let Some(offset) = channel.reference.range(from..).position(|entry| entry.message == message) {
                let position = *since + offset as u64;
                self.settle(connection, position)?;
                return self.follow(connection, message);
            }
        }
        let stamp = self.format.read_delivery(&mut self.scratch, &channel.name, message);
        let Some(got) = stamp.filter(|stamp| channel.has_sent(*stamp)) else {
            let channel = channel.name.clone();
            return Err(Violation::Foreign { channel, connection, message: excerpt(message) });
        };
        let heard = channel.heard[got.publisher as usize];
        if got.number < heard {
            return Err(Violation::Replayed { channel: channel.name.clone(), connection, got });
        }
        let mut own = ahead.iter().rev().map(|(_, stamp)| *stamp);
        let before = own.find(|stamp| stamp.publisher == got.publisher);
        if let Some(due) = before.map(|stamp| stamp.number + 1).filter(|due| *due != got.number) {
            return Err(Violation::sender_order(&channel.name, connection, got, due));
        }
        ahead.push_back((message.to_vec(), got));
        Ok(got.sent_ns)
    }

    /// The entry at `index` has just been written: lets newcomers follow that had received it before.
    fn catch_up(&mut self, number: usize, index: usize) -> Result<(), Violation> {
        let channel = &self.channels[number];
        let position = channel.first + index as u64;
        let message = &channel.reference[index].message;
        let begins_here = |connection: &ConnectionId| {
            let member = self.members[connection.index()].as_ref();
            matches!(member.map(|member| &member.standing), Some(Standing::Placeless { ahead, .. })
                if ahead.front().is_some_and(|(first, _)| first == message))
        };
        let ready: Vec<ConnectionId> = channel.newcomers.iter().copied().filter(begins_here).collect();
        for connection in ready {
            let ahead = self.settle(connection, position)?;
            for (message, _) in ahead {
                self.follow(connection, &message)?;
            }
        }
        Ok(())
    }

    /// `connection` turns out to begin at `position`. Returns what it has received ahead of all others.
    fn settle(
        &mut self,
        connection: ConnectionId,
        position: u64,
    ) -> Result<VecDeque<(Vec<u8>, Stamp)>, Violation> {
        let member = self.members[connection.index()].as_mut().expect("a newcomer is a member");
        let standing = std::mem::replace(&mut member.standing, Standing::Follower { position });
        let Standing::Placeless { since, sent, ahead } = standing else {
            unreachable!("it has no place yet")
        };
        let channel = &mut self.channels[member.channel];
        let (from, to) = ((since - channel.first) as usize, (position - channel.first) as usize);
        let mut before = channel.reference.range(from..to).map(|entry| entry.stamp);
        if let Some(missed) = before.find(|stamp| stamp.number >= sent[stamp.publisher as usize]) {
            let (channel, got) = (channel.name.clone(), channel.reference[to].stamp);
            return Err(Violation::Missed { channel, connection, got, missed });
        }
        channel.follow(connection, position);
        Ok(ahead)
    }

    /// Drops what nobody needs any more.
    fn drop_old(&mut self, number: usize) {
        let channel = &mut self.channels[number];
        let needed = channel.newcomers.iter().filter_map(|connection| {
            match self.members[connection.index()].as_ref()?.standing {
                Standing::Asked { since } | Standing::Placeless { since, .. } => Some(since),
                Standing::Follower { .. } => None,
            }
        });
        let needed = needed.min().unwrap_or(u64::MAX);
        while channel.first < needed && channel.reference.front().is_some_and(|entry| entry.remaining == 0) {
            let oldest = channel.reference.pop_front().expect("it was just looked at");
            channel.spare.push(oldest.message);
            channel.first += 1;
        }
    }
}

impl Channel {
    fn new(name: &str, publishers: usize) -> Self {
        Self {
            name: name.to_owned(),
            sent: vec![0; publishers],
            heard: vec![0; publishers],
            unheard_ns: VecDeque::new(),
            first: 0,
            reference: VecDeque::new(),
            followers: 0,
            newcomers: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// The position after the newest entry.
    fn end(&self) -> u64 {
        self.first + self.reference.len() as u64
    }

    fn has_sent(&self, stamp: Stamp) -> bool {
        self.sent.get(stamp.publisher as usize).is_some_and(|sent| stamp.number < *sent)
    }

    /// A newcomer follows from `position` on.
    fn follow(&mut self, connection: ConnectionId, position: u64) {
        self.forget_newcomer(connection);
        self.followers += 1;
        let from = (position - self.first) as usize;
        self.reference.range_mut(from..).for_each(|entry| entry.remaining += 1);
    }

    /// A follower that has received everything before `position` goes.
    fn unfollow(&mut self, position: u64) {
        self.followers -= 1;
        let from = (position - self.first) as usize;
        self.reference.range_mut(from..).for_each(|entry| entry.remaining -= 1);
    }

    fn forget_newcomer(&mut self, connection: ConnectionId) {
        self.newcomers.retain(|newcomer| *newcomer != connection);
    }

    /// When the oldest entry from `position` on was due that is not among the first ones which each publisher had
    /// `sent`.
    fn due_after(&self, position: u64, sent: &[u32]) -> Option<u64> {
        let from = (position - self.first) as usize;
        let mut stamps = self.reference.range(from..).map(|entry| entry.stamp);
        let due =
            stamps.find(|stamp| sent.get(stamp.publisher as usize).is_none_or(|sent| stamp.number >= *sent));
        due.map(|stamp| stamp.sent_ns)
    }

    /// Appends `message` to the reference: `connection` is the first to receive it.
    fn extend(
        &mut self,
        format: Format,
        scratch: &mut Vec<u8>,
        connection: ConnectionId,
        message: &[u8],
    ) -> Result<(), Violation> {
        let stamp = format.read_delivery(scratch, &self.name, message).filter(|stamp| self.has_sent(*stamp));
        let Some(stamp) = stamp else {
            let (channel, message) = (self.name.clone(), excerpt(message));
            return Err(Violation::Foreign { channel, connection, message });
        };
        let due = &mut self.heard[stamp.publisher as usize];
        if stamp.number != *due {
            return Err(Violation::sender_order(&self.name, connection, stamp, *due));
        }
        *due += 1;
        self.unheard_ns.pop_front();
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(message);
        self.reference.push_back(Entry { message: copy, stamp, remaining: self.followers });
        Ok(())
    }

    /// Says what is wrong with `message`, which is not what stands at `index` of the reference.
    fn mismatch(&self, format: Format, index: usize, connection: ConnectionId, message: &[u8]) -> Violation {
        let channel = self.name.clone();
        let expected = self.reference[index].stamp;
        let same = |one: Stamp, other: Stamp| (one.publisher, one.number) == (other.publisher, other.number);
        let Some(got) = format.read_stamp(message).filter(|stamp| self.has_sent(*stamp)) else {
            return Violation::Foreign { channel, connection, message: excerpt(message) };
        };
        if same(got, expected) {
            return Violation::DifferentBytes { channel, connection, got, message: excerpt(message) };
        }
        let ahead = self.reference.range(index..).any(|later| same(later.stamp, got));
        let is_new = got.number >= self.heard[got.publisher as usize];
        let hint = if ahead || is_new { Hint::LostOrOvertaken } else { Hint::Double };
        Violation::Disagreement { channel, connection, got, expected, hint }
    }
}

#[cfg(test)]
mod tests;
