//! The connection to another kube cluster, whose credentials change while it lasts.
//!
//! Rules: making it asks nothing and fails on nothing, so that a cluster whose access is not there yet holds up nobody.
//! What the access is made of is looked at again every [`RECHECK`], and before the next request after one that was not
//! accepted or did not arrive. Whatever cannot be read then, the last good access stays in force.

mod load;
#[cfg(test)]
mod tests;
mod trust;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use hyper::{Request, Response, StatusCode};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

pub use load::LoadError;
use load::Loaded;
use trust::Fetched;
pub use trust::TrustError;

/// How often the access is looked at where nothing seems wrong with it: a service account's token is renewed when a fifth
/// of its time is left, at least two minutes, so a new one is always taken in time.
pub const RECHECK: Duration = Duration::from_secs(30);

/// How often certificates are fetched again from their URL where nothing seems wrong with them.
pub const REFETCH: Duration = Duration::from_secs(600);

/// How a remote cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// As a kubeconfig says.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// One of its contexts; its current one where none is given.
        context: Option<String>,
    },
    /// At this address.
    Server {
        /// The API server's URL.
        url: Url,
        /// Who vouches for it.
        trust: Trust,
        /// Who asks.
        token: Token,
    },
}

/// Who vouches for the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The certificates of the system.
    System,
    /// Those in a file (PEM).
    File(PathBuf),
    /// Those that a URL tells (PEM).
    Url {
        /// Where: `https`, so that somebody vouches for what comes from there.
        url: Url,
        /// Who does, as a file (PEM); the certificates of the system where none is given.
        vouched_by: Option<PathBuf>,
    },
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Token {
    /// Nobody in particular.
    None,
    /// The bearer of the token in this file.
    File(PathBuf),
    /// The bearer of this token.
    Given(Secret),
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The URL of a server: `https://host[:port][/path]`, or `http` where that is permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(hyper::Uri);

/// Why a text is no URL of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It cannot be understood.
    #[error("{0:?} is no URL: write https://host:port")]
    Unreadable(String),
    /// Nobody would vouch for what comes from there.
    #[error("{0:?} does not begin with https://, so nobody vouches for what comes from there")]
    Unprotected(String),
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two looks at an access with which nothing seems wrong.
    recheck: Duration,
    /// The same for certificates that a URL tells.
    refetch: Duration,
    /// After a request that was not accepted, or where nothing could be read.
    refused: Duration,
    /// After a request that did not arrive: fetching certificates takes longer than reading a file.
    lost: Duration,
}

const PACE: Pace =
    Pace { recheck: RECHECK, refetch: REFETCH, refused: Duration::from_secs(1), lost: Duration::from_secs(5) };

/// The one who sends every request, with the access that is in force then.
#[derive(Debug)]
struct Remote {
    access: Access,
    pace: Pace,
    current: Mutex<Current>,
    /// Held while the access is read: of many requests one does it.
    loading: tokio::sync::Mutex<Option<Fetched>>,
    /// Where requests go.
    server: watch::Sender<Option<String>>,
}

/// The access in force, and how sure it is.
#[derive(Debug)]
struct Current {
    /// Nothing before the first request.
    state: Option<Result<Arc<Loaded>, Arc<LoadError>>>,
    /// When it was looked at last.
    looked: Instant,
    doubt: Option<Doubt>,
}

/// What makes an access doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// 401: the credentials are not accepted.
    Refused,
    /// A request did not arrive, perhaps because the server shows a certificate that nobody vouches for any more.
    Lost,
}

/// A client for a remote cluster, and where it leads.
#[derive(Clone)]
pub struct Connection {
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
pub fn connect(access: Access) -> Connection {
    paced(access, PACE)
}

fn paced(access: Access, pace: Pace) -> Connection {
    // kube takes the process's default. A second installation, of the same provider, is refused and does not matter.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let current = Mutex::new(Current { state: None, looked: Instant::now(), doubt: None });
    let server = watch::Sender::default();
    let told = server.subscribe();
    let remote = Arc::new(Remote { access, pace, current, loading: tokio::sync::Mutex::default(), server });
    let service = tower::service_fn(move |request| {
        let remote = remote.clone();
        async move { remote.send(request).await }
    });
    Connection { client: Client::new(service, "default"), server: told }
}

// === impl Remote ===

impl Remote {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let loaded = self.usable().await.map_err(|error| kube::Error::Service(error.into()))?;
        let answer = loaded.client.send(request).await;
        let doubt = match &answer {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => Some(Doubt::Refused),
            Ok(_) => None,
            Err(_) => Some(Doubt::Lost),
        };
        if let Some(doubt) = doubt {
            self.current.lock().doubt(&loaded, doubt);
        }
        answer
    }

    /// The access to use now.
    async fn usable(&self) -> Result<Arc<Loaded>, Arc<LoadError>> {
        if let Some(known) = self.current.lock().known(self.pace) {
            return known;
        }
        let mut fetched = self.loading.lock().await;
        // Whoever held it before may have done it.
        let (before, doubt) = {
            let current = self.current.lock();
            if let Some(known) = current.known(self.pace) {
                return known;
            }
            (current.state.clone().and_then(Result::ok), current.doubt)
        };
        let refetch = if doubt == Some(Doubt::Lost) { Duration::ZERO } else { self.pace.refetch };
        // A program that the kubeconfig names may give other credentials each time.
        let same = before.as_ref().filter(|_| doubt != Some(Doubt::Refused));
        let read = load::load(&self.access, &mut fetched, refetch, same).await;
        let state = match (read, before) {
            (Ok(loaded), before) => {
                if before.is_some_and(|before| !Arc::ptr_eq(&before, &loaded)) {
                    info!(remote = %self.access, "the access to the remote cluster was read anew");
                }
                Ok(loaded)
            }
            (Err(error), Some(before)) => {
                warn!(remote = %self.access, "{error}; the last good access stays in force");
                Ok(before)
            }
            (Err(error), None) => Err(Arc::new(error)),
        };
        if let Ok(loaded) = &state {
            self.server.send_if_modified(|server| {
                let moved = server.as_ref() != Some(&loaded.server);
                *server = Some(loaded.server.clone());
                moved
            });
        }
        *self.current.lock() = Current { state: Some(state.clone()), looked: Instant::now(), doubt: None };
        state
    }
}

// === impl Current ===

impl Current {
    /// The access, or why there is none, unless it is to be looked at first.
    fn known(&self, pace: Pace) -> Option<Result<Arc<Loaded>, Arc<LoadError>>> {
        let wait = match (self.state.as_ref()?, self.doubt) {
            (Ok(_), None) => pace.recheck,
            (Ok(_), Some(Doubt::Lost)) => pace.lost,
            (Ok(_), Some(Doubt::Refused)) | (Err(_), _) => pace.refused,
        };
        self.state.clone().filter(|_| self.looked.elapsed() < wait)
    }

    /// Something was wrong with a request under this access.
    fn doubt(&mut self, used: &Arc<Loaded>, doubt: Doubt) {
        // What an older access was refused says nothing about the new one.
        let in_force = matches!(&self.state, Some(Ok(loaded)) if Arc::ptr_eq(loaded, used));
        // A server that answers 401 is reached: the other doubt is over.
        if in_force && self.doubt != Some(Doubt::Refused) {
            self.doubt = Some(doubt);
        }
    }
}

// === impl Url ===

impl Url {
    /// Reads the URL of an API server. Without TLS is permitted: that is for a proxy beside this process.
    ///
    /// # Errors
    /// [`UrlError::Unreadable`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let unreadable = || UrlError::Unreadable(text.to_owned());
        let uri: hyper::Uri = text.parse().map_err(|_| unreadable())?;
        let known = matches!(uri.scheme_str(), Some("https" | "http"));
        let plain = uri.query().is_none() && !uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if known && plain && uri.host().is_some_and(|host| !host.is_empty()) {
            Ok(Self(uri))
        } else {
            Err(unreadable())
        }
    }

    /// Reads a URL that must be `https`.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse_protected(text: &str) -> Result<Self, UrlError> {
        let url = Self::parse(text)?;
        if url.0.scheme_str() == Some("https") { Ok(url) } else { Err(UrlError::Unprotected(text.to_owned())) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Secret ===

impl Secret {
    /// Hides a text. Spaces and line ends around it are not part of it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig { path, context: None } => write!(f, "kubeconfig {}", path.display()),
            Self::Kubeconfig { path, context: Some(context) } => {
                write!(f, "kubeconfig {} (context {context})", path.display())
            }
            Self::Server { url, .. } => url.fmt(f),
        }
    }
}
