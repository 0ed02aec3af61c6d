//! The control thread as the shards know it: answers their questions late, and changes things
//! under everybody's feet.
//!
//! `exchange` is what it does for the exchange, `sources` who takes events over HTTP. `backend` issues the tokens,
//! and `speaking` is what the backend says. `roll` judges the channels that the shards list.

mod backend;
mod exchange;
mod roll;
mod sources;
mod speaking;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use webrocket_state::{
    Command, Directory, Report, Settings, User, Vhost, VhostId,
    command::{Changed, ChannelInfo, CommandReply, NotChanged, Ticket},
    exchange::ExchangeCommand,
    identity::{Identity, InvalidCredentials},
    ids::RequestRef,
    vhost::ChannelCount,
};
use webrocket_wire::{ChannelName, Rights, UserName};

use crate::{
    chance::Chance,
    net::Net,
    oracles::Ledger,
    scenario::{CHANNELS, OPENED, Scenario, USERS, VHOSTS},
    theme::Theme,
    time::Micros,
};

use backend::Backend;
use sources::Sources;

/// What a command was for.
#[derive(Debug)]
enum Ask {
    Open(VhostId, ChannelName, Option<RequestRef>),
    Close(VhostId, ChannelName, Option<RequestRef>),
    List(VhostId),
    Describe(VhostId),
    Vhost,
    /// A broadcast of the backend, by its number.
    Publish(usize),
    /// A direct message, by its number.
    Message(usize),
    /// Events over HTTP.
    Source,
}

/// A vhost as the control thread knows it.
#[derive(Debug)]
struct Known {
    /// What the shards were told last; `None` while the vhost is removed.
    snapshot: Option<Arc<Vhost>>,
    /// The channels that are open explicitly.
    opened: BTreeSet<ChannelName>,
}

/// The control thread.
#[derive(Debug)]
pub struct Control {
    directory: Directory,
    known: Vec<Known>,
    next_id: u32,
    next_generation: u64,
    next_ticket: u64,
    /// By their tickets' numbers.
    asks: HashMap<u64, Ask>,
    due: Micros,
    /// The counters of vhosts that are gone.
    gone: Vec<Arc<ChannelCount>>,
    /// What shards said of their channels.
    listed: BTreeMap<(VhostId, ChannelName), ChannelInfo>,
    backend: Backend,
    sources: Sources,
    /// How often it changed something by itself.
    pub changes: u64,
}

impl Control {
    /// A control thread that has told the shards nothing yet.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self {
            directory,
            known: Vec::new(),
            next_id: 0,
            next_generation: 0,
            next_ticket: 0,
            asks: HashMap::new(),
            due: 0,
            gone: Vec::new(),
            listed: BTreeMap::new(),
            backend: Backend::default(),
            sources: Sources::default(),
            changes: 0,
        }
    }

    /// Tells the shards of the vhosts and opens the channels that there are from the beginning.
    pub fn begin(&mut self, net: &mut Net, chance: &mut Chance, scenario: &Scenario, ledger: &mut Ledger) {
        for vhost in 0..VHOSTS.len() {
            self.known.push(Known { snapshot: None, opened: BTreeSet::new() });
            self.add_vhost(net, chance, scenario, vhost, 0);
            for _ in 0..backend::TOKENS_AT_FIRST {
                backend::issue_token(chance, ledger, vhost);
            }
        }
        self.tell_exchange(net, 0, ExchangeCommand::Serve);
    }

    /// Whether every command was carried out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.asks.is_empty()
    }

    /// One turn; when it wants the next.
    pub fn turn(
        &mut self,
        net: &mut Net,
        chance: &mut Chance,
        scenario: &Scenario,
        ledger: &mut Ledger,
        changes: bool,
    ) -> Option<Micros> {
        for shard in 0..net.reports.len() {
            while let Some(report) = net.reports[shard].pop(net.now) {
                self.report(net, chance, ledger, report);
            }
        }
        while let Some(report) = net.exchange_reports.pop(net.now) {
            self.exchange_reports(net, chance, report);
        }
        let takes = self.turn_sources(net, chance, scenario, changes);
        let speaks = changes.then(|| self.speak(net, chance, scenario, ledger)).flatten();
        let may_change =
            changes && (scenario.channels_change || scenario.users_change || scenario.vhosts_change);
        if may_change && net.now >= self.due {
            let often = scenario.theme == Theme::Crowd;
            self.due = net.now
                + chance.between(if often { 20_000 } else { 100 }, if often { 150_000 } else { 60_000 });
            for _ in 0..chance.between(1, if often { 4 } else { 2 }) {
                self.change(net, chance, scenario, ledger);
            }
        }
        let reports = net.reports.iter().filter_map(crate::net::Queue::next).min();
        let asked = net.exchange_reports.next();
        [reports, asked, takes, speaks, may_change.then_some(self.due)].into_iter().flatten().min()
    }

    fn ticket<R>(&mut self, ask: Ask) -> Ticket<R> {
        self.next_ticket += 1;
        self.asks.insert(self.next_ticket, ask);
        Ticket::new(self.next_ticket)
    }

    /// What a reply is to.
    fn asked<R>(&mut self, ticket: Ticket<R>) -> Ask {
        self.asks.remove(&ticket.number()).expect("a reply names a command that was sent")
    }

    fn send(&self, net: &mut Net, shard: usize, delay: Micros, command: Command) {
        let at = net.commands[shard].push(net.now + delay, command);
        net.wakes.push((crate::net::Actor::Shard(shard), at));
    }

    fn send_owner(&mut self, net: &mut Net, delay: Micros, ask: Ask) {
        let (Ask::Open(vhost, channel, _) | Ask::Close(vhost, channel, _)) = &ask else {
            unreachable!("only channels have owners")
        };
        let (vhost, channel) = (*vhost, channel.clone());
        let opens = matches!(ask, Ask::Open(..));
        let owner = self.directory.owner(vhost, &channel).index();
        let command = if opens {
            Command::OpenChannel { ticket: self.ticket(ask), vhost, channel }
        } else {
            Command::CloseChannel { ticket: self.ticket(ask), vhost, channel }
        };
        self.send(net, owner, delay, command);
    }

    fn report(&mut self, net: &mut Net, chance: &mut Chance, ledger: &mut Ledger, report: Report) {
        let delay = chance.small(3_000);
        match report {
            Report::Replied(reply) => self.replied(net, ledger, delay, reply),
            Report::VerifySecret { request, vhost, user, secret, .. } => {
                let plan = USERS.iter().find(|plan| plan.name == user.as_str());
                let right =
                    plan.and_then(|plan| plan.secret).is_some_and(|of| of.as_bytes() == secret.reveal());
                let known = self.by_id(vhost).and_then(|known| known.snapshot.as_ref());
                let found = known.and_then(|vhost| vhost.users.get(&user)).filter(|_| right);
                let identity = found
                    .map(|found| Identity::User { name: user, generation: found.generation })
                    .ok_or(InvalidCredentials);
                let shard = request.session.shard.index();
                self.send(net, shard, delay, Command::Authenticated { request, identity });
            }
            Report::ConsumeToken { request, vhost, token } => {
                let vhost = self.index_of(vhost);
                let grant =
                    vhost.and_then(|vhost| backend::consume_token(net, chance, ledger, vhost, &token));
                let identity = grant.map(Identity::Token).ok_or(InvalidCredentials);
                let shard = request.session.shard.index();
                self.send(net, shard, delay, Command::Authenticated { request, identity });
            }
            Report::OpenChannel { request, vhost, channel } => {
                self.send_owner(net, delay, Ask::Open(vhost, channel, Some(request)));
            }
            Report::CloseChannel { request, vhost, channel } => {
                self.send_owner(net, delay, Ask::Close(vhost, channel, Some(request)));
            }
        }
    }

    fn by_id(&mut self, id: VhostId) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.snapshot.as_ref().is_some_and(|vhost| vhost.id == id))
    }

    fn index_of(&self, id: VhostId) -> Option<usize> {
        self.known.iter().position(|known| known.snapshot.as_ref().is_some_and(|vhost| vhost.id == id))
    }

    fn replied(&mut self, net: &mut Net, ledger: &mut Ledger, delay: Micros, reply: CommandReply) {
        let (request, changed): (_, Changed) = match reply {
            CommandReply::Applied(ticket) => return drop(self.asked(ticket)),
            CommandReply::Opened(ticket, opened) => {
                let Ask::Open(vhost, channel, request) = self.asked(ticket) else {
                    unreachable!("a channel was opened")
                };
                if let Some(known) = self.by_id(vhost).filter(|_| opened.is_ok()) {
                    known.opened.insert(channel);
                }
                (request, opened.map_err(NotChanged::from))
            }
            CommandReply::Found(ticket, found) => match self.asked(ticket) {
                Ask::Publish(number) => return self.published(net.now, ledger, number, found),
                Ask::Close(vhost, channel, request) => {
                    if let Some(known) = self.by_id(vhost).filter(|_| found.is_ok()) {
                        known.opened.remove(&channel);
                    }
                    (request, found.map_err(NotChanged::from))
                }
                _ => unreachable!("a channel was closed, or broadcast on"),
            },
            CommandReply::Heard(ticket, heard) => {
                let Ask::Message(number) = self.asked(ticket) else { unreachable!("a session was told") };
                return Self::messaged(ledger, number, heard);
            }
            CommandReply::Listed(ticket, channels) => {
                let Ask::List(vhost) = self.asked(ticket) else { unreachable!("channels were listed") };
                return self.listed(net, vhost, channels);
            }
            CommandReply::Described(ticket, described) => {
                let Ask::Describe(vhost) = self.asked(ticket) else {
                    unreachable!("a channel was described")
                };
                return self.described(vhost, described);
            }
        };
        if let Some(request) = request {
            self.channel_changed(net, delay, request, changed);
        }
    }

    fn change(&mut self, net: &mut Net, chance: &mut Chance, scenario: &Scenario, ledger: &mut Ledger) {
        self.changes += 1;
        let index = chance.below(self.known.len());
        let Some(vhost) = self.known[index].snapshot.clone() else {
            let delay = chance.small(2_000);
            return self.add_vhost(net, chance, scenario, index, delay);
        };
        let crowded = scenario.theme == Theme::Crowd;
        let name = if crowded && chance.percent(60) { "alpha" } else { *chance.pick(&CHANNELS) };
        let channel: ChannelName = name.parse().expect("a valid name");
        let delay = chance.small(2_000);
        match chance.between(0, 9) {
            0..3 if scenario.channels_change => {
                self.send_owner(net, delay, Ask::Open(vhost.id, channel, None));
            }
            3..6 if scenario.channels_change => {
                self.send_owner(net, delay, Ask::Close(vhost.id, channel, None));
            }
            6..9 if scenario.users_change => self.change_user(net, chance, index, &vhost),
            9 if scenario.vhosts_change && chance.percent(30) => {
                backend::void_tokens(chance, ledger, index);
                self.remove_vhost(net, index, &vhost);
            }
            _ => {}
        }
    }

    fn change_user(&mut self, net: &mut Net, chance: &mut Chance, index: usize, vhost: &Arc<Vhost>) {
        let mut next = Vhost::clone(vhost);
        let plan = chance.pick(&USERS);
        let name: UserName = plan.name.parse().expect("a valid name");
        if chance.percent(30) && next.users.remove(&name).is_some() {
            return self.put_vhost(net, index, next, chance.small(2_000));
        }
        self.next_generation += 1;
        let has_secret = plan.secret.is_some();
        let fresh = User { rights: Rights::NONE, has_secret, generation: self.next_generation };
        let keeps = chance.percent(70);
        let user = next
            .users
            .entry(name)
            .and_modify(|user| {
                if !keeps {
                    *user = fresh;
                }
            })
            .or_insert(fresh);
        user.rights = *chance.pick(&[Rights::NONE, Rights::READ, Rights::READ_WRITE, Rights::ALL]);
        self.put_vhost(net, index, next, chance.small(2_000));
    }

    fn put_vhost(&mut self, net: &mut Net, index: usize, vhost: Vhost, delay: Micros) {
        let vhost = Arc::new(vhost);
        self.known[index].snapshot = Some(Arc::clone(&vhost));
        for shard in 0..net.commands.len() {
            let ticket = self.ticket(Ask::Vhost);
            self.send(net, shard, delay, Command::PutVhost { ticket, vhost: Arc::clone(&vhost) });
        }
        let ticket = self.ticket(Ask::Vhost);
        self.tell_exchange(net, delay, ExchangeCommand::PutVhost { ticket, vhost });
    }

    fn add_vhost(
        &mut self,
        net: &mut Net,
        chance: &mut Chance,
        scenario: &Scenario,
        index: usize,
        delay: Micros,
    ) {
        let (path, anonymous) = VHOSTS[index];
        let id = VhostId(self.next_id);
        self.next_id += 1;
        self.next_generation += 1;
        let generation = self.next_generation;
        let users = USERS.iter().map(|plan| {
            let user = User { rights: plan.rights, has_secret: plan.secret.is_some(), generation };
            (plan.name.parse().expect("a valid name"), user)
        });
        let vhost = Vhost {
            id,
            path: path.parse().expect("a valid path"),
            settings: Settings { anonymous, ..scenario.settings },
            users: users.collect(),
            channels: Arc::default(),
        };
        self.put_access(net, chance, index, id);
        self.put_vhost(net, index, vhost, delay);
        for channel in OPENED {
            let channel = channel.parse().expect("a valid name");
            self.send_owner(net, delay, Ask::Open(id, channel, None));
        }
    }

    fn remove_vhost(&mut self, net: &mut Net, index: usize, vhost: &Arc<Vhost>) {
        self.known[index].snapshot = None;
        self.known[index].opened.clear();
        self.gone.push(Arc::clone(&vhost.channels));
        for shard in 0..net.commands.len() {
            let ticket = self.ticket(Ask::Vhost);
            self.send(net, shard, 0, Command::RemoveVhost { ticket, vhost: vhost.id });
        }
        net.access[index] = None;
        let ticket = self.ticket(Ask::Vhost);
        self.tell_exchange(net, 0, ExchangeCommand::RemoveVhost { ticket, vhost: vhost.id });
    }

    /// Tells every shard and the exchange to shut down.
    pub fn shut_down(&self, net: &mut Net, chance: &mut Chance) {
        for shard in 0..net.commands.len() {
            self.send(net, shard, chance.small(5_000), Command::Shutdown);
        }
        self.tell_exchange(net, chance.small(5_000), ExchangeCommand::Shutdown);
    }
}
