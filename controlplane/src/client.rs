//! The clients for API servers: how each server is reached, how that configuration is read and checked, and the one place where
//! clients are made.
//!
//! | module | what it does |
//! |---|---|
//! | `access` | how an API server is reached, as it is configured |
//! | `read`, `kubeconfig`, `files`, `trust` | reads that into checked settings |
//! | `proxy`, `connect` | the proxy for a server, and connections through it |
//! | `tls` | TLS with a server, and with a proxy |
//! | `plugin` | asks the program that a kubeconfig names for credentials |
//! | `make` | turns checked settings into a service that sends requests |
//! | `following` | the client: follows changes of its access, and keeps the last good one |
//! | `remote` | clients for other clusters |

mod access;
mod connect;
mod files;
mod following;
mod kubeconfig;
mod make;
mod plugin;
mod proxy;
mod read;
pub mod remote;
#[cfg(test)]
mod tests;
mod tls;
mod trust;

use std::path::Path;

pub use access::Access;
use files::FileReader;
use following::{Following, INTERVALS};
use kube::Client;
use proxy::Environment;
pub use read::LoadError;

/// A client and the namespace of its configuration.
#[derive(Clone)]
pub struct Connection {
    /// The client.
    pub client: Client,
    /// The namespace of the kubeconfig's context, or the pod's own.
    pub namespace: String,
}

/// Makes a client from, in this order: the given kubeconfig, those that `$KUBECONFIG` names, `~/.kube/config`, the pod's service
/// account.
///
/// Nothing is connected yet and no credential plugin runs, so an unavailable API server, or a plugin that does not end, is no error
/// here. Like every client it follows changes of its files.
///
/// # Errors
/// [`LoadError`] if that one cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Connection, LoadError> {
    connect_in(kubeconfig, None).await
}

/// The same by a context of the kubeconfig other than its current one.
///
/// # Errors
/// [`LoadError`], also where there is no such context.
pub async fn connect_in(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Connection, LoadError> {
    let access = Access::of_process(kubeconfig.map(Path::to_owned), context.map(str::to_owned));
    open(access, Environment::of_process()).await
}

async fn open(access: Access, environment: Environment) -> Result<Connection, LoadError> {
    let files = FileReader { again: false };
    let settings = read::read(&access, &environment, files, &mut None, INTERVALS.refetch()).await?;
    // An unusable configuration is reported now and not with every request.
    make::sender(&settings, None)?;
    let namespace = settings.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let client = Following::new(access, environment, INTERVALS, Some(settings)).client(&namespace);
    Ok(Connection { client, namespace })
}
