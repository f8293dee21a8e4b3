//! Reads what an access is made of, and makes a client of it where that has changed.

use std::{
    collections::hash_map::DefaultHasher,
    fmt, fs,
    hash::{Hash, Hasher as _},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::{
    Access, Secret, Token, Trust,
    trust::{self, Fetched, TrustError},
};
use crate::client::tuned;

/// A client, and what it was made of.
pub(super) struct Loaded {
    pub(super) client: Client,
    /// Where it leads.
    pub(super) server: String,
    /// Differs where anything of it differs.
    fingerprint: u64,
}

/// Why there is no access to a remote cluster.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig {} cannot be used: {why}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: Box<KubeconfigError>,
    },
    /// A file with a token or a key cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: io::Error,
    },
    /// The file is there, and there is no token in it.
    #[error("{} has no token in it", .0.display())]
    NoToken(PathBuf),
    /// Nobody vouches for the API server.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No client can be made of it, for instance because of its certificates.
    #[error("no client for the remote cluster at {url}: {why}")]
    Client {
        /// The API server's address.
        url: String,
        /// What is wrong.
        why: Box<kube::Error>,
    },
}

/// A configuration of kube's, and everything that it depends on.
struct Read {
    config: Config,
    hasher: DefaultHasher,
}

/// Reads an access. Where it is the same as before, the client is, too.
pub(super) async fn load(
    access: &Access,
    fetched: &mut Option<Fetched>,
    refetch: Duration,
    before: Option<&Arc<Loaded>>,
) -> Result<Arc<Loaded>, LoadError> {
    let Read { config, hasher } = match access {
        Access::Kubeconfig { path, context } => kubeconfig(path, context.as_deref()).await?,
        Access::Server { url, trust, token } => {
            let mut config = Config::new(url.0.clone());
            config.root_cert = match trust {
                Trust::System => None,
                Trust::File(path) => Some(trust::read(path)?),
                Trust::Url { url, vouched_by } => {
                    Some(trust::fetched(url, vouched_by.as_deref(), fetched, refetch).await?)
                }
            };
            let token = match token {
                Token::None => None,
                Token::File(path) => Some(token_in(path)?.0),
                Token::Given(Secret(token)) => Some(token.clone()),
            };
            let mut hasher = DefaultHasher::new();
            (&config.root_cert, &token).hash(&mut hasher);
            config.auth_info.token = token.map(Into::into);
            Read { config, hasher }
        }
    };
    let fingerprint = hasher.finish();
    if let Some(same) = before.filter(|before| before.fingerprint == fingerprint) {
        return Ok(same.clone());
    }
    let url = config.cluster_url.to_string();
    // Programs that a kubeconfig names are run here, and block.
    let made = tokio::task::spawn_blocking(|| Client::try_from(tuned(config))).await;
    let client = made.expect("making a client does not panic");
    match client {
        Ok(client) => Ok(Arc::new(Loaded { client, server: url, fingerprint })),
        Err(why) => Err(LoadError::Client { url, why: Box::new(why) }),
    }
}

/// What a kubeconfig says, with everything in it that its files say.
async fn kubeconfig(path: &Path, context: Option<&str>) -> Result<Read, LoadError> {
    let unusable = |why| LoadError::Kubeconfig { path: path.to_owned(), why: Box::new(why) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)?;
    let mut hasher = DefaultHasher::new();
    contents(path)?.hash(&mut hasher);
    config.root_cert.hash(&mut hasher);
    let AuthInfo { client_certificate, client_key, .. } = &config.auth_info;
    for file in [client_certificate, client_key].into_iter().flatten() {
        contents(Path::new(file))?.hash(&mut hasher);
    }
    // kube would look at it again by itself, but not when it is refused, and would choke on a line end.
    if let (None, Some(file)) = (&config.auth_info.token, config.auth_info.token_file.take()) {
        let Secret(token) = token_in(Path::new(&file))?;
        token.hash(&mut hasher);
        config.auth_info.token = Some(token.into());
    }
    Ok(Read { config, hasher })
}

/// The token in a file.
fn token_in(path: &Path) -> Result<Secret, LoadError> {
    let text = String::from_utf8_lossy(&contents(path)?).into_owned();
    let token = Secret::new(&text);
    if token.0.is_empty() { Err(LoadError::NoToken(path.to_owned())) } else { Ok(token) }
}

fn contents(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|why| LoadError::File { path: path.to_owned(), why })
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}
