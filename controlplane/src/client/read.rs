//! Reads an access into checked settings, and reports everything that cannot work.

use std::{fmt, time::Duration};

use hyper::header::{HeaderName, HeaderValue};
use kube::Config;
use tokio::time::timeout;

use super::{
    access::{Access, Secret, Token, Trust, UnsetVariable, Url},
    files::{FileError, FileReader},
    kubeconfig,
    plugin::{Plugin, PluginError},
    proxy::{Environment, Proxy, ProxyError},
    trust::{self, FetchedCertificates, TrustError},
};

/// The time limit of reading files, which may be on a disk that hangs, or be a pipe without a writer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of a client. Equal settings make equal clients.
#[derive(Clone, PartialEq)]
pub(super) struct ClientSettings {
    pub(super) server: Url,
    /// The namespace of the context, or of the pod.
    pub(super) namespace: Option<String>,
    /// The authorities that verify the server (DER); by default those of the system.
    pub(super) roots: Option<Vec<Vec<u8>>>,
    /// Whether its certificate is not verified.
    pub(super) insecure: bool,
    /// The name in the server's certificate, if it is not that of its URL.
    pub(super) server_name: Option<String>,
    pub(super) identity: Option<Identity>,
    /// The field `Authorization`.
    pub(super) authorization: Option<HeaderValue>,
    /// The plugin that gives a token or a client certificate.
    pub(super) plugin: Option<Plugin>,
    pub(super) impersonation: Vec<(HeaderName, HeaderValue)>,
    pub(super) proxy: Option<Proxy>,
}

/// A client certificate with its key (PEM).
#[derive(Clone, PartialEq)]
pub(super) struct Identity {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// Why there is no access to an API server. No secret is ever in the text.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A kubeconfig cannot be used.
    #[error("the {access} cannot be used: {why}")]
    Kubeconfig {
        /// Which one.
        access: String,
        /// What is wrong with it.
        why: String,
    },
    /// No kubeconfig was given, and this process does not run in a pod.
    #[error(
        "no kubeconfig was given, KUBECONFIG is not set, there is no ~/.kube/config, and the configuration of a pod cannot be used: {0}. Outside of \
         Kubernetes pass --kubeconfig; in a pod check that its service account's token is mounted"
    )]
    Pod(String),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// An environment variable should have a token and has none.
    #[error(transparent)]
    Variable(#[from] UnsetVariable),
    /// A token cannot be sent.
    #[error("the token cannot be sent: {0}")]
    Token(#[from] Unsendable),
    /// There are no certificates to verify the API server with.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The proxy cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The credential plugin failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// Its files cannot be read in time.
    #[error("reading the {0} took longer than {READ_TIMEOUT:?}")]
    Slow(String),
    /// The client cannot be made, for instance because of its certificates.
    #[error("no client for the API server at {url}: {why}")]
    Client {
        /// The API server's address.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Making the client panicked, which is a bug and affects only this client.
    #[error("no client for the {0}: an internal error, which is in the log; please report it")]
    Broken(String),
}

/// A text that no header field can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is a line end, or another character that is not printable ASCII, within it")]
pub struct Unsendable;

impl ClientSettings {
    pub(super) fn new(server: Url) -> Self {
        Self {
            server,
            namespace: None,
            roots: None,
            insecure: false,
            server_name: None,
            identity: None,
            authorization: None,
            plugin: None,
            impersonation: Vec::new(),
            proxy: None,
        }
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, proxy, plugin, .. } = self;
        f.debug_struct("ClientSettings")
            .field("server", server)
            .field("proxy", proxy)
            .field("plugin", plugin)
            .finish_non_exhaustive()
    }
}

/// The field `Authorization` for this token.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, Unsendable> {
    let token = token.trim();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Unsendable);
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Unsendable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads it. Certificates from a URL that were fetched within `refetch` are not fetched again.
pub(super) async fn read(
    access: &Access,
    environment: &Environment,
    files: FileReader,
    fetched: &mut Option<FetchedCertificates>,
    refetch: Duration,
) -> Result<ClientSettings, LoadError> {
    let roots = match access {
        Access::Server { trust: Trust::Url { url, vouched_by }, .. } => {
            Some(trust::fetched(url, vouched_by.as_deref(), environment, fetched, refetch).await?)
        }
        _ => None,
    };
    let reading = {
        let (access, environment) = (access.clone(), environment.clone());
        tokio::task::spawn_blocking(move || read_files(&access, &environment, files, roots))
    };
    match timeout(READ_TIMEOUT, reading).await {
        Ok(Ok(settings)) => settings,
        Ok(Err(_panicked)) => Err(LoadError::Broken(access.to_string())),
        Err(_elapsed) => Err(LoadError::Slow(access.to_string())),
    }
}

fn read_files(
    access: &Access,
    environment: &Environment,
    files: FileReader,
    roots: Option<Vec<Vec<u8>>>,
) -> Result<ClientSettings, LoadError> {
    let read = match access {
        Access::Kubeconfig { path, context } => {
            kubeconfig::read(std::slice::from_ref(path), false, context.as_deref(), environment, &files)
        }
        Access::Kubeconfigs { paths, context } => {
            kubeconfig::read(paths, true, context.as_deref(), environment, &files)
        }
        Access::Pod => return pod(files),
        Access::Server { url, trust, token } => {
            let roots = match trust {
                Trust::System => None,
                Trust::File(path) => Some(trust::read(path, files)?),
                Trust::Url { .. } => roots,
            };
            let authorization = match token {
                Token::None => None,
                Token::File(path) => Some(bearer(files.token(path)?.expose())?),
                Token::Variable(name) => Some(bearer(Secret::of_variable(name, url)?.expose())?),
                Token::Given(token) => Some(bearer(token.expose())?),
            };
            let proxy = environment.proxy(url.uri(), None)?;
            return Ok(ClientSettings { roots, authorization, proxy, ..ClientSettings::new(url.clone()) });
        }
    };
    read.map_err(|why| LoadError::Kubeconfig { access: access.to_string(), why })
}

/// The service account of the pod. Its API server is in the same cluster and is reached without a proxy.
fn pod(files: FileReader) -> Result<ClientSettings, LoadError> {
    let config = Config::incluster().map_err(|error| LoadError::Pod(error.to_string()))?;
    let token = match &config.auth_info.token_file {
        Some(path) => Some(bearer(files.token(path.as_ref())?.expose())?),
        None => None,
    };
    let namespace = Some(config.default_namespace.trim().to_owned());
    Ok(ClientSettings {
        namespace,
        roots: config.root_cert,
        authorization: token,
        ..ClientSettings::new(config.cluster_url.into())
    })
}
