//! The roles beside broadcasting: each is bound, runs until the process drains, and ends in order.

mod bridge;
mod discover;
mod elect;
mod endpoints;
mod listener;
mod mirror;

use std::sync::Arc;

use controlplane::lease::Leadership;
use futures::future::BoxFuture;
use runtime::{drain::DrainWatch, metrics::Metrics, readiness::Readiness};

use crate::{access::Access, config::Config, kubernetes::Kubernetes};

/// The dependencies of all roles.
pub(crate) struct Context {
    /// The registry of readiness gates.
    pub(crate) readiness: Readiness,
    /// For those that serve the metrics on a listener of their own.
    pub(crate) metrics: Metrics,
    /// The kube cluster.
    pub(crate) kubernetes: Kubernetes,
    /// The files of tokens.
    pub(crate) access: Arc<Access>,
    /// The claim that every writer to the outside must hold.
    pub(crate) leadership: Leadership,
    /// Ends the roles.
    pub(crate) drain: DrainWatch,
}

/// A role whose listeners are bound, and which does not answer yet.
pub(crate) struct BoundRole {
    /// Its name in logs.
    pub(crate) name: &'static str,
    /// The URLs of its listeners.
    pub(crate) urls: Vec<String>,
    /// Serves until the drain is over, or until its work is finished. An error ends the process.
    pub(crate) run: BoxFuture<'static, anyhow::Result<()>>,
}

/// Binds every role that is configured.
///
/// # Errors
/// An address cannot be bound, or Kubernetes is needed and there is no usable configuration for it.
pub(crate) async fn bind(config: &Config, context: &Context) -> anyhow::Result<Vec<BoundRole>> {
    let mut bound = Vec::new();
    bound.extend(elect::bind(&config.elect, context).await?);
    bound.extend(discover::bind(&config.discover, context).await?);
    bound.extend(bridge::bind(&config.bridge, context).await?);
    bound.extend(endpoints::bind(config.endpoints.as_ref(), context).await?);
    bound.extend(mirror::bind(config.mirror.as_ref(), context).await?);
    Ok(bound)
}
