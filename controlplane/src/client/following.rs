//! The client of every role, which follows the changes of its access: rotated tokens, certificates, kubeconfigs.
//!
//! Rules: making it asks nothing, so that whoever does not answer holds up nobody's start. What the access is made of is
//! looked at again every [`RECHECK`], and before the next request after one that was not accepted or did not arrive.
//! Whatever cannot be read then, the last good access stays in force. Reading it is a task of its own: it goes on where the
//! request that needs it is given up.

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

/// How often the access is looked at where nothing seems wrong with it: a service account's token is renewed when a fifth
/// of its time is left, at least two minutes, so a new one is always taken in time.
pub const RECHECK: Duration = Duration::from_secs(30);

/// How often certificates are fetched again from their URL where nothing seems wrong with them.
pub const REFETCH: Duration = Duration::from_secs(600);

/// How long before their expiry new credentials are requested from a plugin.
const RENEW_CREDENTIALS_BEFORE: SignedDuration = SignedDuration::from_secs(60);

/// The intervals of one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intervals {
    /// Between two looks at an access with which nothing seems wrong.
    recheck: Duration,
    /// The same for certificates that a URL tells.
    refetch: Duration,
    /// After a request that was not accepted, or where nothing could be read.
    refused: Duration,
    /// After a request that did not arrive: fetching certificates takes longer than reading a file.
    lost: Duration,
}

pub(super) const INTERVALS: Intervals =
    Intervals { recheck: RECHECK, refetch: REFETCH, refused: Duration::from_secs(1), lost: Duration::from_secs(5) };

/// Sends every request with the access that is in force at that time.
#[derive(Debug)]
pub(super) struct Following {
    access: Access,
    environment: Environment,
    intervals: Intervals,
    current: Mutex<Current>,
    /// What was read already, for the first time.
    first: Mutex<Option<ClientSettings>>,
    /// Certificates from a URL.
    fetched: tokio::sync::Mutex<Option<FetchedCertificates>>,
    /// Where requests go.
    server: watch::Sender<Option<String>>,
}

/// An access that was read, and what sends requests under it.
#[derive(Debug)]
struct Loaded {
    sender: Sender,
    settings: ClientSettings,
    /// When its credentials end.
    until: Option<Timestamp>,
}

type State = Result<Arc<Loaded>, Arc<LoadError>>;

/// The access in force and whether it is in doubt.
#[derive(Debug)]
struct Current {
    /// Nothing before the first request.
    state: Option<State>,
    /// When it was looked at last.
    looked: Instant,
    doubt: Option<Doubt>,
    /// A look under way: of many requests one begins it, and all wait for it.
    looking: Option<Shared<BoxFuture<'static, State>>>,
    /// The last problem that was logged.
    told: Option<String>,
}

/// Why an access is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// 401: the credentials are not accepted.
    Refused,
    /// A request did not arrive, perhaps because the server shows a certificate that nobody vouches for any more.
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
    /// It belongs to the caller's tokio runtime. What was read of the access already need not be read again.
    pub(super) fn new(
        access: Access,
        environment: Environment,
        intervals: Intervals,
        first: Option<ClientSettings>,
    ) -> Arc<Self> {
        let current = Current { state: None, looked: Instant::now(), doubt: None, looking: None, told: None };
        let (current, first, fetched) = (Mutex::new(current), Mutex::new(first), tokio::sync::Mutex::default());
        Arc::new(Self { access, environment, intervals, current, first, fetched, server: watch::Sender::default() })
    }

    /// Where requests go; none before the first one.
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
    async fn usable(self: &Arc<Self>) -> State {
        let looking = {
            let mut current = self.current.lock();
            if let Some(known) = current.known(self.intervals) {
                return known;
            }
            current.looking.get_or_insert_with(|| self.clone().looking()).clone()
        };
        looking.await
    }

    /// A look at the access, as a task that goes on where nobody waits for it any more.
    fn looking(self: Arc<Self>) -> Shared<BoxFuture<'static, State>> {
        let access = self.access.to_string();
        let look = tokio::spawn(async move {
            let looked = AssertUnwindSafe(self.look()).catch_unwind().await;
            let state = looked.unwrap_or_else(|_panicked| self.keep(Err(LoadError::Broken(self.access.to_string()))));
            self.take(state)
        });
        // Where the task is cut, the process ends.
        async move { look.await.unwrap_or_else(|_cut| Err(Arc::new(LoadError::Broken(access)))) }.boxed().shared()
    }

    /// Takes what was found out.
    fn take(&self, state: State) -> State {
        if let Ok(loaded) = &state {
            let now = loaded.settings.server.to_string();
            self.server.send_if_modified(|server| {
                let moved = server.as_ref() != Some(&now);
                *server = Some(now);
                moved
            });
        }
        let mut current = self.current.lock();
        (current.looked, current.doubt, current.looking) = (Instant::now(), None, None);
        current.state.insert(state).clone()
    }

    async fn look(&self) -> State {
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
        let settings = match (settings, &before) {
            (Ok(settings), _) => settings,
            // Its credentials may have to be renewed all the same.
            (Err(error), Some(before)) => {
                self.tell(&error);
                before.settings.clone()
            }
            (Err(error), None) => return Err(Arc::new(error)),
        };
        // A plugin may give other credentials each time.
        let same = before.filter(|before| doubt != Some(Doubt::Refused) && !before.ends_soon());
        match same.filter(|before| before.settings == settings) {
            Some(same) => Ok(same),
            None => self.keep(load(settings).await),
        }
    }

    /// What counts from now on: what was made, or where that failed, what was good before.
    fn keep(&self, made: Result<Loaded, LoadError>) -> State {
        let before = self.current.lock().good();
        match (made, before) {
            (Ok(loaded), before) => {
                self.current.lock().told = None;
                if before.is_some() {
                    info!(server = %self.access, "the access to the API server was read anew");
                }
                Ok(Arc::new(loaded))
            }
            (Err(error), Some(before)) => {
                self.tell(&error);
                Ok(before)
            }
            (Err(error), None) => Err(Arc::new(error)),
        }
    }

    /// Logs a problem, once.
    fn tell(&self, error: &LoadError) {
        let text = error.to_string();
        let news = self.current.lock().told.replace(text.clone()).is_none_or(|told| told != text);
        if news {
            warn!(server = %self.access, "{text}; the last good access stays in force");
        }
    }
}

/// Gets what is missing, and makes what sends requests.
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

    /// The access, or why there is none, unless it is to be looked at first.
    fn known(&self, intervals: Intervals) -> Option<State> {
        let state = self.state.as_ref()?;
        let wait = match (state, self.doubt) {
            (Ok(loaded), _) if loaded.ends_soon() => intervals.refused,
            (Ok(_), None) => intervals.recheck,
            (Ok(_), Some(Doubt::Lost)) => intervals.lost,
            (Ok(_), Some(Doubt::Refused)) | (Err(_), _) => intervals.refused,
        };
        Some(state.clone()).filter(|_| self.looked.elapsed() < wait)
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
