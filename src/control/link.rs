//! The control thread's way to the shards and the exchange: commands in order, none lost, and
//! their reports.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::oneshot;
use webrocket_state::{
    Command, ShardId,
    exchange::{ExchangeCommand, message::ClientAnswer},
    message::{Outcome, RequestRef, Ticket},
};

use super::{channels::SentChannel, figures::ControlFigures};
use crate::driver::mailbox::Mailbox;

/// Commands that may wait for room in mailboxes before the control thread takes in no more work.
const BACKLOG_MAX: usize = 1_024;

/// Sends commands to shards and to the exchange, and keeps account of those that are not reported yet.
///
/// A command that finds its receiver's mailbox full waits here, and so do all later ones to that
/// receiver; [`Link::flush`] sends them on. Whoever uses the link takes in new work only while it
/// [has room](Link::has_room), so what waits is bounded.
pub(super) struct Link {
    shards: Vec<Way<Command>>,
    exchange: Way<ExchangeCommand>,
    pending: HashMap<Ticket, Pending>,
    next_ticket: u64,
    figures: Arc<ControlFigures>,
}

/// The way to one receiver.
struct Way<C> {
    mailbox: Mailbox<C>,
    backlog: VecDeque<C>,
}

/// A command, or several under one ticket, not reported by everybody concerned.
struct Pending {
    reports_left: usize,
    outcomes: Vec<Outcome>,
    then: Then,
}

/// What to do once everybody concerned has reported.
pub(super) enum Then {
    /// Tell this caller.
    Tell(oneshot::Sender<Vec<Outcome>>),
    /// Conclude a channel's opening or closing.
    Channel(SentChannel),
    /// Answer a client of the exchange, for whom the outcomes come to this.
    Client(RequestRef, fn(Vec<Outcome>) -> ClientAnswer),
    /// One step less to readiness.
    Start,
    /// Nothing: what follows it is reported too.
    Nothing,
}

impl<C> Way<C> {
    fn new(mailbox: Mailbox<C>) -> Self {
        Self { mailbox, backlog: VecDeque::new() }
    }

    /// Sends a command, or keeps it until there is room. Returns whether it was sent.
    fn send(&mut self, command: C) -> bool {
        let refused = if self.backlog.is_empty() { self.mailbox.try_send(command) } else { Err(command) };
        match refused {
            Ok(()) => true,
            Err(command) => {
                self.backlog.push_back(command);
                false
            }
        }
    }

    fn flush(&mut self) {
        while let Some(command) = self.backlog.pop_front() {
            if let Err(command) = self.mailbox.try_send(command) {
                self.backlog.push_front(command);
                return;
            }
        }
    }
}

impl Link {
    pub(super) fn new(
        shards: Vec<Mailbox<Command>>,
        exchange: Mailbox<ExchangeCommand>,
        figures: Arc<ControlFigures>,
    ) -> Self {
        Self {
            shards: shards.into_iter().map(Way::new).collect(),
            exchange: Way::new(exchange),
            pending: HashMap::new(),
            next_ticket: 0,
            figures,
        }
    }

    /// Sends a command to one shard.
    pub(super) fn send(&mut self, shard: ShardId, command: Command) {
        let sent = self.shards[shard.index()].send(command);
        self.count(sent);
    }

    /// Sends a command to the exchange.
    pub(super) fn send_exchange(&mut self, command: ExchangeCommand) {
        let sent = self.exchange.send(command);
        self.count(sent);
    }

    /// Sends to all shards a command that none of them reports.
    pub(super) fn send_all(&mut self, command: impl Fn() -> Command) {
        for shard in self.shard_ids() {
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

    /// Sends a command to the exchange, which reports it.
    pub(super) fn ask_exchange(&mut self, command: impl FnOnce(Ticket) -> ExchangeCommand, then: Then) {
        let ticket = self.ticket(1, then);
        self.send_exchange(command(ticket));
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
        let ticket = self.ticket(self.shards.len() * subjects.len(), then);
        for shard in self.shard_ids() {
            for subject in subjects {
                self.send(shard, command(ticket, subject));
            }
        }
    }

    /// Sends a command to all shards; each reports it.
    pub(super) fn ask_all(&mut self, command: impl Fn(Ticket) -> Command, then: Then) {
        let ticket = self.ticket(self.shards.len(), then);
        for shard in self.shard_ids() {
            self.send(shard, command(ticket));
        }
    }

    /// Sends a command to all shards and to the exchange; each reports it.
    pub(super) fn ask_everybody(
        &mut self,
        to_shard: impl Fn(Ticket) -> Command,
        to_exchange: impl FnOnce(Ticket) -> ExchangeCommand,
        then: Then,
    ) {
        let ticket = self.ticket(self.shards.len() + 1, then);
        self.send_exchange(to_exchange(ticket));
        for shard in self.shard_ids() {
            self.send(shard, to_shard(ticket));
        }
    }

    /// Takes a report. Returns what to do, if it was the last one of its ticket.
    pub(super) fn applied(&mut self, ticket: Ticket, outcome: Outcome) -> Option<(Then, Vec<Outcome>)> {
        let pending = self.pending.get_mut(&ticket).expect("what was told is reported, once");
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
        self.shards.iter_mut().for_each(Way::flush);
        self.exchange.flush();
        self.figures.mailbox_backlog.set(self.backlogged());
    }

    /// Whether commands wait for room.
    pub(super) fn is_backlogged(&self) -> bool {
        self.backlogged() > 0
    }

    /// Whether new work may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.backlogged() < BACKLOG_MAX
    }

    fn backlogged(&self) -> usize {
        self.exchange.backlog.len() + self.shards.iter().map(|way| way.backlog.len()).sum::<usize>()
    }

    fn count(&self, sent: bool) {
        if !sent {
            self.figures.mailbox_retries_total.increment();
            self.figures.mailbox_backlog.set(self.backlogged());
        }
    }

    fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards.len()).map(|index| ShardId(u16::try_from(index).expect("a node has fewer shards")))
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

    type Queue<C> = Arc<ArrayQueue<C>>;

    /// A link and the queues behind its mailboxes: those of the shards, and the exchange's.
    fn link(shards: usize, room: usize) -> (Link, Vec<Queue<Command>>, Queue<ExchangeCommand>) {
        fn mailbox<C>(queue: &Queue<C>) -> Mailbox<C> {
            Mailbox::new(Arc::clone(queue), Arc::new(Wake::new().unwrap()))
        }
        let queues: Vec<_> = (0..shards).map(|_| Arc::new(ArrayQueue::new(room))).collect();
        let exchange = Arc::new(ArrayQueue::new(room));
        let link = Link::new(queues.iter().map(mailbox).collect(), mailbox(&exchange), Arc::default());
        (link, queues, exchange)
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
        let (mut link, queues, _exchange) = link(2, 2);
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
        let (mut link, _queues, _exchange) = link(2, 8);
        link.ask_all(|ticket| Command::ListChannels { ticket, vhost: VhostId(1) }, Then::Start);
        assert!(link.applied(Ticket(0), Outcome::Done).is_none());
        let (_, outcomes) = link.applied(Ticket(0), Outcome::VhostNotFound).expect("the last one");
        assert_eq!(outcomes, [Outcome::Done, Outcome::VhostNotFound]);
    }

    #[test]
    fn the_exchange_is_one_of_everybody() {
        let (mut link, queues, exchange) = link(2, 1);
        let vhost = VhostId(1);
        for _ in 0..2 {
            link.ask_everybody(
                |ticket| Command::RemoveVhost { ticket, vhost },
                |ticket| ExchangeCommand::RemoveVhost { ticket, vhost },
                Then::Nothing,
            );
        }
        let mut removed = Vec::new();
        while removed.len() < 2 {
            match exchange.pop() {
                Some(ExchangeCommand::RemoveVhost { ticket, .. }) => removed.push(ticket.0),
                other => panic!("{other:?}"),
            }
            link.flush();
        }
        assert_eq!(removed, [0, 1], "in order, as far as there is room");
        assert!(link.is_backlogged(), "the shards take their time");
        for queue in &queues {
            assert_eq!(tickets(queue), [0]);
        }
        link.flush();
        assert!(!link.is_backlogged());
        for left in (0..3).rev() {
            assert_eq!(link.applied(Ticket(0), Outcome::Done).is_some(), left == 0);
        }
    }

    #[test]
    fn several_commands_are_one_ticket() {
        let (mut link, queues, _exchange) = link(2, 2);
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
