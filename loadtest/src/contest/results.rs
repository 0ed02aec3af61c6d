//! The table of a comparison.

use crate::report::{Better, Change, Findings, ServerReport, Table, median};

/// What a discipline has found.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    pub(super) columns: Vec<Column>,
}

/// What one server has done in it.
pub(super) struct Column {
    pub(super) label: String,
    /// The values of the rounds.
    pub(super) values: Vec<f64>,
    /// Which column it is compared with; itself, if with none.
    pub(super) reference: usize,
    /// The column of the floor in the same work, if the two ratios are to be compared once more.
    pub(super) floor: Option<usize>,
    /// The column of the other build, if this is ours.
    pub(super) other: Option<usize>,
    /// Why there are no more rounds.
    pub(super) failure: Option<String>,
}

impl Found {
    /// The ratios of a column to the one that it is compared with, round by round; none if there is none.
    fn ratios(&self, index: usize) -> Option<Vec<f64>> {
        let column = &self.columns[index];
        (column.reference != index && column.failure.is_none())
            .then(|| self.ratios_to(index, column.reference))
    }

    fn ratios_to(&self, index: usize, reference: usize) -> Vec<f64> {
        let (values, references) = (&self.columns[index].values, &self.columns[reference].values);
        values.iter().zip(references).map(|(value, reference)| value / reference).collect()
    }

    /// What our build has come to beside the other one, if both take part.
    fn change(&self) -> Option<BuildChange> {
        let (ours, other) =
            (0..).zip(&self.columns).find_map(|(ours, column)| Some((ours, column.other?)))?;
        let ratios = self.ratios_to(ours, other);
        let label = format!("{} / {}", self.columns[ours].label, self.columns[other].label);
        let change = Change::of(&ratios, self.better)?;
        Some(BuildChange { label, ratios, change })
    }

    /// By what factor a column's ratio is greater than that of the floor in the same work, round by round; none if
    /// that is not asked for.
    fn beyond_floor(&self, index: usize) -> Option<Vec<f64>> {
        let floor = self.ratios(self.columns[index].floor?)?;
        Some(self.ratios(index)?.iter().zip(floor).map(|(ratio, floor)| ratio / floor).collect())
    }

    /// One line, for who waits.
    pub(super) fn line(&self) -> String {
        let columns = (0..self.columns.len()).map(|column| self.column(column));
        let change =
            self.change().map(|BuildChange { label, change, .. }| format!("{label} {}", change.text()));
        format!("{}: {}", self.title, columns.chain(change).collect::<Vec<_>>().join("; "))
    }

    fn column(&self, column: usize) -> String {
        let Column { label, values, failure, .. } = &self.columns[column];
        if let Some(failure) = failure {
            return format!("{label} failed: {failure}");
        }
        let value = format!("{label} {}", number(median(values), self.unit));
        let Some(ratios) = self.ratios(column) else { return value };
        let (ratio, spread) = median_and_spread(&ratios);
        let beyond = self.beyond_floor(column).map_or_else(String::new, |ratios| {
            let (ratio, spread) = median_and_spread(&ratios);
            format!(", {ratio} ({spread}) beyond the floor")
        });
        format!("{value} = {ratio} ({spread}){beyond}")
    }

    /// The rows of the table.
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for (index, Column { label, values, failure, .. }) in self.columns.iter().enumerate() {
            let title = if index == 0 { self.title.as_str() } else { "" };
            if let Some(failure) = failure {
                rows.push(cells([title, label, &format!("failed: {failure}")]));
                continue;
            }
            let (least, most) = bounds(values);
            let spread = format!("{} to {}", number(least, ""), number(most, ""));
            let (ratio, ratio_spread) =
                self.ratios(index).map_or_else(Default::default, |ratios| median_and_spread(&ratios));
            rows.push(cells([
                title,
                label,
                &number(median(values), self.unit),
                &spread,
                &ratio,
                &ratio_spread,
            ]));
            if let Some(ratios) = self.beyond_floor(index) {
                let (ratio, spread) = median_and_spread(&ratios);
                rows.push(cells(["", &format!("{label}: beyond the floor"), "", "", &ratio, &spread]));
            }
        }
        rows.extend(self.change().map(|build| build.row()));
        rows
    }
}

/// Cells of the table, from the left.
fn cells<const COUNT: usize>(cells: [&str; COUNT]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// Our build beside the other one in a discipline.
struct BuildChange {
    /// Who is divided by whom.
    label: String,
    /// Ours to the other, round by round.
    ratios: Vec<f64>,
    change: Change,
}

impl BuildChange {
    /// A figure, a row for people and, if the build has failed, the sentence that ends the command.
    fn tell(&self, discipline: &str, better: Better, findings: &mut Findings) {
        let Self { label, ratios, change } = self;
        let figure = format!("{discipline}_{}", label.replace(" / ", "_to_").replace('-', "_"));
        findings.rounds(&figure, ratios, "", better);
        findings.row(discipline, format!("{label} {}", change.text()));
        if change.has_failed() {
            let text = change.text();
            findings.failed(format!("{discipline}: our build is worse than the other one: {label} {text}"));
        }
        findings.change(discipline, change.clone());
    }

    fn row(&self) -> Vec<String> {
        let Self { label, ratios, change } = self;
        let (ratio, spread) = median_and_spread(ratios);
        cells(["", label, "", "", &ratio, &spread, &change.interval_text(), change.verdict_text()])
    }
}

/// What all disciplines have found.
pub(super) struct Results {
    rounds: u32,
    seconds: u32,
    found: Vec<Found>,
}

impl Results {
    pub(super) fn new(rounds: u32, seconds: u32) -> Self {
        Self { rounds, seconds, found: Vec::new() }
    }

    pub(super) fn add(&mut self, found: Found) {
        self.found.push(found);
    }

    /// As findings: a figure for each server in each discipline, and its ratio.
    pub(super) fn findings(&self) -> Findings {
        let server = ServerReport { url: "several, side by side".to_owned(), shards: None, io: None };
        let mut findings = Findings::new("peers", server);
        findings.setting("rounds", self.rounds).setting("seconds", self.seconds);
        for found in &self.found {
            for (index, column) in found.columns.iter().enumerate() {
                let name =
                    format!("{}_{}", found.name, column.label.replace(", ", "_").replace([' ', '-'], "_"));
                if column.failure.is_none() {
                    findings.rounds(&name, &column.values, found.unit, found.better);
                }
                if let Some(ratios) = found.ratios(index) {
                    findings.rounds(&format!("{name}_ratio"), &ratios, "", found.better);
                }
                if let Some(ratios) = found.beyond_floor(index) {
                    findings.rounds(&format!("{name}_beyond_floor"), &ratios, "", found.better);
                }
            }
            if let Some(build) = found.change() {
                build.tell(&found.name, found.better, &mut findings);
            }
        }
        findings.table(self.table());
        findings
    }

    /// A row for each discipline and server; where two builds are compared, their interval and verdict too.
    fn table(&self) -> Table {
        const HEADINGS: [&str; 8] = [
            "work",
            "server",
            "median",
            "of the rounds",
            "ratio",
            "of the rounds",
            "95 % interval",
            "verdict",
        ];
        let has_changes = self.found.iter().any(|found| found.change().is_some());
        let columns = if has_changes { HEADINGS.len() } else { HEADINGS.len() - 2 };
        let mut table = Table::new(HEADINGS.into_iter().take(columns));
        for mut row in self.found.iter().flat_map(Found::rows) {
            row.resize(columns, String::new());
            table.row(row);
        }
        table
    }
}

fn bounds(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}

/// The median of ratios, and their spread, as texts.
fn median_and_spread(ratios: &[f64]) -> (String, String) {
    let (least, most) = bounds(ratios);
    (format!("{:.3}", median(ratios)), format!("{least:.3} to {most:.3}"))
}

/// Three digits that matter, or all of a large number.
fn number(value: f64, unit: &str) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{value:.digits$}{space}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(label: &str, values: [f64; 3], reference: usize, floor: Option<usize>) -> Column {
        Column {
            label: label.to_owned(),
            values: values.to_vec(),
            reference,
            floor,
            other: None,
            failure: None,
        }
    }

    fn of(columns: Vec<Column>) -> Found {
        Found { name: "1x1".to_owned(), title: "work".to_owned(), unit: "ns", better: Better::Less, columns }
    }

    fn found() -> Found {
        of(vec![
            column("floor", [100.0, 200.0, 300.0], 0, None),
            column("we", [110.0, 210.0, 300.0], 0, None),
        ])
    }

    #[test]
    fn ratios_are_of_rounds_and_then_of_medians() {
        assert_eq!(found().ratios(1).map(|ratios| median(&ratios)), Some(1.05));
        assert_eq!(found().ratios(0), None);
        assert_eq!(found().line(), "work: floor 200 ns; we 210 ns = 1.050 (1.000 to 1.100)");
    }

    #[test]
    fn what_the_floor_grows_by_is_taken_out() {
        let found = of(vec![
            column("floor, few", [100.0; 3], 0, None),
            column("we, few", [200.0; 3], 1, None),
            column("floor, many", [150.0, 200.0, 200.0], 0, None),
            column("we, many", [330.0, 400.0, 420.0], 1, Some(2)),
        ]);
        assert_eq!(found.beyond_floor(1), None);
        assert!(
            found.line().ends_with(
                "we, many 400 ns = 2.000 (1.650 to 2.100), 1.050 (1.000 to 1.100) beyond the floor"
            )
        );
        let mut results = Results::new(3, 1);
        results.add(found);
        let markdown = results.table().markdown();
        let words: Vec<&str> = markdown.lines().last().expect("a row").split_whitespace().collect();
        assert_eq!(words.join(" "), "| | we, many: beyond the floor | | | 1.050 | 1.000 to 1.100 |");
        assert_eq!(results.findings().figures["1x1_we_many_beyond_floor"].value, 1.05);
    }

    #[test]
    fn a_server_that_fails_is_told_and_has_no_figures() {
        let mut found = found();
        found.columns[1].failure = Some("a double".to_owned());
        assert_eq!(found.line(), "work: floor 200 ns; we failed: a double");
        let mut results = Results::new(3, 1);
        results.add(found);
        assert!(results.table().markdown().contains("failed: a double"));
        assert!(!results.findings().figures.contains_key("1x1_we"));
    }

    #[test]
    fn each_server_has_a_line_and_two_figures() {
        let mut results = Results::new(3, 1);
        results.add(found());
        let markdown = results.table().markdown();
        let words: Vec<&str> = markdown.lines().nth(2).expect("a row").split_whitespace().collect();
        assert_eq!(words.join(" "), "| work | floor | 200 ns | 100 to 300 | | |");
        let findings = results.findings();
        assert_eq!(findings.figures["1x1_we"].value, 210.0);
        assert_eq!(findings.figures["1x1_we_ratio"].value, 1.05);
    }

    /// Thirty rounds of the floor, our build, which takes `factor` of the other one's time, and the other one.
    fn builds(factor: f64, better: Better) -> Found {
        let build = |label: &str, factor: f64, other| Column {
            label: label.to_owned(),
            // Both have slow rounds, and the same ones: paired, they do not matter.
            values: (0..30).map(|round| f64::from(100 + 10 * (round % 7)) * factor).collect(),
            reference: 0,
            floor: None,
            other,
            failure: None,
        };
        let columns = vec![
            build("floor", 1.0, None),
            build("webrocket", 2.0 * factor, Some(2)),
            build("webrocket-other", 2.0, None),
        ];
        Found { better, ..of(columns) }
    }

    fn results(found: Found) -> Results {
        let mut results = Results::new(30, 1);
        results.add(found);
        results
    }

    #[test]
    fn two_builds_have_an_interval_in_text_table_and_json() {
        let found = builds(1.25, Better::Less);
        let told = "webrocket / webrocket-other 1.250, 95 % interval 1.250 to 1.250 of 30 rounds: failed, it is wholly above 1.050";
        assert!(found.line().ends_with(told), "{}", found.line());
        let results = results(found);
        let markdown = results.table().markdown();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(markdown.lines().next().expect("headings")).ends_with("| 95 % interval | verdict |"));
        assert_eq!(
            words(markdown.lines().last().expect("a row")),
            "| | webrocket / webrocket-other | | | 1.250 | 1.250 to 1.250 | 1.250 to 1.250 | failed |"
        );
        let findings = results.findings();
        assert!(findings.rows.contains(&("1x1".to_owned(), told.to_owned())));
        assert_eq!(findings.figures["1x1_webrocket_to_webrocket_other"].value, 1.25);
        let json = serde_json::to_value(&findings).expect("it can be written");
        assert_eq!(json["changes"]["1x1"]["verdict"], "failed");
    }

    #[test]
    fn only_a_build_that_is_worse_fails_the_run() {
        for (factor, better, failures) in [
            (1.25, Better::Less, 1),
            (1.0, Better::Less, 0),
            (0.8, Better::Less, 0),
            (1.25, Better::More, 0),
            (1.0, Better::More, 0),
            (0.8, Better::More, 1),
        ] {
            let findings = results(builds(factor, better)).findings();
            assert_eq!(findings.failures.len(), failures, "{factor}, {better:?}: {:?}", findings.failures);
        }
    }

    #[test]
    fn an_unresolved_build_is_told_and_does_not_fail_the_run() {
        let mut found = builds(1.0, Better::Less);
        for value in found.columns[1].values.iter_mut().step_by(2) {
            *value *= 1.2;
        }
        assert!(found.line().contains("of 30 rounds: unresolved, it contains 1.050"), "{}", found.line());
        let results = results(found);
        assert!(results.table().markdown().contains("| unresolved"));
        assert!(results.findings().failures.is_empty());
    }

    #[test]
    fn without_another_build_nothing_is_judged() {
        let results = results(found());
        assert!(results.findings().changes.is_empty());
        assert!(!results.table().markdown().contains("verdict"));
    }
}
