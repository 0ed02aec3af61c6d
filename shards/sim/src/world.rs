//! One run: who takes a turn when, and the phases from the first connection to the last close.
//!
//! 1. The control thread tells the shards and the exchange of vhosts and channels.
//! 2. Load: browsers and backends come, ask, work, dawdle and go; the control thread changes things.
//! 3. The load stops, everybody reads, and willing workers come: every request must be answered, every
//!    trigger handled.
//! 4. Everybody broadcasts once more to all its channels, the control thread asks for all channels:
//!    nobody may have been forgotten, everybody must know the same.
//! 5. Half of them leave, many without a word: the others must hear of it.
//! 6. Everybody leaves, or the server shuts down: everything must be freed.
//!
//! Then the ledger judges what all have seen.

mod outcome;

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use webrocket_state::{
    Directory, Exchange, Machine, Shard, ShardConfig, ShardId,
    exchange::{ExchangeConfig, figures::EXCHANGE_FIGURES},
    metrics::{FIGURE_COUNT, Figure, FigureKind},
};

use crate::{
    browser::{Browser, Mood, Surroundings},
    canary::Canary,
    chance::Chance,
    control::Control,
    driver::{ADDRESSES, Driver},
    encodings::encodings,
    exchange::{Around, ExchangeDriver},
    net::{Actor, Net},
    oracles::{Audiences, Guarantee, Ledger, Window},
    peers::{self, Peers},
    scenario::Scenario,
    theme::Theme,
    time::Micros,
};

pub use outcome::Outcome;

const SECOND: Micros = 1_000_000;

/// Actors that are neither shards nor browsers.
const OTHERS: usize = 3;

/// When nobody takes a turn for so long, something may have come to its end.
const LULL: Micros = 2_000;

/// How a run is to be, apart from its seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// How many shards; by lot where not given.
    pub shards: Option<usize>,
    /// What it is about; by lot where not given.
    pub theme: Option<Theme>,
    /// A fault to put in.
    pub canary: Option<Canary>,
}

/// A broker, its browsers, and what lies between.
#[derive(Debug)]
pub struct World {
    chance: Chance,
    scenario: Scenario,
    net: Net,
    drivers: Vec<Driver>,
    exchange: ExchangeDriver,
    peers: Peers,
    browsers: Vec<Browser>,
    control: Control,
    ledger: Ledger,
    mood: Mood,
    requests_left: u64,
    queue: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    order: u64,
    /// By actor: shards, the control thread, the exchange, the backends, browsers.
    scheduled: Vec<Option<Micros>>,
    paused_until: Vec<Micros>,
    /// Until when shards may be late.
    late_until: Micros,
}

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64, options: Options) -> Self {
        let mut chance = Chance::new(seed);
        let (theme, shards) = match options.canary {
            Some(canary) => (Some(canary.theme()), options.shards.or(Some(3))),
            None => (options.theme, options.shards),
        };
        let mut scenario = Scenario::draw(&mut chance, theme, shards);
        let canary = options.canary.map(|canary| {
            scenario.await_fault(canary);
            let (least, most) = canary.patience();
            (canary, chance.between(least, most))
        });
        let count = scenario.shards;
        let directory =
            Directory::new(u16::try_from(count).expect("few shards"), chance.between(0, u64::MAX));
        let drivers = (0..count).map(|id| {
            let config = ShardConfig {
                id: ShardId(u16::try_from(id).expect("few shards")),
                directory: directory.clone(),
                encodings: encodings(),
                seed: chance.bytes(),
                handshake_timeout: Duration::from_secs(5),
                close_timeout: Duration::from_secs(5),
            };
            Driver::new(id, count, Shard::new(config))
        });
        let drivers = drivers.collect();
        let machine = Exchange::new(ExchangeConfig { directory: directory.clone() });
        let peers = Peers::new(&mut chance, &scenario);
        Self {
            drivers,
            exchange: ExchangeDriver::new(count, machine),
            peers,
            net: Net::new(count, scenario.queue_capacity, scenario.delay_max, canary),
            browsers: Vec::new(),
            control: Control::new(directory),
            ledger: Ledger::default(),
            mood: Mood { is_loading: true, is_stopping: false, is_deserted: false },
            requests_left: scenario.requests_max,
            queue: BinaryHeap::new(),
            order: 0,
            scheduled: vec![None; count + OTHERS],
            paused_until: vec![0; count],
            late_until: Micros::MAX,
            scenario,
            chance,
        }
    }

    /// Runs it from the first connection to the last close.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        self.control.begin(&mut self.net, &mut self.chance, &self.scenario, &mut self.ledger);
        self.run_until(SECOND, |world| world.control.is_idle());
        self.load();
        self.settle("after the load");
        self.ledger.every_trigger_is_accounted_for(self.net.now);
        self.call_the_roll();
        // Nobody has left yet who was to stay: what all of these must have seen is known now.
        self.ledger.judge(self.net.now);
        let mut figures = [0; FIGURE_COUNT];
        if self.scenario.shuts_down {
            self.shut_down();
        } else {
            self.thin_out();
            self.leave();
        }
        if self.ledger.violations.is_empty() {
            self.ledger.judge(self.net.now);
        }
        for driver in &mut self.drivers {
            for (sum, figure) in figures.iter_mut().zip(driver.shard.figures()) {
                *sum += figure;
            }
        }
        let hidden_subscriptions = self.ledger.hidden_subscriptions();
        Outcome {
            theme: self.scenario.theme,
            shards: self.scenario.shards,
            violations: self.ledger.violations,
            trace: self.net.trace(),
            counters: self.net.counters,
            figures,
            exchange_figures: self.exchange.machine.figures().try_into().expect("all of them"),
            triggers_acknowledged: self.ledger.triggers.acknowledged,
            client_answers: self.ledger.client_answers,
            requests: self.scenario.requests_max - self.requests_left,
            deliveries: self.ledger.deliveries,
            presence_events: self.ledger.presence_events,
            positions_seen: self.ledger.positions_seen,
            lists_compared: self.ledger.lists_compared,
            hidden_subscriptions,
            named_answers: self.ledger.named_answers,
            tokens_spent: self.ledger.tokens.iter().filter(|token| token.is_spent).count() as u64,
            messages: self.ledger.messages.iter().filter(|message| message.found > 0).count() as u64,
            changes: self.control.changes,
        }
    }

    fn index(&self, actor: Actor) -> usize {
        match actor {
            Actor::Shard(shard) => shard,
            Actor::Control => self.drivers.len(),
            Actor::Exchange => self.drivers.len() + 1,
            Actor::Peers => self.drivers.len() + 2,
            Actor::Browser(browser) => self.drivers.len() + OTHERS + browser,
        }
    }

    fn schedule(&mut self, actor: Actor, at: Micros) {
        let index = self.index(actor);
        let at = match actor {
            Actor::Shard(shard) => at.max(self.paused_until[shard]),
            Actor::Browser(_) | Actor::Control | Actor::Exchange | Actor::Peers => at,
        };
        if self.scheduled[index].is_none_or(|scheduled| at < scheduled) {
            self.scheduled[index] = Some(at);
            self.order += 1;
            self.queue.push(Reverse((at, self.order, index)));
        }
    }

    fn schedule_woken(&mut self) {
        while let Some((actor, at)) = self.net.wakes.pop() {
            self.schedule(actor, at);
        }
    }

    /// Takes turns until it is done or virtual time is up; whether it is done.
    fn run_until(&mut self, most: Micros, done: impl Fn(&mut Self) -> bool) -> bool {
        let end = self.net.now + most;
        for count in 0u64.. {
            self.schedule_woken();
            // Where nothing happens for a while is where it may be done, however turns repeat.
            let next = self.queue.peek().map_or(Micros::MAX, |Reverse((at, ..))| *at);
            let pauses = next > self.net.now + LULL;
            if (pauses || count.is_multiple_of(8)) && done(self) {
                return true;
            }
            match self.queue.peek() {
                Some(Reverse((at, ..))) if *at <= end => {}
                Some(_) | None => {
                    self.net.now = end;
                    return done(self);
                }
            }
            let Some(Reverse((at, _, index))) = self.queue.pop() else { continue };
            if self.scheduled[index] != Some(at) {
                continue;
            }
            self.scheduled[index] = None;
            self.net.now = self.net.now.max(at);
            self.turn(index);
        }
        unreachable!("the count does not end")
    }

    fn turn(&mut self, index: usize) {
        let shards = self.drivers.len();
        self.net.counters.turns += 1;
        self.net.note(self.net.now ^ (index as u64) << 48);
        let (actor, next) = match index.checked_sub(shards) {
            None => {
                if self.net.now < self.late_until && self.chance.permille(self.scenario.pause_permille) {
                    self.net.counters.pauses += 1;
                    let until = self.net.now + self.chance.between(1, self.scenario.pause_max);
                    self.paused_until[index] = until;
                    return self.schedule(Actor::Shard(index), until);
                }
                let driver = &mut self.drivers[index];
                let next = driver.turn(&mut self.net, &mut self.chance, &self.scenario, &mut self.ledger);
                (Actor::Shard(index), next)
            }
            Some(0) => {
                let changes = self.mood.is_loading;
                let Self { control, net, chance, scenario, ledger, .. } = self;
                (Actor::Control, control.turn(net, chance, scenario, ledger, changes))
            }
            Some(1) => {
                let Self { exchange, net, chance, scenario, ledger, .. } = self;
                (Actor::Exchange, exchange.turn(&mut Around { net, chance, scenario, ledger }))
            }
            Some(2) => (
                Actor::Peers,
                self.with_peers(|peers, around, exchange| peers.turn(around, &exchange.machine)),
            ),
            Some(browser) => {
                let browser = browser - OTHERS;
                let next = self.with(browser, Browser::turn);
                self.check_left();
                (Actor::Browser(browser), next)
            }
        };
        self.schedule_woken();
        if let Some(next) = next {
            self.schedule(actor, next);
        }
    }

    /// Who has just read that it left a channel is no member at the channel's owner.
    fn check_left(&mut self) {
        for (session, channel) in std::mem::take(&mut self.ledger.leaves_read) {
            let is_member = self.drivers.iter().any(|driver| driver.shard.has_member(session, channel));
            self.ledger.check(self.net.now, Guarantee::AnAcknowledgementComesAfterItsEffect, || {
                is_member
                    .then(|| format!("{session:?} has read that it left {channel}, and is a member still"))
            });
        }
    }

    fn with<T>(&mut self, browser: usize, act: impl FnOnce(&mut Browser, &mut Surroundings<'_>) -> T) -> T {
        let mut around = Surroundings {
            net: &mut self.net,
            chance: &mut self.chance,
            scenario: &self.scenario,
            ledger: &mut self.ledger,
            requests_left: &mut self.requests_left,
            mood: self.mood,
        };
        act(&mut self.browsers[browser], &mut around)
    }

    fn with_peers<T>(
        &mut self,
        act: impl FnOnce(&mut Peers, &mut peers::Surroundings<'_>, &ExchangeDriver) -> T,
    ) -> T {
        let Self { peers, exchange, net, chance, scenario, ledger, .. } = self;
        let is_loading = self.mood.is_loading;
        act(peers, &mut peers::Surroundings { net, chance, scenario, ledger, is_loading }, exchange)
    }

    fn connect(&mut self) {
        let id = self.browsers.len();
        let mut around = Surroundings {
            net: &mut self.net,
            chance: &mut self.chance,
            scenario: &self.scenario,
            ledger: &mut self.ledger,
            requests_left: &mut self.requests_left,
            mood: self.mood,
        };
        let browser = Browser::new(id, &mut around);
        self.browsers.push(browser);
        self.scheduled.push(None);
        self.schedule(Actor::Browser(id), self.net.now + 1);
    }

    fn load(&mut self) {
        for actor in [Actor::Control, Actor::Exchange, Actor::Peers] {
            self.schedule(actor, self.net.now + 1);
        }
        let end = self.net.now + self.scenario.load_max;
        while self.net.now < end && self.requests_left > 0 {
            let here = self.browsers.iter().filter(|browser| browser.is_open()).count();
            let connecting = self.browsers.iter().filter(|browser| !browser.has_ended()).count();
            if here.max(connecting) < self.scenario.browsers
                && self.browsers.len() < self.scenario.browsers_max
            {
                self.connect();
            }
            let crowded = self.scenario.theme == Theme::Crowd;
            let step = self.chance.between(1, if crowded { 60 } else { 5_000 });
            self.run_until(step, |_| false);
        }
        self.mood.is_loading = false;
        self.peers.come_to_work(&mut self.net);
        self.schedule(Actor::Control, self.net.now + 1);
        self.late_until = self.net.now + if self.scenario.theme == Theme::Storm { 2 * SECOND } else { 0 };
        for id in 0..self.browsers.len() {
            self.schedule(Actor::Browser(id), self.net.now + 1);
        }
    }

    /// Whether a browser waits for nothing, and nothing waits for it.
    fn is_quiet(&self, browser: &Browser) -> bool {
        let socket = &self.net.sockets[browser.socket];
        let lag = socket.session.map_or(0, |session| self.drivers[socket.shard].shard.lag(session));
        browser.is_quiet(&self.net) && (lag == 0 || !browser.is_open())
    }

    /// Nobody asks any more and everybody reads: what was asked must be answered.
    fn settle(&mut self, when: &str) {
        let quiet = |world: &mut Self| {
            world.control.is_idle()
                && world.exchange.is_idle()
                && world.peers.is_quiet(&world.net)
                && world.browsers.iter().all(|browser| world.is_quiet(browser))
                && world.net.queues.iter().flatten().all(crate::net::Queue::is_empty)
                && world.net.commands.iter().all(crate::net::Queue::is_empty)
                && world.net.reports.iter().all(crate::net::Queue::is_empty)
                && world.drivers.iter().all(Driver::is_idle)
        };
        if self.run_until(120 * SECOND, quiet) {
            return;
        }
        let waiting = self.browsers.iter().filter(|browser| !self.is_quiet(browser));
        let waiting: Vec<_> = waiting.take(3).map(|browser| browser.describe(&self.net)).collect();
        let waiting = waiting.join("; ");
        let idle = [self.control.is_idle(), self.exchange.is_idle(), self.peers.is_quiet(&self.net)];
        let detail = format!("{when}: {waiting}; control, exchange, backends idle: {idle:?}");
        self.ledger.violate(self.net.now, Guarantee::EveryRequestIsAnswered, detail);
    }

    fn call_the_roll(&mut self) {
        for browser in 0..self.browsers.len() {
            if self.browsers[browser].is_open() {
                self.with(browser, Browser::call_the_roll);
            }
        }
        self.settle("after the roll call");
        self.compare_channels();
    }

    /// All subscribers of a channel must know the same, and the shards too.
    fn compare_channels(&mut self) {
        self.control.list_channels(&mut self.net);
        self.settle("after the list of channels");
        let audiences = self.audiences();
        self.ledger.members_are_those_who_subscribe(self.net.now, &audiences);
        // A session that still stands for a browser that is gone may end at any moment.
        if !self.browsers.iter().any(|browser| self.is_ghost(browser)) {
            let guarantee = Guarantee::PresenceFitsTogether;
            self.control.check_channels(self.net.now, &mut self.ledger, guarantee, &audiences);
        }
    }

    /// Whether a session still stands for a browser that is gone.
    fn is_ghost(&self, browser: &Browser) -> bool {
        !browser.is_open() && self.net.sockets[browser.socket].session.is_some()
    }

    fn audiences(&self) -> Audiences {
        let mut audiences = Audiences::new();
        for browser in self.browsers.iter().filter(|browser| browser.is_open()) {
            for window in browser.windows() {
                let Window { place, subscriber, knowledge, .. } = &self.ledger.windows[window];
                let audience = audiences.entry(*place).or_default();
                audience.subscribers += 1;
                audience.windows.push(window);
                let shows = knowledge.is_some() && !subscriber.is_hidden;
                audience.visible.extend(subscriber.uid.clone().filter(|_| shows));
            }
        }
        for ghost in self.browsers.iter().filter(|browser| self.is_ghost(browser)) {
            for ((vhost, _), audience) in &mut audiences {
                if *vhost == ghost.vhost() {
                    audience.ghosts.extend(ghost.possible_uids(&self.ledger));
                }
            }
        }
        audiences
    }

    /// Some leave, in whatever way, many of them without a word: the others must hear of it.
    fn thin_out(&mut self) {
        for browser in 0..self.browsers.len() {
            if self.browsers[browser].is_open() && self.chance.percent(50) {
                self.with(browser, Browser::leave);
            }
        }
        self.run_until(2 * self.patience() + 60 * SECOND, |world| {
            !world.browsers.iter().any(|browser| world.is_ghost(browser))
        });
        self.settle("after some have left");
        self.compare_channels();
    }

    fn leave(&mut self) {
        self.empty();
        let remaining = [
            Figure::Connections,
            Figure::Sessions,
            Figure::Subscriptions,
            Figure::LogBytes,
            Figure::LinkMessages,
        ];
        self.check_freed(&remaining);
        self.control.list_channels(&mut self.net);
        self.run_until(SECOND, |world| world.control.is_idle());
        let guarantee = Guarantee::EverythingIsFreed;
        self.control.check_channels(self.net.now, &mut self.ledger, guarantee, &Audiences::new());
        self.come_again();
    }

    /// Where connections are counted by address, as many as may be come again: none is refused.
    fn come_again(&mut self) {
        let most = self.scenario.settings.connections_per_address_max as usize;
        if most == 0 {
            return;
        }
        self.mood.is_deserted = true;
        for _ in 0..most * ADDRESSES {
            self.connect();
        }
        self.settle("when all may come again");
        self.empty();
    }

    /// All leave, in whatever way, and are gone.
    fn empty(&mut self) {
        for browser in 0..self.browsers.len() {
            if self.browsers[browser].is_open() {
                self.with(browser, Browser::leave);
            }
        }
        let gone = |world: &mut Self| {
            world.net.sockets.iter().all(|socket| socket.session.is_none())
                && world.net.backlog.iter().all(std::collections::VecDeque::is_empty)
                && world.net.queues.iter().flatten().all(crate::net::Queue::is_empty)
                && world.drivers.iter().all(Driver::is_idle)
        };
        self.dismiss_backends();
        self.run_until(2 * self.patience() + 60 * SECOND, gone);
        self.run_until(SECOND, |_| false);
    }

    /// All backends leave, and nothing of them is left.
    fn dismiss_backends(&mut self) {
        self.with_peers(|peers, around, _| peers.leave(around));
        self.control.close_sources(&mut self.net);
        self.schedule(Actor::Exchange, self.net.now + 1);
        self.run_until(10 * SECOND, |world| {
            world.net.wires.is_quiet() && world.net.wires.subscriptions.is_empty() && world.exchange.is_idle()
        });
        let figures = self.exchange.machine.figures().to_vec();
        for (info, value) in EXCHANGE_FIGURES.iter().zip(figures) {
            self.ledger.check(self.net.now, Guarantee::EverythingIsFreed, || {
                (info.kind == FigureKind::Gauge && value != 0)
                    .then(|| format!("the exchange keeps {}: {value}", info.name))
            });
        }
    }

    /// After so long a session that says and takes nothing is over.
    fn patience(&self) -> Micros {
        let settings = &self.scenario.settings;
        Micros::from(settings.idle_timeout_ms.max(settings.stall_timeout_ms)) * 1000
    }

    fn shut_down(&mut self) {
        for _ in 0..self.chance.between(0, 3) {
            self.connect();
        }
        self.mood.is_stopping = true;
        self.control.shut_down(&mut self.net, &mut self.chance);
        self.run_until(30 * SECOND, |world| {
            world.exchange.is_stopped && world.drivers.iter().all(|driver| driver.is_stopped)
        });
        self.ledger.check(self.net.now, Guarantee::ShutdownEnds, || {
            (!self.exchange.is_stopped).then(|| "the exchange does not come to its end".to_owned())
        });
        for driver in &self.drivers {
            self.ledger.check(self.net.now, Guarantee::ShutdownEnds, || {
                (!driver.is_stopped).then(|| "a shard does not come to its end".to_owned())
            });
        }
        self.check_freed(&[Figure::Connections, Figure::Sessions, Figure::Subscriptions, Figure::LogBytes]);
    }

    fn check_freed(&mut self, remaining: &[Figure]) {
        for (id, driver) in self.drivers.iter_mut().enumerate() {
            let figures = driver.shard.figures();
            for figure in remaining {
                let value = figures[*figure as usize];
                self.ledger.check(self.net.now, Guarantee::EverythingIsFreed, || {
                    (value != 0).then(|| format!("shard {id} keeps {figure:?} {value}"))
                });
            }
        }
    }
}
