//! A run's latency: what is left of a histogram when the run is over.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// How many points the curve has for each halving of the distance to 100 %.
const POINTS_PER_HALVING: u32 = 4;

/// Quantiles of a latency, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// What was timed, for people.
    pub(crate) label: String,
    pub(crate) count: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    /// Quantile, from 0 to 1, and value: denser towards 1, a hundred points or so.
    pub(crate) curve: Vec<(f64, u64)>,
}

impl Latency {
    /// What a histogram that is not empty holds.
    pub(crate) fn new(label: &str, histogram_ns: &Histogram<u64>) -> Self {
        let at = |quantile| histogram_ns.value_at_quantile(quantile);
        let curve = histogram_ns
            .iter_quantiles(POINTS_PER_HALVING)
            .map(|step| (step.quantile_iterated_to(), step.value_iterated_to()))
            .collect();
        Self {
            label: label.to_owned(),
            count: histogram_ns.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram_ns.max(),
            curve,
        }
    }

    /// The quantiles by name, in nanoseconds.
    pub(crate) fn quantiles(&self) -> [(&'static str, u64); 5] {
        [("p50", self.p50), ("p90", self.p90), ("p99", self.p99), ("p999", self.p999), ("max", self.max)]
    }

    /// As a sentence.
    pub(crate) fn text(&self) -> String {
        let ms = |ns: u64| ns as f64 / 1e6;
        format!("p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms", ms(self.p50), ms(self.p99), ms(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_rises_from_the_least_to_the_most() {
        let mut histogram = Histogram::new(3).expect("valid precision");
        for ns in 1..=100_000_u64 {
            histogram.record(ns * 1000).expect("in range");
        }
        let latency = Latency::new("latency", &histogram);
        assert!(latency.curve.is_sorted_by(|left, right| left.0 <= right.0 && left.1 <= right.1));
        assert_eq!(latency.curve.last().map(|(quantile, _)| *quantile), Some(1.0));
        assert!(latency.curve.len() < 200, "{} points", latency.curve.len());
        assert!(latency.text().starts_with("p50 50.0"), "{}", latency.text());
    }
}
