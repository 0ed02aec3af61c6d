//! The control thread's way to the shards: commands in order, none lost, and their reports.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::oneshot;
use webrocket_state::{
    Command, ShardId,
    message::{Outcome, Ticket},
};

use super::{channels::SentChannel, figures::ControlFigures};
use crate::driver::mailbox::Mailbox;

/// Commands that may wait for room in mailboxes before the control thread takes in no more work.
const BACKLOG_MAX: usize = 1_024;

/// Sends commands to shards and keeps account of those that are not reported yet.
///
/// A command that finds its shard's mailbox full waits here, and so do all later ones to that
/// shard; [`Link::flush`] sends them on. Whoever uses the link takes in new work only while it
/// [has room](Link::has_room), so what waits is bounded.
pub(super) struct Link {
    mailboxes: Vec<Mailbox<Command>>,
    backlog: Vec<VecDeque<Command>>,
    backlogged: usize,
    pending: HashMap<Ticket, Pending>,
    next_ticket: u64,
    figures: Arc<ControlFigures>,
}

/// A command, or several under one ticket, not reported by every shard concerned.
struct Pending {
    reports_left: usize,
    outcomes: Vec<Outcome>,
    then: Then,
}

/// What to do once every shard concerned has reported.
pub(super) enum Then {
    /// Tell this caller.
    Tell(oneshot::Sender<Vec<Outcome>>),
    /// Conclude a channel's opening or closing.
    Channel(SentChannel),
    /// One step less to readiness.
    Start,
}

impl Link {
    pub(super) fn new(mailboxes: Vec<Mailbox<Command>>, figures: Arc<ControlFigures>) -> Self {
        let backlog = mailboxes.iter().map(|_| VecDeque::new()).collect();
        Self { mailboxes, backlog, backlogged: 0, pending: HashMap::new(), next_ticket: 0, figures }
    }

    /// Sends a command to one shard.
    pub(super) fn send(&mut self, shard: ShardId, command: Command) {
        let backlog = &mut self.backlog[shard.index()];
        let refused =
            if backlog.is_empty() { self.mailboxes[shard.index()].try_send(command) } else { Err(command) };
        if let Err(command) = refused {
            backlog.push_back(command);
            self.backlogged += 1;
            self.figures.mailbox_retries_total.increment();
            self.figures.mailbox_backlog.set(self.backlogged);
        }
    }

    /// Sends to all shards a command that none of them reports.
    pub(super) fn send_all(&mut self, command: impl Fn() -> Command) {
        for shard in self.shards() {
            self.send(shard, command());
        }
    }

    /// Sends a command to one shard that reports it.
    pub(super) fn ask(
        &mut self,
        shard: ShardId,
        command: impl FnOnce(Ticket) -> Command,
        then: Then,
    ) -> Ticket {
        let ticket = self.ticket(1, then);
        self.send(shard, command(ticket));
        ticket
    }

    /// Sends a command for each subject, at least one, to one shard that reports each.
    pub(super) fn ask_each<S>(
        &mut self,
        shard: ShardId,
        subjects: Vec<S>,
        command: impl Fn(Ticket, S) -> Command,
        then: Then,
    ) {
        assert!(!subjects.is_empty(), "nothing would ever be reported");
        let ticket = self.ticket(subjects.len(), then);
        for subject in subjects {
            self.send(shard, command(ticket, subject));
        }
    }

    /// Sends a command for each subject, at least one, to all shards; each reports each.
    pub(super) fn ask_all_each<S>(
        &mut self,
        subjects: &[S],
        command: impl Fn(Ticket, &S) -> Command,
        then: Then,
    ) {
        assert!(!subjects.is_empty(), "nothing would ever be reported");
        let ticket = self.ticket(self.mailboxes.len() * subjects.len(), then);
        for shard in self.shards() {
            for subject in subjects {
                self.send(shard, command(ticket, subject));
            }
        }
    }

    /// Sends a command to all shards; each reports it.
    pub(super) fn ask_all(&mut self, command: impl Fn(Ticket) -> Command, then: Then) {
        let ticket = self.ticket(self.mailboxes.len(), then);
        for shard in self.shards() {
            self.send(shard, command(ticket));
        }
    }

    /// Takes a shard's report. Returns what to do, if it was the last one of its ticket.
    pub(super) fn applied(&mut self, ticket: Ticket, outcome: Outcome) -> Option<(Then, Vec<Outcome>)> {
        let pending = self.pending.get_mut(&ticket).expect("a shard reports what it was told, once");
        pending.outcomes.push(outcome);
        pending.reports_left -= 1;
        if pending.reports_left > 0 {
            return None;
        }
        let pending = self.pending.remove(&ticket).expect("it was there");
        Some((pending.then, pending.outcomes))
    }

    /// Sends on what waits, as far as mailboxes have room.
    pub(super) fn flush(&mut self) {
        for (mailbox, backlog) in self.mailboxes.iter().zip(&mut self.backlog) {
            while let Some(command) = backlog.pop_front() {
                if let Err(command) = mailbox.try_send(command) {
                    backlog.push_front(command);
                    break;
                }
                self.backlogged -= 1;
            }
        }
        self.figures.mailbox_backlog.set(self.backlogged);
    }

    /// Whether commands wait for room.
    pub(super) fn is_backlogged(&self) -> bool {
        self.backlogged > 0
    }

    /// Whether new work may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.backlogged < BACKLOG_MAX
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.mailboxes.len()).map(|index| ShardId(u16::try_from(index).expect("a node has fewer shards")))
    }

    fn ticket(&mut self, reports: usize, then: Then) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.pending
            .insert(ticket, Pending { reports_left: reports, outcomes: Vec::with_capacity(reports), then });
        ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::wake::Wake;
    use crossbeam::queue::ArrayQueue;
    use webrocket_state::VhostId;

    fn link(shards: usize, room: usize) -> (Link, Vec<Arc<ArrayQueue<Command>>>) {
        let queues: Vec<_> = (0..shards).map(|_| Arc::new(ArrayQueue::new(room))).collect();
        let mailbox = |queue: &Arc<_>| Mailbox::new(Arc::clone(queue), Arc::new(Wake::new().unwrap()));
        (Link::new(queues.iter().map(mailbox).collect(), Arc::default()), queues)
    }

    fn tickets(queue: &ArrayQueue<Command>) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop())
            .map(|command| match command {
                Command::RemoveVhost { ticket, .. } => ticket.0,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_full_mailbox_keeps_order_and_loses_nothing() {
        let (mut link, queues) = link(2, 2);
        let remove = |ticket| Command::RemoveVhost { ticket, vhost: VhostId(1) };
        for _ in 0..5 {
            link.ask(ShardId(0), remove, Then::Start);
        }
        link.ask(ShardId(1), remove, Then::Start);
        assert!(link.is_backlogged() && link.has_room());
        assert_eq!(tickets(&queues[1]), [5], "another shard waits for nobody");
        assert_eq!(queues[0].pop().map(|_| ()), Some(()));
        link.ask(ShardId(0), remove, Then::Start);
        let mut seen = Vec::new();
        while link.is_backlogged() {
            seen.extend(tickets(&queues[0]));
            link.flush();
        }
        seen.extend(tickets(&queues[0]));
        assert_eq!(seen, [1, 2, 3, 4, 6]);
        assert_eq!(link.figures.mailbox_retries_total.value(), 4);
    }

    #[test]
    fn a_ticket_is_done_when_every_shard_has_reported() {
        let (mut link, _queues) = link(2, 8);
        link.ask_all(|ticket| Command::ListChannels { ticket, vhost: VhostId(1) }, Then::Start);
        assert!(link.applied(Ticket(0), Outcome::Done).is_none());
        let (_, outcomes) = link.applied(Ticket(0), Outcome::VhostNotFound).expect("the last one");
        assert_eq!(outcomes, [Outcome::Done, Outcome::VhostNotFound]);
    }

    #[test]
    fn several_commands_are_one_ticket() {
        let (mut link, queues) = link(2, 2);
        let remove = |ticket, vhost: &VhostId| Command::RemoveVhost { ticket, vhost: *vhost };
        let subjects = vec![VhostId(1), VhostId(2), VhostId(3)];
        link.ask_all_each(&subjects, remove, Then::Start);
        link.ask_each(ShardId(1), subjects, |ticket, vhost| remove(ticket, &vhost), Then::Start);
        let mut seen = tickets(&queues[1]);
        while link.is_backlogged() {
            link.flush();
            seen.extend(tickets(&queues[1]));
            tickets(&queues[0]);
        }
        assert_eq!(seen, [0, 0, 0, 1, 1, 1]);
        for left in (0..6).rev() {
            assert_eq!(link.applied(Ticket(0), Outcome::Done).is_some(), left == 0);
        }
        for left in (0..3).rev() {
            assert_eq!(link.applied(Ticket(1), Outcome::Done).is_some(), left == 0);
        }
    }
}
