//! Tables of text, with columns aligned.

/// Lines of cells under a line of headings.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines = vec![headings.iter().map(|heading| heading.to_uppercase()).collect()];
    lines.extend(rows.iter().cloned());
    aligned(&lines)
}

/// Names and values, one pair a line.
pub(super) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let lines: Vec<_> = pairs.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    aligned(&lines)
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut written = String::new();
        for (cell, &width) in line.iter().zip(&widths) {
            written.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(written.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["joe".to_owned(), "read".to_owned()], vec!["annabel".to_owned(), String::new()]];
        assert_eq!(table(&["name", "rights"], &rows), "NAME     RIGHTS\njoe      read\nannabel\n");
        assert_eq!(pairs([("path", "/a".to_owned()), ("token", "0".to_owned())]), "path   /a\ntoken  0\n");
    }
}
