//! The table of a comparison.

use crate::report::{Better, Findings, ServerReport, Table, median};

/// What a discipline has found: the first column is what the others are compared with.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    /// Label, and the values of the rounds.
    pub(super) columns: Vec<(String, Vec<f64>)>,
}

impl Found {
    /// The ratios of a column to the first, round by round.
    fn ratios(&self, column: usize) -> Vec<f64> {
        let (_, floor) = &self.columns[0];
        self.columns[column].1.iter().zip(floor).map(|(value, floor)| value / floor).collect()
    }

    /// One line, for who waits.
    pub(super) fn line(&self) -> String {
        let columns: Vec<String> = (0..self.columns.len()).map(|column| self.column(column)).collect();
        format!("{}: {}", self.title, columns.join("; "))
    }

    fn column(&self, column: usize) -> String {
        let (label, values) = &self.columns[column];
        let value = format!("{label} {}", number(median(values), self.unit));
        if column == 0 {
            return value;
        }
        let ratios = self.ratios(column);
        let (least, most) = bounds(&ratios);
        format!("{value} = {:.3} ({least:.3} to {most:.3})", median(&ratios))
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
            for (column, (label, values)) in found.columns.iter().enumerate() {
                let name = format!("{}_{}", found.name, label.replace([' ', '-'], "_"));
                findings.rounds(&name, values, found.unit, found.better);
                if column > 0 {
                    findings.rounds(&format!("{name}_ratio"), &found.ratios(column), "", found.better);
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
            for (column, (label, values)) in found.columns.iter().enumerate() {
                let title = if column == 0 { found.title.as_str() } else { "" };
                let (least, most) = bounds(values);
                let ratios = found.ratios(column);
                let (low, high) = bounds(&ratios);
                table.row(vec![
                    title.to_owned(),
                    label.clone(),
                    number(median(values), found.unit),
                    format!("{} to {}", number(least, ""), number(most, "")),
                    format!("{:.3}", median(&ratios)),
                    format!("{low:.3} to {high:.3}"),
                ]);
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

    fn found() -> Found {
        Found {
            name: "1x1".to_owned(),
            title: "work".to_owned(),
            unit: "ns",
            better: Better::Less,
            columns: vec![
                ("floor".to_owned(), vec![100.0, 200.0, 300.0]),
                ("we".to_owned(), vec![110.0, 210.0, 300.0]),
            ],
        }
    }

    #[test]
    fn ratios_are_of_rounds_and_then_of_medians() {
        assert_eq!(median(&found().ratios(1)), 1.05);
        assert_eq!(found().line(), "work: floor 200 ns; we 210 ns = 1.050 (1.000 to 1.100)");
    }

    #[test]
    fn each_server_has_a_line_and_two_figures() {
        let mut results = Results::new(3, 1);
        results.add(found());
        let markdown = results.table().markdown();
        let words: Vec<&str> = markdown.lines().nth(2).expect("a row").split_whitespace().collect();
        assert_eq!(words.join(" "), "| work | floor | 200 ns | 100 to 300 | 1.000 | 1.000 to 1.000 |");
        let findings = results.findings();
        assert_eq!(findings.figures["1x1_we"].value, 210.0);
        assert_eq!(findings.figures["1x1_we_ratio"].value, 1.05);
    }
}
