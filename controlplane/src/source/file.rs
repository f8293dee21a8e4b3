//! Endpoints from a file in the format of Prometheus' file_sd, read again whenever it changes; a broken edit keeps the last good list.
//!
//! ```yaml
//! - targets: ["192.0.2.1:80", "[2001:db8::1]:80", "cache-3.example:80"]
//!   labels: {zone: west, node: node-1, pod: cache-0, namespace: shop}
//! ```
//!
//! JSON (a file named `*.json`) or YAML. `zone`, `node`, `pod` and `namespace`, also between double underscores (`__zone__`), describe the
//! endpoints; other labels are accepted and not used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime::file_watch::{self, FileEvent, FileWatch};
use runtime::readiness::Gate;
use serde::Deserialize;
use serde_yaml::Value;
use snapshot::{ClusterName, PodRef, Publisher};

use super::dns::{self, Resolver};
use super::list::{Entry, List};

/// Counter `{cluster, result}`: readings of endpoint files; result is `ok`, `invalid` or `unreadable`. The last two keep the last good list.
pub const FILE_READS: &str = "fanfare_endpoint_file_reads_total";

/// The source: one file feeds one cluster.
#[derive(Debug)]
pub struct FileSource {
    /// The cluster it owns.
    pub cluster: ClusterName,
    /// The file. It need not exist yet.
    pub path: PathBuf,
    /// How often it is looked at.
    pub interval: Duration,
    /// Who is asked for host names.
    pub resolver: Resolver,
    /// Where the endpoints go.
    pub publisher: Publisher,
    /// Opens with the first good list and stays open.
    pub gate: Gate,
}

/// Why a file's content is no list of endpoints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Nothing in it: more likely a write cut short than a wish.
    #[error("it is empty; write [] for no endpoints")]
    Empty,
    /// Not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// Not JSON or YAML, or of another shape.
    #[error("{0}")]
    Shape(String),
    /// A group that says nothing of its targets: more likely an edit half done than a wish.
    #[error("group {0} has no targets; write targets: [] for none")]
    NoTargets(usize),
    /// A target that is not `host:port`.
    #[error("group {group}, target {target}")]
    Target {
        /// The group, counted from 0.
        group: usize,
        /// The target and what is wrong with it.
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

/// A label's value: text, or what YAML takes for a number or boolean.
#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Text(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
}

// === impl FileSource ===

impl FileSource {
    /// A source that looks every [`file_watch::DEFAULT_INTERVAL`].
    #[must_use]
    pub fn new(cluster: ClusterName, path: PathBuf, resolver: Resolver, publisher: Publisher, gate: Gate) -> Self {
        Self { cluster, path, interval: file_watch::DEFAULT_INTERVAL, resolver, publisher, gate }
    }

    /// Keeps the cluster current for ever. It first appears when the file is good; a list takes effect when each of its names has been looked up
    /// once. When the future is dropped the cluster stays as it is, and whoever drops it decides whether to remove it.
    pub async fn run(self) {
        metrics::describe_counter!(
            FILE_READS,
            "Readings of endpoint files by cluster and result (ok, invalid, unreadable)."
        );
        let Self { cluster, path, interval, resolver, publisher, gate } = self;
        let results = ["ok", "invalid", "unreadable"];
        runtime::metrics::from_zero(FILE_READS, &[("cluster", &[cluster.as_str()]), ("result", &results)]);
        let mut watch = FileWatch::with_interval(&path, interval);
        let mut list = List::new(cluster.clone(), publisher, gate, resolver);
        loop {
            tokio::select! {
                event = watch.next() => match read(&cluster, &path, event) {
                    Ok(entries) => list.set(entries, format!("{} lists none", path.display())),
                    Err(why) => list.fail(why),
                },
                () = list.refresh() => {}
            }
        }
    }
}

fn read(cluster: &ClusterName, path: &Path, event: FileEvent) -> Result<Vec<Entry>, String> {
    let (result, read) = match event {
        FileEvent::Unreadable(why) => ("unreadable", Err(why)),
        FileEvent::Changed(content) => match parse(path, &content) {
            Ok(entries) => ("ok", Ok(entries)),
            Err(error) => ("invalid", Err(format!("{}: {error}", path.display()))),
        },
    };
    metrics::counter!(FILE_READS, "cluster" => cluster.to_string(), "result" => result).increment(1);
    match &read {
        Ok(entries) => {
            tracing::info!(%cluster, file = %path.display(), targets = entries.len(), "endpoint file read");
        }
        Err(why) => tracing::warn!(%cluster, %why, "endpoint file not usable, keeping the last good list"),
    }
    read
}

fn parse(path: &Path, content: &[u8]) -> Result<Vec<Entry>, FileError> {
    let text = std::str::from_utf8(content).map_err(|_| FileError::NotText)?;
    if text.trim().is_empty() {
        return Err(FileError::Empty);
    }
    let groups: Vec<Group> = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(text).map_err(|error| FileError::Shape(error.to_string()))?
    } else {
        yaml(text)?
    };
    let mut entries = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        let (zone, node, pod) = (group.label("zone"), group.label("node"), group.pod());
        let Some(targets) = &group.targets else { return Err(FileError::NoTargets(number)) };
        for target in targets {
            let target = target.parse().map_err(|target| FileError::Target { group: number, target })?;
            entries.push(Entry { target, zone: zone.clone(), node: node.clone(), pod: pod.clone() });
        }
    }
    Ok(entries)
}

/// The groups, read by the same rules as a configuration.
fn yaml(text: &str) -> Result<Vec<Group>, FileError> {
    let shape = |place: &str, why: &dyn std::fmt::Display| match place {
        "" => FileError::Shape(why.to_string()),
        place => FileError::Shape(format!("{place}: {why}")),
    };
    match runtime::config::parse(text).map_err(|problem| shape(&problem.path, &problem.message))? {
        Value::Null => Err(FileError::Empty),
        Value::Sequence(groups) => {
            let group = |(number, value)| {
                serde_yaml::from_value(value).map_err(|error| shape(&format!("group {number}"), &error))
            };
            groups.into_iter().enumerate().map(group).collect()
        }
        _ => Err(FileError::Shape("a list of groups is expected, each with its targets".to_owned())),
    }
}

// === impl Group ===

impl Group {
    fn label(&self, name: &str) -> Option<Arc<str>> {
        let labels = self.labels.as_ref()?;
        // One that says nothing is not there.
        let given = |name: &str| labels.get(name).and_then(Option::as_ref);
        let value = given(&format!("__{name}__")).or_else(|| given(name))?;
        let value = match value {
            Label::Text(text) => text.clone(),
            Label::Bool(value) => value.to_string(),
            Label::Integer(value) => value.to_string(),
            Label::Float(value) => value.to_string(),
        };
        // An empty label is no label, as Prometheus has it.
        (!value.is_empty()).then(|| value.into())
    }

    fn pod(&self) -> Option<PodRef> {
        let name = self.label("pod")?;
        Some(PodRef { namespace: self.label("namespace").unwrap_or_default(), name, uid: Arc::default() })
    }
}

#[cfg(test)]
mod tests;
