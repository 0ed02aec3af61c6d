//! What the server did beside its floor.

use hdrhistogram::Histogram;

use super::worker::LATENCY_NS_MAX;
use crate::process::ProcessorTime;
use crate::report::{Better, Findings, ServerReport, median};

/// One side's runs.
pub(crate) struct Runs {
    /// Items a second, by round.
    pub(crate) rates: Vec<f64>,
    /// Processor time of the process for one item, in nanoseconds, by round; empty if the process is not known.
    processor_ns: Vec<f64>,
    /// 50th and 99th percentile of the latency under light load, in nanoseconds, by round.
    light_p50_ns: Vec<f64>,
    light_p99_ns: Vec<f64>,
    /// The latency under light load, of all rounds together.
    light_ns: Histogram<u64>,
}

impl Default for Runs {
    fn default() -> Self {
        let light_ns = Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("valid bounds and precision");
        let (rates, processor_ns, light_p50_ns, light_p99_ns) = Default::default();
        Self { rates, processor_ns, light_p50_ns, light_p99_ns, light_ns }
    }
}

impl Runs {
    /// Takes note of what the process has used for so many items.
    pub(crate) fn note_processor(&mut self, used: Option<ProcessorTime>, items: u64) {
        self.processor_ns.extend(used.map(|used| used.total().as_nanos() as f64 / items as f64));
    }

    /// Takes note of a round under light load.
    pub(crate) fn note_light(&mut self, latency_ns: &Histogram<u64>) {
        self.light_p50_ns.push(latency_ns.value_at_quantile(0.5) as f64);
        self.light_p99_ns.push(latency_ns.value_at_quantile(0.99) as f64);
        self.light_ns.add(latency_ns).expect("all have the same bounds");
    }

    /// Adds the figures of the side whose names begin with `prefix`.
    fn tell(&self, findings: &mut Findings, prefix: &str, item: &str, [more, less]: [Better; 2]) {
        let ms = |values: &[f64]| values.iter().map(|ns| ns / 1e6).collect::<Vec<_>>();
        findings
            .rounds(&format!("{prefix}{item}s_per_s"), &self.rates, "/s", more)
            .rounds(&format!("{prefix}light_latency_p50_ms"), &ms(&self.light_p50_ns), "ms", less)
            .rounds(&format!("{prefix}light_latency_p99_ms"), &ms(&self.light_p99_ns), "ms", less);
        if !self.processor_ns.is_empty() {
            findings.rounds(&format!("{prefix}cpu_ns_per_{item}"), &self.processor_ns, "ns", less);
        }
    }
}

/// What `trigger` and `request` have found.
pub(crate) struct Paired {
    /// What was done, as a row of the table.
    pub(crate) work: String,
    /// What one item is called.
    pub(crate) item: &'static str,
    /// What was verified.
    pub(crate) verified: &'static str,
    /// How the light load was.
    pub(crate) light: String,
    pub(crate) ours: Runs,
    pub(crate) floor: Runs,
    /// A floor with nobody behind it.
    pub(crate) echo: Option<Runs>,
}

impl Paired {
    /// As findings of `scenario`, figures and rows; settings are the scenario's to add.
    ///
    /// A floor's own figures judge nothing; how the server's relate to them does.
    pub(crate) fn findings(&self, scenario: &str, server: ServerReport) -> Findings {
        let mut findings = Findings::new(scenario, server);
        findings.row("work", self.work.as_str());
        self.ours.tell(&mut findings, "server_", self.item, [Better::More, Better::Less]);
        for (name, floor) in self.floors() {
            floor.tell(&mut findings, &format!("{name}_"), self.item, [Better::Neither; 2]);
            findings
                .more_is_better(&format!("rate_ratio_to_{name}"), self.rate_ratio(floor), "")
                .less_is_better(&format!("light_latency_p99_ratio_to_{name}"), self.light_ratio(floor), "");
        }
        self.tell_rows(&mut findings);
        findings.latency_curve("latency under light load", &self.ours.light_ns);
        findings
    }

    fn tell_rows(&self, findings: &mut Findings) {
        findings.row("server", self.full_text(&self.ours));
        for (name, floor) in self.floors() {
            findings
                .row(name, self.full_text(floor))
                .row("ratio", format!("{:.2} of that rate", self.rate_ratio(floor)));
        }
        findings.row("light load", self.light.as_str()).row("server", light_text(&self.ours));
        for (name, floor) in self.floors() {
            findings
                .row(name, light_text(floor))
                .row("ratio", format!("{:.2} times that p99", self.light_ratio(floor)));
        }
        findings.row("verified", self.verified);
    }

    fn full_text(&self, runs: &Runs) -> String {
        let rate =
            format!("{:.0} {}s a second ({})", median(&runs.rates), self.item, spread(&runs.rates, 1.0));
        match &runs.processor_ns[..] {
            [] => rate,
            each => format!("{rate}, {:.0} ns of processor time each", median(each)),
        }
    }

    fn rate_ratio(&self, floor: &Runs) -> f64 {
        median(&self.ours.rates) / median(&floor.rates)
    }

    fn light_ratio(&self, floor: &Runs) -> f64 {
        median(&self.ours.light_p99_ns) / median(&floor.light_p99_ns)
    }

    fn floors(&self) -> impl Iterator<Item = (&'static str, &Runs)> {
        std::iter::once(("floor", &self.floor)).chain(self.echo.as_ref().map(|echo| ("echo", echo)))
    }
}

fn light_text(runs: &Runs) -> String {
    format!(
        "p50 {:.3} ms, p99 {:.3} ms ({})",
        median(&runs.light_p50_ns) / 1e6,
        median(&runs.light_p99_ns) / 1e6,
        spread(&runs.light_p99_ns, 1e-6),
    )
}

fn spread(values: &[f64], scale: f64) -> String {
    let digits = if scale < 1.0 { 3 } else { 0 };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min) * scale;
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max) * scale;
    format!("{least:.digits$} to {most:.digits$} in {} rounds", values.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::server;

    fn runs(rates: [f64; 3], light_ns: u64) -> Runs {
        let mut runs = Runs { rates: rates.to_vec(), processor_ns: vec![1000.0; 3], ..Runs::default() };
        let mut latency_ns = Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("valid bounds");
        latency_ns.record(light_ns).expect("in range");
        runs.note_light(&latency_ns);
        runs
    }

    fn paired() -> Paired {
        Paired {
            work: "some".to_owned(),
            item: "trigger",
            verified: "each once",
            light: "500 a second".to_owned(),
            ours: runs([80.0, 1.0, 90.0], 3 << 20),
            floor: runs([100.0, 100.0, 1e9], 2 << 20),
            echo: Some(runs([160.0; 3], 1 << 20)),
        }
    }

    #[test]
    fn ratios_are_of_medians() {
        let findings = paired().findings("trigger", server());
        let value = |name: &str| findings.figures[name].value;
        assert_eq!(value("rate_ratio_to_floor"), 0.8);
        assert_eq!(value("rate_ratio_to_echo"), 0.5);
        assert!((1.49..1.51).contains(&value("light_latency_p99_ratio_to_floor")));
        assert_eq!(findings.figures["server_triggers_per_s"].spread(), Some((1.0, 90.0)));
        assert_eq!(findings.figures["floor_triggers_per_s"].better, Better::Neither);
        assert_eq!(findings.latency.as_ref().map(|latency| latency.count), Some(1));
    }

    #[test]
    fn rows_tell_the_server_and_each_floor() {
        let findings = paired().findings("trigger", server());
        let rows: Vec<&str> = findings.rows.iter().map(|(_, sentence)| sentence.as_str()).collect();
        for part in ["80 triggers a second (1 to 90", "0.80 of that rate", "0.50 of that rate"] {
            assert!(rows.iter().any(|row| row.contains(part)), "{part} in {rows:?}");
        }
    }
}
