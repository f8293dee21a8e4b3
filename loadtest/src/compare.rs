//! Compares two runs: numbers, and their ratios to the bare loop, which are more reliable.

use std::path::Path;

use crate::{
    metric::{self, Metric, digits},
    results::{CaseResult, Results, Spread, Summary},
    table,
};

/// Prints a table for each scenario that both runs have.
pub(crate) fn compare(before: &Path, after: &Path) -> anyhow::Result<()> {
    let (before, after) = (Results::read(before)?, Results::read(after)?);
    for (name, run) in [("before", &before), ("after", &after)] {
        println!("{name}: {}, commit {}, {}, {} cores", run.date, run.commit, run.machine.cpu, run.machine.cores);
    }
    if (&before.machine.cpu, before.machine.cores) != (&after.machine.cpu, after.machine.cores) {
        println!("different machines: only the ratios can be compared");
    }
    print!("{}", tables(&before, &after));
    Ok(())
}

fn tables(before: &Results, after: &Results) -> String {
    let mut out = String::new();
    for new in &after.scenarios {
        let Some(old) = before.scenarios.iter().find(|old| old.name == new.name) else {
            out.push_str(&format!("\n## {}: only after\n", new.name));
            continue;
        };
        let header = ["subject", "number", "before", "after", "change", "x before", "x after", "change of x"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for case in &new.cases {
            let earlier = old.cases.iter().find(|earlier| earlier.label == case.label);
            let Some(earlier) = earlier else { continue };
            for metric in new.columns.iter().filter_map(|key| metric::find(key)) {
                rows.extend(row(metric, earlier, case));
            }
        }
        out.push_str(&format!("\n## {}\n\n{}", new.name, table::aligned(&rows)));
    }
    for old in &before.scenarios {
        if !after.scenarios.iter().any(|new| new.name == old.name) {
            out.push_str(&format!("\n## {}: only before\n", old.name));
        }
    }
    out
}

fn row(metric: &Metric, before: &CaseResult, after: &CaseResult) -> Option<Vec<String>> {
    let (old, new): (&Summary, &Summary) = (before.summary.get(metric.key)?, after.summary.get(metric.key)?);
    let (x_old, x_new) = (old.ratio, new.ratio);
    let x = |ratio: Option<Spread>| ratio.map_or_else(|| "-".to_owned(), |ratio| digits(ratio.median));
    let of_x = match (x_old, x_new) {
        (Some(old), Some(new)) => change(metric, old, new),
        _ => "-".to_owned(),
    };
    Some(vec![
        after.label.clone(),
        metric.title.to_owned(),
        metric.format(old.value.median),
        metric.format(new.value.median),
        change(metric, old.value, new.value),
        x(x_old),
        x(x_new),
        of_x,
    ])
}

/// The change in percent, marked as better or worse if the spreads do not overlap.
fn change(metric: &Metric, before: Spread, after: Spread) -> String {
    if before.median == 0.0 {
        return if after.median == 0.0 { "=".to_owned() } else { "new".to_owned() };
    }
    let percent = (after.median / before.median - 1.0) * 100.0;
    let apart = after.min > before.max || after.max < before.min;
    let verdict = match metric.less_is_better {
        Some(less) if apart && before.median != after.median => {
            if (percent < 0.0) == less {
                " better"
            } else {
                " worse"
            }
        }
        _ => "",
    };
    format!("{percent:+.1} %{verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metric::Metrics, results::ScenarioResult};

    fn run(values: &[f64]) -> Results {
        let case = |label: &str, values: Vec<f64>| CaseResult {
            label: label.into(),
            rounds: values
                .into_iter()
                .map(|value| Some(Metrics::from([("cpu_us_per_request".to_owned(), value)])))
                .collect(),
            ..CaseResult::default()
        };
        let mut scenario = ScenarioResult {
            name: "tiny-n1".into(),
            columns: vec!["cpu_us_per_request".into()],
            cases: vec![case("bare loop", vec![10.0; values.len()]), case("fanfare", values.to_vec())],
            ..ScenarioResult::default()
        };
        scenario.summarise();
        Results { scenarios: vec![scenario], ..Results::default() }
    }

    #[test]
    fn a_change_within_the_spread_is_neither_better_nor_worse() {
        let fanfare = |before: &[f64], after: &[f64]| {
            let table = tables(&run(before), &run(after));
            table.lines().find(|line| line.contains("fanfare")).unwrap().to_owned()
        };
        let better = fanfare(&[20.0, 22.0, 24.0], &[10.0, 11.0, 12.0]);
        assert!(better.contains("-50.0 % better") && better.contains("| 2.20 "), "{better}");
        assert!(fanfare(&[10.0, 11.0], &[12.0, 13.0]).contains("% worse"));
        let same = fanfare(&[10.0, 14.0], &[12.0, 16.0]);
        assert!(!same.contains("worse") && same.contains("+16.7 %"), "{same}");
    }
}
