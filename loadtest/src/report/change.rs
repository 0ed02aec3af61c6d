//! What a change of the server has done to a metric: the ratios of paired rounds, their interval, and the verdict.
//!
//! Numbers only: it does not know what was measured, nor who took part.

use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};

use super::figure::{Better, median};

/// How often an interval encloses the true median, at the least.
const CONFIDENCE: f64 = 0.95;
/// Fewer rounds have no interval: the least and the greatest of five enclose the median with 93.75 % only.
const ROUNDS_MIN: usize = 6;
/// By what factor a build may be worse than the other one.
const WORSE_MAX: f64 = 1.05;

/// What our build has come to beside another build of the server, in the same rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// The median of the ratios new/old; `None` if no round has one.
    ratio: Option<f64>,
    /// How many ratios there are: one a round.
    rounds: usize,
    limit: Limit,
    /// The interval of the median, with a confidence of 95 %; `None` with too few rounds.
    interval: Option<Interval>,
    verdict: Verdict,
}

/// What the ratio new/old may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Limit {
    /// Of a metric where less is better.
    AtMost(f64),
    /// Of a metric where more is better.
    AtLeast(f64),
}

/// What encloses the median.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Interval {
    lower: f64,
    upper: f64,
}

/// What the interval says of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// The whole interval is on the better side of the limit.
    Passed,
    /// The whole interval is on the worse side of the limit.
    Failed,
    /// The limit is inside the interval.
    Unresolved,
    /// There is no interval.
    TooFewRounds,
}

impl Change {
    /// The change that these ratios new/old show, one ratio a round.
    ///
    /// `None` if the metric judges nothing. A ratio that is no positive number (of nothing to nothing, say) is left
    /// out.
    pub(crate) fn of(ratios: &[f64], better: Better) -> Option<Self> {
        let limit = match better {
            Better::Less => Limit::AtMost(WORSE_MAX),
            Better::More => Limit::AtLeast(1.0 / WORSE_MAX),
            Better::Neither => return None,
        };
        let is_usable = |ratio: &f64| ratio.is_finite() && *ratio > 0.0;
        let ratios: Vec<f64> = ratios.iter().copied().filter(is_usable).collect();
        let interval = Interval::of_median(&ratios);
        let verdict = interval.map_or(Verdict::TooFewRounds, |interval| limit.verdict(interval));
        let ratio = Some(median(&ratios)).filter(|ratio| ratio.is_finite());
        Some(Self { ratio, rounds: ratios.len(), limit, interval, verdict })
    }

    /// The interval as a cell of a table: `0.990 to 1.035`; a dash if there is none.
    pub(crate) fn interval_text(&self) -> String {
        let text = |Interval { lower, upper }| format!("{lower:.3} to {upper:.3}");
        self.interval.map_or_else(|| "-".to_owned(), text)
    }

    /// The verdict as a cell of a table.
    pub(crate) fn verdict_text(&self) -> &'static str {
        match self.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Unresolved => "unresolved",
            Verdict::TooFewRounds => "too few rounds",
        }
    }

    /// Ratio, interval, verdict and its reason.
    pub(crate) fn text(&self) -> String {
        let rounds = self.rounds;
        let ratio = self.ratio.map_or_else(|| "no ratio".to_owned(), |ratio| format!("{ratio:.3}"));
        let (interval, verdict) = (self.interval_text(), self.verdict_text());
        let (better_side, worse_side, limit) = match self.limit {
            Limit::AtMost(limit) => ("below", "above", limit),
            Limit::AtLeast(limit) => ("above", "below", limit),
        };
        let reason = match self.verdict {
            Verdict::Passed => format!("it is wholly {better_side} {limit:.3}"),
            Verdict::Failed => format!("it is wholly {worse_side} {limit:.3}"),
            Verdict::Unresolved => format!("it contains {limit:.3}, more rounds make it narrower"),
            Verdict::TooFewRounds => {
                return format!("{ratio}, no interval of {rounds} rounds: it takes {ROUNDS_MIN} at least");
            }
        };
        format!("{ratio}, 95 % interval {interval} of {rounds} rounds: {verdict}, {reason}")
    }

    /// Whether the build is worse than it may be.
    pub(crate) fn has_failed(&self) -> bool {
        self.verdict == Verdict::Failed
    }
}

impl Limit {
    fn verdict(self, Interval { lower, upper }: Interval) -> Verdict {
        let (is_kept, is_broken) = match self {
            Self::AtMost(limit) => (upper < limit, lower > limit),
            Self::AtLeast(limit) => (lower > limit, upper < limit),
        };
        match (is_kept, is_broken) {
            (true, _) => Verdict::Passed,
            (false, true) => Verdict::Failed,
            (false, false) => Verdict::Unresolved,
        }
    }
}

impl Interval {
    /// The interval of the median of which `values` are a sample: between two of the values.
    ///
    /// It assumes nothing about the distribution but that the rounds are independent. How many values lie below the
    /// true median is binomial with a probability of 1/2. So the r-th least and the r-th greatest value enclose it
    /// unless fewer than r lie on one side. The r taken is the greatest that keeps the confidence; the true confidence
    /// is therefore at least 95 %, for 30 values (the 10th and the 21st) 95.7 %.
    ///
    /// Source: W. J. Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2; it is what the sign test
    /// does not reject.
    fn of_median(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let index = rank(sorted.len()).checked_sub(1)?;
        Some(Self { lower: sorted[index], upper: sorted[sorted.len() - 1 - index] })
    }
}

/// The greatest r for which the r-th least and the r-th greatest of `count` values enclose the median with
/// [`CONFIDENCE`]; 0 if there is none.
fn rank(count: usize) -> usize {
    // Logarithms, because 1/2 to the power of some thousand is no `f64`.
    let mut ln_probability = -(count as f64) * LN_2;
    let (mut rank, mut outside) = (0, 0.0);
    loop {
        // That exactly so many lie below the median, and that exactly so many lie above it.
        outside += 2.0 * ln_probability.exp();
        if outside > 1.0 - CONFIDENCE {
            return rank;
        }
        ln_probability += ((count - rank) as f64 / (rank + 1) as f64).ln();
        rank += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values 1 to `count`, not in their order: a value is its own rank.
    fn ranks(count: u32) -> Vec<f64> {
        (1..=count).rev().map(f64::from).collect()
    }

    /// Thirty ratios of which the 10th and the 21st are these.
    fn ratios(lower: f64, upper: f64) -> Vec<f64> {
        [
            [lower - 0.01; 9].as_slice(),
            &[lower],
            &[f64::midpoint(lower, upper); 10],
            &[upper],
            &[upper + 0.01; 9],
        ]
        .concat()
    }

    fn verdict(lower: f64, upper: f64, better: Better) -> Verdict {
        let change = Change::of(&ratios(lower, upper), better).expect("ratios of a metric that judges");
        assert_eq!(change.interval, Some(Interval { lower, upper }));
        assert_eq!(change.has_failed(), change.verdict == Verdict::Failed);
        change.verdict
    }

    #[test]
    fn the_interval_lies_between_the_ranks_of_the_tables() {
        // Computed with exact integers: the greatest r with 2 * sum(C(n, i), i < r) <= 5 % of 2^n.
        for (count, lower) in [(6, 1), (9, 2), (15, 4), (20, 6), (30, 10), (31, 10), (1000, 469), (2000, 956)]
        {
            let interval = Interval::of_median(&ranks(count)).expect("enough rounds");
            let expected = Interval { lower: f64::from(lower), upper: f64::from(count + 1 - lower) };
            assert_eq!(interval, expected, "{count} rounds");
        }
    }

    #[test]
    fn too_few_rounds_have_no_interval() {
        assert_eq!(ROUNDS_MIN, 6);
        assert_eq!(Interval::of_median(&[]), None);
        let change = Change::of(&[9.0; ROUNDS_MIN - 1], Better::Less).expect("five ratios");
        assert_eq!((change.interval, change.verdict), (None, Verdict::TooFewRounds));
        assert!(!change.has_failed());
        assert_eq!(change.text(), "9.000, no interval of 5 rounds: it takes 6 at least");
        let change = Change::of(&[9.0; ROUNDS_MIN], Better::Less).expect("six ratios");
        assert_eq!(change.verdict, Verdict::Failed);
    }

    #[test]
    fn where_less_is_better_a_high_ratio_fails() {
        assert_eq!(verdict(1.06, 1.2, Better::Less), Verdict::Failed);
        assert_eq!(verdict(1.04, 1.2, Better::Less), Verdict::Unresolved);
        assert_eq!(verdict(0.8, 1.04, Better::Less), Verdict::Passed);
        assert_eq!(verdict(0.8, 0.9, Better::Less), Verdict::Passed);
    }

    #[test]
    fn where_more_is_better_a_low_ratio_fails() {
        assert_eq!(verdict(0.8, 0.95, Better::More), Verdict::Failed);
        assert_eq!(verdict(0.8, 0.96, Better::More), Verdict::Unresolved);
        assert_eq!(verdict(0.96, 1.2, Better::More), Verdict::Passed);
        assert_eq!(verdict(1.06, 1.2, Better::More), Verdict::Passed);
    }

    #[test]
    fn an_interval_that_touches_the_limit_is_unresolved() {
        assert_eq!(verdict(1.05, 1.2, Better::Less), Verdict::Unresolved);
        assert_eq!(verdict(0.9, 1.05, Better::Less), Verdict::Unresolved);
        assert_eq!(verdict(0.9, 1.0 / 1.05, Better::More), Verdict::Unresolved);
        assert_eq!(verdict(1.0 / 1.05, 1.2, Better::More), Verdict::Unresolved);
    }

    #[test]
    fn the_text_tells_where_the_interval_lies() {
        let text = |lower, upper, better| Change::of(&ratios(lower, upper), better).expect("ratios").text();
        assert_eq!(
            text(1.06, 1.2, Better::Less),
            "1.130, 95 % interval 1.060 to 1.200 of 30 rounds: failed, it is wholly above 1.050"
        );
        assert!(text(0.8, 0.9, Better::Less).ends_with("passed, it is wholly below 1.050"));
        assert!(text(0.8, 0.9, Better::More).ends_with("failed, it is wholly below 0.952"));
        assert!(text(1.0, 1.1, Better::More).ends_with("passed, it is wholly above 0.952"));
        assert!(
            text(0.9, 1.1, Better::More)
                .ends_with("unresolved, it contains 0.952, more rounds make it narrower")
        );
    }

    #[test]
    fn what_has_no_ratio_is_left_out() {
        assert_eq!(Change::of(&[1.0; 30], Better::Neither), None);
        let change = Change::of(&[f64::NAN, f64::INFINITY, 0.0, -1.0], Better::Less).expect("no ratio");
        assert_eq!((change.ratio, change.verdict), (None, Verdict::TooFewRounds));
        assert_eq!(change.text(), "no ratio, no interval of 0 rounds: it takes 6 at least");
        let change = Change::of(&[f64::NAN, 1.0, f64::INFINITY, 1.0], Better::Less).expect("two ratios");
        assert_eq!((change.ratio, change.rounds), (Some(1.0), 2));
    }

    #[test]
    fn programs_read_limit_interval_and_verdict() {
        let change = Change::of(&ratios(1.06, 1.2), Better::Less).expect("ratios");
        let json = serde_json::to_value(&change).expect("it can be written");
        assert_eq!(json["interval"]["lower"], 1.06);
        assert_eq!(json["interval"]["upper"], 1.2);
        assert_eq!(json["limit"]["at_most"], 1.05);
        assert_eq!((&json["rounds"], &json["verdict"]), (&30.into(), &"failed".into()));
        let few = Change::of(&[1.0], Better::More).expect("a ratio");
        let json = serde_json::to_value(&few).expect("it can be written");
        assert_eq!((&json["interval"], &json["verdict"]), (&().into(), &"too_few_rounds".into()));
        assert_eq!(serde_json::from_value::<Change>(json).expect("it can be read"), few);
    }
}
