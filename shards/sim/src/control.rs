//! The control thread as the shards know it: answers their questions late, and changes things
//! under everybody's feet.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use webrocket_state::{
    Command, Directory, Report, Settings, User, Vhost, VhostId,
    message::{ChannelInfo, Identity, InvalidCredentials, Outcome, RequestRef, Ticket},
    vhost::ChannelCount,
};
use webrocket_wire::{ChannelName, Rights, UserName};

use crate::{
    chance::Chance,
    net::{Micros, Net},
    oracles::{Guarantee, Ledger, Place},
    workload::{CHANNELS, OPENED, Scenario, Theme, USERS, VHOSTS},
};

/// By place: how many browsers hold a subscription, and who they say is present.
pub type Audiences = BTreeMap<Place, (u64, Option<BTreeSet<String>>)>;

/// What a command was for.
#[derive(Debug)]
enum Ask {
    Open(VhostId, ChannelName, Option<RequestRef>),
    Close(VhostId, ChannelName, Option<RequestRef>),
    List(VhostId),
    Vhost,
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
    asks: HashMap<Ticket, Ask>,
    due: Micros,
    /// The counters of vhosts that are gone.
    gone: Vec<Arc<ChannelCount>>,
    /// What shards said of their channels.
    listed: BTreeMap<(VhostId, ChannelName), ChannelInfo>,
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
            changes: 0,
        }
    }

    /// Tells the shards of the vhosts and opens the channels that there are from the beginning.
    pub fn begin(&mut self, net: &mut Net, scenario: &Scenario) {
        for vhost in 0..VHOSTS.len() {
            self.known.push(Known { snapshot: None, opened: BTreeSet::new() });
            self.add_vhost(net, scenario, vhost, 0);
        }
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
        changes: bool,
    ) -> Option<Micros> {
        for shard in 0..net.reports.len() {
            while let Some(report) = net.reports[shard].pop(net.now) {
                self.report(net, chance, report);
            }
        }
        let may_change =
            changes && (scenario.channels_change || scenario.users_change || scenario.vhosts_change);
        if may_change && net.now >= self.due {
            let often = scenario.theme == Theme::Crowd;
            self.due = net.now
                + chance.between(if often { 20_000 } else { 100 }, if often { 150_000 } else { 60_000 });
            for _ in 0..chance.between(1, if often { 4 } else { 2 }) {
                self.change(net, chance, scenario);
            }
        }
        let reports = net.reports.iter().filter_map(crate::net::Queue::next).min();
        [reports, may_change.then_some(self.due)].into_iter().flatten().min()
    }

    fn ticket(&mut self, ask: Ask) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.asks.insert(ticket, ask);
        ticket
    }

    fn send(&self, net: &mut Net, shard: usize, delay: Micros, command: Command) {
        let at = net.commands[shard].push(net.now + delay, command);
        net.wakes.push((crate::net::Actor::Shard(shard), at));
    }

    fn send_owner(&mut self, net: &mut Net, delay: Micros, ask: Ask) {
        let (vhost, channel) = match &ask {
            Ask::Open(vhost, channel, _) | Ask::Close(vhost, channel, _) => (*vhost, channel.clone()),
            Ask::List(_) | Ask::Vhost => unreachable!("those are for all shards"),
        };
        let opens = matches!(ask, Ask::Open(..));
        let ticket = self.ticket(ask);
        let owner = self.directory.owner(vhost, &channel).index();
        let command = if opens {
            Command::OpenChannel { ticket, vhost, channel }
        } else {
            Command::CloseChannel { ticket, vhost, channel }
        };
        self.send(net, owner, delay, command);
    }

    fn report(&mut self, net: &mut Net, chance: &mut Chance, report: Report) {
        let delay = chance.small(3_000);
        match report {
            Report::Applied { ticket, outcome } => self.applied(net, delay, ticket, outcome),
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
            Report::ConsumeToken { request, .. } => {
                let identity = Err(InvalidCredentials);
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

    fn applied(&mut self, net: &mut Net, delay: Micros, ticket: Ticket, outcome: Outcome) {
        let ask = self.asks.remove(&ticket).expect("a report names a command that was sent");
        let done = outcome == Outcome::Done;
        let request = match ask {
            Ask::Vhost => None,
            Ask::List(vhost) => {
                let Outcome::Channels(channels) = outcome else {
                    panic!("a list was asked for: {outcome:?}")
                };
                for info in channels {
                    self.listed.insert((vhost, info.name.clone()), info);
                }
                return;
            }
            Ask::Open(vhost, channel, request) => {
                if let Some(known) = self.by_id(vhost).filter(|_| done) {
                    known.opened.insert(channel);
                }
                request
            }
            Ask::Close(vhost, channel, request) => {
                if let Some(known) = self.by_id(vhost).filter(|_| done) {
                    known.opened.remove(&channel);
                }
                request
            }
        };
        if let Some(request) = request {
            let shard = request.session.shard.index();
            self.send(net, shard, delay, Command::ChannelChanged { request, outcome });
        }
    }

    fn change(&mut self, net: &mut Net, chance: &mut Chance, scenario: &Scenario) {
        self.changes += 1;
        let index = chance.below(self.known.len());
        let Some(vhost) = self.known[index].snapshot.clone() else {
            return self.add_vhost(net, scenario, index, chance.small(2_000));
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
            9 if scenario.vhosts_change && chance.percent(30) => self.remove_vhost(net, index, &vhost),
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
    }

    fn add_vhost(&mut self, net: &mut Net, scenario: &Scenario, index: usize, delay: Micros) {
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
    }

    /// Asks all shards for all their channels; [`Control::check_channels`] judges the answers.
    pub fn list_channels(&mut self, net: &mut Net) {
        self.listed.clear();
        let ids: Vec<_> = self.known.iter().flat_map(|known| &known.snapshot).map(|vhost| vhost.id).collect();
        for vhost in ids {
            for shard in 0..net.commands.len() {
                let ticket = self.ticket(Ask::List(vhost));
                self.send(net, shard, 0, Command::ListChannels { ticket, vhost });
            }
        }
    }

    /// Whether the channels are those that were opened, with these subscribers besides.
    /// `subscribers`: by vhost and channel, how many, and who is present.
    pub fn check_channels(
        &self,
        at: Micros,
        ledger: &mut Ledger,
        guarantee: Guarantee,
        subscribers: &Audiences,
    ) {
        for (index, known) in self.known.iter().enumerate() {
            let Some(vhost) = &known.snapshot else { continue };
            let listed = || self.listed.iter().filter(|((of, _), _)| *of == vhost.id);
            for (_, info) in listed() {
                let key = crate::answer::channel(info.name.as_str())
                    .and_then(|name| subscribers.get(&(index, name)));
                let (count, members) = key.cloned().unwrap_or_default();
                let present: BTreeSet<String> =
                    info.members.iter().flatten().map(|member| member.uid.to_string()).collect();
                let opened = known.opened.contains(&info.name);
                let fits = info.subscribers == count
                    && info.opened == opened
                    && (opened || count > 0)
                    && (info.members.is_none() || present == members.clone().unwrap_or_default());
                ledger.check(at, guarantee, || {
                    (!fits).then(|| {
                        format!("{info:?}, but browsers say {count} and {members:?}, opened: {opened}")
                    })
                });
            }
            let expected = known.opened.len() as u64
                + subscribers
                    .iter()
                    .filter(|((of, name), (count, _))| {
                        *of == index
                            && *count > 0
                            && !known.opened.iter().any(|known| known.as_str() == *name)
                    })
                    .count() as u64;
            let (found, counted) = (listed().count() as u64, u64::from(vhost.channels.get()));
            ledger.check(at, guarantee, || {
                (found != expected || counted != expected).then(|| {
                    format!("{}: {found} channels, counted {counted}, but should be {expected}", vhost.path)
                })
            });
        }
        for count in &self.gone {
            ledger.check(at, guarantee, || {
                (count.get() != 0).then(|| format!("a vhost is gone, {} channels are counted", count.get()))
            });
        }
    }

    /// Tells every shard to shut down.
    pub fn shut_down(&self, net: &mut Net, chance: &mut Chance) {
        for shard in 0..net.commands.len() {
            self.send(net, shard, chance.small(5_000), Command::Shutdown);
        }
    }
}
