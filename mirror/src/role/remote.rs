//! The watches of one remote, and its identity.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use ::metrics::gauge;
use controlplane::watch::{self, Event, Reason, Scope as WatchScope, Status, WatchKey};
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client};
use parking_lot::Mutex;
use runtime::backoff::Backoff;
use serde_json::{Value, json};
use tokio::{sync::Notify, time::timeout};

use super::Access;
use crate::{
    config, marks, metrics as names,
    reconcile::Reconciler,
    world::{Identity, RemoteState},
};

/// The time limit of a request for the remote's identity.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of these requests, because a cluster may be rebuilt under the same address.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(60);
/// The delays between failed attempts.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(15);

/// One remote and its watches.
pub(super) struct RemoteWatches {
    number: usize,
    name: String,
    pub(super) selector: String,
    access: Access,
    scopes: Vec<ScopeWatches>,
    /// Notified when it has listed anew, or fails: its identity has to be confirmed before that is believed.
    doubted: Notify,
    /// Its last known identity.
    said: Mutex<Identity>,
    /// Notified when it is another cluster than before, so that its watches start over.
    swapped: Notify,
}

/// The two watches of one namespace of the remote, or of all of them.
pub(super) struct ScopeWatches {
    pub(super) watched: WatchScope,
    pub(super) services: Status,
    slices: Status,
}

impl RemoteWatches {
    pub(super) fn new(number: usize, config: &config::Remote, access: Access) -> Self {
        let scope = |watched| ScopeWatches { watched, services: Status::default(), slices: Status::default() };
        let mut scopes: Vec<ScopeWatches> =
            config.namespaces.iter().map(|namespace| scope(WatchScope::Namespace(namespace.as_str().into()))).collect();
        if scopes.is_empty() {
            scopes.push(scope(WatchScope::All));
        }
        let (name, selector) = (config.name.clone(), config.selector.clone());
        let (doubted, said, swapped) = (Notify::new(), Mutex::new(Identity::Pending), Notify::new());
        Self { number, name, selector, access, scopes, doubted, said, swapped }
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn scopes(&self) -> &[ScopeWatches] {
        &self.scopes
    }

    /// The client for the remote, or why there is none.
    pub(super) fn client(&self) -> Result<Client, String> {
        self.access.borrow().clone()
    }

    /// Watches for ever, with the current client.
    pub(super) async fn follow(&self, reconciler: &Reconciler) -> Infallible {
        let mut access = self.access.clone();
        let (mut first, mut last) = (true, false);
        loop {
            let client = access.borrow_and_update().clone();
            if !std::mem::take(&mut first) {
                // A new client may lead to another cluster, so that its identity is unknown again.
                reconciler.world.lock().identified(self.number, Identity::Pending);
            }
            let changed = async {
                // The client cannot change any more.
                if last {
                    std::future::pending::<()>().await;
                }
                access.changed().await.is_err()
            };
            let watching: BoxFuture<'_, Infallible> = match client {
                Ok(client) => Box::pin(self.watch(client, reconciler)),
                Err(_why) => Box::pin(std::future::pending()),
            };
            tokio::pin!(watching);
            last = tokio::select! {
                never = &mut watching => match never {},
                () = self.swapped.notified() => last,
                ended = changed => ended,
            };
        }
    }

    async fn watch(&self, client: Client, reconciler: &Reconciler) -> Infallible {
        let mut all: Vec<BoxFuture<'_, Infallible>> =
            vec![Box::pin(self.identify(client.clone(), reconciler)), Box::pin(self.doubt(reconciler))];
        for (number, scope) in self.scopes.iter().enumerate() {
            let Reconciler { world, queue, .. } = reconciler;
            let services =
                WatchKey::new("services", "", scope.watched.clone(), self.selector.clone()).in_cluster(&*self.name);
            let slices =
                WatchKey::new("endpointslices", "discovery.k8s.io", scope.watched.clone(), marks::SERVICE_NAME)
                    .in_cluster(&*self.name);
            let remote = self.number;
            let service = move |event: Event<Service>| {
                self.listed(&event);
                let dirty = world.lock().remote_service(remote, number, event);
                queue.add(dirty, Instant::now());
            };
            let slice = move |event: Event<EndpointSlice>| {
                self.listed(&event);
                let now = Instant::now();
                let dirty = world.lock().remote_slice(remote, number, event, now);
                queue.add(dirty, now);
            };
            let api = services.api(client.clone());
            all.push(Box::pin(watch::watch(api, services, scope.services.clone(), service)));
            let api = slices.api(client.clone());
            all.push(Box::pin(watch::watch(api, slices, scope.slices.clone(), slice)));
        }
        join_all(all).await;
        std::future::pending().await
    }

    /// Asks for the remote's identity when it has listed anew.
    fn listed<K>(&self, event: &Event<K>) {
        if matches!(event, Event::Reset { .. }) {
            self.doubted.notify_one();
        }
    }

    /// Asks for the remote's identity when a watch fails, and when it has recovered: another cluster may answer under the same address,
    /// and continue a watch as if nothing had happened.
    async fn doubt(&self, reconciler: &Reconciler) -> Infallible {
        let statuses = || self.scopes.iter().flat_map(|scope| [&scope.services, &scope.slices]);
        let mut states: Vec<_> = statuses().map(Status::subscribe).collect();
        let mut before = vec![false; states.len()];
        loop {
            let failing: Vec<bool> =
                states.iter_mut().map(|state| state.borrow_and_update().problem.is_some()).collect();
            if failing.iter().zip(&before).any(|(now, before)| now & !before) {
                reconciler.world.lock().suspect(self.number);
            }
            if failing != before {
                self.doubted.notify_one();
            }
            before = failing;
            watch::any_change(&mut states).await;
        }
    }

    /// Finds out which cluster this is, again and again.
    async fn identify(&self, client: Client, reconciler: &Reconciler) -> Infallible {
        let namespaces: Api<Namespace> = Api::all(client);
        let mut backoff = Backoff::new(FIRST_DELAY, 2.0, MAX_DELAY);
        loop {
            let answer = timeout(ANSWER_TIMEOUT, namespaces.get_metadata("kube-system")).await;
            let identity = match answer {
                Ok(Ok(namespace)) => namespace.metadata.uid.map(|uid| Identity::Known(uid.into())),
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                    Some(Identity::Hidden(status.message.into()))
                }
                Ok(Err(_)) | Err(_) => None,
            };
            let Some(identity) = identity else {
                // The watches report the error; the known state of the remote is kept.
                let _ = timeout(backoff.next_delay(), self.doubted.notified()).await;
                continue;
            };
            backoff.reset();
            if self.doubted.notified().now_or_never().is_some() {
                // It has listed since it was asked.
                continue;
            }
            self.identified(identity, reconciler);
            let _ = timeout(IDENTIFY_INTERVAL, self.doubted.notified()).await;
        }
    }

    fn identified(&self, identity: Identity, reconciler: &Reconciler) {
        let mut world = reconciler.world.lock();
        let before = &world.remotes[self.number].identity;
        // A right that was revoked does not make it another cluster.
        if matches!((before, &identity), (Identity::Known(_), Identity::Hidden(_))) {
            return;
        }
        let mut said = self.said.lock();
        match (&*said, &identity) {
            (said, now) if said == now => {}
            (Identity::Known(_), Identity::Known(uid)) => {
                tracing::warn!(remote = self.name, cluster = %uid, "it is another cluster than before: listing everything again");
                self.swapped.notify_one();
            }
            (_, Identity::Known(uid)) => {
                tracing::info!(remote = self.name, cluster = %uid, "remote cluster identified");
            }
            (_, Identity::Hidden(why)) => tracing::warn!(
                remote = self.name,
                "it does not say which cluster it is ({why}), so its mirrors cannot be distinguished from those of another cluster with \
                 this name: grant `get` on the namespace kube-system there"
            ),
            (_, Identity::Pending) => {}
        }
        if !matches!((&*said, &identity), (Identity::Known(_), Identity::Hidden(_))) {
            said.clone_from(&identity);
        }
        drop(said);
        let dirty = world.identified(self.number, identity);
        drop(world);
        reconciler.queue.add(dirty, Instant::now());
    }

    /// How long each scope has been unavailable; `None` where it is available.
    pub(super) fn away(&self) -> Vec<Option<Duration>> {
        let barred = self.access.borrow().is_err();
        let away = |status: &Status| {
            let state = status.subscribe().borrow().clone();
            (barred || !state.connected || state.problem.is_some()).then(|| status.age())
        };
        self.scopes.iter().map(|scope| away(&scope.services).max(away(&scope.slices))).collect()
    }

    /// The time since the last event, bookmark or connection.
    fn staleness(&self) -> Duration {
        let ages = self.scopes.iter().flat_map(|scope| [scope.services.age(), scope.slices.age()]);
        ages.max().unwrap_or_default()
    }

    /// The lists that are neither complete yet nor have failed.
    pub(super) fn unknown(&self, state: &RemoteState) -> Vec<String> {
        if self.access.borrow().is_err() {
            return Vec::new();
        }
        let mut unknown = Vec::new();
        let mut problem = false;
        for scope in &self.scopes {
            for (kind, status) in [("services", &scope.services), ("endpointslices", &scope.slices)] {
                let now = status.subscribe().borrow().clone();
                problem |= now.problem.is_some();
                if !now.connected && now.problem.is_none() {
                    let (name, watched) = (&self.name, &scope.watched);
                    unknown.push(format!("waiting for the first complete list of {kind} of {name} in {watched}"));
                }
            }
        }
        if matches!(state.identity, Identity::Pending) && !problem {
            unknown.push(format!("waiting for {} to say which cluster it is", self.name));
        }
        unknown
    }

    /// The current problems.
    pub(super) fn problems(&self, state: &RemoteState) -> Vec<String> {
        let mut problems = Vec::new();
        let mut problem = |text: String| problems.push(format!("{}: {text}", self.name));
        if let Err(why) = &*self.access.borrow() {
            problem(why.clone());
        }
        for scope in &self.scopes {
            for status in [&scope.services, &scope.slices] {
                if let Some(text) = status.subscribe().borrow().problem.clone() {
                    problem(text);
                }
            }
        }
        if let Identity::Hidden(why) = &state.identity {
            problem(format!("it does not say which cluster it is: {why}"));
        }
        problems
    }

    /// Missing rights without which there has never been a list.
    pub(super) fn missing_rights(&self) -> Vec<String> {
        let statuses = self.scopes.iter().flat_map(|scope| [&scope.services, &scope.slices]);
        let missing = statuses.filter_map(|status| {
            let state = status.subscribe().borrow().clone();
            let forbidden = state.reason == Some(Reason::Forbidden);
            state.problem.filter(|_| forbidden && !state.connected)
        });
        missing.map(|problem| format!("{}: {problem}", self.name)).collect()
    }

    /// The report of its state.
    pub(super) fn state(&self, state: &RemoteState) -> Value {
        let cluster: Option<Arc<str>> = match &state.identity {
            Identity::Known(uid) => Some(uid.clone()),
            Identity::Pending | Identity::Hidden(_) => None,
        };
        json!({
            "cluster": cluster.as_deref(),
            "in_sync": self.in_sync(state),
            "services": state.index.services().count(),
            "staleness_seconds": self.staleness().as_secs_f64(),
            "problems": self.problems(state),
        })
    }

    fn in_sync(&self, state: &RemoteState) -> bool {
        state.is_listed() && self.away().iter().all(Option::is_none)
    }

    pub(super) fn measure(&self, state: &RemoteState) {
        let remote = || self.name.clone();
        gauge!(names::STALENESS, "remote" => remote()).set(self.staleness().as_secs_f64());
        gauge!(names::IN_SYNC, "remote" => remote()).set(u8::from(self.in_sync(state)));
        gauge!(names::SELECTED, "remote" => remote()).set(state.index.services().count() as f64);
        gauge!(names::HELD_SLICES, "remote" => remote()).set(state.index.emptied() as f64);
    }
}

impl ScopeWatches {
    /// The watched scope, if there is a complete list of its Services that is being followed.
    pub(super) fn listed(&self) -> Option<&WatchScope> {
        let state = self.services.subscribe().borrow().clone();
        (state.listed && state.connected && state.problem.is_none()).then_some(&self.watched)
    }
}
