//! Tables of findings: for people, as Markdown in the text and as a table on the page.

use maud::{Markup, html};

/// Columns with a heading each, and rows of as many cells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        Self { headings: headings.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    /// Adds a row: as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: Vec<String>) -> &mut Self {
        assert_eq!(cells.len(), self.headings.len(), "a cell for each heading");
        self.rows.push(cells);
        self
    }

    /// In Markdown, its columns aligned.
    pub(crate) fn markdown(&self) -> String {
        let all = || std::iter::once(&self.headings).chain(&self.rows);
        let width =
            |column: usize| all().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let line = |cells: &Vec<String>| {
            let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!("| {cell:width$} "));
            cells.collect::<String>() + "|"
        };
        let rule = widths.iter().map(|&width| format!("| {:-<width$} ", "")).collect::<String>() + "|";
        let rows = self.rows.iter().map(line);
        std::iter::once(line(&self.headings)).chain([rule]).chain(rows).collect::<Vec<_>>().join("\n")
    }

    /// As a table of the page.
    pub(super) fn html(&self) -> Markup {
        html! {
            table class="wide" {
                thead { tr { @for heading in &self.headings { th { (heading) } } } }
                tbody { @for cells in &self.rows { tr { @for cell in cells { td { (cell) } } } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["server", "ns"]);
        table
            .row(vec!["ours".to_owned(), "180".to_owned()])
            .row(vec!["µWebSockets".to_owned(), "196".to_owned()]);
        let lines = [
            "| server      | ns  |",
            "| ----------- | --- |",
            "| ours        | 180 |",
            "| µWebSockets | 196 |",
        ];
        assert_eq!(table.markdown(), lines.join("\n"));
    }

    #[test]
    fn cells_are_text() {
        let mut table = Table::new(["server"]);
        table.row(vec!["<b>".to_owned()]);
        assert!(table.html().0.contains("<td>&lt;b&gt;</td>"));
    }
}
