//! The exchange with its driver: takes what peers, shards and the control thread say in any order, and
//! carries out what it wants sent to wires that are full or gone.
//!
//! What it is told and what it sends the ledger is told too: that is all that is known of triggers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use webrocket_state::{
    Exchange, Party, ShardId, ShardMessage, VhostId,
    exchange::{
        ExchangeCommand, ExchangeFigure, ExchangeInput, ExchangeOrder, ExchangeReport, PeerMessage,
        TriggerId, message::SourceMode,
    },
    ids::RequestRef,
    message::{Answer, OwnerRequest},
};
use webrocket_wire::Trigger;

use crate::{
    canary::Canary,
    chance::Chance,
    driver::tag,
    net::{Actor, Net},
    oracles::{
        Guarantee, Ledger,
        triggers::{Expected, FILTERS, Taker, number},
    },
    scenario::Scenario,
    time::Micros,
    wires::Frames,
};

/// Drives the exchange.
#[derive(Debug)]
pub struct ExchangeDriver {
    /// The real thing.
    pub machine: Exchange,
    /// How many shards there are; its own number.
    shards: usize,
    /// Triggers that are not answered.
    asked: HashMap<RequestRef, (usize, Expected)>,
    /// What was given to whom since the last input, in no particular order.
    given: Vec<(TriggerId, Taker, Arc<Trigger>)>,
    /// A wire was full since the last input: what came back then may go behind what was on its way.
    found_full: bool,
    /// Wires whose end was found when something was to be sent there: told once all orders are carried out,
    /// for what they say was decided before.
    ended: Vec<usize>,
    /// The vhosts that it knows.
    vhosts: BTreeSet<VhostId>,
    /// It dismisses workers by itself now.
    dismisses: bool,
    /// It asked to stop.
    pub is_stopped: bool,
}

/// What to hand to every step.
pub struct Around<'a> {
    /// What lies between the actors.
    pub net: &'a mut Net,
    /// The lots.
    pub chance: &'a mut Chance,
    /// What is fixed.
    pub scenario: &'a Scenario,
    /// What is known.
    pub ledger: &'a mut Ledger,
}

impl ExchangeDriver {
    /// A driver of `machine`.
    #[must_use]
    pub fn new(shards: usize, machine: Exchange) -> Self {
        let (asked, given, ended, vhosts) = Default::default();
        let (found_full, dismisses, is_stopped) = Default::default();
        Self { machine, shards, asked, given, found_full, ended, vhosts, dismisses, is_stopped }
    }

    /// Whether it has nothing to tell anybody, and no trigger waits or is outstanding.
    #[must_use]
    pub fn is_idle(&mut self) -> bool {
        let has_message = |shard: &usize| self.machine.has_message(party(*shard));
        !(0..self.shards).any(|shard| has_message(&shard))
            && [ExchangeFigure::Waiting, ExchangeFigure::Outstanding]
                .iter()
                .all(|figure| self.figure(*figure) == 0)
    }

    /// One of its figures.
    pub fn figure(&mut self, figure: ExchangeFigure) -> u64 {
        self.machine.figures()[figure as usize]
    }

    /// One turn; when the next one is due at the latest.
    pub fn turn(&mut self, around: &mut Around<'_>) -> Option<Micros> {
        if self.is_stopped {
            return None;
        }
        let first = around.chance.below(4);
        for step in 0..4 {
            match (first + step) % 4 {
                0 => self.take_wires(around),
                1 => self.take_messages(around),
                2 => self.take_commands(around),
                _ => self.take_subscriptions(around),
            }
        }
        let now = around.net.instant();
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.carry_out(around);
            self.dismisses = true;
            self.handle(around, ExchangeInput::Deadline);
        }
        self.carry_out(around);
        self.dismisses = false;
        if self.is_stopped {
            return None;
        }
        self.send_messages(around);
        self.next(around.net, around.chance)
    }

    /// Hands over an input. Where orders are carried out at once, their order can be judged.
    fn handle(&mut self, around: &mut Around<'_>, input: ExchangeInput<'_>) {
        self.machine.handle(around.net.instant(), input);
        if around.scenario.exchange_is_prompt {
            self.carry_out(around);
        }
    }

    fn take_wires(&mut self, around: &mut Around<'_>) {
        let wires = around.net.wires.all.len();
        if wires == 0 {
            return;
        }
        let first = around.chance.below(wires);
        for step in 0..wires {
            let wire = (first + step) % wires;
            let most = if around.chance.percent(70) { u64::MAX } else { around.chance.small(8) };
            for _ in 0..most {
                let Some(frames) = around.net.wires.all[wire].to_exchange.pop_front() else { break };
                self.receive(around, wire, &frames);
            }
            let entry = &mut around.net.wires.all[wire];
            if entry.is_cut && !entry.is_told && around.chance.percent(20) {
                self.tell_gone(around, wire);
            }
        }
    }

    /// Tells of a wire's end, and before it of the ends of all that had its name before: a name is one
    /// connection's at a time, and nothing is heard of the next one while it is.
    fn tell_gone(&mut self, around: &mut Around<'_>, wire: usize) {
        let name = around.net.wires.all[wire].name.clone();
        while let Some(first) = around.net.wires.find(&name).filter(|first| *first <= wire) {
            self.tell_end(around, first, &name);
        }
    }

    fn tell_end(&mut self, around: &mut Around<'_>, wire: usize, name: &[u8]) {
        let entry = &mut around.net.wires.all[wire];
        (entry.is_cut, entry.is_told) = (true, true);
        entry.to_exchange.clear();
        around.ledger.worker_goes(Taker::Wire(wire));
        self.handle(around, ExchangeInput::Gone { peer: name });
    }

    fn receive(&mut self, around: &mut Around<'_>, wire: usize, frames: &Frames) {
        let name = around.net.wires.all[wire].name.clone();
        // Of a connection that takes another one's name is heard after that one's end.
        let before = around.net.wires.all[..wire].iter().rposition(|before| before.name == name);
        if let Some(before) = before {
            self.tell_gone(around, before);
        }
        let pass = around.net.wires.all[wire].pass;
        let taker = Taker::Wire(wire);
        let texts: Vec<_> =
            frames[1..].iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let id = |text: &str| TriggerId(text.parse().unwrap_or(0));
        match texts[..] {
            _ if !self.machine.is_valid(pass) => {}
            ["RD", filter, ref window @ ..] => {
                if let Some(filter) = FILTERS.iter().position(|known| *known == filter) {
                    let window = window.first().and_then(|window| window.parse().ok());
                    around.ledger.worker_comes(taker, pass.vhost, filter, window);
                }
            }
            ["AK", text] => around.ledger.trigger_handled(taker, id(text), true),
            ["NK", text] => around.ledger.trigger_handled(taker, id(text), false),
            ["QT"] => around.ledger.worker_goes(taker),
            _ => {}
        }
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        self.handle(around, ExchangeInput::Received { peer: &name, pass, frames: &frames });
    }

    fn take_messages(&mut self, around: &mut Around<'_>) {
        let most = if around.chance.percent(80) { u64::MAX } else { around.chance.small(64) };
        for from in 0..self.shards {
            for _ in 0..most {
                let Some(message) = around.net.queues[from][self.shards].pop(around.net.now) else { break };
                around.net.note(tag(&message));
                around.net.wake(Actor::Shard(from), 1);
                if let ShardMessage::Request(OwnerRequest::Trigger { request, vhost, trigger }) = &message {
                    self.note_trigger(around, *request, *vhost, trigger);
                }
                self.handle(around, ExchangeInput::Message { from: party(from), message });
            }
        }
    }

    fn note_trigger(
        &mut self,
        around: &mut Around<'_>,
        request: RequestRef,
        vhost: VhostId,
        trigger: &Trigger,
    ) {
        let now = around.net.now;
        let Some(number) = number(trigger.event()).filter(|number| *number < around.ledger.triggers.len())
        else {
            let detail = format!("trigger {:?} was never sent", trigger.event());
            return around.ledger.violate(now, Guarantee::EventsArriveAsSent, detail);
        };
        let path = around.ledger.vhost_of_trigger(number).map(|vhost| crate::scenario::VHOSTS[vhost].0);
        let topic = format!("{}:{}", path.unwrap_or_default(), trigger.event());
        let is_published = around.net.wires.is_subscribed(Some(vhost), &topic);
        let expected = around.ledger.trigger_arrives(now, number, vhost, is_published);
        self.asked.insert(request, (number, expected));
    }

    fn take_commands(&mut self, around: &mut Around<'_>) {
        while let Some(command) = around.net.exchange_commands.pop(around.net.now) {
            self.note_command(around, &command);
            self.handle(around, ExchangeInput::Command(command));
        }
    }

    fn note_command(&mut self, around: &mut Around<'_>, command: &ExchangeCommand) {
        let ledger = &mut *around.ledger;
        match command {
            ExchangeCommand::PutVhost { vhost, .. } => {
                self.vhosts.insert(vhost.id);
            }
            ExchangeCommand::PutAccess { vhost, .. } => ledger.all_go(*vhost),
            ExchangeCommand::RemoveVhost { vhost, .. } => {
                self.vhosts.remove(vhost);
                ledger.all_go(*vhost);
                ledger.triggers_dropped(*vhost);
            }
            ExchangeCommand::Shutdown => self.vhosts.iter().for_each(|vhost| ledger.all_go(*vhost)),
            ExchangeCommand::SourceTook { source, id } => {
                ledger.trigger_handled(Taker::Source(source.0), *id, true);
            }
            ExchangeCommand::CloseSource { source } => ledger.worker_goes(Taker::Source(source.0)),
            ExchangeCommand::OpenSource { source, vhost, filter, mode, .. }
                if self.vhosts.contains(vhost) =>
            {
                let filter =
                    FILTERS.iter().position(|known| *known == filter.as_str()).expect("a known filter");
                match mode {
                    SourceMode::Worker { window } => {
                        ledger.worker_comes(Taker::Source(source.0), *vhost, filter, Some(*window));
                    }
                    SourceMode::Stream { .. } => ledger.stream_comes(source.0, *vhost, filter),
                }
            }
            _ => {}
        }
    }

    fn take_subscriptions(&mut self, around: &mut Around<'_>) {
        let mut index = 0;
        while let Some(subscription) = around.net.wires.subscriptions.get_mut(index) {
            let (pass, topic) = (subscription.pass, subscription.topic.clone());
            let admits = self.machine.admits(pass, topic.as_bytes());
            if subscription.is_over || !admits {
                let was_told = subscription.is_told;
                around.net.wires.subscriptions.swap_remove(index);
                if was_told {
                    self.handle(around, ExchangeInput::Unsubscribed { pass, topic: topic.as_bytes() });
                }
                continue;
            }
            if !std::mem::replace(&mut subscription.is_told, true) {
                self.handle(around, ExchangeInput::Subscribed { pass, topic: topic.as_bytes() });
            }
            index += 1;
        }
    }

    /// Carries out all orders, and reports; then tells of the ends that were found.
    fn carry_out(&mut self, around: &mut Around<'_>) {
        loop {
            self.carry_out_orders(around);
            self.report(around);
            self.note_given(around);
            let Some(wire) = self.ended.pop() else { break };
            self.tell_gone(around, wire);
        }
    }

    fn carry_out_orders(&mut self, around: &mut Around<'_>) {
        while let Some(order) = self.machine.next_order() {
            match order {
                ExchangeOrder::Send { peer, message } => self.send(around, &peer, message),
                ExchangeOrder::Stream { vhost, trigger } => {
                    let topic = format!("{vhost}:{}", trigger.event());
                    let is_subscribed = around.net.wires.is_subscribed(None, &topic);
                    let number = number(trigger.event()).unwrap_or(usize::MAX);
                    around.ledger.trigger_streamed(around.net.now, number, is_subscribed);
                }
                ExchangeOrder::CutStreams { .. } => {
                    let machine = &self.machine;
                    around.net.wires.subscriptions.retain(|subscription| machine.is_valid(subscription.pass));
                }
                ExchangeOrder::GiveUp { event, .. } => {
                    let most = around.scenario.settings.trigger_redeliveries_max;
                    if let Some(number) = number(&event) {
                        around.ledger.trigger_given_up(around.net.now, number, most);
                    }
                }
                ExchangeOrder::Stop => self.is_stopped = true,
            }
        }
    }

    fn send(&mut self, around: &mut Around<'_>, peer: &Arc<[u8]>, message: PeerMessage) {
        let net = &mut *around.net;
        // What is for a peer whose end is known goes nowhere.
        let Some(wire) = net.wires.find(peer) else { return };
        net.note(wire as u64);
        let entry = &net.wires.all[wire];
        let is_full = entry.to_peer.len() >= entry.capacity;
        let is_known_to_be_gone = entry.is_cut && around.chance.percent(50);
        if let PeerMessage::Trigger { trigger, id, .. } = &message {
            let what = (*id, Arc::clone(trigger));
            return self.send_trigger(around, wire, what, message, is_full || is_known_to_be_gone);
        }
        if matches!(message, PeerMessage::Quit) && self.dismisses {
            around.ledger.worker_goes(Taker::Wire(wire));
        }
        if is_full || is_known_to_be_gone {
            let order = ExchangeOrder::Send { peer: Arc::clone(peer), message };
            self.machine.handle(around.net.instant(), ExchangeInput::Full { order });
        } else {
            deliver(around.net, wire, &message);
        }
        if is_known_to_be_gone {
            self.ended.push(wire);
        }
    }

    fn send_trigger(
        &mut self,
        around: &mut Around<'_>,
        wire: usize,
        (id, trigger): (TriggerId, Arc<Trigger>),
        message: PeerMessage,
        is_undeliverable: bool,
    ) {
        if is_undeliverable {
            self.found_full = true;
            around.ledger.order_is_broken(around.net.wires.all[wire].pass.vhost);
            let peer = around.net.wires.all[wire].name.clone().into();
            let order = ExchangeOrder::Send { peer, message };
            self.machine.handle(around.net.instant(), ExchangeInput::Full { order });
            if around.net.wires.all[wire].is_cut {
                self.ended.push(wire);
            }
            return;
        }
        let taker = Taker::Wire(wire);
        let acknowledges = around.ledger.triggers.acknowledges(taker);
        let was_had = number(trigger.event()).is_some_and(|number| around.ledger.triggers.was_had(number));
        if acknowledges && was_had && around.net.misdirects(Canary::LostRedelivery) {
            let (name, pass) = (around.net.wires.all[wire].name.clone(), around.net.wires.all[wire].pass);
            let id = id.0.to_string();
            let frames: [&[u8]; 3] = [b"", b"AK", id.as_bytes()];
            let forged = ExchangeInput::Received { peer: &name, pass, frames: &frames };
            return self.machine.handle(around.net.instant(), forged);
        }
        deliver(around.net, wire, &message);
        self.given.push((id, taker, Arc::clone(&trigger)));
        if !acknowledges && around.net.misdirects(Canary::DoubledTrigger) {
            deliver(around.net, wire, &message);
            self.given.push((id, taker, trigger));
        }
    }

    /// Tells the ledger who was given what, by the order of placing: whose turn came first is not told
    /// by who was sent to first.
    fn note_given(&mut self, around: &mut Around<'_>) {
        let in_order = around.scenario.exchange_is_prompt && !std::mem::take(&mut self.found_full);
        let mut given = std::mem::take(&mut self.given);
        if around.scenario.exchange_is_prompt {
            given.sort_by_key(|(id, ..)| *id);
        }
        for (id, taker, trigger) in given {
            let now = around.net.now;
            let number = number(trigger.event()).unwrap_or(usize::MAX);
            around.ledger.trigger_given(now, taker, id, number, in_order);
            around.ledger.trigger_says(now, number, trigger.payload());
        }
    }

    fn report(&mut self, around: &mut Around<'_>) {
        while let Some(report) = self.machine.next_report() {
            match &report {
                // Streams get copies, and who is gone nothing.
                ExchangeReport::SourceEvent { source, id, trigger } => {
                    let taker = Taker::Source(source.0);
                    let works = around.ledger.triggers.works(taker);
                    self.given.extend(works.then(|| (*id, taker, Arc::clone(trigger))));
                }
                ExchangeReport::SourceClosed { source } => {
                    around.ledger.worker_goes(Taker::Source(source.0));
                }
                _ => {}
            }
            let at = around.net.now + around.chance.between(1, 500);
            let at = around.net.exchange_reports.push(at, report);
            around.net.wakes.push((Actor::Control, at));
        }
    }

    fn send_messages(&mut self, around: &mut Around<'_>) {
        for to in 0..self.shards {
            while around.net.queues[self.shards][to].has_room() {
                let Some(message) = self.machine.next_message(around.net.instant(), party(to)) else { break };
                if let ShardMessage::Answer { request, answer, .. } = &message
                    && let Some((number, expected)) = self.asked.remove(request)
                {
                    let is_placed = *answer == Answer::Triggered;
                    let is_bounded = around.scenario.settings.trigger_queue_max < 1_000;
                    around.ledger.trigger_answered(around.net.now, number, expected, is_placed, is_bounded);
                }
                around.net.send(around.chance, self.shards, to, message);
            }
        }
        // What there was room for may have let clients go on.
        self.carry_out(around);
    }

    fn next(&mut self, net: &Net, chance: &mut Chance) -> Option<Micros> {
        let wires = &net.wires;
        let is_busy = wires
            .all
            .iter()
            .any(|wire| !wire.to_exchange.is_empty() || wire.is_cut && !wire.is_told)
            || wires.subscriptions.iter().any(|subscription| !subscription.is_told || subscription.is_over);
        let soon = is_busy.then(|| net.now + chance.between(1, 40));
        let messages = net.queues[..self.shards].iter().filter_map(|queues| queues[self.shards].next()).min();
        let deadline = self.machine.next_deadline().map(|deadline| net.micros(deadline));
        [soon, messages, net.exchange_commands.next(), deadline].into_iter().flatten().min()
    }
}

/// Puts a message on a wire that has room.
fn deliver(net: &mut Net, wire: usize, message: &PeerMessage) {
    let mut frames = Frames::new();
    message.on_the_wire().encode(|frame| frames.push(frame.to_vec()));
    for frame in &frames {
        net.note_bytes(frame);
    }
    net.wires.all[wire].to_peer.push_back(frames);
    net.wake(Actor::Peers, 1);
}

fn party(number: usize) -> ShardId {
    ShardId(u16::try_from(number).expect("few shards"))
}
