//! The results of a run: every number of every turn, and their summaries.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    bar::Verdict,
    machine::Machine,
    metric::{self, Metrics},
};

/// A run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// When it began.
    pub(crate) date: String,
    /// The command that started it.
    pub(crate) command: String,
    /// The commit of the workspace.
    pub(crate) commit: String,
    /// The machine.
    pub(crate) machine: Machine,
    /// Rounds, and seconds of a measurement.
    pub(crate) rounds: u16,
    /// Seconds of one measurement.
    pub(crate) seconds: f64,
    /// The kind of endpoints.
    pub(crate) endpoints: String,
    /// The version of every subject.
    pub(crate) versions: BTreeMap<String, String>,
    /// The scenarios.
    pub(crate) scenarios: Vec<ScenarioResult>,
}

/// A scenario of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ScenarioResult {
    /// Its name.
    pub(crate) name: String,
    /// Its description.
    pub(crate) about: String,
    /// The placement of subject, endpoints and load.
    pub(crate) cores: String,
    /// The metrics of its table.
    pub(crate) columns: Vec<String>,
    /// The metric that the chart shows as a ratio to the bare loop; none if it is not in the chart.
    pub(crate) chart: Option<String>,
    /// The bare loop first, then the others.
    pub(crate) cases: Vec<CaseResult>,
    /// The verdicts on its bars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) bars: Vec<Verdict>,
}

/// One row of a scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CaseResult {
    /// The subject, and its variant.
    pub(crate) label: String,
    /// Why it did not take part.
    pub(crate) missing: Option<String>,
    /// Notes about its numbers.
    pub(crate) notes: Vec<String>,
    /// The row that it is compared with besides the bare loop.
    pub(crate) against: Option<String>,
    /// Its numbers by round; `None` where the turn failed.
    pub(crate) rounds: Vec<Option<Metrics>>,
    /// Their summaries.
    pub(crate) summary: BTreeMap<String, Summary>,
}

/// The summary of one number over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The number itself.
    pub(crate) value: Spread,
    /// As a ratio to that of the bare loop in the same round.
    pub(crate) ratio: Option<Spread>,
    /// As a ratio to that of the row it is compared with, in the same round.
    pub(crate) against: Option<Spread>,
}

/// The median and the extremes; in files a list of these three.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 3]", into = "[f64; 3]")]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The minimum.
    pub(crate) min: f64,
    /// The maximum.
    pub(crate) max: f64,
}

impl From<[f64; 3]> for Spread {
    fn from([median, min, max]: [f64; 3]) -> Self {
        Self { median, min, max }
    }
}

impl From<Spread> for [f64; 3] {
    fn from(spread: Spread) -> Self {
        // Rounded to the precision of a measurement.
        [spread.median, spread.min, spread.max].map(metric::rounded)
    }
}

impl Results {
    /// Reads a file of results.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no file of results", path.display()))
    }
}

impl ScenarioResult {
    /// Computes the summaries of all rows.
    pub(crate) fn summarise(&mut self) {
        let rounds: Vec<(String, Vec<Option<Metrics>>)> =
            self.cases.iter().map(|case| (case.label.clone(), case.rounds.clone())).collect();
        let of = |label: &str| rounds.iter().find(|(l, _)| l == label).map(|(_, rounds)| rounds.as_slice());
        let bare = rounds.first().map(|(_, rounds)| rounds.as_slice()).unwrap_or_default();
        for case in &mut self.cases {
            let against = case.against.as_deref().and_then(of);
            case.summary = summary(&case.rounds, bare, against);
        }
    }
}

impl Spread {
    /// The spread of these values; `None` where there are none.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, min, max })
    }
}

fn summary(
    rounds: &[Option<Metrics>],
    bare: &[Option<Metrics>],
    against: Option<&[Option<Metrics>]>,
) -> BTreeMap<String, Summary> {
    let mut keys: Vec<&String> = rounds.iter().flatten().flat_map(BTreeMap::keys).collect();
    keys.sort_unstable();
    keys.dedup();
    let summarised = keys.into_iter().filter_map(|key| {
        let get = |round: &Option<Metrics>| round.as_ref().and_then(|metrics| metrics.get(key)).copied();
        let ratio = |other: &[Option<Metrics>]| {
            let pairs = rounds.iter().zip(other).filter_map(|(own, other)| Some((get(own)?, get(other)?)));
            Spread::of(pairs.filter(|(_, other)| *other > 0.0).map(|(own, other)| own / other))
        };
        let value = Spread::of(rounds.iter().filter_map(get))?;
        Some((key.clone(), Summary { value, ratio: ratio(bare), against: against.and_then(ratio) }))
    });
    summarised.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(label: &str, against: Option<&str>, values: &[Option<f64>]) -> CaseResult {
        let metrics = |value: f64| Metrics::from([("cpu_us_per_request".to_owned(), value)]);
        CaseResult {
            label: label.to_owned(),
            against: against.map(str::to_owned),
            rounds: values.iter().map(|value| value.map(metrics)).collect(),
            ..CaseResult::default()
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut scenario = ScenarioResult {
            cases: vec![
                case("bare loop", None, &[Some(10.0), Some(20.0), Some(10.0), None]),
                case("a", None, &[Some(20.0), Some(40.0), None, Some(7.0)]),
                case("b", Some("a"), &[Some(10.0), Some(60.0), Some(5.0), Some(7.0)]),
                case("c", None, &[None, None, None, None]),
            ],
            ..ScenarioResult::default()
        };
        scenario.summarise();
        let of = |index: usize| scenario.cases[index].summary.get("cpu_us_per_request").copied();
        let spread = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(of(0).unwrap().ratio, spread(1.0, 1.0, 1.0));
        assert_eq!(of(1).unwrap().ratio, spread(2.0, 2.0, 2.0), "though the machine was half as fast in the second");
        assert_eq!(of(1).unwrap().value, Spread { median: 20.0, min: 7.0, max: 40.0 });
        assert_eq!(of(2).unwrap().ratio, spread(1.0, 0.5, 3.0));
        assert_eq!(of(2).unwrap().against, spread(1.0, 0.5, 1.5));
        assert_eq!(of(3), None);
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, f64::NAN, 2.0, 9.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { median: 3.0, min: 1.0, max: 9.0 });
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
