//! The connection to another kube cluster: it fails on nothing, and is nobody's fault but its own.

use kube::Client;
use tokio::sync::watch;

pub use super::{
    access::{Access, Secret, Token, Trust, UnsetVariable, Url, UrlError},
    following::{RECHECK, REFETCH},
    read::LoadError,
    trust::TrustError,
};
use super::{
    following::{Following, INTERVALS},
    proxy::Environment,
};

/// A client for a remote cluster, and where it leads.
#[derive(Clone)]
pub struct RemoteConnection {
    /// The client.
    pub client: Client,
    /// The API server's URL; none before the first request. Another one may be another cluster: what was learned from the
    /// one before says nothing about it.
    pub server: watch::Receiver<Option<String>>,
}

/// Makes a client for a remote cluster. It belongs to the caller's tokio runtime.
///
/// It asks nothing yet, and follows whatever its access is made of: rotated tokens, certificates, a kubeconfig written
/// anew. What is wrong with it, requests tell.
#[must_use]
pub fn connect(access: Access) -> RemoteConnection {
    let following = Following::new(access, Environment::of_process(), INTERVALS, None);
    let server = following.server();
    RemoteConnection { client: following.client("default"), server }
}
