//! The connection to one kube cluster: which configuration, whose name, what time-outs.

pub mod remote;

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// What this client calls itself in the API server's audit log.
const USER_AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));

/// How long connecting to the API server may take: TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client, and what its configuration says about where it is.
#[derive(Clone)]
pub struct Connection {
    /// The client.
    pub client: Client,
    /// The namespace of the kubeconfig's context, or the pod's own.
    pub namespace: String,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig that was asked for cannot be used.
    #[error("the kubeconfig {origin} cannot be used: {why}")]
    Kubeconfig {
        /// Where it was found.
        origin: String,
        /// What is wrong with it. Not a `source`: the text has it already.
        why: Box<KubeconfigError>,
    },
    /// No kubeconfig was given, and this is no pod either.
    #[error(
        "no kubeconfig was given, KUBECONFIG is not set, and the configuration of a pod cannot be used: {0}. Outside of \
         Kubernetes pass --kubeconfig; in a pod check that its service account's token is mounted"
    )]
    InCluster(InClusterError),
    /// The configuration was read, but no client can be made of it, for instance because of its certificates.
    #[error("no client for the API server at {url}: {why}")]
    Client {
        /// The API server's address.
        url: String,
        /// What is wrong.
        why: Box<kube::Error>,
    },
}

/// Makes a client from, in this order: the given kubeconfig, the one `$KUBECONFIG` names, the pod's service account.
///
/// It does not talk to the API server yet: that an API server is away is no error here.
///
/// # Errors
/// [`ConnectError`] where the first of these that is there cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Connection, ConnectError> {
    // kube takes the process's default. A second installation, of the same provider, is refused and does not matter.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = tuned(configuration(kubeconfig).await?);
    let namespace = config.default_namespace.clone();
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|why| ConnectError::Client { url, why: Box::new(why) })?;
    Ok(Connection { client, namespace })
}

/// What holds for every connection, wherever it leads.
fn tuned(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // The watcher and the writers have delays and deadlines of their own; retries beneath them would hide errors.
    config.default_retry = false;
    let agent = ("user-agent".parse(), USER_AGENT.parse());
    if let (Ok(name), Ok(value)) = agent {
        config.headers.push((name, value));
    }
    config
}

async fn configuration(kubeconfig: Option<&Path>) -> Result<Config, ConnectError> {
    let (origin, read) = match (kubeconfig, env::var_os("KUBECONFIG").filter(|value| !value.is_empty())) {
        (Some(path), _) => (path.display().to_string(), Kubeconfig::read_from(path).map(Some)),
        (None, Some(paths)) => (format!("$KUBECONFIG ({})", PathBuf::from(paths).display()), Kubeconfig::from_env()),
        (None, None) => return Config::incluster().map_err(ConnectError::InCluster),
    };
    let failed = |why| ConnectError::Kubeconfig { origin: origin.clone(), why: Box::new(why) };
    let read = read.map_err(failed)?.ok_or_else(|| failed(KubeconfigError::FindPath))?;
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use testkit::origin::{Origin, Reply};

    use super::*;

    #[tokio::test]
    async fn the_api_server_is_told_who_asks() {
        let api_server = Origin::start(Reply::ok("{}"));
        let kubeconfig = tempfile::NamedTempFile::new().expect("a temporary file");
        let text = format!(
            "{{clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}], users: [{{name: u, user: {{token: t0ken}}}}], \
             contexts: [{{name: x, context: {{cluster: c, user: u, namespace: shop}}}}], current-context: x}}",
            api_server.address()
        );
        std::fs::write(kubeconfig.path(), text).expect("it can be written");
        let connection = connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig");
        assert_eq!(connection.namespace, "shop");
        assert_eq!(api_server.accepted(), 0, "making a client asks nothing");
        // What it answers does not matter here.
        let _ = connection.client.apiserver_version().await;
        let request = api_server.wait_heads(1).await.remove(0);
        let head = String::from_utf8_lossy(&request.head).to_lowercase();
        assert!(head.contains(&format!("user-agent: {USER_AGENT}")), "{head}");
        assert!(head.contains("authorization: bearer t0ken"), "{head}");
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_read_is_named() {
        let missing = connect(Some(Path::new("/nowhere/kubeconfig"))).await.err().expect("there is no such file");
        assert!(missing.to_string().contains("/nowhere/kubeconfig"), "{missing}");
        let broken = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(broken.path(), "clusters: {").expect("it can be written");
        let broken = connect(Some(broken.path())).await.err().expect("it is no kubeconfig");
        assert!(broken.to_string().contains("cannot be used"), "{broken}");
    }
}
