//! What a run has found: one type for all scenarios.
//!
//! A scenario fills it; text, JSON and HTML are made of it, and `compare` reads the JSON again. It owns the names, units
//! and directions of what was measured, not how that came about: that is told in the scenarios' own help.

use std::time::Duration;

use hdrhistogram::Histogram;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ServerReport;
use super::change::Change;
use super::figure::{Better, Figure, median};
use super::latency::Latency;
use super::numbers::{mib, per_second};
use super::table::Table;
use super::timeline::Timeline;
use crate::process::ProcessorTime;

/// The findings of one run.
///
/// As JSON: `{"scenario", "version", "ended_at", "server", "settings": {name: value}, "figures": {name: {"value",
/// "unit", "better"}}, "changes": {discipline: {"ratio", "rounds", "limit", "interval", "verdict"}}, "latency_ns": {"p50", "p90", "p99", "p999", "max", …}, "timeline": {…}, "failures": []}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) scenario: String,
    /// The load test's version.
    pub(crate) version: String,
    pub(crate) ended_at: Timestamp,
    pub(crate) server: ServerReport,
    /// What was asked for, in the order of asking.
    pub(crate) settings: IndexMap<String, Value>,
    pub(crate) figures: IndexMap<String, Figure>,
    /// What our build has come to beside another one, by the name of the discipline; empty without another one.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub(crate) changes: IndexMap<String, Change>,
    /// Label and sentence, for people.
    #[serde(skip)]
    pub(crate) rows: Vec<(String, String)>,
    /// A table for people, below the rows.
    #[serde(skip)]
    pub(crate) table: Option<Table>,
    #[serde(rename = "latency_ns")]
    pub(crate) latency: Option<Latency>,
    pub(crate) timeline: Option<Timeline>,
    /// Bounds that the run was to keep and did not, a sentence each: it ends with exit status 1.
    pub(crate) failures: Vec<String>,
}

impl Findings {
    /// Findings of `scenario`, as its subcommand is called; nothing found yet.
    pub(crate) fn new(scenario: &str, server: ServerReport) -> Self {
        let rows = vec![("server".to_owned(), server.text())];
        Self {
            scenario: scenario.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ended_at: Timestamp::now(),
            server,
            settings: IndexMap::new(),
            figures: IndexMap::new(),
            changes: IndexMap::new(),
            rows,
            table: None,
            latency: None,
            timeline: None,
            failures: Vec::new(),
        }
    }

    /// What was asked for: a number, a text or a truth. `compare` warns where it differs.
    pub(crate) fn setting(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// A figure that is better the lower it is: times, costs, sizes.
    pub(crate) fn less_is_better(&mut self, name: &str, value: f64, unit: &str) -> &mut Self {
        self.figure(name, value, unit, Better::Less)
    }

    /// A figure that is better the higher it is: rates.
    pub(crate) fn more_is_better(&mut self, name: &str, value: f64, unit: &str) -> &mut Self {
        self.figure(name, value, unit, Better::More)
    }

    /// A figure that judges nothing.
    pub(crate) fn fact(&mut self, name: &str, value: f64, unit: &str) -> &mut Self {
        self.figure(name, value, unit, Better::Neither)
    }

    fn figure(&mut self, name: &str, value: f64, unit: &str, better: Better) -> &mut Self {
        self.insert(name, Figure { value, unit: unit.to_owned(), better, rounds: Vec::new() })
    }

    /// A figure that was measured once a round: its value is the median.
    pub(crate) fn rounds(&mut self, name: &str, values: &[f64], unit: &str, better: Better) -> &mut Self {
        let (unit, rounds) = (unit.to_owned(), values.to_vec());
        self.insert(name, Figure { value: median(values), unit, better, rounds })
    }

    /// What our build has come to beside another one, in the discipline `name`.
    pub(crate) fn change(&mut self, name: &str, change: Change) -> &mut Self {
        self.changes.insert(name.to_owned(), change);
        self
    }

    /// What is no number (a ratio to nothing, say) was not found, and is left out.
    fn insert(&mut self, name: &str, figure: Figure) -> &mut Self {
        if figure.value.is_finite() {
            self.figures.insert(name.to_owned(), figure);
        }
        self
    }

    /// A sentence for people, in the order in which they shall read.
    pub(crate) fn row(&mut self, label: &str, sentence: impl Into<String>) -> &mut Self {
        self.rows.push((label.to_owned(), sentence.into()));
        self
    }

    /// A table for people, below the rows.
    pub(crate) fn table(&mut self, table: Table) -> &mut Self {
        self.table = Some(table);
        self
    }

    /// The run's latency, in nanoseconds: its curve, the figures `latency_p50_ms` to `latency_max_ms`, and a row
    /// named `label`. An empty histogram is left out.
    pub(crate) fn latency(&mut self, label: &str, histogram_ns: &Histogram<u64>) -> &mut Self {
        if histogram_ns.is_empty() {
            return self;
        }
        let latency = Latency::new(label, histogram_ns);
        for (name, ns) in latency.quantiles() {
            self.less_is_better(&format!("latency_{name}_ms"), ns as f64 / 1e6, "ms");
        }
        self.row(label, latency.text());
        self.latency = Some(latency);
        self
    }

    /// The curve alone, where figures and rows of the scenario's own say the rest.
    pub(crate) fn latency_curve(&mut self, label: &str, histogram_ns: &Histogram<u64>) -> &mut Self {
        self.latency = (!histogram_ns.is_empty()).then(|| Latency::new(label, histogram_ns));
        self
    }

    /// How the run went over time.
    pub(crate) fn timeline(&mut self, timeline: Timeline) -> &mut Self {
        self.timeline = Some(timeline).filter(|timeline| !timeline.samples.is_empty());
        self
    }

    /// The server's processor time for `count` items (`item`: what one is called), as figures
    /// `server_cpu_ns_per_ITEM`, `server_cpu_user_s` and `server_cpu_system_s`, and as a row.
    pub(crate) fn server_processor(&mut self, time: ProcessorTime, item: &str, count: u64) -> &mut Self {
        self.processor("server", time, item, count, Better::Less)
    }

    /// The load test's own processor time, likewise: it judges nothing, but tells who was the bottleneck.
    pub(crate) fn own_processor(&mut self, time: ProcessorTime, item: &str, count: u64) -> &mut Self {
        self.processor("own", time, item, count, Better::Neither)
    }

    fn processor(
        &mut self,
        whose: &str,
        time: ProcessorTime,
        item: &str,
        count: u64,
        better: Better,
    ) -> &mut Self {
        let each_ns = time.total().as_nanos() as f64 / count.max(1) as f64;
        let (user, system) = (time.user.as_secs_f64(), time.system.as_secs_f64());
        self.figure(&format!("{whose}_cpu_ns_per_{item}"), each_ns, "ns", better)
            .fact(&format!("{whose}_cpu_user_s"), user, "s")
            .fact(&format!("{whose}_cpu_system_s"), system, "s");
        let sentence = format!("{each_ns:.0} ns per {item} ({user:.2} s user, {system:.2} s system)");
        self.row(&format!("{whose} CPU"), sentence)
    }

    /// The server's resident memory, as the figure `server_rss_bytes` and a row.
    pub(crate) fn server_memory(&mut self, resident_bytes: u64) -> &mut Self {
        self.less_is_better("server_rss_bytes", resident_bytes as f64, "bytes")
            .row("server RSS", format!("{:.1} MiB", mib(resident_bytes)))
    }

    /// So many `items` in this time: the figures `ITEMS`, `ITEMS_s` and `ITEMS_per_s`. No row: scenarios say it in
    /// words of their own.
    pub(crate) fn rate(&mut self, items: &str, count: u64, time: Duration) -> &mut Self {
        self.fact(items, count as f64, "")
            .fact(&format!("{items}_s"), time.as_secs_f64(), "s")
            .more_is_better(&format!("{items}_per_s"), per_second(count, time), "/s")
    }

    /// A bound that was to be kept and was not: the findings are told all the same, and the exit status is 1.
    pub(crate) fn failed(&mut self, sentence: impl Into<String>) -> &mut Self {
        self.failures.push(sentence.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::server;

    #[test]
    fn what_was_found_is_read_again_as_it_was_written() {
        let mut histogram = Histogram::new(3).expect("valid precision");
        histogram.record(2_000_000).expect("in range");
        let mut findings = Findings::new("fanout", server());
        findings
            .setting("connections", 5000)
            .setting("dialect", "wwfp")
            .rate("deliveries", 6000, Duration::from_secs(2))
            .rounds("floor_per_s", &[3.0, 1.0, 2.5], "/s", Better::More)
            .latency("latency", &histogram)
            .failed("RSS grew");
        let text = serde_json::to_string(&findings).expect("it can be written");
        let mut read: Findings = serde_json::from_str(&text).expect("it can be read");
        read.rows.clone_from(&findings.rows);
        assert_eq!(read, findings);
        assert!(read.settings.keys().eq(["connections", "dialect"]), "the order of asking is kept");
    }

    #[test]
    fn keys_are_those_that_programs_rely_on() {
        let mut histogram = Histogram::new(3).expect("valid precision");
        histogram.record(2_000_000).expect("in range");
        let mut findings = Findings::new("fanout", server());
        findings.rate("deliveries", 6000, Duration::from_secs(2)).latency("latency", &histogram);
        let json = serde_json::to_value(&findings).expect("it can be written");
        assert_eq!(json["figures"]["deliveries"]["value"], 6000);
        assert_eq!(json["figures"]["deliveries_per_s"]["value"], 3000);
        assert_eq!(json["figures"]["deliveries_per_s"]["better"], "more");
        assert_eq!(json["figures"]["latency_p99_ms"]["unit"], "ms");
        assert_eq!(json["latency_ns"]["p99"].as_u64().expect("a number") / 100_000, 20);
        assert_eq!(json["server"]["shards"], 2);
    }

    #[test]
    fn processor_time_is_told_per_item() {
        let mut findings = Findings::new("fanout", server());
        let (user, system) = (Duration::from_micros(300), Duration::from_micros(700));
        let time = ProcessorTime { user, system, total: user + system };
        findings.server_processor(time, "delivery", 1000);
        assert_eq!(findings.figures["server_cpu_ns_per_delivery"].value, 1000.0);
        assert!(
            findings.rows.iter().any(|(label, text)| label == "server CPU" && text.starts_with("1000 ns"))
        );
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut findings = Findings::new("trigger", server());
        findings.rounds("triggers_per_s", &[], "/s", Better::More).fact("ratio", 1.0 / 0.0, "");
        assert!(findings.figures.is_empty());
    }
}
