//! The process's connections to its kube cluster: one that all watches share, and a separate one for each writer.

use std::sync::Arc;

use anyhow::Context as _;
use controlplane::{
    client::{self, Connection},
    kube_cluster::KubeCluster,
};
use tokio::sync::OnceCell;

use crate::config::KubernetesConfig;

/// Makes connections to the kube cluster. Clones share the watches.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    config: KubernetesConfig,
    watches: Arc<OnceCell<KubeCluster>>,
}

impl Kubernetes {
    /// Connects to nothing before the first use.
    pub(crate) fn new(config: &KubernetesConfig) -> Self {
        Self { config: config.clone(), watches: Arc::default() }
    }

    /// The watches that all roles share.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub(crate) async fn watches(&self) -> anyhow::Result<KubeCluster> {
        let made = self
            .watches
            .get_or_try_init(async || Ok::<_, anyhow::Error>(KubeCluster::new(self.connect().await?.client)));
        made.await.cloned()
    }

    /// A connection for one user, independent of other users' requests.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let KubernetesConfig { kubeconfig, context } = &self.config;
        let connection = client::connect_in(kubeconfig.as_deref(), context.as_deref()).await;
        connection.context("the configuration needs Kubernetes")
    }
}
