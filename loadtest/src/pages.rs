//! The tables of README.md and docs/performance.md, which one run writes anew between their markers.

mod plan;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use self::plan::{Axis, Show, TABLES, Table};
use crate::{
    machine,
    metric::{self, digits},
    results::{CaseResult, Results},
    table,
};

/// Before and after the name of a table.
const BEGIN: (&str, &str) = ("<!-- loadtest: ", " -->");
/// After a table.
const END: &str = "<!-- loadtest: end -->";

/// The pages that have tables.
pub(crate) fn all() -> Vec<PathBuf> {
    ["README.md", "docs/performance.md"].map(|page| machine::workspace().join(page)).to_vec()
}

/// Writes the tables of these pages, or of all, from a file of results.
pub(crate) fn command(results: &Path, pages: &[PathBuf]) -> anyhow::Result<()> {
    let results = Results::read(results)?;
    write(&results, &if pages.is_empty() { all() } else { pages.to_vec() })
}

/// Writes the tables of these pages.
pub(crate) fn write(results: &Results, pages: &[PathBuf]) -> anyhow::Result<()> {
    for page in pages {
        let at = || page.display().to_string();
        let text = fs::read_to_string(page).with_context(at)?;
        let (fresh, left) = rewritten(&text, results).with_context(at)?;
        left.iter().for_each(|why| eprintln!("{}: {why}", page.display()));
        fs::write(page, fresh).with_context(at)?;
    }
    Ok(())
}

/// The page with its tables from these results, and why some stay as they are.
///
/// # Errors
/// A marker without an end, or with the name of no table.
fn rewritten(page: &str, results: &Results) -> anyhow::Result<(String, Vec<String>)> {
    let (mut out, mut left, mut rest) = (String::new(), Vec::new(), page);
    while let Some(at) = next_marker(rest) {
        let (before, marked) = rest.split_at(at);
        let (name, after) = marked[BEGIN.0.len()..].split_once(BEGIN.1).context("a marker without an end")?;
        let (old, after) = after.split_once(END).with_context(|| format!("no {END} after the table {name}"))?;
        let Some(spec) = TABLES.iter().find(|table| table.name == name) else {
            let known: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
            bail!("there is no table {name:?}, only {}", known.join(", "));
        };
        out.push_str(before);
        out.push_str(&format!("{}{name}{}", BEGIN.0, BEGIN.1));
        match spec.missing(results) {
            None => out.push_str(&format!("\n\n{}\n{}\n\n", spec.markdown(results), source(results))),
            Some(scenario) => {
                left.push(format!("the table {name} stays as it is: {scenario} was not measured"));
                out.push_str(old);
            }
        }
        out.push_str(END);
        rest = after;
    }
    out.push_str(rest);
    Ok((out, left))
}

/// Where the next table begins. The end of a table is no beginning, nor is a marker that a page shows in a line of its text.
fn next_marker(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find(BEGIN.0)?;
        if (at == 0 || text[..at].ends_with('\n')) && !text[at..].starts_with(END) {
            return Some(at);
        }
        from = at + BEGIN.0.len();
    }
}

/// Of what run a table is.
fn source(results: &Results) -> String {
    let Results { date, commit, rounds, seconds, machine, .. } = results;
    let day = date.split('T').next().unwrap_or(date);
    let cores = if machine.cores == 1 { "core" } else { "cores" };
    format!(
        "Medians of {rounds} rounds of {} s, {day}, commit {commit}, {}, {} {cores}.",
        digits(*seconds),
        machine.cpu,
        machine.cores
    )
}

impl Table {
    /// A scenario of this table that the results do not have.
    fn missing(&self, results: &Results) -> Option<&'static str> {
        let mut wanted = self.rows.iter().chain(self.columns).filter_map(|axis| axis.scenario);
        wanted.find(|name| !results.scenarios.iter().any(|scenario| scenario.name == *name))
    }

    fn markdown(&self, results: &Results) -> String {
        let titles = std::iter::once(self.corner).chain(self.columns.iter().map(|column| column.title));
        let mut rows = vec![titles.map(str::to_owned).collect::<Vec<_>>()];
        for row in self.rows {
            let cells = self.columns.iter().map(|column| self.cell(row, column, results));
            rows.push(std::iter::once(row.title.to_owned()).chain(cells).collect());
        }
        table::aligned(&rows)
    }

    /// What the row does not say of a cell, the column says.
    fn cell(&self, row: &Axis, column: &Axis, results: &Results) -> String {
        let scenario = row.scenario.or(column.scenario);
        let scenario = results.scenarios.iter().find(|result| Some(result.name.as_str()) == scenario);
        let label = row.label.or(column.label);
        let case = scenario.and_then(|scenario| scenario.cases.iter().find(|case| Some(case.label.as_str()) == label));
        let metric = row.metric.or(column.metric);
        case.zip(metric).and_then(|(case, key)| shown(case, key, self.show)).unwrap_or_else(|| "-".to_owned())
    }
}

fn shown(case: &CaseResult, key: &str, show: Show) -> Option<String> {
    let (summary, metric) = (case.summary.get(key)?, metric::find(key)?);
    let value = metric.format(summary.value.median);
    let ratio = summary.ratio.map(|ratio| format!("{}x", digits(ratio.median)));
    Some(match show {
        Show::Value => value,
        Show::Ratio => ratio?,
        Show::Against => format!("{}x", digits(summary.against?.median)),
        Show::Both if case.label == "bare loop" => value,
        Show::Both => format!("{value}, {}", ratio?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metric::Metrics, results::ScenarioResult, scenario};

    fn results(names: &[&str]) -> Results {
        let of = |label: &str, cpu: f64| CaseResult {
            label: label.into(),
            rounds: vec![Some(Metrics::from([("cpu_us_per_request".into(), cpu)]))],
            ..CaseResult::default()
        };
        let scenario = |name: &&str| {
            let cases = vec![of("bare loop", 10.0), of("fanfare", 13.0)];
            let mut scenario = ScenarioResult { name: (*name).into(), cases, ..ScenarioResult::default() };
            scenario.summarise();
            scenario
        };
        let date = "2026-01-02T03:04:05+00:00".to_owned();
        Results { date, scenarios: names.iter().map(scenario).collect(), rounds: 5, seconds: 3.0, ..Results::default() }
    }

    #[test]
    fn a_table_is_written_between_its_markers_and_nothing_else_changes() {
        let page = "before `<!-- loadtest: x -->`\n<!-- loadtest: chunks -->\nold\n<!-- loadtest: end -->\nafter\n";
        let (fresh, left) = rewritten(page, &results(&["chunks-one", "chunks-byte"])).unwrap();
        assert_eq!(left, Vec::<String>::new());
        assert!(fresh.starts_with("before `<!-- loadtest: x -->`\n<!-- loadtest: chunks -->\n\n| "), "{fresh}");
        assert!(fresh.ends_with("\n\n<!-- loadtest: end -->\nafter\n") && !fresh.contains("old"), "{fresh}");
        assert!(fresh.contains("| 10.0 µs   | 13.0 µs, 1.30x |"), "{fresh}");
        assert!(fresh.contains("5 rounds of 3.00 s, 2026-01-02"), "{fresh}");
        assert_eq!(rewritten(&fresh, &results(&["chunks-one", "chunks-byte"])).unwrap().0, fresh);
    }

    #[test]
    fn a_table_of_which_something_was_not_measured_stays_as_it_is() {
        let page = "<!-- loadtest: chunks -->\nold\n<!-- loadtest: end -->\n";
        let (fresh, left) = rewritten(page, &results(&["chunks-one"])).unwrap();
        assert_eq!((fresh.as_str(), left.len()), (page, 1));
        assert!(left[0].contains("chunks-byte"), "{left:?}");
        assert!(rewritten("<!-- loadtest: chunks -->\n", &results(&[])).is_err());
        assert!(rewritten("<!-- loadtest: none -->\n<!-- loadtest: end -->\n", &results(&[])).is_err());
    }

    #[test]
    fn every_table_is_on_a_page_and_every_marker_has_a_table() {
        let mut found = Vec::new();
        for page in all() {
            let text = fs::read_to_string(page).unwrap();
            rewritten(&text, &results(&[])).unwrap();
            found.extend(TABLES.iter().filter(|table| text.contains(&format!("{}{}{}", BEGIN.0, table.name, BEGIN.1))));
        }
        for table in TABLES {
            assert!(found.iter().any(|found| found.name == table.name), "{} is on no page", table.name);
        }
    }

    #[test]
    fn every_cell_is_one_that_a_run_measures() {
        let scenarios = scenario::all(&[]);
        for table in TABLES {
            for (row, column) in table.rows.iter().flat_map(|row| table.columns.iter().map(move |column| (row, column)))
            {
                let name = row.scenario.or(column.scenario).unwrap();
                let scenario = scenarios.iter().find(|scenario| scenario.name == name);
                let scenario = scenario.unwrap_or_else(|| panic!("{}: no scenario {name}", table.name));
                let label = row.label.or(column.label).unwrap();
                assert!(
                    scenario.cases.iter().any(|case| case.label() == label),
                    "{}: {name} has no {label}",
                    table.name
                );
                assert!(metric::find(row.metric.or(column.metric).unwrap()).is_some(), "{}", table.name);
            }
        }
    }
}
