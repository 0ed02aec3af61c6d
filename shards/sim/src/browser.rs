//! A browser: asks without waiting, reads when it likes, leaves as it likes, and knows what it may
//! be answered.
//!
//! Here are its connection and its turns. `asking` puts requests together, `hearing` takes what
//! comes, `leaving` is how it ends; `stage` says how far it has come, `identity` who its session is. `rights`
//! knows what the session may, and from that `classic` and `wwfp` what each request may be answered.

mod asking;
mod classic;
mod hearing;
mod identity;
mod leaving;
mod rights;
mod stage;
mod wwfp;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use webrocket_wire::handshake::Dialect;

pub use stage::Ending;

use identity::Who;
use stage::Stage;

use crate::{
    chance::Chance,
    encodings::Receives,
    frames::{self, Item, ServerStream},
    net::Net,
    oracles::{Asked, Guarantee, Ledger},
    request::Request,
    scenario::{Scenario, VHOSTS},
    time::Micros,
};

/// What the world is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mood {
    /// Browsers make requests, nap, die and leave.
    pub is_loading: bool,
    /// The server was told to shut down.
    pub is_stopping: bool,
    /// Everybody has left: no address has as many connections as it may.
    pub is_deserted: bool,
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Browser,
    /// Asks for a vhost that does not exist.
    Lost,
    /// Is no WebSocket client at all.
    Http,
}

#[derive(Debug)]
struct Pending {
    request: Request,
    /// What it is called, in WWFP, as written.
    reference: Option<String>,
    asked: Asked,
}

/// One browser.
#[derive(Debug)]
pub struct Browser {
    id: usize,
    vhost: usize,
    kind: Kind,
    dialect: Dialect,
    receives: Receives,
    /// Whether it shows itself to nobody.
    is_shy: bool,
    /// Whether it does nothing but broadcast once it subscribes enough.
    is_resident: bool,
    /// Its session's identifier, once it is told.
    sid: Option<String>,
    /// It was told `:closed`.
    is_dismissed: bool,
    /// Its connection.
    pub socket: usize,
    stream: ServerStream,
    outgoing: VecDeque<u8>,
    is_fin_due: bool,
    pending: VecDeque<Pending>,
    identity: Who,
    /// How many of its requests had a name.
    references: u64,
    /// A request without an answer of its own failed, and nobody knows which of several.
    is_doubtful_who_failed: bool,
    windows: BTreeMap<&'static str, usize>,
    ever_subscribed: BTreeSet<&'static str>,
    /// A presence list is due as the very next text.
    list_due: Option<(&'static str, usize)>,
    /// The last `unsubscribed` may have been unasked, and the answer be still to come.
    doubtful: Option<(&'static str, usize)>,
    pings: u64,
    /// Open requests to subscribe.
    subscriptions_asked: usize,
    nap_until: Micros,
    dies_at: Micros,
    is_dead: bool,
    is_eager: bool,
    stage: Stage,
}

/// What to hand to every step of a browser.
pub struct Surroundings<'a> {
    /// The network.
    pub net: &'a mut Net,
    /// The lots.
    pub chance: &'a mut Chance,
    /// What is fixed.
    pub scenario: &'a Scenario,
    /// Where it writes down what it sees.
    pub ledger: &'a mut Ledger,
    /// How many requests may still be made.
    pub requests_left: &'a mut u64,
    /// What the world is at.
    pub mood: Mood,
}

impl Browser {
    /// A browser that connects to a shard of its choice.
    pub fn new(id: usize, around: &mut Surroundings<'_>) -> Self {
        let Surroundings { net, chance, scenario, ledger, .. } = around;
        let shard = chance.below(scenario.shards);
        let least = if chance.percent(3) { 1 } else { 300 };
        let mut capacity = || usize::try_from(chance.small(scenario.pipe_max).max(least)).expect("small");
        let capacities = (capacity(), capacity());
        let socket = net.connect(id, shard, capacities);
        let kind = match chance.between(0, 99) {
            0 => Kind::Lost,
            1 => Kind::Http,
            _ => Kind::Browser,
        };
        let vhost = usize::from(chance.percent(scenario.guarded_percent));
        ledger.arrive(vhost);
        let mut head = Vec::new();
        let dialect = if chance.percent(scenario.wwfp_percent) { Dialect::Wwfp } else { Dialect::Classic };
        let receives = match chance.between(0, 3) {
            0 => Receives::Enveloped,
            1 => Receives::Sealed,
            _ => Receives::Plain,
        };
        match kind {
            Kind::Browser => Self::shake_hands(&mut head, chance, VHOSTS[vhost].0, dialect, receives),
            Kind::Lost => frames::handshake(&mut head, "/nowhere"),
            Kind::Http => head.extend_from_slice(b"GET / HTTP/1.1\r\nHost: sim\r\n\r\n"),
        }
        let dies = chance.percent(scenario.dead_percent);
        Self {
            id,
            vhost,
            kind,
            dialect,
            receives,
            is_shy: dialect == Dialect::Wwfp && chance.percent(10),
            is_resident: chance.percent(scenario.resident_percent),
            sid: None,
            is_dismissed: false,
            socket,
            stream: ServerStream::default(),
            outgoing: head.into(),
            is_fin_due: false,
            pending: VecDeque::new(),
            identity: Who::Nobody,
            references: 0,
            is_doubtful_who_failed: false,
            windows: BTreeMap::new(),
            ever_subscribed: BTreeSet::new(),
            list_due: None,
            doubtful: None,
            pings: 0,
            subscriptions_asked: 0,
            nap_until: 0,
            dies_at: if dies { net.now + chance.between(1, 1_000_000) } else { Micros::MAX },
            is_dead: false,
            is_eager: chance.percent(30),
            stage: Stage::Connecting,
        }
    }

    /// Asks for the dialect in one of the ways that there are, and for the encoding.
    fn shake_hands(
        head: &mut Vec<u8>,
        chance: &mut Chance,
        path: &str,
        dialect: Dialect,
        receives: Receives,
    ) {
        let target = |protocol: Option<&str>| {
            let query: Vec<&str> = [protocol, receives.query()].into_iter().flatten().collect();
            if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
        };
        match (dialect, chance.between(0, 3)) {
            (Dialect::Classic, 0) => frames::handshake_offering(head, &target(None), "webrocket, wwfp"),
            (Dialect::Classic, 1) => frames::handshake_offering(head, &target(None), "mqtt"),
            (Dialect::Classic, _) => frames::handshake(head, &target(None)),
            (Dialect::Wwfp, 0) => frames::handshake(head, &target(Some("protocol=wwfp"))),
            (Dialect::Wwfp, 1) => {
                frames::handshake_offering(head, &target(Some("protocol=webrocket")), "mqtt, wwfp");
            }
            (Dialect::Wwfp, _) => frames::handshake_offering(head, &target(None), "wwfp"),
        }
    }

    /// Whether it is over, as far as the browser is concerned.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether it takes part and will until it is told to leave.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open && !self.is_dead
    }

    /// Whether it has nothing to do and waits for nothing.
    #[must_use]
    pub fn is_quiet(&self, net: &Net) -> bool {
        let socket = &net.sockets[self.socket];
        self.has_ended()
            || self.is_dead
            || self.is_open()
                && self.pending.is_empty()
                && self.outgoing.is_empty()
                && self.pings == 0
                && socket.to_server.is_empty()
                && socket.to_browser.is_empty()
                && !self.stream.holds_part()
    }

    /// What it waits for, for a human.
    #[must_use]
    pub fn describe(&self, net: &Net) -> String {
        let socket = &net.sockets[self.socket];
        format!(
            "browser {} {:?} on shard {}: {} requests open, the first {:?}, {} bytes unsent, {} unread, {} pings",
            self.id,
            self.stage,
            socket.shard,
            self.pending.len(),
            self.pending.front().map(|pending| &pending.request),
            self.outgoing.len() + socket.to_server.len(),
            socket.to_browser.len(),
            self.pings,
        )
    }

    /// In which vhost.
    #[must_use]
    pub fn vhost(&self) -> usize {
        self.vhost
    }

    /// The subscriptions that it holds.
    pub fn windows(&self) -> impl Iterator<Item = usize> + '_ {
        self.windows.values().copied()
    }

    /// One turn; when it wants the next.
    pub fn turn(&mut self, around: &mut Surroundings<'_>) -> Option<Micros> {
        if self.has_ended() {
            return None;
        }
        let now = around.net.now;
        self.choose_fate(around);
        if self.has_ended() || self.is_dead {
            return None;
        }
        let naps = now < self.nap_until;
        if !naps {
            self.read(around);
        }
        let wants_more = self.compose(around);
        self.write(around);
        self.register(around);
        let waits_for_room = !self.outgoing.is_empty();
        let reads_on = !naps && !around.net.sockets[self.socket].to_browser.is_empty();
        if self.has_ended() {
            None
        } else if naps && !wants_more {
            Some(self.nap_until)
        } else if wants_more || reads_on || waits_for_room {
            Some(
                now + around
                    .chance
                    .between(10, if waits_for_room || reads_on { 1_500 } else { around.scenario.pace_max }),
            )
        } else {
            None
        }
    }

    /// Says whether it would notice a fault: it listens, and will go on listening.
    fn register(&self, around: &mut Surroundings<'_>) {
        if !around.net.has_canary() {
            return;
        }
        let goes = |request: &Request| {
            matches!(
                request,
                Request::Authenticate(..) | Request::Token(_) | Request::Unsubscribe { .. } | Request::Logout
            )
        };
        let is_settled = match self.is_resident {
            true => self.identity != Who::Nobody,
            false => around.scenario.steady_permille == 1_000 && self.windows.len() > 1,
        };
        let stays =
            self.is_open() && is_settled && !self.pending.iter().any(|pending| goes(&pending.request));
        let channels = if stays { self.windows.keys().copied().collect() } else { Vec::new() };
        let shard = around.net.sockets[self.socket].shard;
        around.net.listeners.insert(self.id, (shard, channels));
        if stays {
            around.net.stayers.insert(self.id);
        }
        let is_member =
            !self.windows.is_empty() && self.windows.keys().all(|channel| channel.starts_with("presence-"));
        match is_member {
            true => around.net.members.insert(self.id),
            false => around.net.members.remove(&self.id),
        };
    }

    fn choose_fate(&mut self, around: &mut Surroundings<'_>) {
        let Surroundings { net, chance, scenario, mood, .. } = around;
        if !mood.is_loading {
            self.nap_until = 0;
            self.dies_at = Micros::MAX;
            return;
        }
        if net.now >= self.dies_at {
            self.die(around.ledger);
        } else if net.now >= self.nap_until && chance.permille(scenario.nap_permille) {
            self.nap_until = net.now + chance.between(1, scenario.nap_max);
        } else if self.stage == Stage::Open && chance.permille(scenario.leave_permille) {
            self.leave(around);
        }
    }

    fn control(&mut self, around: &mut Surroundings<'_>, opcode: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        frames::frame(&mut bytes, around.chance, opcode, true, payload);
        self.outgoing.extend(bytes);
    }

    fn write(&mut self, around: &mut Surroundings<'_>) {
        let Surroundings { net, chance, .. } = around;
        let socket = &mut net.sockets[self.socket];
        if socket.is_closed || socket.is_reset {
            self.outgoing.clear();
        }
        if !self.outgoing.is_empty() {
            let length = self.outgoing.len() as u64;
            let most = if chance.percent(60) { length } else { chance.small(length) };
            let bytes = self.outgoing.make_contiguous();
            let count = socket.to_server.push(&bytes[..usize::try_from(most).expect("in memory")]);
            self.outgoing.drain(..count);
            if count > 0 {
                net.readable(self.socket);
            }
        }
        let socket = &mut net.sockets[self.socket];
        if self.is_fin_due && self.outgoing.is_empty() && !socket.to_server.is_ended {
            socket.to_server.is_ended = true;
            net.readable(self.socket);
        }
    }

    fn read(&mut self, around: &mut Surroundings<'_>) {
        let most = if around.chance.percent(60) { usize::MAX } else { around.chance.below(5_000) };
        let bytes = around.net.take(self.socket, most);
        self.stream.extend(&bytes);
        loop {
            match self.stream.next_item() {
                Ok(Some(item)) => self.item(around, item),
                Ok(None) => break,
                Err(wrong) => {
                    let detail = format!("browser {}: {wrong}", self.id);
                    around.ledger.violate(around.net.now, Guarantee::FramesAreValid, detail);
                    return self.end(around.ledger);
                }
            }
        }
        let socket = &around.net.sockets[self.socket];
        if socket.to_browser.is_ended && socket.to_browser.is_empty() {
            self.at_end(around);
        }
    }

    fn item(&mut self, around: &mut Surroundings<'_>, item: Item) {
        match item {
            Item::Upgraded(subprotocol) => self.upgraded(around, subprotocol.as_deref()),
            Item::Refused(status) => self.refused(around, status),
            Item::Text(text) => self.text(around, &text),
            Item::Ping(payload) => self.control(around, frames::PONG, &payload),
            Item::Pong(payload) => {
                let expected = self.pings > 0 && (payload == b"there?" || payload == b"between");
                self.pings = self.pings.saturating_sub(1);
                around.ledger.check(around.net.now, Guarantee::PingsAreAnswered, || {
                    (!expected).then(|| format!("browser {} gets a pong that it did not ask for", self.id))
                });
            }
            Item::Close(code) => self.closed(around, code),
        }
    }

    fn upgraded(&mut self, around: &mut Surroundings<'_>, subprotocol: Option<&str>) {
        if self.stage == Stage::Connecting {
            self.stage = Stage::Open;
        }
        let name = self.dialect.name();
        around.ledger.check(around.net.now, Guarantee::SessionsAreGreetedAndDismissed, || {
            let is_other = subprotocol.is_some_and(|chosen| chosen != name);
            is_other.then(|| format!("browser {} wants {name} and gets {subprotocol:?}", self.id))
        });
    }
}
