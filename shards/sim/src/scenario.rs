//! What is fixed for a run: how many browsers, how patient, how they speak, what changes under them.

use webrocket_state::{Settings, link::CONGESTED_MESSAGES, settings::Anonymous};
use webrocket_wire::Rights;

use crate::{canary::Canary, chance::Chance, theme::Theme, time::Micros};

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
pub const OPENED: [&str; 6] = ["alpha", "beta", "gamma", "private-a", "presence-a", "presence-b"];

/// All channels that are asked for.
pub const CHANNELS: [&str; 8] =
    ["alpha", "beta", "gamma", "delta", "private-a", "presence-a", "presence-b", "presence-c"];

/// The vhosts, and what sessions may before they authenticate.
pub const VHOSTS: [(&str, Anonymous); 2] =
    [("/open", Anonymous::ReadWrite), ("/guarded/moon", Anonymous::None)];

/// The most broadcasts of the backend that are not acknowledged.
pub const BACKEND_OPEN_MAX: usize = 4;

/// The most requests of a client over ZeroMQ that are not answered.
pub const CLIENT_OPEN_MAX: usize = 40;

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
    /// How many of a hundred browsers are residents: once they subscribe enough they do nothing but broadcast.
    pub resident_percent: u64,
    /// How many of a hundred browsers speak WWFP.
    pub wwfp_percent: u64,
    /// The longest that the backend takes until it speaks again; `None` where there is no backend.
    pub backend_pace_max: Option<Micros>,
    /// How many of a hundred requests are triggers.
    pub trigger_percent: u64,
    /// How many workers over ZeroMQ there are.
    pub workers: usize,
    /// How many clients over ZeroMQ.
    pub clients: usize,
    /// How many takers of events over HTTP at a time.
    pub sources: usize,
    /// Access tokens are regenerated.
    pub access_changes: bool,
    /// The exchange's driver carries out orders after every input, not once a turn.
    pub exchange_is_prompt: bool,
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
            0..20 => Theme::Calm,
            20..60 => Theme::Chaos,
            60..70 => Theme::Storm,
            70..80 => Theme::Churn,
            80..94 => Theme::Work,
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
            Theme::Work => scenario.be_working(chance),
        }
        assert_eq!(scenario.settings.check(), Ok(()), "a scenario within the settings' ranges");
        scenario
    }

    fn usual(chance: &mut Chance, theme: Theme, shards: usize) -> Self {
        let settings = Settings {
            lag_bytes_max: 64 * 1024 * 1024,
            trigger_queue_max: *chance.pick(&[0, 1, 10, 10_000, 10_000]),
            trigger_redeliveries_max: *chance.pick(&[0, 1, 5, 5]),
            presence_data_bytes_max: 70,
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
            resident_percent: 0,
            wwfp_percent: *chance.pick(&[0, 50, 50, 50, 100]),
            backend_pace_max: chance.percent(70).then(|| chance.between(300, 20_000)),
            trigger_percent: *chance.pick(&[0, 5, 20, 50]),
            workers: chance.below(7),
            clients: chance.below(4),
            sources: chance.below(4),
            access_changes: false,
            exchange_is_prompt: chance.percent(50),
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
        self.access_changes = chance.percent(30);
        let settings = &mut self.settings;
        settings.lag_bytes_max = *chance.pick(&[2_048, 20_000, 200_000, 1_048_576]);
        settings.stall_timeout_ms = *chance.pick(&[150, 2_000, 30_000]);
        settings.ping_interval_ms = *chance.pick(&[1_000, 25_000]);
        settings.idle_timeout_ms = 5 * settings.ping_interval_ms;
        if chance.percent(25) {
            settings.channels_max = 7;
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
        self.backend_pace_max = self.backend_pace_max.map(|_| 300_000);
        self.channels_change = true;
        self.users_change = chance.percent(60);
        self.shuts_down = chance.percent(50);
    }

    fn be_working(&mut self, chance: &mut Chance) {
        self.browsers = 10;
        self.browsers_max = 30;
        self.requests_max = 3_000;
        self.trigger_percent = 80;
        self.pace_max = *chance.pick(&[2_000, 20_000, 60_000]);
        self.burst_max = *chance.pick(&[3, 60]);
        self.pad_max = 300;
        self.leave_permille = 2;
        self.workers = usize::try_from(chance.between(1, 8)).expect("few");
        self.access_changes = chance.percent(40);
        self.vhosts_change = chance.percent(25);
    }

    /// Makes it a run in which this fault must be noticed: nobody who listens goes.
    pub fn await_fault(&mut self, canary: Canary) {
        self.queue_capacity = self.queue_capacity.max(8);
        self.browsers = self.browsers.max(12);
        self.browsers_max = self.browsers;
        self.requests_max = 1_500;
        self.pad_max = self.pad_max.min(300);
        self.delay_max = self.delay_max.max(1_000);
        self.pipeline_max = 80;
        self.guarded_percent = 0;
        self.leave_permille = 0;
        self.users_change = false;
        self.settings.requests_outstanding_max = 64;
        match canary {
            Canary::Swap | Canary::Drop | Canary::Double => self.steady_permille = 1_000,
            Canary::LostLeave | Canary::DoubledJoin | Canary::ShortList => self.resident_percent = 50,
            Canary::TokenTwice => {}
            // Who asks one thing at a time subscribes nothing again before it has heard that it left.
            Canary::LateLeave => self.pipeline_max = 1,
            Canary::LostRedelivery | Canary::DoubledTrigger => {
                (self.workers, self.sources) = (8, 0);
                self.settings.trigger_queue_max = 10_000;
                self.settings.trigger_redeliveries_max = 1_000;
                (self.vhosts_change, self.access_changes) = (false, false);
            }
        }
    }

    /// Whether a session may lose a subscription that it did not give up.
    #[must_use]
    pub fn takes_away(&self) -> bool {
        self.channels_change || self.users_change || self.vhosts_change
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
    /// is held back by nobody: for every open request of a session one event, one answer and one fence,
    /// for each of its subscriptions one leave and one event that tells of it, for each channel
    /// the word that it is closed, and what backends broadcast before they wait.
    #[must_use]
    pub fn waiting_max(&self) -> usize {
        let requests = self.settings.requests_outstanding_max as usize;
        CONGESTED_MESSAGES
            + 1
            + self.browsers * (3 * requests + 2 * CHANNELS.len())
            + CHANNELS.len()
            + BACKEND_OPEN_MAX
            + 2 * self.clients * CLIENT_OPEN_MAX
    }
}
