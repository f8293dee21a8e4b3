//! The election that decides which of several replicas writes, for every writer of the process.

use anyhow::Context as _;
use controlplane::lease::{self, Elector, Leadership, LockKind};
use runtime::{drain::Drain, readiness::Readiness};
use tokio::task::JoinHandle;

use crate::{config::leader::LeaderElectConfig, identity, kubernetes::Kubernetes};

/// The running election. The lease is released after the writers have ended.
pub(crate) struct Leader {
    drain: Drain,
    elector: JoinHandle<()>,
}

/// Takes part from now on. Without a configuration this process is the only writer.
///
/// # Errors
/// There is no usable configuration for Kubernetes.
pub(crate) async fn start(
    config: Option<&LeaderElectConfig>,
    kubernetes: &Kubernetes,
    readiness: &Readiness,
) -> anyhow::Result<(Leadership, Option<Leader>)> {
    let Some(config) = config else { return Ok((Leadership::alone(), None)) };
    let connection = kubernetes.connect().await?;
    let config = lease::Config {
        name: config.name.clone(),
        namespace: config.namespace.clone().unwrap_or_else(|| identity::namespace(&connection.namespace)),
        lock: LockKind::Leases,
        identity: config.id.clone().unwrap_or_else(|| identity::unique(&identity::host())),
        timing: config.timing,
    };
    let gate = readiness.register("leader election");
    let elector = Elector::new(config, connection.client).context("leader_elect")?.with_gate(gate);
    let leadership = elector.election().leadership();
    let drain = Drain::new();
    let elector = tokio::spawn(elector.run(drain.watch()));
    Ok((leadership, Some(Leader { drain, elector })))
}

// === impl Leader ===

impl Leader {
    /// Releases the lease, if this process holds it. Takes at most about 3 s.
    pub(crate) async fn release(self) {
        self.drain.start();
        // A panic of the task was logged where it happened.
        let _ = self.elector.await;
    }
}
