//! What servers are compared in: the work, and what is taken of it.

use std::time::Duration;

use anyhow::Context;

use super::contestant::{Contestant, Running};
use super::options::Options;
use super::results::{Column, Found};
use crate::dialect::Dialect;
use crate::engine::Engine;
use crate::fanout::{Amount, Fanout, Load, Plan, measure, subscribe};
use crate::process::{ProcessId, resident_bytes};
use crate::report::Better;

/// How long a round broadcasts before it is measured.
const WARM_UP: Duration = Duration::from_millis(200);
/// How many times as long a round lasts of which a percentile is taken.
pub(super) const TIMES_FOR_A_PERCENTILE: u32 = 5;
/// The length of a broadcast's data.
const PAYLOAD_BYTES: usize = 128;
/// How many connections a server has had before its idle ones are weighed, so that what it pays once is not counted.
const FIRST_CONNECTIONS: u32 = 100;
/// How long a server's memory is given to come to rest.
const REST: Duration = Duration::from_secs(2);

/// The work of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Broadcast; taken is the processor time for a delivery.
    Deliver { channels: u32, subscribers: u32, publishers: u32, in_flight: u32 },
    /// Broadcast at a rate; taken is the 99th percentile of the latency.
    DeliverAtRate { subscribers: u32, rate: u32 },
    /// Connect and subscribe; taken is how many do in a second.
    Connect { connections: u32 },
    /// Hold connections; taken is what one weighs.
    Hold { connections: u32 },
}

/// A discipline.
#[derive(Clone, Debug)]
pub(super) struct Discipline {
    /// As a figure is called.
    name: String,
    /// As a person reads it.
    title: String,
    field: Field,
}

/// Who takes part, in what.
#[derive(Clone, Debug)]
enum Field {
    /// All servers in the same work, compared with the floor.
    All(Work),
    /// WebRocket alone: with so many shards in the same work, compared with the first.
    Shards(Work, Vec<u32>),
    /// The floor and WebRocket, each in different works, compared with what it did in the first; told is also how
    /// much more WebRocket grows by than the floor.
    Works(Vec<(String, Work)>),
}

/// One column of a discipline.
struct Entry {
    label: String,
    contestant: Contestant,
    work: Work,
    /// Which entry it is compared with.
    reference: usize,
    /// The floor's entry in the same work, if both grow from work to work.
    floor: Option<usize>,
    /// The entry of the other build, if this is ours.
    other: Option<usize>,
}

/// All disciplines, in the order of the table.
pub(super) fn all() -> Vec<Discipline> {
    let deliver =
        |channels, subscribers, in_flight| Work::Deliver { channels, subscribers, publishers: 1, in_flight };
    let sixteen_publishers = Work::Deliver { channels: 1, subscribers: 1000, publishers: 16, in_flight: 16 };
    let each = |name: &str, title: &str, work| Discipline {
        name: name.to_owned(),
        title: title.to_owned(),
        field: Field::All(work),
    };
    let alone =
        |name: &str, title: &str, field| Discipline { name: name.to_owned(), title: title.to_owned(), field };
    let sizes = [100, 1000, 10_000];
    let works = |work: &dyn Fn(u32) -> Work, what: &str| {
        Field::Works(sizes.iter().map(|size| (format!("{size} {what}"), work(*size))).collect())
    };
    vec![
        each("1x1000_1", "1 channel × 1000, 1 in flight: CPU per delivery", deliver(1, 1000, 1)),
        each("1x1000_16", "1 × 1000, 16 in flight: CPU per delivery", deliver(1, 1000, 16)),
        each(
            "1x1000_of_16",
            "1 × 1000, 16 publishers with 1 in flight each: CPU per delivery",
            sixteen_publishers,
        ),
        each("1x5000_4", "1 × 5000, 4 in flight: CPU per delivery", deliver(1, 5000, 4)),
        each("1000x5_64", "1000 × 5, 64 in flight: CPU per delivery", deliver(1000, 5, 64)),
        each("connect", "connect + subscribe, per second", Work::Connect { connections: 5000 }),
        each("idle", "RSS per idle subscribed connection", Work::Hold { connections: 10_000 }),
        each("p99", "20 a second to 1000: p99 latency", Work::DeliverAtRate { subscribers: 1000, rate: 20 }),
        alone(
            "shards",
            "1 × 1000, 16 in flight, by shards: CPU per delivery",
            Field::Shards(deliver(1, 1000, 16), vec![1, 2]),
        ),
        alone(
            "subscribers",
            "1 channel, 1 in flight, by subscribers: CPU per delivery",
            works(&|subscribers| deliver(1, subscribers, 1), "subscribers"),
        ),
        alone(
            "channels",
            // Fewer in flight than channels: no two broadcasts share a send.
            "1 subscriber each, 8 in flight, by channels: CPU per publish",
            Field::Works(
                [10, 100, 1000, 10_000]
                    .iter()
                    .map(|channels| (format!("{channels} channels"), deliver(*channels, 1, 8)))
                    .collect(),
            ),
        ),
    ]
}

impl Discipline {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether all servers take part in it, other builds of WebRocket too.
    pub(super) fn is_for_all(&self) -> bool {
        matches!(self.field, Field::All(_))
    }

    /// How many connections it takes at once.
    pub(super) fn connections(&self) -> u32 {
        match &self.field {
            Field::All(work) | Field::Shards(work, _) => work.connections(),
            Field::Works(works) => works.iter().map(|(_, work)| work.connections()).max().unwrap_or_default(),
        }
    }

    /// Lets all who take part in it have their rounds.
    pub(super) fn run(&self, contestants: &[Contestant], options: &Options) -> anyhow::Result<Found> {
        let entries = self.entries(contestants, options);
        let mut columns: Vec<Column> = entries.iter().map(Entry::column).collect();
        let mut running: Vec<Option<Running>> = Vec::new();
        for entry in &entries {
            let is_fresh = entry.work.wants_fresh_server();
            running.push(if is_fresh { None } else { Some(entry.start()?) });
        }
        for round in 0..options.rounds as usize {
            for turn in 0..entries.len() {
                let index = (round + turn) % entries.len();
                let (entry, column) = (&entries[index], &mut columns[index]);
                if column.failure.is_some() {
                    continue;
                }
                let value = match &running[index] {
                    Some(running) => entry.round(running, options),
                    None => {
                        let running = entry.start()?;
                        let value = entry.round(&running, options);
                        running.end()?;
                        value
                    }
                };
                match value {
                    Ok(value) => column.values.push(value),
                    // What others do not promise is told, and no reason to give up.
                    Err(error) if entry.contestant.is_rival() => column.failure = Some(format!("{error:#}")),
                    Err(error) => return Err(error.context(format!("{}: {}", self.title, entry.label))),
                }
            }
        }
        running.into_iter().flatten().try_for_each(Running::end)?;
        let (unit, better) = entries.first().map_or(("", Better::Neither), |entry| entry.work.unit());
        Ok(Found { name: self.name.clone(), title: self.title.clone(), unit, better, columns })
    }

    fn entries(&self, contestants: &[Contestant], options: &Options) -> Vec<Entry> {
        let webrocket =
            |shards| Contestant::webrocket("webrocket", Dialect::Wwfp, shards, options.server.as_deref());
        match &self.field {
            Field::All(work) => {
                let other = contestants.iter().position(Contestant::is_other_build);
                let entry = |contestant: &Contestant| Entry {
                    label: contestant.name().to_owned(),
                    contestant: contestant.clone(),
                    work: *work,
                    reference: 0,
                    floor: None,
                    other: other.filter(|_| contestant.is_our_build()),
                };
                contestants.iter().map(entry).collect()
            }
            Field::Shards(work, shards) => shards
                .iter()
                .map(|shards| Entry {
                    label: format!("{shards} shard{}", if *shards == 1 { "" } else { "s" }),
                    contestant: webrocket(*shards),
                    work: *work,
                    reference: 0,
                    floor: None,
                    other: None,
                })
                .collect(),
            Field::Works(works) => works
                .iter()
                .flat_map(|work| [(Contestant::floor(), work), (webrocket(1), work)])
                .enumerate()
                .map(|(index, (contestant, (label, work)))| Entry {
                    label: format!("{}, {label}", contestant.name()),
                    contestant,
                    work: *work,
                    reference: index % 2,
                    floor: (index > 2 && index % 2 == 1).then(|| index - 1),
                    other: None,
                })
                .collect(),
        }
    }
}

impl Work {
    fn plan(self, dialect: Dialect) -> Plan {
        let (channels, subscribers, publishers, load) = match self {
            Self::Deliver { channels, subscribers, publishers, in_flight } => {
                (channels, subscribers, publishers, Load::InFlight(in_flight))
            }
            Self::DeliverAtRate { subscribers, rate } => (1, subscribers, 1, Load::Rate(rate)),
            Self::Connect { connections } => (1, connections, 1, Load::InFlight(1)),
            Self::Hold { connections } => (100, connections / 100, 1, Load::InFlight(1)),
        };
        Plan { dialect, channels, subscribers, publishers, load, payload_bytes: PAYLOAD_BYTES }
    }

    fn connections(self) -> u32 {
        let plan = self.plan(Dialect::Bare);
        plan.channels * plan.subscribers
    }

    /// Memory that was once used is rarely given back.
    fn wants_fresh_server(self) -> bool {
        matches!(self, Self::Hold { .. })
    }

    /// How long a round broadcasts, where others do for so many seconds: a percentile needs many events.
    fn duration(self, seconds: u32) -> Duration {
        let times = if matches!(self, Self::DeliverAtRate { .. }) { TIMES_FOR_A_PERCENTILE } else { 1 };
        Duration::from_secs(u64::from(seconds) * u64::from(times))
    }

    fn unit(self) -> (&'static str, Better) {
        match self {
            Self::Deliver { .. } => ("ns", Better::Less),
            Self::DeliverAtRate { .. } => ("ms", Better::Less),
            Self::Connect { .. } => ("/s", Better::More),
            Self::Hold { .. } => ("KiB", Better::Less),
        }
    }
}

impl Entry {
    /// Its column, still empty.
    fn column(&self) -> Column {
        let Self { label, reference, floor, other, .. } = self;
        Column {
            label: label.clone(),
            values: Vec::new(),
            reference: *reference,
            floor: *floor,
            other: *other,
            failure: None,
        }
    }

    fn plan(&self) -> Plan {
        self.work.plan(self.contestant.dialect())
    }

    fn start(&self) -> anyhow::Result<Running> {
        self.contestant.start(&self.plan().channel_names())
    }

    /// One round: connections are opened, work, and are closed.
    fn round(&self, running: &Running, options: &Options) -> anyhow::Result<f64> {
        let process = running.process()?;
        if let Work::Hold { connections } = self.work {
            return self.weigh(running, process, connections);
        }
        let (mut engine, mut fanout) = (running.engine()?, Fanout::new(self.plan()));
        let opening = subscribe(&mut engine, &mut fanout)?;
        let value = match self.work {
            Work::Connect { connections } => f64::from(connections) / opening.as_secs_f64(),
            Work::Hold { .. } | Work::Deliver { .. } | Work::DeliverAtRate { .. } => {
                measure(&mut engine, &mut fanout, None, Amount::Time(WARM_UP))?;
                let time = Amount::Time(self.work.duration(options.seconds));
                let measured = measure(&mut engine, &mut fanout, Some(process), time)?;
                match self.work {
                    Work::DeliverAtRate { .. } => measured.latency_ns.value_at_quantile(0.99) as f64 / 1e6,
                    _ => measured.server_ns_per_delivery().context("the process is known")?,
                }
            }
        };
        engine.close(&mut fanout)?;
        Ok(value)
    }

    /// What an idle connection weighs, in KiB.
    fn weigh(&self, running: &Running, process: ProcessId, connections: u32) -> anyhow::Result<f64> {
        let plan = Plan { subscribers: FIRST_CONNECTIONS / self.plan().channels, ..self.plan() };
        let (mut engine, mut fanout) = (running.engine()?, Fanout::new(plan));
        subscribe(&mut engine, &mut fanout)?;
        engine.close(&mut fanout)?;
        let (mut engine, mut fanout) = (running.engine()?, Fanout::new(self.plan()));
        let before = rest(&mut engine, &mut fanout, process)?;
        subscribe(&mut engine, &mut fanout)?;
        let after = rest(&mut engine, &mut fanout, process)?;
        engine.close(&mut fanout)?;
        Ok((after as f64 - before as f64) / f64::from(connections) / 1024.0)
    }
}

/// A server's resident memory once it has come to rest.
fn rest(engine: &mut Engine, fanout: &mut Fanout, process: ProcessId) -> anyhow::Result<u64> {
    engine.run_for(fanout, REST)?;
    resident_bytes(process)
}
