//! A measured number: its unit, which direction is better, and its rounds.

use serde::{Deserialize, Serialize, Serializer};

/// Which of two values of a figure is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Less,
    More,
    /// It describes the run and judges nothing.
    Neither,
}

/// A measured number. Its name, the key in the findings, ends with its unit: `latency_p99_ms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Finite; the median where there were rounds.
    #[serde(serialize_with = "whole_as_integer")]
    pub(crate) value: f64,
    /// `ms`, `bytes`, `/s`; empty for a count.
    pub(crate) unit: String,
    pub(crate) better: Better,
    /// The value of each round, in their order; empty where there was but one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rounds: Vec<f64>,
}

impl Figure {
    /// The least and the most of the rounds, if there were any.
    pub(crate) fn spread(&self) -> Option<(f64, f64)> {
        let least = self.rounds.iter().copied().reduce(f64::min)?;
        Some((least, self.rounds.iter().copied().fold(least, f64::max)))
    }
}

/// The median of values; of an even number the mean of the two in the middle; of none it is no number.
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

/// Counts are written as programs expect them: `6000`, not `6000.0`.
fn whole_as_integer<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    /// Up to here every integer is an `f64`.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
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
}
