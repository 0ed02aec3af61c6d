//! The table of a comparison.

use crate::report::{Better, Findings, ServerReport, Table, median};

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
    /// Why there are no more rounds.
    pub(super) failure: Option<String>,
}

impl Found {
    /// The ratios of a column to the one that it is compared with, round by round; none if there is none.
    fn ratios(&self, index: usize) -> Option<Vec<f64>> {
        let column = &self.columns[index];
        let reference = &self.columns[column.reference].values;
        let ratios = column.values.iter().zip(reference).map(|(value, reference)| value / reference);
        (column.reference != index && column.failure.is_none()).then(|| ratios.collect())
    }

    /// By what factor a column's ratio is greater than that of the floor in the same work, round by round; none if
    /// that is not asked for.
    fn beyond_floor(&self, index: usize) -> Option<Vec<f64>> {
        let floor = self.ratios(self.columns[index].floor?)?;
        Some(self.ratios(index)?.iter().zip(floor).map(|(ratio, floor)| ratio / floor).collect())
    }

    /// One line, for who waits.
    pub(super) fn line(&self) -> String {
        let columns: Vec<String> = (0..self.columns.len()).map(|column| self.column(column)).collect();
        format!("{}: {}", self.title, columns.join("; "))
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
        }
        findings.table(self.table());
        findings
    }

    /// A row for each discipline and server.
    fn table(&self) -> Table {
        let mut table = Table::new(["work", "server", "median", "of the rounds", "ratio", "of the rounds"]);
        for found in &self.found {
            for (index, Column { label, values, failure, .. }) in found.columns.iter().enumerate() {
                let title = if index == 0 { found.title.as_str() } else { "" };
                if let Some(failure) = failure {
                    let row = [title, label, &format!("failed: {failure}"), "", "", ""];
                    table.row(row.map(str::to_owned).to_vec());
                    continue;
                }
                let (least, most) = bounds(values);
                let (ratio, spread) =
                    found.ratios(index).map_or_else(Default::default, |ratios| median_and_spread(&ratios));
                table.row(vec![
                    title.to_owned(),
                    label.clone(),
                    number(median(values), found.unit),
                    format!("{} to {}", number(least, ""), number(most, "")),
                    ratio,
                    spread,
                ]);
                if let Some(ratios) = found.beyond_floor(index) {
                    let (ratio, spread) = median_and_spread(&ratios);
                    let cells =
                        [String::new(), format!("{label}: beyond the floor"), String::new(), String::new()];
                    table.row([cells.as_slice(), &[ratio, spread]].concat());
                }
            }
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
        Column { label: label.to_owned(), values: values.to_vec(), reference, floor, failure: None }
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
}
