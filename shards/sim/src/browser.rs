//! A browser that speaks the classic dialect: asks without waiting, reads when it likes, leaves
//! as it likes, and knows what it may be answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use webrocket_wire::{Rights, handshake::Dialect};

use crate::{
    answer::{self, Answer},
    chance::Chance,
    frames::{self, Item, ServerStream},
    net::{Actor, Micros, Net},
    oracles::{End, Fate, Guarantee, Ledger, shorten},
    workload::{self, OPENED, Request, Scenario, USERS, VHOSTS, Wish},
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

/// How a browser leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a close frame; `None`: without a code.
    Orderly(Option<u16>),
    /// With the request `disconnect`.
    Asked,
    /// The connection is reset.
    Reset,
    /// Without a word: the cable is cut.
    Silent,
    /// It sends no more, but goes on reading.
    HalfClosed,
    /// It breaks the protocol, and is to be closed with this code.
    Offence(u16),
}

const ENDINGS: [Ending; 10] = [
    Ending::Orderly(Some(1000)),
    Ending::Orderly(None),
    Ending::Asked,
    Ending::Reset,
    Ending::Silent,
    Ending::HalfClosed,
    Ending::Offence(1002),
    Ending::Offence(1003),
    Ending::Offence(1007),
    Ending::Offence(1009),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Open,
    Leaving(Ending),
    /// The server has closed; what is left is to read to the end.
    Closed,
    Ended,
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
    composed: Micros,
}

/// One browser.
#[derive(Debug)]
pub struct Browser {
    id: usize,
    vhost: usize,
    kind: Kind,
    /// Its connection.
    pub socket: usize,
    stream: ServerStream,
    outgoing: VecDeque<u8>,
    is_fin_due: bool,
    pending: VecDeque<Pending>,
    identity: Option<&'static str>,
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
        let Surroundings { net, chance, scenario, .. } = around;
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
        let mut head = Vec::new();
        match kind {
            Kind::Browser => frames::handshake(&mut head, VHOSTS[vhost].0),
            Kind::Lost => frames::handshake(&mut head, "/nowhere"),
            Kind::Http => head.extend_from_slice(b"GET / HTTP/1.1\r\nHost: sim\r\n\r\n"),
        }
        let dies = chance.percent(scenario.dead_percent);
        Self {
            id,
            vhost,
            kind,
            socket,
            stream: ServerStream::default(),
            outgoing: head.into(),
            is_fin_due: false,
            pending: VecDeque::new(),
            identity: None,
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
        if around.net.has_canary() {
            let shard = around.net.sockets[self.socket].shard;
            around.net.listeners.insert(self.id, (shard, self.windows.keys().copied().collect()));
        }
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

    fn die(&mut self, ledger: &mut Ledger) {
        self.is_dead = true;
        self.forget_windows(ledger);
    }

    fn forget_windows(&mut self, ledger: &mut Ledger) {
        for window in std::mem::take(&mut self.windows).into_values() {
            ledger.windows[window].end = End::Otherwise;
        }
    }

    /// Begins to leave, in some way.
    pub fn leave(&mut self, around: &mut Surroundings<'_>) {
        let ending = *around.chance.pick(&ENDINGS);
        self.leave_by(around, ending);
    }

    fn leave_by(&mut self, around: &mut Surroundings<'_>, ending: Ending) {
        let Surroundings { net, chance, ledger, .. } = around;
        net.wake(Actor::Browser(self.id), 1);
        self.stage = Stage::Leaving(ending);
        for window in self.windows.values() {
            ledger.windows[*window].end = End::Otherwise;
        }
        let mut bytes = Vec::new();
        match ending {
            Ending::Orderly(code) => {
                let code = code.map(u16::to_be_bytes);
                frames::frame(
                    &mut bytes,
                    chance,
                    frames::CLOSE,
                    true,
                    code.as_ref().map_or(&[], |code| code),
                );
            }
            Ending::Asked => self.ask(around, Request::Disconnect),
            Ending::Reset => {
                let socket = &mut net.sockets[self.socket];
                socket.is_reset = true;
                socket.to_server.lose();
                socket.to_browser.lose();
                net.readable(self.socket);
                self.end(ledger);
            }
            Ending::Silent => self.end(ledger),
            Ending::HalfClosed => self.is_fin_due = true,
            Ending::Offence(1002) => bytes.extend_from_slice(&[0x81, 1, b'a']),
            Ending::Offence(1003) => frames::frame(&mut bytes, chance, frames::BINARY, true, b"1234"),
            Ending::Offence(1007) => frames::frame(&mut bytes, chance, 1, true, b"{\"\xff\":1}"),
            Ending::Offence(_) => {
                bytes.extend_from_slice(&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4, 5]);
            }
        }
        self.outgoing.extend(bytes);
    }

    fn end(&mut self, ledger: &mut Ledger) {
        self.stage = Stage::Ended;
        self.forget_windows(ledger);
    }

    /// Broadcasts to every channel that it subscribes, so that it shows whether anybody is forgotten.
    pub fn call_the_roll(&mut self, around: &mut Surroundings<'_>) {
        let channels: Vec<_> = self.windows.keys().copied().collect();
        for channel in channels {
            if self.may(around.scenario, Rights::WRITE, Some(channel)) != Some(false) {
                self.broadcast(around, channel, workload::Shape::Object, 1);
            }
        }
        around.net.wake(Actor::Browser(self.id), 1);
    }

    fn compose(&mut self, around: &mut Surroundings<'_>) -> bool {
        let may_ask = match self.stage {
            Stage::Open => true,
            Stage::Connecting => self.is_eager && self.kind == Kind::Browser,
            Stage::Leaving(_) | Stage::Closed | Stage::Ended => false,
        };
        if !may_ask || !around.mood.is_loading {
            return false;
        }
        let burst = around.chance.small(around.scenario.burst_max);
        for _ in 0..burst {
            if *around.requests_left == 0 {
                return false;
            }
            if self.pending.len() as u64 >= around.scenario.pipeline_max {
                return false;
            }
            *around.requests_left -= 1;
            let settled = self.windows.len() + self.subscriptions_asked > 1;
            let anonymous = self.identity.is_none() && self.vhost == 1;
            let own: Vec<_> = self.windows.keys().copied().collect();
            match workload::wish(around.chance, around.scenario, anonymous, &own, settled) {
                Wish::Ask(request) => self.ask(around, request),
                Wish::Broadcast(channel, shape, pad) => self.broadcast(around, channel, shape, pad),
                Wish::Ping => {
                    self.pings += 1;
                    self.control(around, frames::PING, b"there?");
                }
            }
        }
        true
    }

    fn control(&mut self, around: &mut Surroundings<'_>, opcode: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        frames::frame(&mut bytes, around.chance, opcode, true, payload);
        self.outgoing.extend(bytes);
    }

    fn ask(&mut self, around: &mut Surroundings<'_>, request: Request) {
        let text = request.text();
        let follows = matches!(request, Request::Unsubscribe(_));
        self.subscriptions_asked += usize::from(matches!(request, Request::Subscribe(_)));
        self.send(around, request, &text);
        if follows {
            // So that an answer can be told from an `unsubscribed` that nobody asked for.
            let mark = Request::Mark(around.chance.between(0, 1 << 40));
            let text = mark.text();
            self.send(around, mark, &text);
        }
    }

    fn broadcast(
        &mut self,
        around: &mut Surroundings<'_>,
        channel: &'static str,
        shape: workload::Shape,
        pad: usize,
    ) {
        let place = (self.vhost, channel);
        let (number, text) = around.ledger.compose(around.net.now, self.id, place, shape, pad);
        self.send(around, Request::Broadcast(number), &text);
    }

    fn send(&mut self, around: &mut Surroundings<'_>, request: Request, text: &str) {
        let mut bytes = Vec::new();
        self.pings += frames::message(&mut bytes, around.chance, text.as_bytes());
        self.outgoing.extend(bytes);
        self.pending.push_back(Pending { request, composed: around.net.now });
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

    /// The server sends nothing more.
    fn at_end(&mut self, around: &mut Surroundings<'_>) {
        let is_fair = around.scenario.is_slow()
            || match self.stage {
                Stage::Connecting => self.kind != Kind::Browser || around.mood.is_stopping,
                Stage::Open | Stage::Leaving(Ending::Asked | Ending::Offence(_)) => false,
                Stage::Leaving(_) | Stage::Closed | Stage::Ended => true,
            };
        around.ledger.check(around.net.now, Guarantee::NobodyIsClosedWithoutReason, || {
            (!is_fair).then(|| format!("the connection of {} ends without a word", self.describe(around.net)))
        });
        self.is_fin_due = true;
        self.outgoing.clear();
        self.write(around);
        self.end(around.ledger);
    }

    fn item(&mut self, around: &mut Surroundings<'_>, item: Item) {
        match item {
            Item::Upgraded if self.stage == Stage::Connecting => self.stage = Stage::Open,
            Item::Upgraded => {}
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

    fn refused(&mut self, around: &mut Surroundings<'_>, status: u16) {
        let is_fair = match status {
            404 => self.kind == Kind::Lost || around.scenario.vhosts_change,
            429 => around.scenario.settings.connections_per_address_max > 0 && !around.mood.is_deserted,
            503 => around.mood.is_stopping,
            _ => false,
        };
        around.ledger.check(around.net.now, Guarantee::NobodyIsClosedWithoutReason, || {
            (!is_fair).then(|| format!("browser {} is refused with {status}", self.id))
        });
        self.pending.clear();
        self.is_fin_due = true;
        self.outgoing.clear();
        self.stage = Stage::Closed;
    }

    fn closed(&mut self, around: &mut Surroundings<'_>, code: u16) {
        let only_the_last_is_open = self.pending.len() == 1
            && self.pending.iter().all(|pending| pending.request == Request::Disconnect);
        let is_fair = match code {
            1000 | 1005 => match self.stage {
                Stage::Leaving(Ending::Orderly(sent)) => sent.unwrap_or(1005) == code,
                Stage::Leaving(Ending::Asked) => code == 1000 && only_the_last_is_open,
                _ => false,
            },
            4008 => around.scenario.is_slow(),
            4004 => around.scenario.vhosts_change,
            1012 => around.mood.is_stopping,
            code => self.stage == Stage::Leaving(Ending::Offence(code)),
        };
        around.ledger.check(around.net.now, Guarantee::NobodyIsClosedWithoutReason, || {
            (!is_fair).then(|| format!("closes with {code}: {}", self.describe(around.net)))
        });
        around.net.note(u64::from(code));
        if !matches!(self.stage, Stage::Leaving(Ending::Orderly(_) | Ending::HalfClosed)) {
            self.control(around, frames::CLOSE, &code.to_be_bytes());
        }
        self.forget_windows(around.ledger);
        self.pending.clear();
        self.is_fin_due = true;
        self.stage = Stage::Closed;
    }

    fn text(&mut self, around: &mut Surroundings<'_>, text: &str) {
        let now = around.net.now;
        if text.starts_with("{\"ev\"") {
            self.no_list_is_due(around, text);
            if let Some((number, channel)) = around.ledger.read_event(now, text) {
                self.event(around, number, channel);
            }
            return;
        }
        let Some(answer) = answer::parse(text) else {
            let detail = format!("browser {}: {}", self.id, shorten(text));
            return around.ledger.violate(now, Guarantee::AnswersComeInTheOrderOfRequests, detail);
        };
        match answer {
            Answer::Presence { channel, uids } => self.presence(around, &channel, uids),
            Answer::Member { channel, uid, joined } => {
                self.no_list_is_due(around, text);
                let window = answer::channel(&channel).and_then(|channel| self.windows.get(channel));
                match window {
                    Some(window) => around.ledger.see_member(now, *window, &uid, joined),
                    None => self.stray(around, &channel, text),
                }
            }
            answer => {
                self.no_list_is_due(around, text);
                self.answer(around, &answer);
            }
        }
    }

    fn no_list_is_due(&mut self, around: &mut Surroundings<'_>, text: &str) {
        if let Some((channel, _)) = self.list_due.take() {
            let detail = format!("browser {}: {} instead of the list of {channel}", self.id, shorten(text));
            around.ledger.violate(around.net.now, Guarantee::PresenceFitsTogether, detail);
        }
    }

    fn presence(&mut self, around: &mut Surroundings<'_>, channel: &str, uids: Vec<String>) {
        match self.list_due.take() {
            Some((due, window)) if due == channel => around.ledger.see_list(around.net.now, window, uids),
            other => {
                let detail = format!("browser {}: a list of {channel}, due was {other:?}", self.id);
                around.ledger.violate(around.net.now, Guarantee::PresenceFitsTogether, detail);
            }
        }
    }

    fn event(&mut self, around: &mut Surroundings<'_>, number: usize, channel: &'static str) {
        let (vhost, _) = around.ledger.broadcasts[number].place;
        match self.windows.get(channel) {
            Some(window) if vhost == self.vhost => around.ledger.see(*window, number),
            Some(_) | None => self.stray(around, channel, &format!("broadcast {number} of vhost {vhost}")),
        }
    }

    /// An event of a channel that the session does not subscribe.
    fn stray(&self, around: &mut Surroundings<'_>, channel: &str, what: &str) {
        let asked = self
            .pending
            .iter()
            .any(|pending| matches!(pending.request, Request::Subscribe(of) if of == channel));
        let guarantee = match answer::channel(channel) {
            Some(known) if self.ever_subscribed.contains(known) => {
                Guarantee::NothingAfterUnsubscribeIsAcknowledged
            }
            Some(_) if asked => Guarantee::NothingBeforeSubscribed,
            Some(_) | None => Guarantee::NothingToStrangers,
        };
        // Who has sent a close frame, or been sent one, counts on nothing any more.
        if matches!(self.stage, Stage::Open | Stage::Leaving(_)) {
            let detail = format!("browser {}: {}", self.id, shorten(what));
            around.ledger.violate(around.net.now, guarantee, detail);
        }
    }

    fn answer(&mut self, around: &mut Surroundings<'_>, answer: &Answer) {
        if self.settles_a_doubt(around, answer) || self.is_unasked(around, answer) {
            return;
        }
        let now = around.net.now;
        let Some(Pending { request, composed }) = self.pending.pop_front() else {
            let detail = format!("browser {}: {answer:?} to no request", self.id);
            return around.ledger.violate(now, Guarantee::AnswersComeInTheOrderOfRequests, detail);
        };
        if matches!(request, Request::Mark(_)) {
            self.doubtful = None;
        }
        self.subscriptions_asked -= usize::from(matches!(request, Request::Subscribe(_)));
        let right = self.is_right(around.scenario, &request, answer, around.ledger);
        around.ledger.check(now, Guarantee::AnswersComeInTheOrderOfRequests, || {
            let (id, identity) = (self.id, self.identity);
            (!right).then(|| {
                let request = match request {
                    Request::Broadcast(number) => format!("broadcast {number}"),
                    ref request => format!("{request:?}"),
                };
                format!("browser {id} as {identity:?} of {}: {answer:?} to {request}", VHOSTS[self.vhost].0)
            })
        });
        self.take_effect(around, &request, composed, answer);
    }

    /// `unsubscribed` came to an `unsubscribe` and now comes its real answer: the first was unasked.
    fn settles_a_doubt(&mut self, around: &mut Surroundings<'_>, answer: &Answer) -> bool {
        let Some((channel, window)) = self.doubtful else { return false };
        if !matches!(self.pending.front(), Some(Pending { request: Request::Mark(_), .. })) {
            return false;
        }
        let settles = match answer {
            Answer::Done(key, of) => key == "unsubscribed" && of == channel,
            Answer::Error { id, event: None, .. } => id == "CHANNEL_NOT_FOUND" || id == "ACCESS_DENIED",
            _ => false,
        };
        if settles {
            self.doubtful = None;
            if window != usize::MAX {
                around.ledger.windows[window].end = End::Otherwise;
            }
        }
        settles
    }

    /// An `unsubscribed` that is no answer: the channel was closed, or the right to it lost.
    fn is_unasked(&mut self, around: &mut Surroundings<'_>, answer: &Answer) -> bool {
        let Answer::Done(key, channel) = answer else { return false };
        let Some(channel) = answer::channel(channel).filter(|_| key == "unsubscribed") else { return false };
        if matches!(self.pending.front(), Some(Pending { request: Request::Unsubscribe(of), .. }) if *of == channel)
        {
            return false;
        }
        let scenario = around.scenario;
        let possible = scenario.channels_change || scenario.users_change;
        match self.windows.remove(channel) {
            Some(window) => around.ledger.windows[window].end = End::Otherwise,
            None => self.stray(around, channel, "unsubscribed, unasked"),
        }
        around.ledger.check(around.net.now, Guarantee::NobodyIsClosedWithoutReason, || {
            (!possible).then(|| format!("browser {} loses {channel} unasked", self.id))
        });
        true
    }

    fn take_effect(
        &mut self,
        around: &mut Surroundings<'_>,
        request: &Request,
        composed: Micros,
        answer: &Answer,
    ) {
        let now = around.net.now;
        match (request, answer) {
            (Request::Authenticate(name, _), Answer::Done(..)) => {
                self.identity = Some(name);
                self.forget_windows(around.ledger);
            }
            (Request::Logout, Answer::LoggedOut) => {
                self.identity = None;
                self.forget_windows(around.ledger);
            }
            (Request::Subscribe(channel), Answer::Done(..)) => {
                let place = (self.vhost, *channel);
                let uid = self.identity.map(str::to_owned);
                let leaving = matches!(self.stage, Stage::Leaving(_));
                let window = *self
                    .windows
                    .entry(channel)
                    .or_insert_with(|| around.ledger.open_window(now, self.id, place, composed, uid));
                if leaving {
                    around.ledger.windows[window].end = End::Otherwise;
                }
                self.ever_subscribed.insert(channel);
                if channel.starts_with("presence-") {
                    self.list_due = Some((channel, window));
                }
            }
            (Request::Unsubscribe(channel), Answer::Done(..) | Answer::Error { .. }) => {
                let done = matches!(answer, Answer::Done(..));
                let denied = matches!(answer, Answer::Error { id, .. } if id == "ACCESS_DENIED");
                let window = if denied { None } else { self.windows.remove(channel) };
                if let Some(window) = window {
                    let entry = &mut around.ledger.windows[window];
                    let leaving = entry.end == End::Otherwise;
                    entry.end = if done && !leaving { End::Asked(composed) } else { End::Otherwise };
                }
                if done {
                    self.doubtful = Some((channel, window.unwrap_or(usize::MAX)));
                }
            }
            (Request::Broadcast(number), Answer::Done(..)) => {
                around.ledger.broadcasts[*number].fate = Fate::Acknowledged(now);
            }
            (Request::Broadcast(number), _) => around.ledger.broadcasts[*number].fate = Fate::Refused,
            _ => {}
        }
    }

    /// Whether the session has a right, on a channel or at all; `None`: nobody can know.
    fn may(&self, scenario: &Scenario, needed: Rights, channel: Option<&str>) -> Option<bool> {
        let Some(name) = self.identity else {
            let is_open = channel.is_none_or(|channel| !channel.contains('-'));
            return Some(is_open && VHOSTS[self.vhost].1.rights(Dialect::Classic, true).contains(needed));
        };
        if scenario.users_change {
            return None;
        }
        USERS.iter().find(|user| user.name == name).map(|user| user.rights.contains(needed))
    }

    /// Whether the channel certainly exists.
    fn exists(&self, scenario: &Scenario, channel: &str) -> bool {
        !scenario.channels_change
            && !scenario.vhosts_change
            && (OPENED.contains(&channel) || !scenario.users_change && self.windows.contains_key(channel))
    }

    /// Whether the answer may be the request's.
    fn is_right(&self, scenario: &Scenario, request: &Request, answer: &Answer, ledger: &Ledger) -> bool {
        let done = |key: &str, name: &str| matches!(answer, Answer::Done(k, n) if k == key && n == name);
        let error =
            |wanted: &str| matches!(answer, Answer::Error { id, event: None, reason: None } if id == wanted);
        let limit = |wanted: &str| {
            matches!(answer, Answer::Error { id, event: None, reason: Some(reason) }
                if id == "ACCESS_DENIED" && reason == wanted)
        };
        // With the right, `granted`; without it, denied; where nobody knows, either.
        let with = |needed, channel, granted: &dyn Fn() -> bool| match self.may(scenario, needed, channel) {
            Some(true) => granted(),
            Some(false) => error("ACCESS_DENIED"),
            None => error("ACCESS_DENIED") || granted(),
        };
        let few = scenario.has_few_channels();
        match request {
            Request::Authenticate(name, secret) => {
                let user = USERS.iter().find(|user| user.name == *name);
                let changed =
                    || scenario.users_change && (error("USER_NOT_FOUND") || error("INVALID_CREDENTIALS"));
                match user {
                    None if *name == "no name" => error("INVALID_USER_NAME"),
                    None => error("USER_NOT_FOUND"),
                    Some(user) if user.secret.is_none() || user.secret == *secret => {
                        done("authenticated", name) || changed()
                    }
                    Some(_) => error("INVALID_CREDENTIALS") || changed(),
                }
            }
            Request::WrongToken => error("INVALID_CREDENTIALS"),
            Request::Subscribe(channel) => with(Rights::READ, Some(channel), &|| {
                let may_be_denied =
                    channel.contains('-') && self.may(scenario, Rights::MANAGE, None) != Some(true);
                let exists = self.exists(scenario, channel);
                done("subscribed", channel)
                    || !exists && may_be_denied && error("ACCESS_DENIED")
                    || scenario.vhosts_change && error("ACCESS_DENIED")
                    || few && !exists && limit("channel limit reached")
                    || scenario.settings.subscriptions_max < 100 && limit("subscription limit reached")
            }),
            Request::Unsubscribe(channel) => with(Rights::READ, Some(channel), &|| {
                done("unsubscribed", channel) || !self.exists(scenario, channel) && error("CHANNEL_NOT_FOUND")
            }),
            Request::Broadcast(number) => {
                let (_, channel) = ledger.broadcasts[*number].place;
                with(Rights::WRITE, Some(channel), &|| {
                    done("broadcasted", channel)
                        || !self.exists(scenario, channel) && error("CHANNEL_NOT_FOUND")
                })
            }
            Request::Trigger => with(Rights::WRITE, None, &|| error("ASSIGNATION_FAILED")),
            Request::Open(channel) => with(Rights::MANAGE, None, &|| {
                done("channelOpened", channel)
                    || few && limit("channel limit reached")
                    || scenario.vhosts_change && error("CHANNEL_NOT_FOUND")
            }),
            Request::Close(channel) => with(Rights::MANAGE, None, &|| {
                *channel != "never" && done("channelClosed", channel) || error("CHANNEL_NOT_FOUND")
            }),
            Request::Logout => match self.identity {
                None => error("ACCESS_DENIED"),
                Some(_) => *answer == Answer::LoggedOut || scenario.users_change && error("ACCESS_DENIED"),
            },
            Request::Mark(number) => {
                matches!(answer, Answer::Error { id, event: Some(event), reason: None }
                    if id == "UNDEFINED_EVENT" && *event == format!("mark{number}"))
            }
            Request::Malformed(_) => error("INVALID_PAYLOAD"),
            Request::Faulty(_, needed, wanted) => with(*needed, None, &|| error(wanted)),
            Request::Disconnect => false,
        }
    }
}
