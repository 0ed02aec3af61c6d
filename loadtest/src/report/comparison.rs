//! Two runs, figure by figure: what became better or worse, and why they may not be comparable.

use super::figure::Better;
use super::findings::Findings;
use super::numbers::with_unit;
use super::setting_text;

/// What became of a figure from A to B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// Within the threshold.
    Same,
    /// The figure judges nothing.
    Neither,
    OnlyA,
    OnlyB,
}

impl Verdict {
    /// The verdict over a figure that both runs have.
    fn of(a: f64, b: f64, better: Better, threshold_percent: f64) -> Self {
        let is_same = (b - a).abs() <= a.abs() * threshold_percent / 100.0;
        match better {
            Better::Neither => Self::Neither,
            Better::Less | Better::More if is_same => Self::Same,
            Better::Less if b < a => Self::Better,
            Better::More if b > a => Self::Better,
            Better::Less | Better::More => Self::Worse,
        }
    }

    /// As it is told; nothing where nothing is judged.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
            Self::Neither => "",
            Self::OnlyA => "only in A",
            Self::OnlyB => "only in B",
        }
    }
}

/// A figure of both runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    unit: String,
    pub(crate) a: Option<f64>,
    pub(crate) b: Option<f64>,
    pub(crate) verdict: Verdict,
}

impl Row {
    /// One of its values as text; a dash where it was not found.
    pub(crate) fn text_of(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| with_unit(value, &self.unit))
    }

    /// B divided by A; a dash where that is no number.
    pub(crate) fn ratio_text(&self) -> String {
        match (self.a, self.b) {
            (Some(a), Some(b)) if a != 0.0 => format!("{:.3}", b / a),
            _ => "-".to_owned(),
        }
    }
}

/// Two runs, compared.
pub(crate) struct Comparison {
    runs: [Findings; 2],
    paths: [String; 2],
    threshold_percent: f64,
    rows: Vec<Row>,
    warnings: Vec<String>,
}

impl Comparison {
    pub(crate) fn new(runs: [Findings; 2], paths: [String; 2], threshold_percent: f64) -> Self {
        let [a, b] = &runs;
        let (rows, warnings) = (rows(a, b, threshold_percent), warnings(a, b));
        Self { runs, paths, threshold_percent, rows, warnings }
    }

    pub(crate) fn a(&self) -> &Findings {
        &self.runs[0]
    }

    pub(crate) fn b(&self) -> &Findings {
        &self.runs[1]
    }

    /// Name, file and findings of both.
    pub(crate) fn sides(&self) -> [(&'static str, &str, &Findings); 2] {
        [("A", &self.paths[0], self.a()), ("B", &self.paths[1], self.b())]
    }

    pub(crate) fn threshold_percent(&self) -> f64 {
        self.threshold_percent
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Why the two may not be comparable, a sentence each.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// As text: who they are, warnings, and a table.
    pub(crate) fn text(&self) -> String {
        let mut lines: Vec<String> = self
            .sides()
            .map(|(name, path, findings)| {
                format!("{name}  {path}: {}, {}", findings.scenario, findings.server.text())
            })
            .into();
        lines.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        lines.push(String::new());
        let cells = |row: &Row| {
            let verdict = row.verdict.text().to_owned();
            [row.name.clone(), row.text_of(row.a), row.text_of(row.b), row.ratio_text(), verdict]
        };
        let head = ["figure", "A", "B", "B/A", ""].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(self.rows.iter().map(cells)).collect();
        lines.extend(columns(&rows));
        lines.join("\n")
    }
}

/// The figures of both, in A's order; then those that B alone has.
fn rows(a: &Findings, b: &Findings, threshold_percent: f64) -> Vec<Row> {
    let names = a.figures.keys().chain(b.figures.keys().filter(|name| !a.figures.contains_key(*name)));
    let row = |name: &String| {
        let (of_a, of_b) = (a.figures.get(name), b.figures.get(name));
        let verdict = match (of_a, of_b) {
            (Some(a), Some(b)) => Verdict::of(a.value, b.value, b.better, threshold_percent),
            (Some(_), None) => Verdict::OnlyA,
            (None, _) => Verdict::OnlyB,
        };
        let unit = of_b.or(of_a).map(|figure| figure.unit.clone()).unwrap_or_default();
        let (a, b) = (of_a.map(|figure| figure.value), of_b.map(|figure| figure.value));
        Row { name: name.clone(), unit, a, b, verdict }
    };
    names.map(row).collect()
}

fn warnings(a: &Findings, b: &Findings) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut differ = |what: &str, a: &str, b: &str| {
        if a != b {
            warnings.push(format!("{what} differs: {a} in A, {b} in B"));
        }
    };
    differ("the scenario", &a.scenario, &b.scenario);
    let shards =
        |findings: &Findings| findings.server.shards.map_or("unknown".to_owned(), |it| it.to_string());
    differ("the number of shards", &shards(a), &shards(b));
    let io = |findings: &Findings| findings.server.io.clone().unwrap_or_else(|| "unknown".to_owned());
    differ("the way of doing I/O", &io(a), &io(b));
    let text = |findings: &Findings, name: &str| {
        findings.settings.get(name).map_or_else(|| "not set".to_owned(), setting_text)
    };
    for name in a.settings.keys().chain(b.settings.keys().filter(|name| !a.settings.contains_key(*name))) {
        differ(&format!("the setting {name}"), &text(a, name), &text(b, name));
    }
    for (side, findings) in [("A", a), ("B", b)] {
        warnings.extend(findings.failures.iter().map(|failure| format!("{side} has failed: {failure}")));
    }
    warnings
}

/// Rows of cells as lines: the first and the last column to the left, numbers to the right.
fn columns(rows: &[[String; 5]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |[name, a, b, ratio, verdict]: &[String; 5]| {
        let [first, second, third, fourth] = widths;
        let line = format!("{name:first$}  {a:>second$}  {b:>third$}  {ratio:>fourth$}  {verdict}");
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::server;

    fn findings(deliveries_per_s: f64, p99_ms: f64) -> Findings {
        let mut findings = Findings::new("fanout", server());
        findings
            .setting("connections", 5000)
            .more_is_better("deliveries_per_s", deliveries_per_s, "/s")
            .less_is_better("latency_p99_ms", p99_ms, "ms")
            .fact("deliveries", deliveries_per_s, "");
        findings
    }

    fn compared(a: Findings, b: Findings) -> Comparison {
        Comparison::new([a, b], ["a.json", "b.json"].map(str::to_owned), 5.0)
    }

    fn verdict(comparison: &Comparison, name: &str) -> Verdict {
        let row = comparison.rows().iter().find(|row| row.name == name);
        row.expect("a figure of one of them").verdict
    }

    #[test]
    fn what_became_worse_is_flagged() {
        let comparison = compared(findings(1000.0, 2.0), findings(900.0, 2.2));
        assert_eq!(verdict(&comparison, "deliveries_per_s"), Verdict::Worse);
        assert_eq!(verdict(&comparison, "latency_p99_ms"), Verdict::Worse);
        assert!(comparison.warnings().is_empty());
        let text = comparison.text();
        let line = text.lines().find(|line| line.starts_with("deliveries_per_s")).expect("its row");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["deliveries_per_s", "1,000/s", "900/s", "0.900", "worse"]);
    }

    #[test]
    fn what_became_better_is_flagged() {
        let comparison = compared(findings(1000.0, 2.0), findings(1100.0, 1.8));
        assert_eq!(verdict(&comparison, "deliveries_per_s"), Verdict::Better);
        assert_eq!(verdict(&comparison, "latency_p99_ms"), Verdict::Better);
    }

    #[test]
    fn within_the_threshold_all_is_the_same() {
        let comparison = compared(findings(1000.0, 2.0), findings(951.0, 2.09));
        assert_eq!(verdict(&comparison, "deliveries_per_s"), Verdict::Same);
        assert_eq!(verdict(&comparison, "latency_p99_ms"), Verdict::Same);
        let closer = Comparison::new([findings(1000.0, 2.0), findings(951.0, 2.09)], Default::default(), 4.0);
        assert_eq!(verdict(&closer, "deliveries_per_s"), Verdict::Worse);
    }

    #[test]
    fn what_judges_nothing_is_not_judged() {
        let comparison = compared(findings(1000.0, 2.0), findings(1.0, 2.0));
        assert_eq!(verdict(&comparison, "deliveries"), Verdict::Neither);
    }

    #[test]
    fn growth_from_nothing_has_no_ratio_and_is_judged() {
        let comparison = compared(findings(0.0, 0.0), findings(10.0, 10.0));
        assert_eq!(verdict(&comparison, "deliveries_per_s"), Verdict::Better);
        assert_eq!(verdict(&comparison, "latency_p99_ms"), Verdict::Worse);
        assert!(comparison.rows().iter().all(|row| row.ratio_text() == "-"));
    }

    #[test]
    fn figures_of_one_alone_are_told() {
        let (mut a, mut b) = (findings(1.0, 1.0), findings(1.0, 1.0));
        a.fact("only_before", 1.0, "");
        b.fact("only_after", 1.0, "");
        let comparison = compared(a, b);
        assert_eq!(verdict(&comparison, "only_before"), Verdict::OnlyA);
        assert_eq!(verdict(&comparison, "only_after"), Verdict::OnlyB);
    }

    #[test]
    fn different_runs_are_warned_of() {
        let (a, mut b) = (findings(1.0, 1.0), Findings::new("idle", server()));
        b.server.shards = Some(4);
        b.setting("connections", 100).setting("dialect", "wwfp").failed("RSS grew");
        let warnings = compared(a, b).warnings().to_vec();
        assert_eq!(
            warnings,
            [
                "the scenario differs: fanout in A, idle in B",
                "the number of shards differs: 2 in A, 4 in B",
                "the setting connections differs: 5000 in A, 100 in B",
                "the setting dialect differs: not set in A, wwfp in B",
                "B has failed: RSS grew",
            ]
        );
    }
}
