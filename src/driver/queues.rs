//! The queues between parties: one bounded, lock-free queue per ordered pair, so that messages from
//! one party to another stay in order and no two threads ever push to the same end. The parties are
//! the shards, and after them those that run in threads of their own.
//!
//! Nothing waits on a push. What finds no room stays in the sender's machine, and the receiver
//! wakes the sender as soon as it has made room.

use std::{
    fmt,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    time::Instant,
};

use crossbeam::queue::ArrayQueue;
use webrocket_state::{Party, ShardId};

use super::wake::Wake;

/// The most messages that one turn takes from each other party.
const MESSAGES_PER_TURN: usize = 256;

/// All queues between the parties of a node.
pub(super) struct Links<T> {
    /// From party `f` to party `t` at `f * parties + t`; none from a party to itself.
    links: Box<[Option<Link<T>>]>,
    wakes: Box<[Arc<Wake>]>,
}

struct Link<T> {
    queue: ArrayQueue<T>,
    /// The sender found the queue full and wants to be woken when there is room.
    is_sender_waiting: AtomicBool,
}

impl<T> Links<T> {
    /// Queues of `capacity` messages between parties that these wakes wake.
    pub(super) fn new(wakes: Box<[Arc<Wake>]>, capacity: usize) -> Self {
        let parties = wakes.len();
        let link = |index: usize| {
            (index / parties != index % parties)
                .then(|| Link { queue: ArrayQueue::new(capacity), is_sender_waiting: AtomicBool::new(false) })
        };
        Self { links: (0..parties * parties).map(link).collect(), wakes }
    }

    fn link(&self, from: usize, to: usize) -> Option<&Link<T>> {
        self.links[from * self.wakes.len() + to].as_ref()
    }
}

/// One party's ends of all its queues.
pub struct Port<T> {
    id: ShardId,
    links: Arc<Links<T>>,
}

impl<T> Port<T> {
    /// The ends that belong to party `id`.
    pub(super) fn new(id: ShardId, links: Arc<Links<T>>) -> Self {
        Self { id, links }
    }

    /// What wakes this party.
    #[must_use]
    pub fn wake(&self) -> &Arc<Wake> {
        &self.links.wakes[self.id.index()]
    }

    /// Says that this party is about to sleep; its queues must be looked at after this.
    pub fn prepare_sleep(&self) {
        self.wake().prepare();
    }

    /// Says that this party is awake.
    pub fn awake(&self) {
        self.wake().awake();
    }

    /// Takes a bounded number of messages from each other party, in the order of each; `received`
    /// may break off.
    pub fn receive(&self, mut received: impl FnMut(ShardId, T) -> ControlFlow<()>) {
        for (from, link) in self.inbound() {
            let mut has_room = false;
            let mut flow = ControlFlow::Continue(());
            for _ in 0..MESSAGES_PER_TURN {
                let Some(message) = link.queue.pop() else { break };
                has_room = true;
                flow = received(from, message);
                if flow.is_break() {
                    break;
                }
            }
            if has_room {
                // Either the sender sees the room after it said that it waits, or we see that it does.
                fence(Ordering::SeqCst);
                if link.is_sender_waiting.load(Ordering::Relaxed) {
                    link.is_sender_waiting.store(false, Ordering::Relaxed);
                    self.links.wakes[from.index()].wake();
                }
            }
            if flow.is_break() {
                return;
            }
        }
    }

    /// Passes on what the party has for others, as far as there is room, and wakes each receiver once.
    ///
    /// # Panics
    /// If somebody else pushes to the same queues.
    pub fn send_from<P: Party<Message = T>>(&self, now: Instant, party: &mut P) {
        for (to, link) in self.outbound() {
            let mut has_sent = false;
            while party.has_message(to) {
                if link.queue.is_full() {
                    link.is_sender_waiting.store(true, Ordering::Relaxed);
                    fence(Ordering::SeqCst);
                    if link.queue.is_full() {
                        break;
                    }
                }
                let Some(message) = party.next_message(now, to) else { break };
                assert!(link.queue.push(message).is_ok(), "nobody else pushes, so there was room");
                has_sent = true;
            }
            if has_sent {
                self.links.wakes[to.index()].wake();
            }
        }
    }

    /// Whether another party's message waits here.
    #[must_use]
    pub fn has_input(&self) -> bool {
        self.inbound().any(|(_, link)| !link.queue.is_empty())
    }

    /// Whether a message of the party finds room.
    pub fn can_send_from<P: Party<Message = T>>(&self, party: &P) -> bool {
        self.outbound().any(|(to, link)| party.has_message(to) && !link.queue.is_full())
    }

    fn inbound(&self) -> impl Iterator<Item = (ShardId, &Link<T>)> {
        let link = |from: ShardId| Some((from, self.links.link(from.index(), self.id.index())?));
        self.parties().filter_map(link)
    }

    fn outbound(&self) -> impl Iterator<Item = (ShardId, &Link<T>)> {
        let link = |to: ShardId| Some((to, self.links.link(self.id.index(), to.index())?));
        self.parties().filter_map(link)
    }

    fn parties(&self) -> impl Iterator<Item = ShardId> + use<T> {
        (0..u16::try_from(self.links.wakes.len()).expect("parties are counted in 16 bits")).map(ShardId)
    }
}

impl<T> fmt::Debug for Port<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({:?} of {})", self.id, self.links.wakes.len())
    }
}
