//! What changes of vhosts wait for: that all other shards have taken the leaves that this one has caused.

use std::collections::VecDeque;

use crate::{
    command::{CommandReply, Report, Ticket},
    link::Links,
    message::{OwnerRequest, Waiter},
};

/// The fences of a shard that are on their way.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// There are no more than the control thread has changes under way. When another shard stops, what waits
    /// for it is never reported: the node stops.
    sent: hashbrown::HashMap<Ticket<()>, Fence, ahash::RandomState>,
    /// How many leaves at other shards changes of vhosts have caused, or may cause by an answer that is awaited.
    caused: u64,
    /// So many of them have been taken for certain.
    taken: u64,
}

/// What a change of a vhost waits for.
#[derive(Debug)]
struct Fence {
    /// From how many other shards it has to come back.
    shards: usize,
    /// How many leaves had been caused when it was sent.
    leaves: u64,
}

impl Fences {
    /// A change of a vhost causes leaves at other shards, or may.
    pub(super) fn cause(&mut self, leaves: u64) {
        self.caused += leaves;
    }

    /// A vhost's change has reached all sessions: reports it, as soon as all other shards have taken the leaves that
    /// this and other changes have caused.
    pub(super) fn report(&mut self, ticket: Ticket<()>, links: &mut Links, reports: &mut VecDeque<Report>) {
        if self.caused == self.taken || links.other_shards().next().is_none() {
            return reports.push_back(Report::Replied(CommandReply::Applied(ticket)));
        }
        let mut shards = 0;
        for shard in links.other_shards() {
            links.ask(shard, OwnerRequest::Fence(Waiter::Command(ticket)));
            shards += 1;
        }
        self.sent.insert(ticket, Fence { shards, leaves: self.caused });
    }

    /// Another shard has taken everything that was said to it before the fence of a change.
    pub(super) fn passed(&mut self, ticket: Ticket<()>, links: &mut Links, reports: &mut VecDeque<Report>) {
        let fence = self.sent.get_mut(&ticket).expect("a fence comes back once from each shard");
        fence.shards -= 1;
        if fence.shards == 0 {
            self.taken = self.taken.max(fence.leaves);
            self.sent.remove(&ticket);
            // Answers that came back before the fence may have caused leaves of their own.
            self.report(ticket, links, reports);
        }
    }
}
