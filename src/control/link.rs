//! The control thread's way to the shards and the exchange: commands in order, none lost, and
//! their replies.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::oneshot;
use webrocket_state::{
    Command, ShardId,
    command::{ChannelInfo, Described, Found, Heard, Opened, Ticket},
    exchange::{
        ExchangeCommand, WorkerInfo,
        message::{QueueShown, SourceOpened},
    },
};

use super::figures::ControlFigures;
use crate::driver::mailbox::Mailbox;

/// Commands that may wait for room in mailboxes before the control thread takes in no more work.
const BACKLOG_MAX: usize = 1_024;

/// Sends commands to shards and to the exchange, and keeps account of those that are not replied yet.
///
/// A command that finds its receiver's mailbox full waits here, and so do all later ones to that
/// receiver; [`Link::flush`] sends them on. Whoever uses the link takes in new work only while it
/// [has room](Link::has_room), so what waits is bounded.
///
/// `A` is who goes on when replies are complete.
pub(super) struct Link<A> {
    shards: Vec<Way<Command>>,
    exchange: Way<ExchangeCommand>,
    pending: Pending<A>,
    next_ticket: u64,
    figures: Arc<ControlFigures>,
}

/// The way to one receiver.
struct Way<C> {
    mailbox: Mailbox<C>,
    backlog: VecDeque<C>,
}

/// What follows once everybody concerned has replied.
pub(super) type Then<A, R> = Box<dyn FnOnce(&mut A, Ticket<R>, Vec<R>) + Send>;

/// Tells this caller the replies.
pub(super) fn tell<A, R: Replied>(told: oneshot::Sender<Vec<R>>) -> Then<A, R> {
    Box::new(move |_, _, replies| drop(told.send(replies)))
}

/// Nothing follows: what comes next is replied too.
pub(super) fn nothing<A, R>() -> Then<A, R> {
    Box::new(|_, _, _| {})
}

/// A command, or several under one ticket, not replied by everybody concerned.
pub(super) struct Open<A, R> {
    replies_left: usize,
    replies: Vec<R>,
    then: Then<A, R>,
}

/// What a command may be replied.
pub(super) trait Replied: Sized + Send + 'static {
    /// The commands that are replied this, by their tickets' numbers.
    fn pending<A>(pending: &mut Pending<A>) -> &mut HashMap<u64, Open<A, Self>>;
}

macro_rules! replies {
    ($($field:ident: $reply:ty),* $(,)?) => {
        /// The commands that are not replied by everybody concerned, by what they are replied.
        pub(super) struct Pending<A> {
            $($field: HashMap<u64, Open<A, $reply>>,)*
        }

        impl<A> Default for Pending<A> {
            fn default() -> Self {
                Self { $($field: HashMap::new(),)* }
            }
        }

        $(impl Replied for $reply {
            fn pending<A>(pending: &mut Pending<A>) -> &mut HashMap<u64, Open<A, Self>> {
                &mut pending.$field
            }
        })*
    };
}

replies! {
    applied: (),
    opened: Opened,
    found: Found,
    heard: Heard,
    listed: Vec<ChannelInfo>,
    described: Described,
    sources: SourceOpened,
    workers: Vec<WorkerInfo>,
    queues: QueueShown,
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

impl<A> Link<A> {
    pub(super) fn new(
        shards: Vec<Mailbox<Command>>,
        exchange: Mailbox<ExchangeCommand>,
        figures: Arc<ControlFigures>,
    ) -> Self {
        Self {
            shards: shards.into_iter().map(Way::new).collect(),
            exchange: Way::new(exchange),
            pending: Pending::default(),
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

    /// Sends to all shards a command that none of them replies to.
    pub(super) fn send_all(&mut self, command: impl Fn() -> Command) {
        for shard in self.shard_ids() {
            self.send(shard, command());
        }
    }

    /// Sends a command to one shard that replies.
    pub(super) fn ask<R: Replied>(
        &mut self,
        shard: ShardId,
        command: impl FnOnce(Ticket<R>) -> Command,
        then: Then<A, R>,
    ) -> Ticket<R> {
        let ticket = self.ticket(1, then);
        self.send(shard, command(ticket));
        ticket
    }

    /// Sends a command to the exchange, which replies.
    pub(super) fn ask_exchange<R: Replied>(
        &mut self,
        command: impl FnOnce(Ticket<R>) -> ExchangeCommand,
        then: Then<A, R>,
    ) {
        let ticket = self.ticket(1, then);
        self.send_exchange(command(ticket));
    }

    /// Sends a command for each subject, at least one, to one shard that replies to each.
    pub(super) fn ask_each<S, R: Replied>(
        &mut self,
        shard: ShardId,
        subjects: Vec<S>,
        command: impl Fn(Ticket<R>, S) -> Command,
        then: Then<A, R>,
    ) {
        assert!(!subjects.is_empty(), "nothing would ever be replied");
        let ticket = self.ticket(subjects.len(), then);
        for subject in subjects {
            self.send(shard, command(ticket, subject));
        }
    }

    /// Sends a command for each subject, at least one, to all shards; each replies to each.
    pub(super) fn ask_all_each<S, R: Replied>(
        &mut self,
        subjects: &[S],
        command: impl Fn(Ticket<R>, &S) -> Command,
        then: Then<A, R>,
    ) {
        assert!(!subjects.is_empty(), "nothing would ever be replied");
        let ticket = self.ticket(self.shards.len() * subjects.len(), then);
        for shard in self.shard_ids() {
            for subject in subjects {
                self.send(shard, command(ticket, subject));
            }
        }
    }

    /// Sends a command to all shards; each replies.
    pub(super) fn ask_all<R: Replied>(&mut self, command: impl Fn(Ticket<R>) -> Command, then: Then<A, R>) {
        let ticket = self.ticket(self.shards.len(), then);
        for shard in self.shard_ids() {
            self.send(shard, command(ticket));
        }
    }

    /// Sends a command to all shards and to the exchange; each replies.
    pub(super) fn ask_everybody(
        &mut self,
        to_shard: impl Fn(Ticket<()>) -> Command,
        to_exchange: impl FnOnce(Ticket<()>) -> ExchangeCommand,
        then: Then<A, ()>,
    ) {
        let ticket = self.ticket(self.shards.len() + 1, then);
        self.send_exchange(to_exchange(ticket));
        for shard in self.shard_ids() {
            self.send(shard, to_shard(ticket));
        }
    }

    /// Takes a reply. Returns what is to be done with all of them, if it was the last one of its ticket.
    pub(super) fn replied<R: Replied>(
        &mut self,
        ticket: Ticket<R>,
        reply: R,
    ) -> Option<(Then<A, R>, Vec<R>)> {
        let pending = R::pending(&mut self.pending);
        let open = pending.get_mut(&ticket.number()).expect("what was told is replied, once");
        open.replies.push(reply);
        open.replies_left -= 1;
        if open.replies_left > 0 {
            return None;
        }
        let open = pending.remove(&ticket.number()).expect("it was there");
        Some((open.then, open.replies))
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

    fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<A> {
        (0..self.shards.len()).map(|index| ShardId(u16::try_from(index).expect("a node has fewer shards")))
    }

    fn ticket<R: Replied>(&mut self, replies: usize, then: Then<A, R>) -> Ticket<R> {
        let ticket = Ticket::new(self.next_ticket);
        self.next_ticket += 1;
        let open = Open { replies_left: replies, replies: Vec::with_capacity(replies), then };
        R::pending(&mut self.pending).insert(ticket.number(), open);
        ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::wake::Wake;
    use crossbeam::queue::ArrayQueue;
    use webrocket_state::{VhostId, command::NotOpened};
    use webrocket_wire::ChannelName;

    type Queue<C> = Arc<ArrayQueue<C>>;

    /// A link and the queues behind its mailboxes: those of the shards, and the exchange's.
    fn link(shards: usize, room: usize) -> (Link<()>, Vec<Queue<Command>>, Queue<ExchangeCommand>) {
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
                Command::RemoveVhost { ticket, .. } => ticket.number(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_full_mailbox_keeps_order_and_loses_nothing() {
        let (mut link, queues, _exchange) = link(2, 2);
        let remove = |ticket| Command::RemoveVhost { ticket, vhost: VhostId(1) };
        for _ in 0..5 {
            link.ask(ShardId(0), remove, nothing());
        }
        link.ask(ShardId(1), remove, nothing());
        assert!(link.is_backlogged() && link.has_room());
        assert_eq!(tickets(&queues[1]), [5], "another shard waits for nobody");
        assert_eq!(queues[0].pop().map(|_| ()), Some(()));
        link.ask(ShardId(0), remove, nothing());
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
    fn a_ticket_is_done_when_every_shard_has_replied() {
        let (mut link, _queues, _exchange) = link(2, 8);
        let (vhost, channel) = (VhostId(1), "a".parse::<ChannelName>().unwrap());
        let command = |ticket| Command::OpenChannel { ticket, vhost, channel: channel.clone() };
        link.ask_all(command, nothing());
        let refused: Opened = Err(NotOpened::ChannelLimit);
        assert!(link.replied::<Opened>(Ticket::new(0), Ok(())).is_none());
        let (_, replies) = link.replied(Ticket::new(0), refused).expect("the last one");
        assert_eq!(replies, [Ok(()), refused]);
    }

    #[test]
    fn the_exchange_is_one_of_everybody() {
        let (mut link, queues, exchange) = link(2, 1);
        let vhost = VhostId(1);
        for _ in 0..2 {
            link.ask_everybody(
                |ticket| Command::RemoveVhost { ticket, vhost },
                |ticket| ExchangeCommand::RemoveVhost { ticket, vhost },
                nothing(),
            );
        }
        let mut removed = Vec::new();
        while removed.len() < 2 {
            match exchange.pop() {
                Some(ExchangeCommand::RemoveVhost { ticket, .. }) => removed.push(ticket.number()),
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
            assert_eq!(link.replied(Ticket::new(0), ()).is_some(), left == 0);
        }
    }

    #[test]
    fn several_commands_are_one_ticket() {
        let (mut link, queues, _exchange) = link(2, 2);
        let remove = |ticket, vhost: &VhostId| Command::RemoveVhost { ticket, vhost: *vhost };
        let subjects = vec![VhostId(1), VhostId(2), VhostId(3)];
        link.ask_all_each(&subjects, remove, nothing());
        link.ask_each(ShardId(1), subjects, |ticket, vhost| remove(ticket, &vhost), nothing());
        let mut seen = tickets(&queues[1]);
        while link.is_backlogged() {
            link.flush();
            seen.extend(tickets(&queues[1]));
            tickets(&queues[0]);
        }
        assert_eq!(seen, [0, 0, 0, 1, 1, 1]);
        for left in (0..6).rev() {
            assert_eq!(link.replied(Ticket::new(0), ()).is_some(), left == 0);
        }
        for left in (0..3).rev() {
            assert_eq!(link.replied(Ticket::new(1), ()).is_some(), left == 0);
        }
    }
}
