//! The configuration of mirrors: plain values, checked as a whole.
//!
//! How a remote is reached (kubeconfig, token, CA) is no part of it, so that nothing in here is secret.

mod checks;
mod policy;

use std::{collections::BTreeMap, fmt, time::Duration};

pub use checks::{ConfigError, Invalid};
pub use policy::{ExternalNames, MaxDelete, PolicyError, Propagation, Stale, Zones};
use serde::{Serialize, Serializer};

use crate::names::Scheme;

/// What one process mirrors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// The remote clusters.
    pub remotes: Vec<Remote>,
    /// How Services of several remotes are merged; `None`: not at all.
    pub global: Option<Global>,
    /// The interval at which all mirrors are compared again, regardless of the watches. Zero: never.
    #[serde(serialize_with = "go_duration")]
    pub resync: Duration,
    /// How many mirrors are reconciled at the same time: 1 to 64.
    pub workers: usize,
}

/// One remote cluster, and how its Services are mirrored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remote {
    /// Its name in logs, metrics, annotations and a label's value. It is unique.
    pub name: String,
    /// The prefix of its mirrors' names, and the value of their label `mirror-svc-prefix-sync`. It is unique among the remotes with the
    /// same local namespace.
    pub prefix: String,
    /// Which of its Services are mirrored: a Kubernetes label selector.
    pub selector: String,
    /// The local namespace of its mirrors.
    pub namespace: String,
    /// How the mirrors are named.
    #[serde(serialize_with = "text")]
    pub scheme: Scheme,
    /// The remote's namespaces that are watched, with one watch each. Empty: all of them, which takes a ClusterRole.
    pub namespaces: Vec<String>,
    /// Whether a mirror is deleted if its Service was deleted while nobody watched. Otherwise only if this process has seen the Service.
    pub sync: bool,
    /// What happens to the mirrors while the remote is unavailable.
    #[serde(serialize_with = "text")]
    pub stale: Stale,
    /// How long a remote is unavailable before [`Stale::NotReady`] and [`Stale::Delete`] count it as lost.
    #[serde(serialize_with = "go_duration")]
    pub lost_after: Duration,
    /// How many deletions may be inferred from one complete list.
    #[serde(serialize_with = "text")]
    pub max_delete: MaxDelete,
    /// Deletions that were held back are made if they are still due after this time. `None`: never.
    #[serde(serialize_with = "go_duration_if")]
    pub confirm_after: Option<Duration>,
    /// What happens to Services of type ExternalName.
    pub external_names: ExternalNames,
    /// Which labels are copied.
    pub labels: Propagation,
    /// Which annotations are copied.
    pub annotations: Propagation,
    /// What happens to the endpoints' zones.
    pub zones: Zones,
    /// Topology hints: for a zone of the remote (or `*` for any other) the local zones that should use its endpoints, 1 to
    /// 8 of them. Where an endpoint has none, its Service gets none: consumers ignore hints that not all endpoints have.
    pub hints: BTreeMap<String, Vec<String>>,
    /// Whether `trafficDistribution` is copied.
    pub traffic_distribution: bool,
    /// UIDs of `kube-system` that this remote had before it was rebuilt. Mirrors with them in their annotations are ours as well.
    pub former: Vec<String>,
}

/// Global Services, merged from Services of several remotes with the same namespace and name that have opted in by a label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Global {
    /// The label that opts in, on the remotes' Services: `key` or `key=value`.
    pub label: String,
    /// The prefix of the global Services' names and the value of their label.
    pub prefix: String,
    /// Their local namespace.
    pub namespace: String,
    /// How they are named.
    #[serde(serialize_with = "text")]
    pub scheme: Scheme,
}

impl Default for Config {
    fn default() -> Self {
        Self { remotes: Vec::new(), global: None, resync: Duration::from_secs(3600), workers: 8 }
    }
}

impl Remote {
    /// A remote with the defaults for everything that has one.
    pub fn new(
        name: impl Into<String>,
        prefix: impl Into<String>,
        selector: impl Into<String>,
        namespace: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            prefix: prefix.into(),
            selector: selector.into(),
            namespace: namespace.into(),
            scheme: Scheme::default(),
            namespaces: Vec::new(),
            sync: true,
            stale: Stale::default(),
            lost_after: Duration::from_secs(30),
            max_delete: MaxDelete::default(),
            confirm_after: Some(Duration::from_secs(3600)),
            external_names: ExternalNames::default(),
            labels: Propagation::all(),
            annotations: Propagation::none(),
            zones: Zones::default(),
            hints: BTreeMap::new(),
            traffic_distribution: true,
            former: Vec::new(),
        }
    }
}

impl Global {
    /// Global Services with this label, and defaults for everything else.
    pub fn new(label: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self { label: label.into(), prefix: "gl".into(), namespace: namespace.into(), scheme: Scheme::V03 }
    }

    /// Whether a Service with these labels has opted in.
    pub fn opted_in(&self, labels: &BTreeMap<String, String>) -> bool {
        match self.label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|has| has == value),
            None => labels.contains_key(&self.label),
        }
    }
}

/// As it is written in a configuration.
fn text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn go_duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&runtime::duration::format(*value))
}

fn go_duration_if<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => go_duration(value, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests;
