//! The process's connections to its kube cluster: one that every watch shares, and one of its own for whoever writes.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use controlplane::{
    client::{self, Connection},
    source::kube::Kube,
};
use tokio::sync::OnceCell;

use crate::config;

/// How to get at them. Cloning shares the watches.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    kubeconfig: Option<PathBuf>,
    watches: Arc<OnceCell<Kube>>,
}

impl Kubernetes {
    /// Nothing is connected until somebody asks.
    pub(crate) fn new(config: &config::KubernetesConfig) -> Self {
        Self { kubeconfig: config.kubeconfig.clone(), watches: Arc::default() }
    }

    /// The watches that all roles share.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub(crate) async fn watches(&self) -> anyhow::Result<Kube> {
        let made =
            self.watches.get_or_try_init(async || Ok::<_, anyhow::Error>(Kube::new(self.connect().await?.client)));
        made.await.cloned()
    }

    /// A connection of its own, so that nobody else's requests delay it.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        client::connect(self.kubeconfig.as_deref()).await.context("Kubernetes is needed for what is configured")
    }
}
