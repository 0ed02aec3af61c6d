//! What the control thread does for the exchange: it answers clients' questions, and takes events over HTTP for
//! workers and streams that take them, stall, and go.

use std::{collections::VecDeque, sync::Arc};

use webrocket_state::{
    VhostId,
    command::Changed,
    exchange::{
        ExchangeCommand, ExchangeReport, Filter,
        message::{ClientAnswer, ClientQuestion, ExchangeReply, SourceId, SourceMode},
    },
    ids::RequestRef,
    pattern,
};
use webrocket_wire::{AccessToken, SingleAccessToken, Status};

use super::{Ask, Control, sources::Source};
use crate::{
    chance::Chance,
    net::{Actor, Net},
    oracles::triggers::FILTERS,
    peers::token_for,
    scenario::{Scenario, VHOSTS},
    time::Micros,
};

impl Control {
    /// Tells the exchange something.
    pub(super) fn tell_exchange(&self, net: &mut Net, delay: Micros, command: ExchangeCommand) {
        let at = net.exchange_commands.push(net.now + delay, command);
        net.wakes.push((Actor::Exchange, at));
    }

    /// A vhost's backends get another token.
    pub(super) fn put_access(&mut self, net: &mut Net, chance: &mut Chance, index: usize, vhost: VhostId) {
        let token = AccessToken::from_bytes(chance.bytes());
        net.access[index] = Some(token.reveal());
        let ticket = self.ticket(Ask::Vhost);
        self.tell_exchange(net, 0, ExchangeCommand::PutAccess { ticket, vhost, token, keys: Arc::default() });
    }

    /// Tells whoever asked, a shard or the exchange, what came of a channel.
    pub(super) fn channel_changed(
        &self,
        net: &mut Net,
        delay: Micros,
        request: RequestRef,
        outcome: Changed,
    ) {
        if request.session.shard == self.directory.exchange() {
            self.tell_exchange(net, delay, ExchangeCommand::ChannelChanged { request, outcome });
        } else {
            let shard = request.session.shard.index();
            self.send(net, shard, delay, webrocket_state::Command::ChannelChanged { request, outcome });
        }
    }

    pub(super) fn exchange_reports(&mut self, net: &mut Net, chance: &mut Chance, report: ExchangeReport) {
        let delay = chance.small(3_000);
        match report {
            ExchangeReport::Replied(reply) => self.exchange_replied(&reply),
            ExchangeReport::OpenChannel { request, vhost, channel } => {
                self.send_owner(net, delay, Ask::Open(vhost, channel, Some(request)));
            }
            ExchangeReport::CloseChannel { request, vhost, channel } => {
                self.send_owner(net, delay, Ask::Close(vhost, channel, Some(request)));
            }
            ExchangeReport::AskForClient { request, question, .. } => {
                let answer = match question {
                    ClientQuestion::IssueToken { uid, .. } => {
                        ClientAnswer::Token(Box::new(SingleAccessToken::from_bytes(token_for(&uid))))
                    }
                    ClientQuestion::SendMessage { .. } => ClientAnswer::Refused(Status::SessionNotFound),
                    ClientQuestion::ListMembers { .. } => ClientAnswer::Present(Vec::new()),
                };
                self.tell_exchange(net, delay, ExchangeCommand::ClientAnswered { request, answer });
            }
            ExchangeReport::SourceEvent { source, id, .. } => {
                let source = self.sources.all.iter_mut().find(|known| known.id == source);
                source.into_iter().for_each(|source| source.waiting.push_back(id));
            }
            ExchangeReport::SourceClosed { source } => self.sources.all.retain(|known| known.id != source),
        }
    }

    /// Only that it came counts: nobody asks for workers or for what waits.
    fn exchange_replied(&mut self, reply: &ExchangeReply) {
        match reply {
            ExchangeReply::Applied(ticket) => drop(self.asked(*ticket)),
            ExchangeReply::SourceOpened(ticket, _) => drop(self.asked(*ticket)),
            ExchangeReply::Workers(ticket, _) => drop(self.asked(*ticket)),
            ExchangeReply::Queue(ticket, _) => drop(self.asked(*ticket)),
        }
    }

    /// Sources come, take, stall and go; when something happens next.
    pub(super) fn turn_sources(
        &mut self,
        net: &mut Net,
        chance: &mut Chance,
        scenario: &Scenario,
        is_loading: bool,
    ) -> Option<Micros> {
        let goes_on = |control: &Self| {
            let is_busy = control.sources.all.iter().any(|source| !source.waiting.is_empty());
            is_busy || is_loading && (scenario.sources > 0 || scenario.access_changes)
        };
        if net.now < self.sources.due {
            return goes_on(self).then_some(self.sources.due);
        }
        self.sources.due = net.now + chance.between(100, 3_000);
        if is_loading && self.sources.all.len() < scenario.sources && chance.percent(30) {
            self.open_source(net, chance);
        }
        if is_loading && scenario.access_changes && chance.permille(30) {
            let index = chance.below(VHOSTS.len());
            if let Some(vhost) = self.known[index].snapshot.as_ref().map(|vhost| vhost.id) {
                self.put_access(net, chance, index, vhost);
            }
        }
        let mut sources = std::mem::take(&mut self.sources.all);
        sources.retain_mut(|source| self.turn_source(net, chance, is_loading, source));
        self.sources.all = sources;
        goes_on(self).then_some(self.sources.due)
    }

    fn open_source(&mut self, net: &mut Net, chance: &mut Chance) {
        let index = chance.below(VHOSTS.len());
        let Some(vhost) = self.known[index].snapshot.as_ref().map(|vhost| vhost.id) else { return };
        self.sources.last += 1;
        let source = SourceId(self.sources.last);
        let text = *chance.pick(&FILTERS);
        let filter = Filter::new(text, pattern::compile(text).expect("a valid filter").into());
        let window = u32::try_from(chance.small(20)).expect("small");
        let mode =
            if chance.percent(75) { SourceMode::Worker { window } } else { SourceMode::Stream { window } };
        let ticket = self.ticket(Ask::Source);
        self.tell_exchange(net, 0, ExchangeCommand::OpenSource { ticket, source, vhost, filter, mode });
        self.sources.all.push(Source { id: source, waiting: VecDeque::new(), naps_until: 0 });
    }

    /// A source takes some of what waits for it; whether it stays.
    fn turn_source(&self, net: &mut Net, chance: &mut Chance, is_loading: bool, source: &mut Source) -> bool {
        if is_loading && net.now < source.naps_until {
            return true;
        }
        if is_loading && chance.permille(15) {
            let most = if chance.percent(10) { 15_000_000 } else { 30_000 };
            source.naps_until = net.now + chance.between(1, most);
        }
        let most = if is_loading { chance.below(source.waiting.len() + 1) } else { source.waiting.len() };
        for id in source.waiting.drain(..most) {
            self.tell_exchange(net, 0, ExchangeCommand::SourceTook { source: source.id, id });
        }
        let goes = is_loading && chance.permille(15);
        if goes {
            self.tell_exchange(net, 0, ExchangeCommand::CloseSource { source: source.id });
        }
        !goes
    }

    /// All go.
    pub fn close_sources(&mut self, net: &mut Net) {
        for source in std::mem::take(&mut self.sources.all) {
            self.tell_exchange(net, 0, ExchangeCommand::CloseSource { source: source.id });
        }
    }
}
