//! Results as tables: Markdown that is also readable on a terminal.

use std::fmt::Write as _;

use crate::{
    metric::{self, Metric, digits},
    results::{CaseResult, Results, ScenarioResult, Summary},
};

/// The whole run.
pub(crate) fn markdown(results: &Results) -> String {
    let mut out = String::new();
    let machine = &results.machine;
    let gib = machine.memory as f64 / f64::from(1 << 30);
    // Writing to a string cannot fail; here and below.
    let _ = writeln!(out, "# {}\n", results.date);
    let _ = writeln!(out, "- command: `{}`", results.command);
    let _ = writeln!(out, "- commit: {}", results.commit);
    let _ = writeln!(
        out,
        "- machine: {}, {} cores, {} GiB, Linux {}, {} file descriptors",
        machine.cpu,
        machine.cores,
        digits(gib),
        machine.kernel,
        machine.open_files,
    );
    let _ =
        writeln!(out, "- {} rounds of {} s, {} endpoints", results.rounds, digits(results.seconds), results.endpoints);
    for (subject, version) in &results.versions {
        let _ = writeln!(out, "- {subject}: {version}");
    }
    out.push_str("\nEach cell: median (least to most); x is the median ratio to the bare loop of the same round.\n");
    for result in &results.scenarios {
        out.push_str(&scenario(result));
    }
    out
}

/// One scenario.
pub(crate) fn scenario(result: &ScenarioResult) -> String {
    let columns: Vec<&Metric> = result.columns.iter().filter_map(|key| metric::find(key)).collect();
    let mut rows = vec![header(&columns)];
    for case in &result.cases {
        rows.push(row(case, &columns));
    }
    let mut out = format!("\n## {}: {}\n\nCores: {}.\n\n", result.name, result.about, result.cores);
    out.push_str(&aligned(&rows));
    for case in &result.cases {
        for note in &case.notes {
            let _ = writeln!(out, "\n- {}: {note}", case.label);
        }
    }
    for bar in &result.bars {
        let _ = writeln!(out, "\n- {}", bar.text());
    }
    out
}

fn header(columns: &[&Metric]) -> Vec<String> {
    std::iter::once("subject".to_owned()).chain(columns.iter().map(|metric| metric.title.to_owned())).collect()
}

fn row(case: &CaseResult, columns: &[&Metric]) -> Vec<String> {
    let mut cells = vec![case.label.clone()];
    for (index, metric) in columns.iter().enumerate() {
        cells.push(match (&case.missing, case.summary.get(metric.key)) {
            (Some(why), _) if index == 0 => format!("missing: {why}"),
            (Some(_), _) => String::new(),
            (None, Some(summary)) => cell(metric, summary, case.against.as_deref()),
            (None, None) => "-".to_owned(),
        });
    }
    cells
}

fn cell(metric: &Metric, summary: &Summary, against: Option<&str>) -> String {
    let value = summary.value;
    let mut cell = metric.format(value.median);
    if value.min != value.max {
        let _ = write!(cell, " ({} to {})", metric.format(value.min), metric.format(value.max));
    }
    if let Some(ratio) = summary.ratio {
        let _ = write!(cell, " {}x", digits(ratio.median));
    }
    if let (Some(other), Some(ratio)) = (against, summary.against) {
        let variant = other.rsplit(", ").next().unwrap_or(other);
        let _ = write!(cell, ", {}x of {variant}", digits(ratio.median));
    }
    cell
}

/// A Markdown table with columns of equal width.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        // The reason for a missing number may be wider than its column.
        cells.filter(|cell| !cell.starts_with("missing")).map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} |"));
        let _ = writeln!(out, "|{}", cells.collect::<String>());
        if number == 0 {
            let rules = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2)));
            let _ = writeln!(out, "|{}", rules.collect::<String>());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metrics;

    #[test]
    fn a_table_has_a_row_for_everybody_also_for_who_is_missing() {
        let metrics = |value| Some(Metrics::from([("cpu_us_per_request".to_owned(), value)]));
        let case = |label: &str, values: &[f64]| CaseResult {
            label: label.into(),
            rounds: values.iter().map(|value| metrics(*value)).collect(),
            ..CaseResult::default()
        };
        let mut result = ScenarioResult {
            name: "tiny-n1".into(),
            about: "about".into(),
            columns: vec!["cpu_us_per_request".into(), "errors".into()],
            cases: vec![
                case("bare loop", &[10.0, 12.0, 14.0]),
                CaseResult { against: Some("bare loop".into()), ..case("fanfare", &[20.0, 24.0, 28.0]) },
                CaseResult { label: "nginx".into(), missing: Some("not installed".into()), ..CaseResult::default() },
            ],
            ..ScenarioResult::default()
        };
        result.summarise();
        let table = scenario(&result);
        assert!(table.contains("| 12.0 µs (10.0 µs to 14.0 µs) 1.00x"), "{table}");
        assert!(table.contains("| 24.0 µs (20.0 µs to 28.0 µs) 2.00x, 2.00x of bare loop |"), "{table}");
        assert!(table.contains("missing: not installed"), "{table}");
        let lines: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line.matches('|').count() == 4), "{table}");
    }
}
