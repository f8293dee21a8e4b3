//! Lists of endpoints in the format of Prometheus, in files (file_sd) and over HTTP (http_sd): groups of targets with labels.
//!
//! ```yaml
//! - targets: ["192.0.2.1:80", "[2001:db8::1]:80", "cache-3.example:80"]
//!   labels: {zone: west, node: node-1, pod: cache-0, namespace: shop}
//! ```
//!
//! `zone`, `node`, `pod` and `namespace`, also between double underscores (`__zone__`), describe the endpoints; other labels
//! are accepted and not used.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_yaml::Value;
use snapshot::{PodRef, shared_text};

use super::dns;
use super::list::ListEntry;

/// The format of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
}

/// Why a text is not a list of endpoints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidList {
    /// It is empty, which is probably an incomplete write.
    #[error("it is empty; write [] for no endpoints")]
    Empty,
    /// Not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// Not JSON or YAML, or of another shape.
    #[error("{0}")]
    Shape(String),
    /// A group without targets, which is probably an incomplete edit.
    #[error("group {0} has no targets; write targets: [] for none")]
    NoTargets(usize),
    /// A target that is not `host:port`.
    #[error("group {group}, target {target}")]
    Target {
        /// The group, counted from 0.
        group: usize,
        /// The target and its fault.
        target: dns::InvalidQuery,
    },
}

/// A group as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    targets: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Option<Label>>>,
}

/// A label's value: text, or what YAML reads as a number or boolean.
#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Text(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
}

/// Reads a list.
///
/// # Errors
/// [`InvalidList`] for the first fault.
pub(super) fn parse(format: Format, content: &[u8]) -> Result<Vec<ListEntry>, InvalidList> {
    let text = std::str::from_utf8(content).map_err(|_| InvalidList::NotText)?;
    if text.trim().is_empty() {
        return Err(InvalidList::Empty);
    }
    let groups: Vec<Group> = match format {
        Format::Json => serde_json::from_str(text).map_err(|error| InvalidList::Shape(error.to_string()))?,
        Format::Yaml => yaml(text)?,
    };
    let mut entries = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        let shared = |label| group.label(label).map(|text| shared_text(&text));
        let (zone, node, pod) = (shared("zone"), shared("node"), group.pod());
        let Some(targets) = &group.targets else { return Err(InvalidList::NoTargets(number)) };
        for target in targets {
            let target = target.parse().map_err(|target| InvalidList::Target { group: number, target })?;
            entries.push(ListEntry { target, zone: zone.clone(), node: node.clone(), pod: pod.clone() });
        }
    }
    entries.shrink_to_fit();
    Ok(entries)
}

/// The groups, read by the same rules as a configuration.
fn yaml(text: &str) -> Result<Vec<Group>, InvalidList> {
    let shape = |place: &str, why: &dyn std::fmt::Display| match place {
        "" => InvalidList::Shape(why.to_string()),
        place => InvalidList::Shape(format!("{place}: {why}")),
    };
    match runtime::config::parse(text).map_err(|problem| shape(&problem.path, &problem.message))? {
        Value::Null => Err(InvalidList::Empty),
        Value::Sequence(groups) => {
            let group = |(number, value)| {
                serde_yaml::from_value(value).map_err(|error| shape(&format!("group {number}"), &error))
            };
            groups.into_iter().enumerate().map(group).collect()
        }
        _ => Err(InvalidList::Shape("a list of groups is expected, each with its targets".to_owned())),
    }
}

// === impl Group ===

impl Group {
    fn label(&self, name: &str) -> Option<String> {
        let labels = self.labels.as_ref()?;
        // A label without a value counts as absent.
        let given = |name: &str| labels.get(name).and_then(Option::as_ref);
        let value = given(&format!("__{name}__")).or_else(|| given(name))?;
        let value = match value {
            Label::Text(text) => text.clone(),
            Label::Bool(value) => value.to_string(),
            Label::Integer(value) => value.to_string(),
            Label::Float(value) => value.to_string(),
        };
        // An empty label counts as absent, as in Prometheus.
        (!value.is_empty()).then_some(value)
    }

    fn pod(&self) -> Option<PodRef> {
        let name = self.label("pod")?.into();
        let namespace = shared_text(&self.label("namespace").unwrap_or_default());
        Some(PodRef { namespace, name, uid: Arc::default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn faults_are_reported_with_their_place() {
        use Format::{Json, Yaml};
        let table = [
            (Json, "[{\"targets\": [\n1]}]", "line 2"),
            (Json, "{}", "invalid type: map"),
            (Json, "null", "invalid type: null"),
            (Yaml, "- targets: [a:1]\n  labels: [x]\n", "group 0: "),
            (Yaml, "- targets: [a:1\n", "line "),
            (Yaml, "a: b\n", "a list of groups"),
            (Json, "[{}]", "group 0 has no targets"),
            (Yaml, "- targets: [a:1]\n  label: {}\n", "unknown field `label`"),
            (Yaml, "- targets: []\n- targets: [a:1, b]\n", "group 1, target \"b\""),
        ];
        for (format, text, part) in table {
            let error = parse(format, text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert_eq!(parse(Yaml, b"\xff\xfe"), Err(InvalidList::NotText));
        assert_eq!(parse(Json, b" \n"), Err(InvalidList::Empty));
        assert_eq!(parse(Json, b"[]"), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_content_panics(bytes: Vec<u8>, text in "([\\[\\]{}:,\"' \n-]|targets|labels|a:1|192.0.2.1:80|zone){0,40}") {
            for format in [Format::Json, Format::Yaml] {
                let _ = parse(format, &bytes);
                let _ = parse(format, text.as_bytes());
            }
        }
    }
}
