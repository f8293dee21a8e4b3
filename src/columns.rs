//! Tables of text: columns as wide as their content, without empty ones.

/// The separator of columns.
const GAP: &str = "  ";

/// The headings and a line for each row.
pub(crate) fn lines(headings: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let used: Vec<usize> = (0..headings.len()).filter(|at| rows.iter().any(|row| !row[*at].is_empty())).collect();
    let heading = used.iter().map(|at| headings[*at].to_owned()).collect();
    let cells = rows.iter().map(|row| used.iter().map(|at| row[*at].clone()).collect());
    let all: Vec<Vec<String>> = std::iter::once(heading).chain(cells).collect();
    let width = |at: usize| all.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..used.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join(GAP).trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// Replaces control characters, so that text from a peer cannot control a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
