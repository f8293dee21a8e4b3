//! `mirror:` in the file: services of other kube clusters.

mod access;
mod remote;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, time::Duration};

use mirror::{
    config::{Global, Invalid},
    names::Scheme,
};
use runtime::config::{Node, Section};
use serde::Serialize;

pub(crate) use remote::Remote;

use crate::settings::mirror as settings;

/// The default domain of this cluster.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// The default domain of global services.
const GLOBAL_DOMAIN: &str = "cluster.global";

/// The configuration of mirrors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct MirrorConfig {
    /// The remote clusters.
    pub(crate) remotes: Vec<Remote>,
    /// Global Services, merged from several remotes.
    pub(crate) global: Option<GlobalServices>,
    /// The interval at which everything is compared again; zero means never.
    #[serde(serialize_with = "super::go_duration")]
    pub(crate) resync: Duration,
    /// The number of mirrors that are reconciled at the same time.
    pub(crate) workers: usize,
    /// The address of /healthz, /readyz and /metrics, if they are enabled.
    pub(crate) listen: Option<SocketAddr>,
    /// Whether to print the planned actions only.
    pub(crate) dry_run: bool,
    /// The domain of this cluster.
    pub(crate) cluster_domain: String,
}

/// Global Services, merged from several remote clusters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct GlobalServices {
    /// The label by which a Service opts in.
    pub(crate) label: String,
    /// Their local namespace; by default the pod's.
    pub(crate) namespace: Option<String>,
    /// The prefix of their names.
    pub(crate) prefix: String,
    /// The scheme of their names.
    #[serde(serialize_with = "as_text")]
    pub(crate) names: Scheme,
    /// The DNS domain of their original names.
    pub(crate) domain: String,
}

/// Reads the section, if there is one.
pub(super) fn read(root: &Section<'_>) -> Option<MirrorConfig> {
    let section = root.optional_section("mirror")?;
    let default = mirror::config::Config::default();
    let nodes = section.list("remotes");
    let remotes: Vec<_> = nodes.iter().filter_map(remote::read).collect();
    let incomplete = remotes.len() < nodes.len();
    let config = MirrorConfig {
        remotes,
        global: section.optional_section("global").and_then(global),
        resync: settings::RESYNC_PERIOD.or(&section, default.resync),
        workers: settings::WORKERS.or(&section, default.workers),
        listen: settings::LISTEN.read(&section),
        dry_run: settings::DRY_RUN.or(&section, false),
        cluster_domain: settings::CLUSTER_DOMAIN.or(&section, CLUSTER_DOMAIN.to_owned()),
    };
    // Problems of a part are noted already; only complete parts can be checked against each other.
    let checked = if incomplete { Ok(()) } else { config.in_namespace(None).check() };
    for invalid in checked.err().into_iter().flat_map(|error| error.0) {
        note(&section, &nodes, &invalid);
    }
    section.finish();
    Some(config)
}

/// Reports a problem that the mirror finds, at its path in the file.
fn note(section: &Section<'_>, remotes: &[Node<'_>], Invalid { field, problem }: &Invalid) {
    if let Some(field) = field.strip_prefix("global.") {
        section.section("global").problem(field, problem);
        return;
    }
    let in_remote = field.strip_prefix("remotes[").and_then(|rest| rest.split_once("]."));
    let found = in_remote.and_then(|(number, field)| Some((remotes.get(number.parse::<usize>().ok()?)?, field)));
    match found {
        Some((node, "selector")) => node.section().section("select").problem("labels", problem),
        Some((node, field)) => node.section().problem(field, problem),
        None => section.problem(field, problem),
    }
}

fn global(section: Section<'_>) -> Option<GlobalServices> {
    let default = Global::new("", "");
    let label = settings::GLOBAL_LABEL.required(&section);
    let global = GlobalServices {
        label: label.clone().unwrap_or_default(),
        namespace: settings::GLOBAL_NS.read(&section),
        prefix: settings::GLOBAL_PREFIX.or(&section, default.prefix),
        names: settings::GLOBAL_NAMES.or(&section, default.scheme),
        domain: settings::GLOBAL_DOMAIN.or(&section, GLOBAL_DOMAIN.to_owned()),
    };
    section.finish();
    label.map(|_| global)
}

// === impl MirrorConfig ===

impl MirrorConfig {
    /// The configuration of the mirror in a pod of this namespace. While the namespace is unknown, a placeholder that is not a
    /// valid namespace is used.
    pub(crate) fn in_namespace(&self, own: Option<&str>) -> mirror::config::Config {
        let own = own.unwrap_or("the-namespace-of-the-pod-that-this-will-run-in");
        let or_own = |namespace: &Option<String>| namespace.clone().unwrap_or_else(|| own.to_owned());
        let remotes = self.remotes.iter().map(|remote| {
            let namespace = or_own(&remote.namespace);
            mirror::config::Remote { namespace, ..remote.mirror.clone() }
        });
        let global = self.global.as_ref().map(|global| {
            let GlobalServices { label, namespace, prefix, names, .. } = global;
            let (label, prefix, scheme) = (label.clone(), prefix.clone(), names.clone());
            Global { label, prefix, namespace: or_own(namespace), scheme }
        });
        mirror::config::Config { remotes: remotes.collect(), global, resync: self.resync, workers: self.workers }
    }
}

fn as_text<S: serde::Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}
