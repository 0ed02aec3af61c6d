//! What the server did beside its floor.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::report::{ServerReport, table};

/// One side's runs.
#[derive(Default)]
pub(crate) struct Runs {
    /// Items a second, by round.
    pub(crate) rates: Vec<f64>,
    /// Processor time of the process for one item, in nanoseconds, by round.
    pub(crate) processor_ns: Vec<f64>,
    /// 50th and 99th percentile of the latency under light load, in nanoseconds, by round.
    pub(crate) light_p50_ns: Vec<f64>,
    pub(crate) light_p99_ns: Vec<f64>,
}

impl Runs {
    /// Takes note of a round under light load.
    pub(crate) fn note_light(&mut self, latency_ns: &Histogram<u64>) {
        self.light_p50_ns.push(latency_ns.value_at_quantile(0.5) as f64);
        self.light_p99_ns.push(latency_ns.value_at_quantile(0.99) as f64);
    }

    fn json(&self) -> Value {
        json!({
            "per_s": { "median": median(&self.rates), "rounds": self.rates },
            "processor_ns": { "median": median(&self.processor_ns), "rounds": self.processor_ns },
            "light_p50_ns": { "median": median(&self.light_p50_ns), "rounds": self.light_p50_ns },
            "light_p99_ns": { "median": median(&self.light_p99_ns), "rounds": self.light_p99_ns },
        })
    }
}

/// The findings of `trigger` and `request`.
pub(crate) struct PairedReport {
    pub(crate) server: ServerReport,
    /// What was done, as a row of the table.
    pub(crate) work: String,
    /// What one item is called, in the plural.
    pub(crate) items: &'static str,
    /// What was verified.
    pub(crate) verified: &'static str,
    /// How the light load was.
    pub(crate) light: String,
    pub(crate) ours: Runs,
    pub(crate) floor: Runs,
    /// A floor with nobody behind it.
    pub(crate) echo: Option<Runs>,
}

impl PairedReport {
    pub(crate) fn render(&self, as_json: bool) -> String {
        if as_json { self.json().to_string() } else { self.text() }
    }

    fn json(&self) -> Value {
        json!({
            "server": self.server.json(),
            "work": self.work,
            "ours": self.ours.json(),
            "floor": self.floor.json(),
            "echo": self.echo.as_ref().map(Runs::json),
            "ratio": {
                "per_s": median(&self.ours.rates) / median(&self.floor.rates),
                "light_p99": median(&self.ours.light_p99_ns) / median(&self.floor.light_p99_ns),
            },
        })
    }

    fn text(&self) -> String {
        let rate = |runs: &Runs| {
            format!("{:.0} {} a second ({})", median(&runs.rates), self.items, spread(&runs.rates, 1.0))
        };
        let processor = |runs: &Runs| format!("{:.0} ns of processor time each", median(&runs.processor_ns));
        let light = |runs: &Runs| {
            format!(
                "p50 {:.3} ms, p99 {:.3} ms ({})",
                median(&runs.light_p50_ns) / 1e6,
                median(&runs.light_p99_ns) / 1e6,
                spread(&runs.light_p99_ns, 1e-6),
            )
        };
        let mut rows = vec![("server", self.server.text()), ("work", self.work.clone())];
        rows.push(("server", format!("{}, {}", rate(&self.ours), processor(&self.ours))));
        for (name, floor) in self.floors() {
            let ratio = median(&self.ours.rates) / median(&floor.rates);
            rows.push((name, format!("{}, {}", rate(floor), processor(floor))));
            rows.push(("ratio", format!("{ratio:.2} of that rate")));
        }
        rows.push(("light load", self.light.clone()));
        rows.push(("server", light(&self.ours)));
        for (name, floor) in self.floors() {
            let ratio = median(&self.ours.light_p99_ns) / median(&floor.light_p99_ns);
            rows.push((name, light(floor)));
            rows.push(("ratio", format!("{ratio:.2} times that p99")));
        }
        rows.push(("verified", self.verified.to_owned()));
        table(&rows)
    }

    fn floors(&self) -> impl Iterator<Item = (&'static str, &Runs)> {
        std::iter::once(("floor", &self.floor)).chain(self.echo.as_ref().map(|echo| ("echo", echo)))
    }
}

/// The median of values; of an even number the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
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

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_of_medians() {
        let runs = |rates: [f64; 3], p99: f64| Runs {
            rates: rates.to_vec(),
            processor_ns: vec![1000.0; 3],
            light_p50_ns: vec![1e5; 3],
            light_p99_ns: vec![p99; 3],
        };
        let report = PairedReport {
            server: ServerReport { url: "ws://127.0.0.1:1/demo".to_owned(), shards: Some(1), io: None },
            work: "some".to_owned(),
            items: "triggers",
            verified: "each once",
            light: "500 a second".to_owned(),
            ours: runs([80.0, 1.0, 90.0], 3e6),
            floor: runs([100.0, 100.0, 1e9], 2e6),
            echo: Some(runs([160.0; 3], 1e6)),
        };
        assert_eq!(report.json()["ratio"]["per_s"], 0.8);
        assert_eq!(report.json()["ratio"]["light_p99"], 1.5);
        let text = report.text();
        assert!(
            text.contains("0.80 of that rate")
                && text.contains("0.50 of that rate")
                && text.contains("80 triggers a second (1 to 90"),
            "{text}"
        );
    }
}
