//! The client for a remote cluster. Making it never fails; errors appear in its requests.

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

/// A client for a remote cluster, and the URL of its API server.
#[derive(Clone)]
pub struct RemoteConnection {
    /// The client.
    pub client: Client,
    /// The API server's URL; none before the first request. A different URL may be a different cluster, about which earlier data
    /// proves nothing.
    pub server: watch::Receiver<Option<String>>,
}

/// Makes a client for a remote cluster. Its tasks run on the caller's tokio runtime.
///
/// Nothing is sent yet. It follows changes of its access: rotated tokens, certificates, a kubeconfig that is written again. Errors
/// appear in its requests.
#[must_use]
pub fn connect(access: Access) -> RemoteConnection {
    let following = Following::new(access, Environment::of_process(), INTERVALS, None);
    let server = following.server();
    RemoteConnection { client: following.client("default"), server }
}
