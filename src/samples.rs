//! Metrics in the Prometheus text format: samples by name, combined by their labels.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// One value.
#[derive(Debug)]
struct Sample {
    name: String,
    /// Names and values, as they stand in the line.
    labels: Vec<(String, String)>,
    value: f64,
}

/// The metrics of a process.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

// === impl Samples ===

impl Samples {
    /// Parses the text. Unreadable lines are ignored.
    pub(crate) fn read(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// The value of a metric with a single sample.
    pub(crate) fn first(&self, name: &'static str) -> Option<f64> {
        self.of(name).next().map(|sample| sample.value)
    }

    /// A row for each set of labels, with its labels and a column for each metric.
    pub(crate) fn rows(&self, metrics: &[(&str, &str)]) -> Vec<Value> {
        let mut rows: BTreeMap<BTreeMap<&str, &str>, Map<String, Value>> = BTreeMap::new();
        for (name, column) in metrics {
            for Sample { labels, value, .. } in self.of(name) {
                let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let row = rows.entry(labels).or_default();
                row.insert((*column).to_owned(), number(*value));
            }
        }
        let with_labels = |(labels, values): (BTreeMap<&str, &str>, Map<String, Value>)| {
            let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
            Value::Object(labels.chain(values).collect())
        };
        rows.into_iter().map(with_labels).collect()
    }

    /// The elections of this process, and whether it leads, which means that one of its terms has not ended.
    pub(crate) fn elections(&self) -> Vec<Value> {
        let mut terms: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for sample in &self.0 {
            let Some(name) = value_of(sample, "name") else { continue };
            match sample.name.as_str() {
                "fanfare_election_terms_total" => terms.entry(name).or_default().0 += sample.value,
                "fanfare_election_terms_ended_total" => terms.entry(name).or_default().1 += sample.value,
                _ => {}
            }
        }
        let row = |(name, (begun, ended)): (&str, (f64, f64))| {
            let mut row = json!({"name": name, "leads": begun > ended, "terms": number(begun)});
            let mut runs = self.of("fanfare_election_start_command_running");
            if let Some(sample) = runs.find(|sample| value_of(sample, "name") == Some(name)) {
                row["start_command_runs"] = (sample.value > 0.0).into();
            }
            row
        };
        terms.into_iter().map(row).collect()
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

/// The name that a line begins with.
fn name(line: &str) -> &str {
    line.split(['{', ' ']).next().unwrap_or_default()
}

/// Parses `name{label="value"} 1`; `None` for a comment or an invalid line.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let name = name(line);
    let rest = line.get(name.len()..).filter(|rest| !rest.is_empty())?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels up to `}`, and the rest.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in behind.char_indices() {
            match (escaped, c) {
                (true, 'n') => value.push('\n'),
                (true, c) => value.push(c),
                (false, '\\') => {}
                (false, '"') => {
                    end = Some(at + 1);
                    break;
                }
                (false, c) => value.push(c),
            }
            escaped = !escaped && c == '\\';
        }
        labels.push((name.trim().to_owned(), value));
        rest = behind[end?..].trim_start_matches([',', ' ']);
    }
}

/// The value of a label.
fn value_of<'a>(sample: &'a Sample, label: &str) -> Option<&'a str> {
    sample.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_str())
}

/// Prints whole numbers without a fraction.
fn number(value: f64) -> Value {
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    if whole { (value as i64).into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a b
# TYPE fanfare_build_info gauge
fanfare_build_info{version=\"0.1.0\",commit=\"x\"} 1
fanfare_export_in_sync{export=\"a\\\"b,}\\\\\",sink=\"s\"} 0
age{kind=\"services\"} 1.5
more{kind=\"services\"} 3
fanfare_election_terms_total{name=\"one\"} 2
fanfare_election_terms_ended_total{name=\"one\",cause=\"expired\"} 1
fanfare_election_terms_total{name=\"two\"} 1
fanfare_election_start_command_running{name=\"two\"} 0
fanfare_election_terms_ended_total{name=\"two\",cause=\"expired\"} 1
plain 7
broken{x=\"
broken{x
broken
";

    #[test]
    fn samples_are_put_together_by_their_labels() {
        let samples = Samples::read(TEXT);
        assert_eq!((samples.first("plain"), samples.first("broken")), (Some(7.0), None));
        let rows = samples.rows(&[("age", "age_seconds"), ("more", "more")]);
        assert_eq!(rows, [json!({"kind": "services", "age_seconds": 1.5, "more": 3})]);
        let exports = samples.rows(&[("fanfare_export_in_sync", "in_sync")]);
        assert_eq!(exports, [json!({"export": "a\"b,}\\", "sink": "s", "in_sync": 0})]);
    }

    #[test]
    fn who_has_a_term_that_has_not_ended_leads() {
        let elections = Samples::read(TEXT).elections();
        let expected = [
            json!({"name": "one", "leads": true, "terms": 2}),
            json!({"name": "two", "leads": false, "terms": 1, "start_command_runs": false}),
        ];
        assert_eq!(elections, expected);
    }
}
