//! The connections to kube clusters: how each is reached, what is read of that, and the one place where clients are made.
//!
//! | module | what it does |
//! |---|---|
//! | `access` | how an API server is reached, as it is configured |
//! | `read`, `kubeconfig`, `files`, `trust` | reads that into checked settings |
//! | `proxy`, `connect` | which proxy leads there, and the way through it |
//! | `plugin` | asks the program that a kubeconfig names for credentials |
//! | `make` | makes of the settings what sends requests |
//! | `following` | the client: reads anew what changes, and keeps the last good access |
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

/// Makes a client from, in this order: the given kubeconfig, those that `$KUBECONFIG` names, the pod's service account.
///
/// It talks to nobody yet, and runs no credential plugin: that an API server is away, or a plugin does not end, is no error
/// here. Like every client it follows what it is made of while it lasts.
///
/// # Errors
/// [`LoadError`] where the first of these that is there cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Connection, LoadError> {
    let access = Access::of_process(kubeconfig.map(Path::to_owned));
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
