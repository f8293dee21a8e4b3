//! The client of every role, which follows the changes of its access: rotated tokens, certificates, kubeconfigs.
//!
//! Rules: making a client sends nothing, so that a server that does not answer delays no start. The access is read again every
//! [`RECHECK`], and before the next request after one that was refused (401) or did not arrive. If that fails, the last good access
//! stays in use. Reading is a task of its own, which goes on when the request that needs it is cancelled.

#[cfg(test)]
mod tests;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use hyper::{Request, Response, StatusCode, body::Incoming};
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tower::ServiceExt as _;
use tracing::{info, warn};

use super::{
    access::Access,
    files::FileReader,
    make::{self, Sender},
    proxy::Environment,
    read::{self, ClientSettings, LoadError},
    trust::FetchedCertificates,
};

/// The interval at which the access is read again while requests succeed. A service account's token is renewed when a fifth of its
/// validity is left, at least two minutes, so a new one is always read in time.
pub const RECHECK: Duration = Duration::from_secs(30);

/// The interval at which certificates are fetched again from their URL while requests succeed.
pub const REFETCH: Duration = Duration::from_secs(600);

/// How long before their expiry new credentials are requested from a plugin.
const RENEW_CREDENTIALS_BEFORE: SignedDuration = SignedDuration::from_secs(60);

/// The intervals of one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intervals {
    /// Between two readings of the access while requests succeed.
    recheck: Duration,
    /// The same for certificates from a URL.
    refetch: Duration,
    /// After a request that was refused, or a reading that failed.
    refused: Duration,
    /// After a request that did not arrive: fetching certificates takes longer than reading a file.
    lost: Duration,
}

pub(super) const INTERVALS: Intervals =
    Intervals { recheck: RECHECK, refetch: REFETCH, refused: Duration::from_secs(1), lost: Duration::from_secs(5) };

/// Sends every request with the current access.
#[derive(Debug)]
pub(super) struct Following {
    access: Access,
    environment: Environment,
    intervals: Intervals,
    current: Mutex<Current>,
    /// Settings that were already read, for the first load.
    first: Mutex<Option<ClientSettings>>,
    /// Certificates from a URL.
    fetched: tokio::sync::Mutex<Option<FetchedCertificates>>,
    /// The URL that requests go to.
    server: watch::Sender<Option<String>>,
}

/// An access and the sender that was made from it.
#[derive(Debug)]
struct Loaded {
    sender: Sender,
    settings: ClientSettings,
    /// When its credentials expire.
    until: Option<Timestamp>,
}

type LoadResult = Result<Arc<Loaded>, Arc<LoadError>>;

/// The current access, and whether it is in doubt.
#[derive(Debug)]
struct Current {
    /// None before the first request.
    state: Option<LoadResult>,
    /// When it was last read.
    read_at: Instant,
    doubt: Option<Doubt>,
    /// A read in progress, which one request begins and all others wait for.
    reading: Option<Shared<BoxFuture<'static, LoadResult>>>,
    /// The last problem that was logged.
    logged: Option<String>,
}

/// Why an access is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// 401: the credentials are not accepted.
    Refused,
    /// A request did not arrive, perhaps because the server's certificate is no longer trusted.
    Lost,
}

// === impl Intervals ===

impl Intervals {
    pub(super) fn refetch(self) -> Duration {
        self.refetch
    }
}

// === impl Following ===

impl Following {
    /// Its tasks run on the caller's tokio runtime. `first` has the settings that were already read.
    pub(super) fn new(
        access: Access,
        environment: Environment,
        intervals: Intervals,
        first: Option<ClientSettings>,
    ) -> Arc<Self> {
        let current = Current { state: None, read_at: Instant::now(), doubt: None, reading: None, logged: None };
        let (current, first, fetched) = (Mutex::new(current), Mutex::new(first), tokio::sync::Mutex::default());
        Arc::new(Self { access, environment, intervals, current, first, fetched, server: watch::Sender::default() })
    }

    /// The URL that requests go to; none before the first one.
    pub(super) fn server(&self) -> watch::Receiver<Option<String>> {
        self.server.subscribe()
    }

    /// The client itself.
    pub(super) fn client(self: Arc<Self>, namespace: &str) -> kube::Client {
        let service = tower::service_fn(move |request| {
            let following = self.clone();
            async move { following.send(request).await }
        });
        kube::Client::new(service, namespace)
    }

    async fn send(self: Arc<Self>, request: Request<Body>) -> Result<Response<Incoming>, kube::Error> {
        let loaded = self.usable().await.map_err(|error| kube::Error::Service(error.into()))?;
        let answer = loaded.sender.clone().oneshot(request).await;
        let doubt = match &answer {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => Some(Doubt::Refused),
            Ok(_) => None,
            Err(_) => Some(Doubt::Lost),
        };
        if let Some(doubt) = doubt {
            self.current.lock().doubt(&loaded, doubt);
        }
        answer.map_err(kube::Error::Service)
    }

    /// The access to use now.
    async fn usable(self: &Arc<Self>) -> LoadResult {
        let reading = {
            let mut current = self.current.lock();
            if let Some(known) = current.known(self.intervals) {
                return known;
            }
            current.reading.get_or_insert_with(|| self.clone().reading()).clone()
        };
        reading.await
    }

    /// Reads the access in a task that continues even if no request waits for it.
    fn reading(self: Arc<Self>) -> Shared<BoxFuture<'static, LoadResult>> {
        let access = self.access.to_string();
        let look = tokio::spawn(async move {
            let loaded = AssertUnwindSafe(self.look()).catch_unwind().await;
            let state = loaded.unwrap_or_else(|_panicked| self.keep(Err(LoadError::Broken(self.access.to_string()))));
            self.take(state)
        });
        // The task is cancelled only when the process ends.
        async move { look.await.unwrap_or_else(|_cut| Err(Arc::new(LoadError::Broken(access)))) }.boxed().shared()
    }

    /// Applies the result of a read.
    fn take(&self, state: LoadResult) -> LoadResult {
        if let Ok(loaded) = &state {
            let now = loaded.settings.server.to_string();
            self.server.send_if_modified(|server| {
                let moved = server.as_ref() != Some(&now);
                *server = Some(now);
                moved
            });
        }
        let mut current = self.current.lock();
        (current.read_at, current.doubt, current.reading) = (Instant::now(), None, None);
        current.state.insert(state).clone()
    }

    async fn look(&self) -> LoadResult {
        let (before, doubt) = {
            let current = self.current.lock();
            (current.good(), current.doubt)
        };
        let refetch = if doubt == Some(Doubt::Lost) { Duration::ZERO } else { self.intervals.refetch };
        let first = self.first.lock().take();
        let settings = match first {
            Some(settings) => Ok(settings),
            None => {
                let files = FileReader { again: before.is_some() };
                let mut fetched = self.fetched.lock().await;
                read::read(&self.access, &self.environment, files, &mut fetched, refetch).await
            }
        };
        let can_be_read = settings.is_ok();
        let settings = match (settings, &before) {
            (Ok(settings), _) => settings,
            // The old settings are kept, but their credentials may have to be renewed.
            (Err(error), Some(before)) => {
                self.log_once(&error);
                before.settings.clone()
            }
            (Err(error), None) => return Err(Arc::new(error)),
        };
        // A plugin may return other credentials each time.
        let same = before.filter(|before| doubt != Some(Doubt::Refused) && !before.ends_soon());
        match same.filter(|before| before.settings == settings) {
            Some(same) => {
                // The problem is told again if it comes back. That of a plugin ends only when it is asked again.
                let is_over = can_be_read && same.settings.plugin.is_none();
                if is_over && self.current.lock().logged.take().is_some() {
                    info!(server = %self.access, "the access to the API server can be read again");
                }
                Ok(same)
            }
            None => self.keep(load(settings).await),
        }
    }

    /// The new state: the access that was just read, or if that failed, the last good one.
    fn keep(&self, made: Result<Loaded, LoadError>) -> LoadResult {
        let before = self.current.lock().good();
        match (made, before) {
            (Ok(loaded), before) => {
                self.current.lock().logged = None;
                if before.is_some() {
                    info!(server = %self.access, "reloaded the access to the API server");
                }
                Ok(Arc::new(loaded))
            }
            (Err(error), Some(before)) => {
                self.log_once(&error);
                Ok(before)
            }
            (Err(error), None) => Err(Arc::new(error)),
        }
    }

    /// Logs a problem, once.
    fn log_once(&self, error: &LoadError) {
        let text = error.to_string();
        let news = self.current.lock().logged.replace(text.clone()).is_none_or(|logged| logged != text);
        if news {
            warn!(server = %self.access, "{text}; the last good access stays in use");
        }
    }
}

/// Asks the plugin for credentials, if there is one, and makes the sender.
async fn load(settings: ClientSettings) -> Result<Loaded, LoadError> {
    let credential = match &settings.plugin {
        Some(plugin) => Some(plugin.ask().await?),
        None => None,
    };
    let sender = make::sender(&settings, credential.as_ref())?;
    let until = credential.and_then(|credential| credential.until);
    Ok(Loaded { sender, settings, until })
}

// === impl Loaded ===

impl Loaded {
    fn ends_soon(&self) -> bool {
        self.until
            .is_some_and(|until| Timestamp::now() >= until.saturating_sub(RENEW_CREDENTIALS_BEFORE).unwrap_or(until))
    }
}

// === impl Current ===

impl Current {
    /// The last good access.
    fn good(&self) -> Option<Arc<Loaded>> {
        self.state.clone().and_then(Result::ok)
    }

    /// The access, or the reason why there is none; `None` if it must be read first.
    fn known(&self, intervals: Intervals) -> Option<LoadResult> {
        let state = self.state.as_ref()?;
        let wait = match (state, self.doubt) {
            (Ok(loaded), _) if loaded.ends_soon() => intervals.refused,
            (Ok(_), None) => intervals.recheck,
            (Ok(_), Some(Doubt::Lost)) => intervals.lost,
            (Ok(_), Some(Doubt::Refused)) | (Err(_), _) => intervals.refused,
        };
        Some(state.clone()).filter(|_| self.read_at.elapsed() < wait)
    }

    /// Notes that a request with this access failed.
    fn doubt(&mut self, used: &Arc<Loaded>, doubt: Doubt) {
        // A failure of an older access proves nothing about the current one.
        let in_force = matches!(&self.state, Some(Ok(loaded)) if Arc::ptr_eq(loaded, used));
        // A server that answers 401 was reached, so that a 401 replaces [`Doubt::Lost`].
        if in_force && self.doubt != Some(Doubt::Refused) {
            self.doubt = Some(doubt);
        }
    }
}
