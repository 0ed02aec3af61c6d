//! From a channel's order to the bytes that each session is sent.
//!
//! A *view* is a channel in one encoding as one shard sees it: its subscribers here and the log of what they have
//! to take. It is made with the first subscriber that needs it and goes with the last. All views of a channel are
//! appended to together, so that all its subscribers see one order.
//!
//! A session with one subscription *follows* the view's log: a broadcast costs it nothing until the flush. A session
//! with several *visits*: each broadcast tells it, so that it receives everything in the order in which it happened,
//! whatever the channel.
//!
//! What a session receives is, in this order: the rest of a frame that was partly sent, its own
//! bytes, then its tail, a range of one log. Before anything else is put behind a tail, the tail is
//! settled: copied into the session's own bytes.
//!
//! Who was said something goes before the bulk of those who receive broadcasts: an answer does not
//! wait until a crowd has been served. Neither can starve the other.
//!
//! Source: ARCHITECTURE.md, "Fan-out".

use std::collections::VecDeque;

use webrocket_wire::frame;

use crate::{
    log::{Cursor, Log, SparePool},
    session::{Queued, Session, Subscription, Tail},
    slots::{SessionSlot, Slots, ViewSlot},
    views::{Entry, ViewFlush, Views},
};

/// The sessions that receive.
type Receivers = Slots<SessionSlot, Session>;

/// A tail is settled to make one contiguous range with the session's own bytes up to this length.
const SETTLE_BYTES_MAX: u64 = 64 * 1024;

/// With more bytes than this appended since the last flush, the driver flushes before it reads on.
const FRESH_BYTES_MAX: usize = 512 * 1024;

#[derive(Debug, Clone, Copy)]
enum FlushItem {
    Session(SessionSlot),
    View(ViewSlot),
    /// Everything that was appended before it was put here has been offered once it comes up.
    Mark,
}

/// What to do next for the flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushStep {
    /// Send what waits for the session in this slot.
    Send(SessionSlot),
    /// The session in this slot lags too far behind.
    Condemn(SessionSlot),
}

/// How many urgent sessions may go before the bulk in a row.
const FAVOURED_MAX: u8 = 3;

/// So many names are compared faster than one is hashed.
const COMPARED_MAX: usize = 8;

/// The views of a shard, and the queues of what is to be flushed.
#[derive(Debug, Default)]
pub struct Fanout {
    /// The views, and where each channel's are found.
    pub views: Views,
    pool: SparePool,
    /// Sessions to whom something was said.
    urgent: VecDeque<SessionSlot>,
    /// Broadcasts to be sent.
    bulk: VecDeque<FlushItem>,
    /// How many urgent ones went before the bulk in a row.
    favoured: u8,
    /// Whether a mark stands in the bulk.
    is_marked: bool,
    /// Bytes appended or copied before the mark was put there.
    marked_bytes: usize,
    /// Bytes appended or copied since.
    fresh_bytes: usize,
}

impl Fanout {
    /// Bytes appended or copied that have not been offered to everybody yet.
    #[must_use]
    pub fn fresh_bytes(&self) -> usize {
        self.marked_bytes + self.fresh_bytes
    }

    /// Whether so much is to be flushed that nothing more shall be appended before.
    #[must_use]
    pub fn wants_flush(&self) -> bool {
        self.fresh_bytes() > FRESH_BYTES_MAX
    }

    /// Whether anything is to be flushed.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty()
    }

    /// The bytes that all logs hold.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.pool.held_bytes()
    }

    /// The view of the channel of that name, if the session subscribes it.
    #[must_use]
    pub fn subscribed(&self, session: &Session, name: &str) -> Option<ViewSlot> {
        let named = |view: &ViewSlot| {
            let view = &self.views[*view];
            !view.is_detached() && view.name().as_str() == name
        };
        if session.inbox.subscriptions.len() <= COMPARED_MAX {
            return session.inbox.subscriptions.iter().map(|subscription| subscription.view).find(named);
        }
        let open = session.open()?;
        let view = self.views.named(open.vhost.id, name, open.encoding)?;
        self.subscribes(session, view).then_some(view)
    }

    /// Whether the session subscribes the view's channel.
    #[must_use]
    pub fn subscribes(&self, session: &Session, view: ViewSlot) -> bool {
        session.inbox.subscriptions.iter().any(|subscription| subscription.view == view)
    }

    /// Adds a subscription; the session receives everything that is appended from now on.
    pub fn subscribe(&mut self, sessions: &mut Receivers, slot: SessionSlot, view: ViewSlot) {
        let session = &mut sessions[slot];
        debug_assert!(!self.subscribes(session, view), "a session subscribes a channel once");
        if session.inbox.subscriptions.is_empty() {
            self.list_subscription(session, slot, view, Cursor::Follower);
            return;
        }
        if session.inbox.subscriptions.len() == 1 {
            self.become_visitor(sessions, slot);
        }
        self.list_subscription(&mut sessions[slot], slot, view, Cursor::Visitor);
    }

    fn list_subscription(
        &mut self,
        session: &mut Session,
        slot: SessionSlot,
        view: ViewSlot,
        cursor: Cursor,
    ) {
        let inbox = &mut session.inbox;
        let back = u32::try_from(inbox.subscriptions.len()).expect("subscriptions are bounded");
        let list = self.views[view].list(cursor);
        let at = u32::try_from(list.len()).expect("fewer than 2^32 sessions");
        list.push(Entry { session: slot, back });
        inbox.subscriptions.push(Subscription { view, at });
        if cursor == Cursor::Follower {
            inbox.tail = Some(Tail { view, position: self.views[view].log.follow() });
        }
    }

    /// The session's only subscription is not the only one any more.
    fn become_visitor(&mut self, sessions: &mut Receivers, slot: SessionSlot) {
        let Subscription { view, at } = sessions[slot].inbox.subscriptions[0];
        self.unlist(sessions, view, Cursor::Follower, at);
        let place = &mut self.views[view];
        sessions[slot].inbox.subscriptions[0].at =
            u32::try_from(place.visitors.len()).expect("fewer than 2^32 sessions");
        place.visitors.push(Entry { session: slot, back: 0 });
        let inbox = &mut sessions[slot].inbox;
        let tail = inbox.tail.expect("a follower has a tail");
        if tail.position == place.log.end() {
            place.log.leave(Cursor::Follower, tail.position, &mut self.pool);
            inbox.tail = None;
        } else {
            self.enqueue_bulk(&mut sessions[slot], slot);
        }
    }

    /// One of the session's subscriptions is the only one now.
    fn become_follower(&mut self, sessions: &mut Receivers, slot: SessionSlot) {
        let Subscription { view, at } = sessions[slot].inbox.subscriptions[0];
        self.unlist(sessions, view, Cursor::Visitor, at);
        let place = &mut self.views[view];
        let inbox = &mut sessions[slot].inbox;
        inbox.subscriptions[0].at = u32::try_from(place.followers.len()).expect("fewer than 2^32 sessions");
        place.followers.push(Entry { session: slot, back: 0 });
        // A visitor that waits goes on waiting where it is, now as a follower.
        inbox.tail = Some(inbox.tail.unwrap_or_else(|| Tail { view, position: place.log.follow() }));
        self.enqueue_bulk(&mut sessions[slot], slot);
    }

    /// Takes an entry out of a view's list and tells the one that moves into its place.
    fn unlist(&mut self, sessions: &mut Receivers, view: ViewSlot, cursor: Cursor, at: u32) {
        let list = self.views[view].list(cursor);
        list.swap_remove(at as usize);
        if let Some(moved) = list.get(at as usize) {
            sessions[moved.session].inbox.subscriptions[moved.back as usize].at = at;
        }
    }

    /// Ends a subscription. What was appended before is still the session's.
    /// `true` if the view has no subscriber any more; it is gone then.
    pub fn unsubscribe(&mut self, sessions: &mut Receivers, slot: SessionSlot, view: ViewSlot) -> bool {
        let session = &mut sessions[slot];
        if session.inbox.tail.is_some_and(|tail| tail.view == view) {
            self.settle(session);
            // The view's flush finds it among the followers no more.
            self.enqueue_own(session, slot);
        }
        let count = session.inbox.subscriptions.len();
        let index = session
            .inbox
            .subscriptions
            .iter()
            .rposition(|subscription| subscription.view == view)
            .expect("only what was subscribed is unsubscribed");
        let cursor = if count == 1 { Cursor::Follower } else { Cursor::Visitor };
        let removed = session.inbox.subscriptions.swap_remove(index);
        if cursor == Cursor::Follower {
            let tail = session.inbox.tail.take().expect("a follower has a tail");
            self.views[view].log.leave(Cursor::Follower, tail.position, &mut self.pool);
        }
        if let Some(moved) = sessions[slot].inbox.subscriptions.get(index).copied() {
            self.views[moved.view].list(cursor)[moved.at as usize].back =
                u32::try_from(index).expect("subscriptions are bounded");
        }
        self.unlist(sessions, view, cursor, removed.at);
        if count == 2 {
            self.become_follower(sessions, slot);
        }
        self.remove_if_empty(view)
    }

    fn remove_if_empty(&mut self, view: ViewSlot) -> bool {
        if self.views[view].subscribers() > 0 {
            return false;
        }
        self.views.remove(view);
        true
    }

    /// Appends a frame for all subscribers of the view. Returns how many there are.
    pub fn append(
        &mut self,
        sessions: &mut Receivers,
        view: ViewSlot,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        self.append_but(sessions, view, None, write)
    }

    /// The same for all but one session, which may be no subscriber of the view.
    pub fn append_leaving_out(
        &mut self,
        sessions: &mut Receivers,
        view: ViewSlot,
        left_out: SessionSlot,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let session = &mut sessions[left_out];
        if !self.subscribes(session, view) {
            return self.append(sessions, view, write);
        }
        // What it waits for becomes its own, so that its cursor passes the new frame and nothing else.
        self.settle(session);
        self.enqueue_own(session, left_out);
        let subscribers = self.append_but(sessions, view, Some(left_out), write);
        let session = &mut sessions[left_out];
        if session.inbox.tail.is_some_and(|tail| tail.view == view) {
            self.drop_tail(session);
        }
        subscribers - 1
    }

    fn append_but(
        &mut self,
        sessions: &mut Receivers,
        view: ViewSlot,
        left_out: Option<SessionSlot>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let place = &mut self.views[view];
        let position = place.log.append(&mut self.pool, write);
        let appended = usize::try_from(place.log.end() - position).expect("a frame in memory");
        match &mut place.flush {
            ViewFlush::Running { again, .. } => *again = true,
            ViewFlush::Queued => {}
            flush @ ViewFlush::Clean => {
                if !place.followers.is_empty() {
                    *flush = ViewFlush::Queued;
                    self.bulk.push_back(FlushItem::View(view));
                }
            }
        }
        for index in 0..self.views[view].visitors.len() {
            let slot = self.views[view].visitors[index].session;
            if left_out != Some(slot) {
                self.tell(&mut sessions[slot], slot, view, position);
            }
        }
        self.count_fresh(appended);
        let place = &mut self.views[view];
        place.log.trim(&mut self.pool);
        place.subscribers()
    }

    /// Counts bytes that the flush has to offer.
    fn count_fresh(&mut self, bytes: usize) {
        self.fresh_bytes += bytes;
        if !self.is_marked {
            self.is_marked = true;
            self.bulk.push_back(FlushItem::Mark);
        }
    }

    /// The mark has come up: what stood before it has been offered.
    fn pass_mark(&mut self) {
        self.marked_bytes = std::mem::take(&mut self.fresh_bytes);
        self.is_marked = self.marked_bytes > 0;
        if self.is_marked {
            self.bulk.push_back(FlushItem::Mark);
        }
    }

    /// Tells a visitor of a record at `position`.
    fn tell(&mut self, session: &mut Session, slot: SessionSlot, view: ViewSlot, position: u64) {
        match session.inbox.tail {
            Some(tail) if tail.view == view => {
                if session.connection.is_stalled() {
                    // Only the flush sees whether it lags too far.
                    self.enqueue_bulk(session, slot);
                }
                return;
            }
            Some(_) => self.settle(session),
            None => {}
        }
        session.inbox.tail = Some(Tail { view, position });
        self.views[view].log.visit(position);
        self.enqueue_bulk(session, slot);
    }

    /// Copies what waits in the session's tail behind its own bytes.
    pub fn settle(&mut self, session: &mut Session) {
        let Some(tail) = session.inbox.tail else {
            return;
        };
        let log = &mut self.views[tail.view].log;
        let end = log.end();
        log.copy_to(tail.position, session.connection.out.frames());
        Self::move_tail(log, &mut self.pool, session, tail, end);
        self.count_fresh(usize::try_from(end - tail.position).expect("a log is in memory"));
    }

    /// Drops what waits in the session's tail.
    pub fn drop_tail(&mut self, session: &mut Session) {
        if let Some(tail) = session.inbox.tail {
            let log = &mut self.views[tail.view].log;
            let end = log.end();
            Self::move_tail(log, &mut self.pool, session, tail, end);
        }
    }

    fn move_tail(log: &mut Log, pool: &mut SparePool, session: &mut Session, tail: Tail, to: u64) {
        let cursor = if session.inbox.subscriptions.len() == 1 { Cursor::Follower } else { Cursor::Visitor };
        log.advance(cursor, tail.position, to, pool);
        let gone = cursor == Cursor::Visitor && to == log.end();
        session.inbox.tail = (!gone).then_some(Tail { position: to, ..tail });
    }

    /// Where to append frames for one session, behind everything that it already has to take.
    pub fn frames<'a>(&mut self, session: &'a mut Session, slot: SessionSlot) -> &'a mut Vec<u8> {
        self.settle(session);
        self.enqueue(session, slot);
        session.connection.out.frames()
    }

    /// Puts a session among those to be flushed next.
    pub fn enqueue(&mut self, session: &mut Session, slot: SessionSlot) {
        if session.inbox.queued != Queued::Urgent {
            session.inbox.queued = Queued::Urgent;
            self.urgent.push_back(slot);
        }
    }

    /// Puts a session among those who receive broadcasts.
    fn enqueue_bulk(&mut self, session: &mut Session, slot: SessionSlot) {
        if session.inbox.queued == Queued::No {
            session.inbox.queued = Queued::Bulk;
            self.bulk.push_back(FlushItem::Session(slot));
        }
    }

    /// Puts a session among those who receive broadcasts if bytes of its own wait.
    fn enqueue_own(&mut self, session: &mut Session, slot: SessionSlot) {
        if !session.connection.out.is_empty() {
            self.enqueue_bulk(session, slot);
        }
    }

    /// Puts a session that took all it was offered, which was not all there is, before the bulk: the
    /// mark must not pass what nobody has been offered, or appending would outrun sending.
    fn enqueue_rest(&mut self, session: &mut Session, slot: SessionSlot) {
        if session.inbox.queued == Queued::No {
            session.inbox.queued = Queued::Bulk;
            self.bulk.push_front(FlushItem::Session(slot));
        }
    }

    /// Whether anything waits for the session.
    fn has_pending(&self, session: &Session) -> bool {
        let waits = |tail: Tail| tail.position < self.views[tail.view].log.end();
        !session.connection.out.is_empty() || session.inbox.tail.is_some_and(waits)
    }

    /// How many bytes wait for the session.
    #[must_use]
    pub fn lag(&self, session: &Session) -> u64 {
        let tail = session.inbox.tail.map_or(0, |tail| self.views[tail.view].log.end() - tail.position);
        session.connection.out.pending().len() as u64 + tail
    }

    /// The next step of the flush; none for now where it must be known first what those take who are offered
    /// something (`is_offered`).
    pub fn next_step(&mut self, sessions: &mut Receivers, is_offered: bool) -> Option<FlushStep> {
        loop {
            let step = if self.urgent.is_empty() || self.favoured >= FAVOURED_MAX && !self.bulk.is_empty() {
                self.favoured = 0;
                match self.bulk.front().copied() {
                    None => break,
                    Some(FlushItem::Session(slot)) => {
                        self.bulk.pop_front();
                        self.next_session(sessions, slot, Queued::Bulk)
                    }
                    Some(FlushItem::View(view)) => self.next_follower(sessions, view),
                    // What one of them has behind what it is offered goes before the mark.
                    Some(FlushItem::Mark) if is_offered => break,
                    Some(FlushItem::Mark) => {
                        self.bulk.pop_front();
                        self.pass_mark();
                        None
                    }
                }
            } else {
                self.favoured = if self.bulk.is_empty() { 0 } else { self.favoured + 1 };
                let slot = self.urgent.pop_front().expect("just looked");
                self.next_session(sessions, slot, Queued::Urgent)
            };
            if step.is_some() {
                return step;
            }
        }
        None
    }

    /// What to do with a session that stood in this queue.
    fn next_session(
        &mut self,
        sessions: &mut Receivers,
        slot: SessionSlot,
        queue: Queued,
    ) -> Option<FlushStep> {
        let (session, _) = sessions.at(slot)?;
        if session.inbox.queued != queue {
            return None;
        }
        session.inbox.queued = Queued::No;
        self.judge(session, slot)
    }

    /// The next follower with something to send; at the end of the list the view leaves the queue.
    fn next_follower(&mut self, sessions: &mut Receivers, view: ViewSlot) -> Option<FlushStep> {
        let Some(place) = self.views.at(view) else {
            self.bulk.pop_front();
            return None;
        };
        let (mut below, again) = match place.flush {
            // The slot was given to another view meanwhile.
            ViewFlush::Clean => {
                self.bulk.pop_front();
                return None;
            }
            ViewFlush::Queued => (place.followers.len(), false),
            ViewFlush::Running { below, again } => (below.min(place.followers.len()), again),
        };
        let end = place.log.end();
        while below > 0 {
            below -= 1;
            let place = &mut self.views[view];
            let slot = place.followers[below].session;
            let session = &mut sessions[slot];
            // Nearly all wait for nothing but this log, and take what they are sent.
            let step = if session.connection.is_clear() && !session.inbox.is_offered {
                session.inbox.tail.filter(|tail| tail.position < end).map(|_| FlushStep::Send(slot))
            } else {
                self.judge(session, slot)
            };
            if step.is_some() {
                self.views[view].flush = ViewFlush::Running { below, again };
                return step;
            }
        }
        self.bulk.pop_front();
        self.views[view].flush = if again {
            self.bulk.push_back(FlushItem::View(view));
            ViewFlush::Queued
        } else {
            ViewFlush::Clean
        };
        None
    }

    /// Whether the session has something to send, and may still be sent it.
    fn judge(&mut self, session: &mut Session, slot: SessionSlot) -> Option<FlushStep> {
        // What is offered already is gone on with when it is known how much of it was taken.
        if session.inbox.is_offered || !self.has_pending(session) {
            return None;
        }
        if session.connection.is_clear() {
            return Some(FlushStep::Send(slot));
        }
        let lag = self.lag(session);
        if !session.connection.is_stalled() {
            if lag <= SETTLE_BYTES_MAX {
                self.settle(session);
            }
            return Some(FlushStep::Send(slot));
        }
        self.lags_too_far(session).then_some(FlushStep::Condemn(slot))
    }

    /// Whether more waits for the session, which does not take it, than may.
    #[must_use]
    pub fn lags_too_far(&self, session: &Session) -> bool {
        let max = session.open().map(|open| u64::from(open.vhost.settings.lag_bytes_max));
        session.connection.is_stalled() && max.is_some_and(|max| self.lag(session) > max)
    }

    /// What is to be sent next, one contiguous range.
    #[must_use]
    pub fn pending<'a>(&'a self, session: &'a Session) -> &'a [u8] {
        let own = session.connection.out.pending();
        match session.inbox.tail {
            Some(tail) if own.is_empty() => self.views[tail.view].log.slice(tail.position),
            Some(_) | None => own,
        }
    }

    /// The first `bytes` of [`Fanout::pending`] were sent; returns whether that was all of it.
    /// The session is queued again if more waits behind.
    pub fn sent(&mut self, session: &mut Session, slot: SessionSlot, bytes: usize) -> bool {
        let out = &mut session.connection.out;
        let all = match session.inbox.tail {
            Some(tail) if out.is_empty() => self.sent_from_log(session, tail, bytes),
            Some(_) | None => {
                let all = bytes == out.pending().len();
                out.advance(bytes);
                all
            }
        };
        if all && self.has_pending(session) {
            self.enqueue_rest(session, slot);
        }
        all
    }

    /// Moves the tail behind what was sent, and tells whether that was all that was offered. The rest of
    /// a frame that has begun becomes the session's own, so that the tail stands at a frame boundary.
    fn sent_from_log(&mut self, session: &mut Session, tail: Tail, bytes: usize) -> bool {
        let log = &mut self.views[tail.view].log;
        let slice = log.slice(tail.position);
        let all = bytes == slice.len();
        let mut to = bytes;
        if !all {
            let begun = frame::frame_around(slice, bytes);
            if begun.start < bytes {
                session.connection.out.push_opaque(&slice[bytes..begun.end]);
                to = begun.end;
            }
        }
        Self::move_tail(log, &mut self.pool, session, tail, tail.position + to as u64);
        all
    }
}

#[cfg(test)]
mod tests;
