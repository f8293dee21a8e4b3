//! The quick run for CI: a few scenarios, whose ratios to the bare loop are held against those that are kept in the repository.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    cli, machine,
    metric::{self, digits},
    results::{Results, Spread},
};

/// What a quick run measures.
pub(crate) const SCENARIOS: [&str; 6] = ["tiny-n1", "tiny-n3", "tiny-n10", "log-n3", "chunks-byte", "h2-n10-s32"];
/// Whom it measures besides the bare loop.
pub(crate) const SUBJECTS: [&str; 1] = ["fanfare"];

/// Rounds, seconds of a measurement, and seconds of warm-up.
const ROUNDS: u16 = 5;
const SECONDS: f64 = 1.0;
const WARMUP: f64 = 0.5;

/// The metric that is kept.
const METRIC: &str = "cpu_us_per_request";
/// The least noise, as a share of the ratio: what the same binary differs by from run to run.
const LEAST_NOISE: f64 = 0.1;

/// The ratios in the repository.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratios {
    /// When they were measured.
    date: String,
    /// The commit that they are of.
    commit: String,
    /// On which processor.
    cpu: String,
    /// By scenario and row.
    ratios: BTreeMap<String, BTreeMap<String, Ratio>>,
}

/// CPU per request as a ratio to the bare loop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Ratio {
    /// The median.
    ratio: f64,
    /// How much a median differs from run to run.
    noise: f64,
}

/// A ratio that is worse than the kept one by more than its noise.
#[derive(Debug, PartialEq)]
pub(crate) struct Worse {
    pub(crate) scenario: String,
    row: String,
    kept: f64,
    noise: f64,
    measured: Spread,
}

/// The options of a quick run.
pub(crate) fn options(options: &cli::Run) -> cli::Run {
    let given = |chosen: &[String], default: &[&str]| match chosen {
        [] => default.iter().map(|name| (*name).to_owned()).collect(),
        chosen => chosen.to_vec(),
    };
    let names = [options.scenarios.as_slice(), &options.more_scenarios].concat();
    cli::Run {
        scenarios: given(&names, &SCENARIOS),
        more_scenarios: Vec::new(),
        subjects: given(&options.subjects, &SUBJECTS),
        rounds: options.rounds.or(Some(ROUNDS)),
        seconds: options.seconds.or(Some(SECONDS)),
        warmup: options.warmup.or(Some(WARMUP)),
        ..options.clone()
    }
}

/// The file of ratios.
pub(crate) fn file(options: &cli::Run) -> PathBuf {
    options.ratios.clone().unwrap_or_else(|| machine::workspace().join("loadtest/ratios.json"))
}

impl Ratios {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}: write it with --keep", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no file of ratios", path.display()))
    }

    /// Those of a run.
    pub(crate) fn of(results: &Results) -> Self {
        let rows = |scenario: &crate::results::ScenarioResult| {
            let rows = scenario.cases.iter().skip(1).filter_map(|case| {
                let ratio = case.summary.get(METRIC)?.ratio?;
                let noise = ((ratio.max - ratio.min) / 2.0).max(LEAST_NOISE * ratio.median);
                let ratio = Ratio { ratio: metric::rounded(ratio.median), noise: metric::rounded(noise) };
                Some((case.label.clone(), ratio))
            });
            (scenario.name.clone(), rows.collect())
        };
        Self {
            date: results.date.clone(),
            commit: results.commit.clone(),
            cpu: results.machine.cpu.clone(),
            ratios: results.scenarios.iter().map(rows).collect(),
        }
    }

    /// Writes the file; ratios of scenarios that were not measured stay.
    pub(crate) fn keep(mut self, path: &Path) -> anyhow::Result<()> {
        if let Ok(before) = Self::read(path) {
            for (scenario, rows) in before.ratios {
                self.ratios.entry(scenario).or_insert(rows);
            }
        }
        let text = serde_json::to_string_pretty(&self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Says so if they are of another processor, on which ratios may differ.
    pub(crate) fn compare_machine(&self, machine: &machine::Machine) {
        if self.cpu != machine.cpu {
            eprintln!(
                "the kept ratios were measured on {}, and this is {}: keep those of the former version here first (--keep)",
                self.cpu, machine.cpu
            );
        }
    }

    /// What is worse in a run. A row that is kept and was not measured is an error, since nobody would notice it otherwise.
    pub(crate) fn worse(&self, results: &Results) -> anyhow::Result<Vec<Worse>> {
        let mut worse = Vec::new();
        for scenario in &results.scenarios {
            let Some(rows) = self.ratios.get(&scenario.name) else {
                eprintln!("{}: no ratios are kept of it", scenario.name);
                continue;
            };
            for (row, kept) in rows {
                let case = scenario.cases.iter().find(|case| case.label == *row);
                let measured = case.and_then(|case| case.summary.get(METRIC)?.ratio);
                let measured = measured.with_context(|| {
                    let why = case.and_then(|case| case.missing.clone()).unwrap_or_else(|| "no turn succeeded".into());
                    format!("{}: {row} was not measured: {why}", scenario.name)
                })?;
                let is_worse = measured.median > kept.ratio + kept.noise;
                println!(
                    "{} {}, {row}: {} ({} to {}), kept: {} and {} of noise",
                    if is_worse { "WORSE" } else { "ok   " },
                    scenario.name,
                    digits(measured.median),
                    digits(measured.min),
                    digits(measured.max),
                    digits(kept.ratio),
                    digits(kept.noise),
                );
                if is_worse {
                    let (scenario, row) = (scenario.name.clone(), row.clone());
                    worse.push(Worse { scenario, row, kept: kept.ratio, noise: kept.noise, measured });
                }
            }
        }
        Ok(worse)
    }
}

impl std::fmt::Display for Worse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scenario, row, kept, noise, measured } = self;
        let (measured, kept, noise) = (digits(measured.median), digits(*kept), digits(*noise));
        write!(
            f,
            "{scenario}, {row}: {measured} times the bare loop's CPU per request, kept is {kept} with {noise} of noise"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metric::Metrics,
        results::{CaseResult, ScenarioResult},
    };

    fn results(values: &[f64]) -> Results {
        let case = |label: &str, values: &[f64]| CaseResult {
            label: label.into(),
            rounds: values.iter().map(|value| Some(Metrics::from([(METRIC.to_owned(), *value)]))).collect(),
            ..CaseResult::default()
        };
        let cases = vec![case("bare loop", &vec![10.0; values.len()]), case("fanfare", values)];
        let mut scenario = ScenarioResult { name: "tiny-n1".into(), cases, ..ScenarioResult::default() };
        scenario.summarise();
        Results { scenarios: vec![scenario], ..Results::default() }
    }

    #[test]
    fn a_ratio_is_worse_if_it_exceeds_the_kept_one_by_more_than_its_noise() {
        let steady = Ratios::of(&results(&[13.0, 13.1, 12.9]));
        assert_eq!(steady.ratios["tiny-n1"]["fanfare"], Ratio { ratio: 1.3, noise: 0.13 });
        assert_eq!(steady.worse(&results(&[14.2, 14.2, 14.2])).unwrap(), []);
        let worse = steady.worse(&results(&[14.4, 14.4, 11.0])).unwrap();
        assert_eq!(worse.len(), 1);
        let text = "tiny-n1, fanfare: 1.44 times the bare loop's CPU per request, kept is 1.30 with 0.13 of noise";
        assert_eq!(worse[0].to_string(), text);
        let noisy = Ratios::of(&results(&[13.0, 15.0, 11.0]));
        assert_eq!(noisy.ratios["tiny-n1"]["fanfare"], Ratio { ratio: 1.3, noise: 0.2 });
        assert_eq!(noisy.worse(&results(&[14.4])).unwrap(), []);
    }

    #[test]
    fn a_kept_row_that_is_not_measured_is_an_error() {
        let mut run = results(&[13.0]);
        let kept = Ratios::of(&run);
        run.scenarios[0].cases.truncate(1);
        assert!(kept.worse(&run).unwrap_err().to_string().contains("tiny-n1: fanfare was not measured"));
    }

    #[test]
    fn kept_ratios_are_read_as_they_were_written_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ratios.json");
        assert!(Ratios::read(&path).unwrap_err().to_string().contains("--keep"));
        Ratios::of(&results(&[13.0])).keep(&path).unwrap();
        let mut other = results(&[20.0]);
        other.scenarios[0].name = "tiny-n3".into();
        Ratios::of(&other).keep(&path).unwrap();
        let read = Ratios::read(&path).unwrap();
        assert_eq!(read.ratios.keys().collect::<Vec<_>>(), ["tiny-n1", "tiny-n3"]);
        assert_eq!(read.ratios["tiny-n3"]["fanfare"].ratio, 2.0);
    }
}
