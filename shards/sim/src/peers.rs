//! Backends over ZeroMQ: workers that handle, refuse, stall, die and come again, clients that ask
//! without waiting, and streams.

mod client;
mod surroundings;
mod worker;

use webrocket_state::Exchange;

use crate::{
    chance::Chance,
    net::{Actor, Net},
    scenario::{Scenario, VHOSTS},
    time::Micros,
    wires::Subscription,
};

pub use client::token_for;
pub use surroundings::Surroundings;

use client::Client;
use worker::Worker;

/// What a peer is.
#[derive(Debug)]
enum Role {
    Worker(Worker),
    Client(Client),
}

/// A backend, whichever connection it has.
#[derive(Debug)]
struct Peer {
    vhost: usize,
    /// What it calls itself, if it always does.
    name: Option<Vec<u8>>,
    /// Its connection.
    wire: Option<usize>,
    role: Role,
    due: Micros,
}

/// All backends.
#[derive(Debug, Default)]
pub struct Peers {
    all: Vec<Peer>,
    stream_due: Micros,
}

impl Peers {
    /// Backends as the scenario has them.
    #[must_use]
    pub fn new(chance: &mut Chance, scenario: &Scenario) -> Self {
        let mut peers = Self::default();
        for number in 0..scenario.workers {
            let name = chance.percent(50).then(|| format!("worker {number}").into_bytes());
            let role = Role::Worker(Worker::new(chance));
            peers.add(chance.below(VHOSTS.len()), name, role);
        }
        for _ in 0..scenario.clients {
            peers.add(chance.below(VHOSTS.len()), None, Role::Client(Client::default()));
        }
        peers
    }

    fn add(&mut self, vhost: usize, name: Option<Vec<u8>>, role: Role) {
        self.all.push(Peer { vhost, name, wire: None, role, due: 0 });
    }

    /// Willing workers come, one for each vhost, and take all that waits.
    pub fn come_to_work(&mut self, net: &mut Net) {
        for peer in &mut self.all {
            peer.due = net.now;
        }
        for vhost in 0..VHOSTS.len() {
            self.add(vhost, None, Role::Worker(Worker::willing()));
        }
        net.wake(Actor::Peers, 1);
    }

    /// All leave.
    pub fn leave(&mut self, around: &mut Surroundings<'_>) {
        for peer in self.all.drain(..) {
            if let Some(wire) = peer.wire {
                around.cut(wire);
            }
        }
        let wires = around.net.wires.all.iter_mut();
        wires.filter(|wire| wire.is_mute).for_each(|wire| wire.is_cut = true);
        for subscription in &mut around.net.wires.subscriptions {
            subscription.is_over = true;
        }
        around.net.wake(Actor::Exchange, 1);
    }

    /// Whether nobody waits for an answer, and nothing for anybody.
    #[must_use]
    pub fn is_quiet(&self, net: &Net) -> bool {
        net.wires.is_quiet()
            && self.all.iter().all(|peer| match &peer.role {
                Role::Client(client) => client.is_quiet(),
                Role::Worker(worker) => worker.is_quiet(),
            })
    }

    /// One turn of all who want one; when the next one is wanted.
    pub fn turn(&mut self, around: &mut Surroundings<'_>, exchange: &Exchange) -> Option<Micros> {
        let now = around.net.now;
        for peer in &mut self.all {
            let is_called = peer.wire.is_some_and(|wire| !around.net.wires.all[wire].to_peer.is_empty());
            if peer.due > now && !(is_called && peer.wakes(now)) {
                continue;
            }
            peer.due = peer.turn(around, exchange);
        }
        self.turn_streams(around, exchange);
        let due = self.all.iter().map(|peer| peer.due).min();
        let has_streams = around.is_loading && around.scenario.workers > 0;
        let streams = has_streams.then_some(self.stream_due);
        [due, streams].into_iter().flatten().min().map(|due| due.max(now + 1))
    }

    /// Streams come and go; now and then one asks for what is not its own.
    fn turn_streams(&mut self, around: &mut Surroundings<'_>, exchange: &Exchange) {
        let now = around.net.now;
        if !around.is_loading || around.scenario.workers == 0 || now < self.stream_due {
            return;
        }
        self.stream_due = now + around.chance.between(1_000, 100_000);
        around.net.wake(Actor::Exchange, 1);
        if around.net.wires.subscriptions.len() > 1 {
            let count = around.net.wires.subscriptions.len();
            let index = around.chance.below(count);
            around.net.wires.subscriptions[index].is_over = true;
            return;
        }
        let vhost = around.chance.below(VHOSTS.len());
        let Some(pass) = pass(around.net, exchange, vhost) else { return };
        let of = if around.chance.percent(20) { 1 - vhost } else { vhost };
        let topic = format!("{}:{}", VHOSTS[of].0, around.chance.pick(&["", "a", "b1", "never"]));
        let topic = if around.chance.percent(5) { String::new() } else { topic };
        around.net.wires.subscriptions.push(Subscription { pass, topic, is_told: false, is_over: false });
    }
}

impl Peer {
    /// Whether it reads what comes.
    fn wakes(&self, now: Micros) -> bool {
        match &self.role {
            Role::Worker(worker) => worker.is_awake(now),
            Role::Client(_) => true,
        }
    }

    fn turn(&mut self, around: &mut Surroundings<'_>, exchange: &Exchange) -> Micros {
        let now = around.net.now;
        let Some(wire) = self.wire.or_else(|| self.connect(around, exchange)) else {
            return now + around.chance.between(1_000, 50_000);
        };
        self.wire = Some(wire);
        let (stays, due) = match &mut self.role {
            Role::Worker(worker) => worker.turn(around, wire),
            Role::Client(client) => client.turn(around, wire, self.vhost),
        };
        let is_lost = stays && matches!(self.role, Role::Worker(_)) && around.loses_a_peer();
        if is_lost {
            around.net.wires.all[wire].is_mute = true;
            self.name = None;
        } else if !stays {
            around.cut(wire);
        }
        if is_lost || !stays {
            self.wire = None;
            self.role.disconnected();
        }
        due
    }

    /// Connects with what is now the vhost's token, if there is one.
    fn connect(&self, around: &mut Surroundings<'_>, exchange: &Exchange) -> Option<usize> {
        let pass = pass(around.net, exchange, self.vhost)?;
        let fresh = format!("peer {}", around.net.wires.all.len()).into_bytes();
        let name = self.name.clone().unwrap_or(fresh);
        let capacity = match &self.role {
            Role::Worker(worker) => worker.capacity(),
            Role::Client(_) => usize::MAX,
        };
        Some(around.net.wires.connect(name, pass, capacity))
    }
}

impl Role {
    fn disconnected(&mut self) {
        match self {
            Self::Worker(worker) => worker.disconnected(),
            Self::Client(client) => *client = Client::default(),
        }
    }
}

fn pass(net: &Net, exchange: &Exchange, vhost: usize) -> Option<webrocket_state::exchange::Pass> {
    let token = net.access[vhost].as_ref()?;
    exchange.authenticate(VHOSTS[vhost].0.as_bytes(), token.as_bytes())
}
