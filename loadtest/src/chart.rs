//! Results as a picture: grouped bars, each a ratio to the bare loop.

use std::fmt::Write as _;

use crate::{
    metric::{self, digits},
    results::{CaseResult, Results, ScenarioResult},
};

const BAR: f64 = 22.0;
const GAP: f64 = 36.0;
const HEIGHT: f64 = 260.0;
const TOP: f64 = 70.0;
const LEFT: f64 = 48.0;
const PALETTE: [&str; 8] = ["#6b7280", "#d9480f", "#2f9e44", "#9c36b5", "#1971c2", "#b8860b", "#0b7285", "#c2255c"];

/// The chart of all scenarios that have one; none if there is no such scenario.
pub(crate) fn svg(results: &Results) -> Option<String> {
    let groups: Vec<(&ScenarioResult, &str)> =
        results.scenarios.iter().filter_map(|scenario| Some((scenario, scenario.chart.as_deref()?))).collect();
    let mut labels: Vec<&str> = Vec::new();
    for case in groups.iter().flat_map(|(scenario, _)| &scenario.cases) {
        if !labels.contains(&case.label.as_str()) && case.missing.is_none() {
            labels.push(&case.label);
        }
    }
    let ratio =
        |case: &CaseResult, key: &str| case.summary.get(key).and_then(|summary| summary.ratio).map(|r| r.median);
    let ratios = groups.iter().flat_map(|(scenario, key)| scenario.cases.iter().filter_map(|case| ratio(case, key)));
    let top = ratios.fold(0.0, f64::max);
    if top <= 0.0 {
        return None;
    }
    let group = BAR * labels.len() as f64 + GAP;
    let width = (LEFT + group * groups.len() as f64).max(LEFT + 130.0 * labels.len() as f64);
    let y = |ratio: f64| TOP + HEIGHT * (1.0 - ratio / top);
    let mut body = String::new();
    for value in ticks(top) {
        let at = y(value);
        let text = digits(value);
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        // Writing to a string cannot fail; here and below.
        let _ = writeln!(body, "<line x1='{LEFT}' x2='{width}' y1='{at:.1}' y2='{at:.1}' class='g'/>");
        let _ = writeln!(body, "<text x='{:.1}' y='{:.1}' text-anchor='end'>{text}</text>", LEFT - 6.0, at + 4.0);
    }
    for (position, label) in labels.iter().enumerate() {
        let x = LEFT + 130.0 * position as f64;
        let colour = PALETTE[position % PALETTE.len()];
        let _ = writeln!(body, "<rect x='{x:.1}' y='38' width='12' height='12' fill='{colour}'/>");
        let _ = writeln!(body, "<text x='{:.1}' y='48'>{}</text>", x + 17.0, escape(label));
    }
    for (number, (scenario, key)) in groups.iter().enumerate() {
        let start = LEFT + group * number as f64 + GAP / 2.0;
        for case in &scenario.cases {
            let Some(position) = labels.iter().position(|label| *label == case.label) else { continue };
            let x = start + BAR * position as f64;
            let Some(ratio) = ratio(case, key) else { continue };
            let (at, colour) = (y(ratio), PALETTE[position % PALETTE.len()]);
            let height = TOP + HEIGHT - at;
            let title = format!("{}, {}: {}", scenario.name, case.label, describe(case, key));
            let _ = writeln!(
                body,
                "<rect x='{x:.1}' y='{at:.1}' width='{:.1}' height='{height:.1}' fill='{colour}'><title>{}</title></rect>",
                BAR - 3.0,
                escape(&title),
            );
            let middle = x + (BAR - 3.0) / 2.0;
            let _ = writeln!(body, "<text x='{middle:.1}' y='{:.1}' class='v'>{}</text>", at - 3.0, digits(ratio));
        }
        let middle = start + (group - GAP) / 2.0;
        let below = TOP + HEIGHT + 16.0;
        let _ = writeln!(
            body,
            "<text x='{middle:.1}' y='{below:.1}' text-anchor='middle'>{}</text>",
            escape(&scenario.name)
        );
    }
    let height = TOP + HEIGHT + 30.0;
    Some(format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0} {height:.0}' width='{width:.0}' height='{height:.0}'>\n\
         <style>text{{font:12px sans-serif;fill:#333}}.v{{font-size:9px;text-anchor:middle}}.g{{stroke:#ddd}}</style>\n\
         <rect width='100%' height='100%' fill='#fff'/>\n\
         <text x='{LEFT}' y='22' style='font-size:15px'>CPU per request (per MiB for bodies) as a ratio to the bare loop; less is better</text>\n\
         {body}</svg>\n"
    ))
}

/// From 0 up to `top`, in steps of 1, 2 or 5 times a power of ten, of which there are at most four.
fn ticks(top: f64) -> impl Iterator<Item = f64> {
    let power = 10_f64.powf((top / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0].map(|n| n * power).into_iter().find(|step| step * 4.0 >= top).unwrap_or(10.0 * power);
    (0..=4).map(move |n| f64::from(n) * step).take_while(move |value| *value <= top)
}

fn describe(case: &CaseResult, key: &str) -> String {
    match (metric::find(key), case.summary.get(key)) {
        (Some(metric), Some(summary)) => metric.format(summary.value.median),
        _ => "-".to_owned(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metrics;

    #[test]
    fn ticks_are_round_and_few() {
        let ticks = |top| ticks(top).collect::<Vec<_>>();
        assert_eq!(ticks(13.0), [0.0, 5.0, 10.0]);
        assert_eq!(ticks(8.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(3.9), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(39.0), [0.0, 10.0, 20.0, 30.0]);
    }

    #[test]
    fn every_number_has_its_bar_and_the_longest_fills_the_height() {
        let key = "cpu_us_per_request";
        let case = |label: &str, value: f64| CaseResult {
            label: label.into(),
            rounds: vec![Some(Metrics::from([(key.to_owned(), value)]))],
            ..CaseResult::default()
        };
        let mut scenario = ScenarioResult {
            name: "tiny<1".into(),
            chart: Some(key.into()),
            cases: vec![case("bare loop", 10.0), case("a & b", 25.0)],
            ..ScenarioResult::default()
        };
        scenario.summarise();
        let chart = svg(&Results { scenarios: vec![scenario], ..Results::default() }).unwrap();
        assert_eq!(chart.matches("<title>").count(), 2);
        assert!(chart.contains(&format!("height='{HEIGHT:.1}'")) && chart.contains(">2.50</text>"), "{chart}");
        assert!(chart.contains("tiny&lt;1") && chart.contains("a &amp; b") && !chart.contains("tiny<1"));
        assert_eq!(svg(&Results::default()), None);
    }
}
