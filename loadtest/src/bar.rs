//! Bars: the results that Fanfare must reach in a scenario, and the verdicts.

use serde::{Deserialize, Serialize};

use crate::{
    metric::{self, digits},
    results::{ScenarioResult, Spread},
    scenario::Case,
};

/// A result that Fanfare must reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    /// The variant of Fanfare.
    pub(crate) variant: &'static str,
    /// The key of the metric.
    pub(crate) metric: &'static str,
    /// The bound.
    pub(crate) bound: Bound,
    /// The row to whose number in the same round the ratio is taken; none compares the number itself.
    pub(crate) of: Option<&'static str>,
    /// The variant of the same subject whose number is subtracted first, so that the bar is about what comes on top of it.
    pub(crate) above: Option<&'static str>,
}

/// A bound.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// Whether a bar was met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// The row.
    pub(crate) label: String,
    /// The requirement, in words.
    pub(crate) bar: String,
    /// The measured median, minimum and maximum; none if it could not be measured.
    pub(crate) measured: Option<Spread>,
    /// The metric, if it is a number instead of a ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metric: Option<String>,
    /// Whether the median meets the bar.
    pub(crate) met: Option<bool>,
}

impl Bar {
    /// The verdict on these results, for the row of this case.
    pub(crate) fn verdict(&self, case: &Case, result: &ScenarioResult) -> Verdict {
        let label = case.label();
        let rounds = |label: &str| {
            let case = result.cases.iter().find(|case| case.label == label);
            case.map(|case| case.rounds.as_slice()).unwrap_or_default()
        };
        let get =
            |round: &Option<metric::Metrics>| round.as_ref().and_then(|metrics| metrics.get(self.metric)).copied();
        let own: Vec<Option<f64>> = match self.above {
            None => rounds(&label).iter().map(get).collect(),
            Some(variant) => {
                let both = rounds(&label).iter().zip(rounds(&case.label_of(variant)));
                both.map(|(own, other)| Some(get(own)? - get(other)?)).collect()
            }
        };
        let measured = match self.of {
            None => Spread::of(own.iter().copied().flatten()),
            Some(other) => {
                let pairs = own.iter().zip(rounds(other)).filter_map(|(own, other)| Some(((*own)?, get(other)?)));
                Spread::of(pairs.filter(|(_, other)| *other > 0.0).map(|(own, other)| own / other))
            }
        };
        let met = measured.map(|measured| match self.bound {
            Bound::AtMost(most) => measured.median <= most,
            Bound::AtLeast(least) => measured.median >= least,
        });
        let metric = self.of.is_none().then(|| self.metric.to_owned());
        Verdict { label, bar: self.text(), measured, metric, met }
    }

    fn text(&self) -> String {
        let (word, bound) = match self.bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        let title = metric::find(self.metric).map_or(self.metric, |metric| metric.title);
        let title = self.above.map_or_else(|| title.to_owned(), |variant| format!("{title} above that with {variant}"));
        match (self.of, metric::find(self.metric)) {
            (Some(other), _) => format!("{title} {word} {} times that of {other}", digits(bound)),
            (None, Some(metric)) => format!("{title} {word} {}", metric.format(bound)),
            (None, None) => format!("{title} {word} {}", digits(bound)),
        }
    }
}

impl Verdict {
    /// The verdict as text.
    pub(crate) fn text(&self) -> String {
        let verdict = match self.met {
            Some(true) => "MET",
            Some(false) => "MISSED",
            None => "NOT MEASURED",
        };
        let metric = self.metric.as_deref().and_then(metric::find);
        let shown = |value| metric.map_or_else(|| digits(value), |metric| metric.format(value));
        let measured = self.measured.map_or_else(String::new, |measured| {
            format!(": {} ({} to {})", shown(measured.median), shown(measured.min), shown(measured.max))
        });
        format!("bar {verdict}: {}, {}{measured}", self.label, self.bar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metric::Metrics,
        results::CaseResult,
        subject::{Binary, Subject},
    };

    fn case(label: &str, values: &[Option<f64>]) -> CaseResult {
        let metrics = |value: f64| Metrics::from([("cpu_us_per_request".to_owned(), value)]);
        let rounds = values.iter().map(|value| value.map(metrics)).collect();
        CaseResult { label: label.to_owned(), rounds, ..CaseResult::default() }
    }

    #[test]
    fn a_bar_is_met_by_the_median_of_the_ratios_within_a_round() {
        let cases = vec![
            case("fanfare", &[Some(10.0), Some(30.0), None, Some(9.0)]),
            case("Envoy", &[Some(40.0), Some(60.0), Some(1.0), Some(30.0)]),
            case("nginx", &[]),
        ];
        let result = ScenarioResult { cases, ..ScenarioResult::default() };
        let fanfare = Case::new(Subject::Fanfare(Binary::workspace()));
        let bar = |bound, of| {
            let bar = Bar { variant: "", metric: "cpu_us_per_request", bound, of, above: None };
            bar.verdict(&fanfare, &result)
        };
        let met = bar(Bound::AtMost(0.3), Some("Envoy"));
        assert_eq!((met.met, met.measured.map(|m| m.median)), (Some(true), Some(0.3)));
        assert_eq!(
            met.text(),
            "bar MET: fanfare, CPU per request at most 0.30 times that of Envoy: 0.30 (0.25 to 0.50)"
        );
        assert_eq!(bar(Bound::AtLeast(0.31), Some("Envoy")).met, Some(false));
        assert_eq!(bar(Bound::AtMost(1.0), Some("nginx")).met, None, "who did not take part is no bar that was met");
        assert_eq!(bar(Bound::AtMost(10.0), None).met, Some(true));
        assert!(
            bar(Bound::AtMost(9.0), None).text().contains("MISSED: fanfare, CPU per request at most 9.00 µs: 10.0")
        );
    }

    #[test]
    fn a_bar_may_be_about_what_comes_on_top_of_another_variant() {
        let cases = vec![
            case("bare loop", &[Some(10.0), Some(20.0), Some(10.0)]),
            case("fanfare, no log", &[Some(12.0), Some(24.0), None]),
            case("fanfare, JSON", &[Some(14.0), Some(26.0), Some(99.0)]),
        ];
        let result = ScenarioResult { cases, ..ScenarioResult::default() };
        let json = Case { variant: "JSON", ..Case::new(Subject::Fanfare(Binary::workspace())) };
        let bound = Bound::AtMost(0.16);
        let above = Some("no log");
        let bar = Bar { variant: "JSON", metric: "cpu_us_per_request", bound, of: Some("bare loop"), above };
        let text = "bar MET: fanfare, JSON, CPU per request above that with no log at most 0.16 times that of bare loop: \
                    0.15 (0.10 to 0.20)";
        assert_eq!(bar.verdict(&json, &result).text(), text);
    }
}
