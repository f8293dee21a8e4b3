//! Metrics in the Prometheus text format, as far as they are shown: samples by name, put together by their labels.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What a process measures.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

/// One value.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

// === impl Samples ===

impl Samples {
    /// Reads the text. What cannot be read is left out.
    pub(super) fn read(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The value of a metric that has one.
    pub(super) fn first(&self, name: &'static str) -> Option<f64> {
        self.of(name).next().map(|sample| sample.value)
    }

    /// A label of a metric that has one sample.
    pub(super) fn label(&self, name: &'static str, label: &str) -> Option<&str> {
        self.of(name).find_map(|sample| sample.labels.get(label)).map(String::as_str)
    }

    /// A row for each set of labels, with its labels and a column for each metric.
    pub(super) fn rows(&self, metrics: &[(&str, &str)]) -> Vec<Value> {
        let mut rows: BTreeMap<&BTreeMap<String, String>, Map<String, Value>> = BTreeMap::new();
        for (name, column) in metrics {
            for Sample { labels, value, .. } in self.of(name) {
                let row = rows.entry(labels).or_default();
                row.insert((*column).to_owned(), number(*value));
            }
        }
        let with_labels = |(labels, values): (&BTreeMap<String, String>, Map<String, Value>)| {
            let labels = labels.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
            Value::Object(labels.chain(values).collect())
        };
        rows.into_iter().map(with_labels).collect()
    }

    /// The elections that this process takes part in, and whether it leads: of its terms one has not ended.
    pub(super) fn elections(&self) -> Vec<Value> {
        let mut terms: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for sample in &self.0 {
            let Some(name) = sample.labels.get("name") else { continue };
            match sample.name.as_str() {
                "fanfare_election_terms_total" => terms.entry(name).or_default().0 += sample.value,
                "fanfare_election_terms_ended_total" => terms.entry(name).or_default().1 += sample.value,
                _ => {}
            }
        }
        let row = |(name, (begun, ended)): (&str, (f64, f64))| serde_json::json!({"name": name, "leads": begun > ended, "terms": number(begun)});
        terms.into_iter().map(row).collect()
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

/// A whole number where it is one.
fn number(value: f64) -> Value {
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    if whole { (value as i64).into() } else { value.into() }
}

/// `name{label="value"} 1`
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels up to `}`, and what stands behind it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
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
        labels.insert(name.trim().to_owned(), value);
        rest = behind[end?..].trim_start_matches([',', ' ']);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
fanfare_election_terms_ended_total{name=\"two\",cause=\"expired\"} 1
plain 7
broken{x=\"
broken{x
broken
";

    #[test]
    fn samples_are_put_together_by_their_labels() {
        let samples = Samples::read(TEXT);
        assert_eq!(samples.label("fanfare_build_info", "version"), Some("0.1.0"));
        assert_eq!((samples.first("plain"), samples.first("broken")), (Some(7.0), None));
        let rows = samples.rows(&[("age", "age_seconds"), ("more", "more")]);
        assert_eq!(rows, [json!({"kind": "services", "age_seconds": 1.5, "more": 3})]);
        let exports = samples.rows(&[("fanfare_export_in_sync", "in_sync")]);
        assert_eq!(exports, [json!({"export": "a\"b,}\\", "sink": "s", "in_sync": 0})]);
    }

    #[test]
    fn who_has_a_term_that_has_not_ended_leads() {
        let elections = Samples::read(TEXT).elections();
        let expected =
            [json!({"name": "one", "leads": true, "terms": 2}), json!({"name": "two", "leads": false, "terms": 1})];
        assert_eq!(elections, expected);
    }
}
