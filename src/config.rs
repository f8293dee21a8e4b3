//! The checked configuration of the whole process, read from a file or from the flags of a subcommand.

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

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use controlplane::source::dns::Settings as Dns;
use runtime::{
    telemetry::{Format, Level},
    tls::ServerSettings,
};
use snapshot::ClusterName;

pub(crate) use file::{Fault, faults};
pub(crate) use named_files::{CheckedFiles, single_token, tls_problems_text};
use shown::Written;
pub(crate) use target::Target;

pub(crate) use crate::settings::broadcast::process::Ready;

/// Everything that is configured. Its values are valid on their own and with each other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// The data plane; without a listener there is none.
    pub(crate) proxy: Arc<proxy::Config>,
    /// The source of endpoints of each cluster that a route names. Routes to the same target share it.
    pub(crate) targets: BTreeMap<ClusterName, Target>,
    /// The settings of DNS lookups.
    pub(crate) dns: Dns,
    /// The elections that this process takes part in.
    pub(crate) elect: Vec<elect::ElectConfig>,
    /// The exports.
    pub(crate) discover: Vec<discover::DiscoverConfig>,
    /// The bridges from stores to files.
    pub(crate) bridge: Vec<bridge::BridgeConfig>,
    /// The endpoints API.
    pub(crate) endpoints: Option<endpoints::EndpointsConfig>,
    /// The services of other kube clusters that are mirrored.
    pub(crate) mirror: Option<mirror::MirrorConfig>,
    /// The election of the replica that writes; without it this process is the only writer.
    pub(crate) leader_elect: Option<leader::LeaderElectConfig>,
    /// The access to Kubernetes, if anything needs it.
    pub(crate) kubernetes: KubernetesConfig,
    /// The address of the admin API, if it is enabled.
    pub(crate) admin: Option<SocketAddr>,
    /// TLS of the admin API; without it, clear text.
    pub(crate) admin_tls: Option<ServerSettings>,
    /// The token file of the admin API; without it no token is required.
    pub(crate) admin_tokens: Option<PathBuf>,
    /// How the process behaves.
    pub(crate) process: Process,
    /// The raw configuration that this was read from.
    pub(crate) written: Written,
}

/// The access to Kubernetes.
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
    /// The routes that must be ready for the process to be ready.
    pub(crate) ready: Ready,
    /// Whether routes without endpoints count as ready.
    pub(crate) ready_no_endpoint: bool,
    /// The time of serving while not ready, before the drain begins.
    pub(crate) drain_delay: Duration,
    /// The time for which idle connections may still bring a request during the drain.
    pub(crate) drain_idle: Duration,
    /// The time limit of requests in flight during the drain.
    pub(crate) drain_timeout: Duration,
    /// The log level at the start.
    pub(crate) log_level: Level,
    /// The format of log lines.
    pub(crate) log_format: Format,
}

// === impl Config ===

impl Config {
    /// The TLS and tokens of the roles' own listeners, each with the key of its address.
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
