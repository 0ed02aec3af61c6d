//! Findings as text for people.

use super::Findings;

/// One row each, labels in one column; below them the table, if there is one.
pub(crate) fn render(findings: &Findings) -> String {
    let rows = table(&findings.rows);
    match &findings.table {
        Some(table) => format!("{rows}\n\n{}", table.markdown()),
        None => rows,
    }
}

/// Labels and sentences in two columns.
pub(crate) fn table(rows: &[(impl AsRef<str>, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.as_ref().len()).max().unwrap_or_default();
    let lines: Vec<String> =
        rows.iter().map(|(label, sentence)| format!("{:width$}  {sentence}", label.as_ref())).collect();
    lines.join("\n")
}
