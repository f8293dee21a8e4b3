//! The checked configuration of the whole process: what a file and the flags of a subcommand both turn into.

pub(crate) mod bridge;
mod broadcast;
mod checked;
pub(crate) mod discover;
pub(crate) mod elect;
pub(crate) mod endpoints;
mod file;
pub(crate) mod leader;
pub(crate) mod listener;
pub(crate) mod mirror;
mod named_files;
mod redelivery;
mod routing;
mod shown;
pub(crate) mod store;
mod target;
mod tls;
mod variables;
mod warnings;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use controlplane::source::dns::Settings as Dns;
use runtime::{
    telemetry::{Format, Level},
    tls::ServerSettings,
};
use snapshot::ClusterName;

pub(crate) use file::{Fault, faults};
pub(crate) use named_files::{CheckedFiles, told};
use shown::Written;
pub(crate) use target::Target;

pub(crate) use crate::settings::broadcast::process::Ready;

/// Everything that is configured. Its values are valid on their own and with each other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// The data plane; without a listener there is none.
    pub(crate) proxy: proxy::Config,
    /// Where the endpoints of each cluster that a route names come from. Routes to the same share one.
    pub(crate) targets: BTreeMap<ClusterName, Target>,
    /// How names of endpoints are looked up.
    pub(crate) dns: Dns,
    /// The elections that this process takes part in.
    pub(crate) elect: Vec<elect::ElectConfig>,
    /// What is exported, in what form and where to.
    pub(crate) discover: Vec<discover::DiscoverConfig>,
    /// The stores that are pulled from, and the files that they are written to.
    pub(crate) bridge: Vec<bridge::BridgeConfig>,
    /// The endpoints API.
    pub(crate) endpoints: Option<endpoints::EndpointsConfig>,
    /// The services of other kube clusters that are mirrored.
    pub(crate) mirror: Option<mirror::MirrorConfig>,
    /// Which of several replicas writes; none: this process does, alone.
    pub(crate) leader_elect: Option<leader::LeaderElectConfig>,
    /// How Kubernetes is reached, if anything needs it.
    pub(crate) kubernetes: KubernetesConfig,
    /// Where the admin API listens; none: nowhere.
    pub(crate) admin: Option<SocketAddr>,
    /// TLS of the admin API; none: in clear.
    pub(crate) admin_tls: Option<ServerSettings>,
    /// The file of the tokens that its requests have to carry.
    pub(crate) admin_tokens: Option<PathBuf>,
    /// How the process behaves.
    pub(crate) process: Process,
    /// What it was read from.
    pub(crate) written: Written,
}

/// How Kubernetes is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KubernetesConfig {
    /// The kubeconfig file; none: as kubectl finds it, else in-cluster.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context in it; none: the current one.
    pub(crate) context: Option<String>,
}

/// How the process behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Which routes have to be ready for the process to be.
    pub(crate) ready: Ready,
    /// Ready even where a route has no endpoint.
    pub(crate) ready_no_endpoint: bool,
    /// How long to go on serving, while not ready, before the drain begins.
    pub(crate) drain_delay: Duration,
    /// How long a kept connection without a request may then still bring one.
    pub(crate) drain_idle: Duration,
    /// How long what is in flight may take before it is cut.
    pub(crate) drain_timeout: Duration,
    /// How much is logged at start.
    pub(crate) log_level: Level,
    /// How log lines look.
    pub(crate) log_format: Format,
}

// === impl Config ===

impl Config {
    /// Who is answered at the listeners that roles have for themselves, each with the key of its address.
    pub(crate) fn listeners_of_roles(&self) -> impl Iterator<Item = (String, &listener::ListenerAccess)> {
        let elect = self.elect.iter().enumerate().map(|(n, elect)| (format!("elect[{n}].http"), &elect.listener));
        let discover = self.discover.iter().enumerate();
        let discover = discover.map(|(n, discover)| (format!("discover[{n}].listen"), &discover.listener));
        let endpoints = self.endpoints.iter().map(|endpoints| ("endpoints.listen".to_owned(), &endpoints.listener));
        elect.chain(discover).chain(endpoints)
    }
}

// === impl Process ===

impl Default for Process {
    fn default() -> Self {
        Self {
            ready: Ready::All,
            ready_no_endpoint: false,
            drain_delay: Duration::ZERO,
            drain_idle: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
            log_level: Level::Info,
            log_format: Format::Text,
        }
    }
}

fn go_duration<S: serde::Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&runtime::duration::format(*value))
}
