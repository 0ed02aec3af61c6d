//! The control thread's word: vhosts, their tokens and keys, takers over HTTP, what operators ask.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use webrocket_wire::{AccessToken, BackendKey};

use super::{
    Exchange, ExchangeCommand, ExchangeFigure, ExchangeOrder, ExchangeReport, QueueInfo, QueueLimits, Queued,
    message::{ExchangeReply, QueueShown},
};
use crate::{
    command::{Ticket, VhostNotFound},
    vhost::{Vhost, VhostId},
};

impl Exchange {
    pub(super) fn command(&mut self, now: Instant, command: ExchangeCommand) {
        match command {
            ExchangeCommand::PutVhost { ticket, vhost } => self.put_vhost(ticket, vhost),
            ExchangeCommand::RemoveVhost { ticket, vhost } => self.remove_vhost(ticket, vhost),
            ExchangeCommand::PutAccess { ticket, vhost, token, keys } => {
                self.put_access(ticket, vhost, token, keys);
            }
            ExchangeCommand::ClientAnswered { request, answer } => self.client_answered(request, answer),
            ExchangeCommand::ChannelChanged { request, outcome } => self.channel_changed(request, outcome),
            ExchangeCommand::OpenSource { ticket, source, vhost, filter, mode } => {
                self.open_source(now, ticket, source, vhost, (filter, mode));
            }
            ExchangeCommand::SourceTook { source, id } => self.source_took(now, source, id),
            ExchangeCommand::CloseSource { source } => self.close_source(source),
            ExchangeCommand::ListWorkers { ticket, vhost } => {
                let workers = self.desks.workers(vhost);
                self.command_reply(ExchangeReply::Workers(ticket, workers));
            }
            ExchangeCommand::ShowQueue { ticket, vhost } => self.show_queue(ticket, vhost),
            ExchangeCommand::Serve => self.is_serving = true,
            ExchangeCommand::Shutdown => self.shut_down(),
        }
    }

    pub(super) fn command_reply(&mut self, reply: ExchangeReply) {
        self.reports.push_back(ExchangeReport::Replied(reply));
    }

    fn put_vhost(&mut self, ticket: Ticket<()>, vhost: Arc<Vhost>) {
        self.desks.put_vhost(vhost.id, QueueLimits::from(&vhost.settings));
        self.vhosts.put(vhost);
        self.command_reply(ExchangeReply::Applied(ticket));
    }

    fn put_access(
        &mut self,
        ticket: Ticket<()>,
        vhost: VhostId,
        token: AccessToken,
        keys: Arc<BTreeSet<BackendKey>>,
    ) {
        if self.vhosts.put_access(vhost, token, keys) {
            self.cut_off(vhost);
        }
        self.command_reply(ExchangeReply::Applied(ticket));
    }

    fn remove_vhost(&mut self, ticket: Ticket<()>, vhost: VhostId) {
        // First the desk with all that is there: nothing goes from one worker to the next any more.
        let dropped = self.desks.remove_vhost(vhost);
        self.figures.add(ExchangeFigure::Dropped, dropped);
        self.cut_off(vhost);
        self.vhosts.remove(vhost);
        self.command_reply(ExchangeReply::Applied(ticket));
    }

    /// Cuts off everybody who was let in to a vhost: workers and sources are told, streams are cut; clients
    /// hear of it when they ask again.
    fn cut_off(&mut self, vhost: VhostId) {
        self.desks.dismiss_all(vhost);
        self.settle();
        let Some(entry) = self.vhosts.entry_mut(vhost) else { return };
        let streams = entry.streams.clear();
        for source in std::mem::take(&mut entry.sources) {
            self.cut_source(source);
        }
        self.figures.subtract(ExchangeFigure::Streams, streams);
        self.orders.push_back(Queued::Order(ExchangeOrder::CutStreams { vhost }));
    }

    fn show_queue(&mut self, ticket: Ticket<QueueShown>, vhost: VhostId) {
        let entry = self.vhosts.entry(vhost);
        let counts = entry.zip(self.desks.counts(vhost)).map(|(entry, counts)| {
            let streams = entry.streams.len() + self.sources.count_streams(&entry.sources);
            QueueInfo { streams, ..counts }
        });
        self.command_reply(ExchangeReply::Queue(ticket, counts.ok_or(VhostNotFound)));
    }

    /// Tells all workers to go.
    fn shut_down(&mut self) {
        self.is_stopping = true;
        for vhost in self.vhosts.ids() {
            self.cut_off(vhost);
        }
        self.orders.push_back(Queued::Order(ExchangeOrder::Stop));
    }
}
