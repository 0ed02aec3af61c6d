//! What a seed makes happen: how many browsers, how patient, what they ask, what changes under them.

use webrocket_state::{Settings, link::CONGESTED_MESSAGES, settings::Anonymous};
use webrocket_wire::Rights;

use crate::{chance::Chance, net::Micros};

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Theme {
    /// Nobody is slow, nobody goes, nothing is closed: what is promised then is checked exactly.
    Calm,
    /// Everything at once.
    Chaos,
    /// Long bursts of broadcasts through small queues past shards that are late.
    Storm,
    /// Presence channels that everybody enters and leaves all the time.
    Churn,
    /// More sessions than one slice of long work concerns, and channels and vhosts that change under them.
    Crowd,
}

impl Theme {
    /// All themes.
    pub const ALL: [Self; 5] = [Self::Calm, Self::Chaos, Self::Storm, Self::Churn, Self::Crowd];
}

/// A user as the vhost has it at first.
#[derive(Debug, Clone, Copy)]
pub struct UserPlan {
    /// Its name.
    pub name: &'static str,
    /// Its secret, if it needs one.
    pub secret: Option<&'static str>,
    /// What it may.
    pub rights: Rights,
}

/// The users of every vhost.
pub const USERS: [UserPlan; 6] = [
    UserPlan { name: "reader", secret: None, rights: Rights::READ },
    UserPlan { name: "writer", secret: Some("w-secret"), rights: Rights::READ_WRITE },
    UserPlan { name: "boss", secret: Some("b-secret"), rights: Rights::ALL },
    UserPlan { name: "ann", secret: None, rights: Rights::READ_WRITE },
    UserPlan { name: "joe", secret: None, rights: Rights::READ_WRITE },
    UserPlan { name: "nobody", secret: None, rights: Rights::NONE },
];

/// The channels that exist from the beginning.
pub const OPENED: [&str; 4] = ["alpha", "private-a", "presence-a", "presence-b"];

/// All channels that are asked for.
pub const CHANNELS: [&str; 8] =
    ["alpha", "beta", "gamma", "delta", "private-a", "presence-a", "presence-b", "presence-c"];

/// The vhosts, and what sessions may before they authenticate.
pub const VHOSTS: [(&str, Anonymous); 2] =
    [("/open", Anonymous::ReadWrite), ("/guarded/moon", Anonymous::None)];

/// Everything that is fixed for a run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it is about.
    pub theme: Theme,
    /// How many shards.
    pub shards: usize,
    /// How many browsers there are at a time.
    pub browsers: usize,
    /// How many there are in all.
    pub browsers_max: usize,
    /// How many requests are made in all.
    pub requests_max: u64,
    /// How long the load lasts at most.
    pub load_max: Micros,
    /// The limits of every vhost.
    pub settings: Settings,
    /// Room in a queue between shards.
    pub queue_capacity: usize,
    /// The most that a message between shards takes.
    pub delay_max: Micros,
    /// In how many of a thousand turns a shard is late.
    pub pause_permille: u64,
    /// How late at most.
    pub pause_max: Micros,
    /// The most that a driver reads at once.
    pub read_max: u64,
    /// The most that a socket holds, in each direction.
    pub pipe_max: u64,
    /// The most requests that a browser has open.
    pub pipeline_max: u64,
    /// The most requests that it makes at once.
    pub burst_max: u64,
    /// The most bytes by which a broadcast is padded.
    pub pad_max: u64,
    /// The longest that a browser takes until it makes its next requests.
    pub pace_max: Micros,
    /// How many of a hundred browsers ask for the vhost where nobody may do anything unauthenticated.
    pub guarded_percent: u64,
    /// In how many of a thousand cases a browser that subscribes enough does nothing but broadcast.
    pub steady_permille: u64,
    /// In how many of a thousand turns a browser begins to leave.
    pub leave_permille: u64,
    /// In how many of a thousand turns it stops reading for a while.
    pub nap_permille: u64,
    /// How long for, at most.
    pub nap_max: Micros,
    /// How many of a hundred browsers stop reading for ever at some time.
    pub dead_percent: u64,
    /// Channels are opened and closed.
    pub channels_change: bool,
    /// Users change and go.
    pub users_change: bool,
    /// Vhosts go and come back.
    pub vhosts_change: bool,
    /// It ends with a shutdown instead of everybody leaving.
    pub shuts_down: bool,
}

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn draw(chance: &mut Chance, theme: Option<Theme>, shards: Option<usize>) -> Self {
        let theme = theme.unwrap_or_else(|| match chance.between(0, 99) {
            0..24 => Theme::Calm,
            24..74 => Theme::Chaos,
            74..84 => Theme::Storm,
            84..94 => Theme::Churn,
            _ => Theme::Crowd,
        });
        let drawn = usize::try_from(chance.between(1, 5)).expect("few");
        let mut scenario = Self::usual(chance, theme, shards.unwrap_or(drawn));
        match theme {
            Theme::Calm => {}
            Theme::Chaos => scenario.be_chaotic(chance),
            Theme::Storm => scenario.be_stormy(chance, shards),
            Theme::Churn => scenario.be_churning(chance, shards),
            Theme::Crowd => scenario.be_crowded(chance),
        }
        assert_eq!(scenario.settings.check(), Ok(()), "a scenario within the settings' ranges");
        scenario
    }

    fn usual(chance: &mut Chance, theme: Theme, shards: usize) -> Self {
        let settings = Settings {
            lag_bytes_max: 64 * 1024 * 1024,
            requests_outstanding_max: *chance.pick(&[1, 2, 3, 8, 64, 256]),
            ..Settings::default()
        };
        let browsers = usize::try_from(chance.between(3, 16)).expect("few");
        Self {
            theme,
            shards,
            browsers,
            browsers_max: browsers,
            requests_max: chance.between(300, 1200),
            load_max: 5_000_000,
            settings,
            queue_capacity: usize::try_from(chance.small(64)).expect("few"),
            delay_max: *chance.pick(&[1, 50, 1000, 10_000]),
            pause_permille: chance.between(0, 30),
            pause_max: chance.small(20_000),
            read_max: *chance.pick(&[7, 300, 65_536, 65_536]),
            pipe_max: *chance.pick(&[3_000, 30_000, 300_000]),
            pipeline_max: *chance.pick(&[1, 10, 80, 300]),
            burst_max: chance.small(30),
            pad_max: *chance.pick(&[1, 300, 3_000, 40_000]),
            pace_max: 1_500,
            guarded_percent: 40,
            steady_permille: 0,
            leave_permille: 0,
            nap_permille: 0,
            nap_max: 1,
            dead_percent: 0,
            channels_change: false,
            users_change: false,
            vhosts_change: false,
            shuts_down: chance.percent(15),
        }
    }

    fn be_chaotic(&mut self, chance: &mut Chance) {
        self.browsers_max = self.browsers * 6;
        self.leave_permille = chance.between(0, 8);
        self.nap_permille = chance.between(0, 30);
        self.nap_max = chance.small(400_000);
        self.dead_percent = chance.between(0, 20);
        self.channels_change = chance.percent(60);
        self.users_change = chance.percent(40);
        self.vhosts_change = chance.percent(20);
        let settings = &mut self.settings;
        settings.lag_bytes_max = *chance.pick(&[2_048, 20_000, 200_000, 1_048_576]);
        settings.stall_timeout_ms = *chance.pick(&[150, 2_000, 30_000]);
        settings.ping_interval_ms = *chance.pick(&[1_000, 25_000]);
        settings.idle_timeout_ms = 5 * settings.ping_interval_ms;
        if chance.percent(25) {
            settings.channels_max = 6;
        }
        if chance.percent(25) {
            settings.subscriptions_max = 3;
        }
        if chance.percent(20) {
            settings.connections_per_address_max = 2;
        }
    }

    fn be_stormy(&mut self, chance: &mut Chance, shards: Option<usize>) {
        self.shards = shards.unwrap_or(self.shards.clamp(2, 3));
        self.browsers = 20;
        self.browsers_max = 20;
        self.requests_max = chance.between(5_000, 12_000);
        self.settings.requests_outstanding_max = *chance.pick(&[64, 256, 1_000]);
        self.queue_capacity = usize::try_from(chance.small(16)).expect("few");
        self.pause_permille = chance.between(5, 60);
        self.pause_max = chance.between(10_000, 400_000);
        self.read_max = 65_536;
        self.pipe_max = 300_000;
        self.steady_permille = 995;
        self.pipeline_max = 2_000;
        self.burst_max = 400;
        self.pad_max = *chance.pick(&[1, 2_000]);
        self.channels_change = chance.percent(20);
    }

    fn be_churning(&mut self, chance: &mut Chance, shards: Option<usize>) {
        self.shards = shards.unwrap_or(self.shards.max(2));
        self.requests_max = 4_000;
        self.pad_max = 10;
        self.pause_permille = chance.between(5, 30);
        self.pause_max = *chance.pick(&[2_000, 50_000, 600_000]);
        self.queue_capacity = usize::try_from(chance.small(8)).expect("few");
        self.pipeline_max = *chance.pick(&[10, 80, 300]);
        self.leave_permille = chance.between(0, 3);
        self.browsers_max = self.browsers * 3;
        self.users_change = chance.percent(30);
    }

    fn be_crowded(&mut self, chance: &mut Chance) {
        self.shards = self.shards.min(2);
        self.guarded_percent = 10;
        self.browsers = 450 * self.shards;
        self.browsers_max = self.browsers;
        self.requests_max = 4_000 * self.shards as u64;
        self.pace_max = 100_000;
        self.pad_max = 10;
        self.pause_max = 3_000;
        self.read_max = 65_536;
        self.pipe_max = 30_000;
        self.pipeline_max = 4;
        self.burst_max = 3;
        self.channels_change = true;
        self.users_change = chance.percent(60);
        self.shuts_down = chance.percent(50);
    }

    /// Whether a session may be closed because it is slow.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.theme == Theme::Chaos
    }

    /// Whether a channel may be refused at the vhost's limit.
    #[must_use]
    pub fn has_few_channels(&self) -> bool {
        self.settings.channels_max < 100
    }

    /// The most messages that may wait before the queue from one shard to another.
    ///
    /// Requests are let in while no more than [`CONGESTED_MESSAGES`] wait. What may be added then
    /// is held back by nobody: for every open request of a session one event and one answer, for
    /// each of its subscriptions one farewell and one event that tells of it, for each channel
    /// the word that it is closed.
    #[must_use]
    pub fn waiting_max(&self) -> usize {
        let requests = self.settings.requests_outstanding_max as usize;
        CONGESTED_MESSAGES + 1 + 2 * self.browsers * (requests + CHANNELS.len()) + CHANNELS.len()
    }
}

/// The shape of a broadcast's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An object.
    Object,
    /// An object that claims to be from somebody else.
    Forged,
    /// A number.
    Scalar,
}

/// What a browser asks, apart from broadcasts, whose text the ledger makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Who, and with which secret.
    Authenticate(&'static str, Option<&'static str>),
    /// A token that nobody issued.
    WrongToken,
    /// To a channel.
    Subscribe(&'static str),
    /// From a channel.
    Unsubscribe(&'static str),
    /// The broadcast's number in the ledger.
    Broadcast(usize),
    /// A trigger, for which there is no worker.
    Trigger,
    /// Opens a channel.
    Open(&'static str),
    /// Closes a channel.
    Close(&'static str),
    /// Back to anonymous.
    Logout,
    /// An unknown event: its answer names it, so it shows where in the order of answers we are.
    Mark(u64),
    /// No message at all.
    Malformed(&'static str),
    /// A request that fails because of what it names: text, right needed, error.
    Faulty(&'static str, Rights, &'static str),
    /// Please close.
    Disconnect,
}

const MALFORMED: [&str; 7] = ["{}", "[]", "", "nonsense", "{\"subscribe\":", "\"subscribe\"", "{\"a\":1}}"];

const FAULTY: [(&str, Rights, &str); 9] = [
    (r#"{"subscribe":5}"#, Rights::READ, "INVALID_PAYLOAD"),
    (r#"{"subscribe":{}}"#, Rights::READ, "INVALID_CHANNEL_NAME"),
    (r#"{"subscribe":{"channel":"a b"}}"#, Rights::READ, "INVALID_CHANNEL_NAME"),
    (r#"{"unsubscribe":{"channel":7}}"#, Rights::READ, "INVALID_CHANNEL_NAME"),
    (r#"{"broadcast":[]}"#, Rights::WRITE, "INVALID_PAYLOAD"),
    (r#"{"broadcast":{"event":":x","channel":"a b"}}"#, Rights::WRITE, "INVALID_EVENT_NAME"),
    (r#"{"broadcast":{"event":"err","channel":"alpha"}}"#, Rights::WRITE, "INVALID_EVENT_NAME"),
    (r#"{"broadcast":{"event":"x","channel":""}}"#, Rights::WRITE, "INVALID_CHANNEL_NAME"),
    (r#"{"openChannel":{"channel":"?"}}"#, Rights::MANAGE, "INVALID_CHANNEL_NAME"),
];

impl Request {
    /// The request as a message. A broadcast's text is the ledger's to give.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Authenticate(user, None) => format!(r#"{{"authenticate":{{"user":"{user}"}}}}"#),
            Self::Authenticate(user, Some(secret)) => {
                format!(r#"{{"authenticate":{{"user":"{user}","secret":"{secret}"}}}}"#)
            }
            Self::WrongToken => format!(r#"{{"authenticate":{{"token":"{}"}}}}"#, "0f".repeat(64)),
            Self::Subscribe(channel) => format!(r#"{{"subscribe":{{"channel":"{channel}"}}}}"#),
            Self::Unsubscribe(channel) => format!(r#"{{"unsubscribe":{{"channel":"{channel}"}}}}"#),
            Self::Broadcast(_) => unreachable!("the ledger makes it"),
            Self::Trigger => r#"{"trigger":{"event":"do","data":{}}}"#.to_owned(),
            Self::Open(channel) => format!(r#"{{"openChannel":{{"channel":"{channel}"}}}}"#),
            Self::Close(channel) => format!(r#"{{"closeChannel":{{"channel":"{channel}"}}}}"#),
            Self::Logout => r#"{"logout":true}"#.to_owned(),
            Self::Mark(number) => format!(r#"{{"mark{number}":true}}"#),
            Self::Malformed(text) | Self::Faulty(text, ..) => (*text).to_owned(),
            Self::Disconnect => r#"{"disconnect":true}"#.to_owned(),
        }
    }
}

/// What a browser wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A request.
    Ask(Request),
    /// A broadcast to a channel.
    Broadcast(&'static str, Shape, usize),
    /// A ping.
    Ping,
}

/// A browser's next wish. `own`: the channels that it subscribes. `settled`: it has asked for
/// what it needs already.
#[must_use]
pub fn wish(
    chance: &mut Chance,
    scenario: &Scenario,
    anonymous: bool,
    own: &[&'static str],
    settled: bool,
) -> Wish {
    if anonymous && chance.percent(50) {
        return Wish::Ask(authenticate(chance));
    }
    let favourites: &[&'static str] = match scenario.theme {
        Theme::Churn => &["presence-a", "presence-b"],
        Theme::Storm => &["alpha", "beta", "gamma", "presence-a"],
        Theme::Calm | Theme::Chaos | Theme::Crowd => &CHANNELS,
    };
    let channel =
        if scenario.theme == Theme::Crowd && chance.percent(70) { "alpha" } else { *chance.pick(favourites) };
    // A request that must wait for the answers before it would end every burst.
    if settled && chance.permille(scenario.steady_permille) {
        let channel = *chance.pick(if own.is_empty() { favourites } else { own });
        return broadcast(chance, scenario, channel);
    }
    // Broadcast, subscribe, unsubscribe, authenticate, log out, the rest.
    let weights = match scenario.theme {
        _ if !settled => [10, 70, 0, 15, 0, 5],
        Theme::Calm | Theme::Storm => [80, 8, 2, 1, 0, 9],
        Theme::Chaos => [56, 14, 8, 2, 1, 19],
        Theme::Churn => [8, 40, 40, 2, 0, 10],
        Theme::Crowd => [5, 60, 3, 3, 2, 27],
    };
    let mut lot = chance.between(0, 99);
    let kind = weights.iter().position(|weight| {
        let hit = lot < *weight;
        lot = lot.saturating_sub(*weight);
        hit
    });
    match kind {
        Some(0) if !own.is_empty() && chance.percent(75) => {
            let channel = *chance.pick(own);
            broadcast(chance, scenario, channel)
        }
        Some(0) => broadcast(chance, scenario, channel),
        Some(1) => Wish::Ask(Request::Subscribe(channel)),
        Some(2) => Wish::Ask(Request::Unsubscribe(channel)),
        Some(3) => Wish::Ask(authenticate(chance)),
        Some(4) => Wish::Ask(Request::Logout),
        _ => odd(chance, scenario, channel),
    }
}

/// A broadcast to a channel.
pub fn broadcast(chance: &mut Chance, scenario: &Scenario, channel: &'static str) -> Wish {
    let shape = *chance.pick(&[Shape::Object, Shape::Object, Shape::Object, Shape::Forged, Shape::Scalar]);
    let pad = usize::try_from(chance.small(scenario.pad_max)).expect("small");
    Wish::Broadcast(channel, shape, pad)
}

fn authenticate(chance: &mut Chance) -> Request {
    match chance.between(0, 19) {
        0 => Request::Authenticate("ghost", None),
        1 => Request::Authenticate("boss", Some("wrong")),
        2 => Request::Authenticate("boss", None),
        3 => Request::Authenticate("no name", None),
        4 => Request::WrongToken,
        5..9 => Request::Authenticate("boss", Some("b-secret")),
        _ => {
            let user = chance.pick(&USERS);
            Request::Authenticate(user.name, user.secret)
        }
    }
}

fn odd(chance: &mut Chance, scenario: &Scenario, channel: &'static str) -> Wish {
    match chance.between(0, 9) {
        0 => Wish::Ask(Request::Trigger),
        1 => Wish::Ask(Request::Open(channel)),
        2 if scenario.channels_change => Wish::Ask(Request::Close(channel)),
        2 => Wish::Ask(Request::Close("never")),
        3 | 4 => Wish::Ask(Request::Malformed(chance.pick::<&'static str>(&MALFORMED))),
        5 => {
            let (text, right, error) = *chance.pick(&FAULTY);
            Wish::Ask(Request::Faulty(text, right, error))
        }
        6 => Wish::Ping,
        _ => Wish::Ask(Request::Mark(chance.between(0, 1 << 40))),
    }
}
