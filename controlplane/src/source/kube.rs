//! Endpoints of Kubernetes Services, from their EndpointSlices.
//!
//! The role needs `list` and `watch` on `endpointslices` (API group `discovery.k8s.io`), in the namespaces that the
//! patterns name. Services need not be readable.

mod family;
mod selection;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use parking_lot::Mutex;
use runtime::readiness::Gate;
pub use selection::{InvalidPattern, Pattern, Selection};
use snapshot::{Change, Cluster, ClusterName, Publisher};
use tokio::{sync::watch::Receiver, task::JoinHandle};
use tracing::{info, warn};

use crate::{
    build::{self, PortProblem, Projection},
    index::Index,
    watch::{self, Event, State, Status, WatchKey, any_change},
};

/// Most port problems that are named as a reason.
const NAMED: usize = 5;

/// One kube cluster, and the watches that are open on it. Cloning shares them.
#[derive(Clone)]
pub struct Kube {
    client: Client,
    watches: Arc<Mutex<HashMap<WatchKey, Weak<Watched>>>>,
}

/// The source: one selection feeds one cluster.
pub struct KubeSource {
    /// The cluster it owns.
    pub cluster: ClusterName,
    /// What is selected.
    pub selection: Selection,
    /// Where from.
    pub kube: Kube,
    /// Where the endpoints go. All of them do, whatever their conditions.
    pub publisher: Publisher,
    /// Opens when every watch has a complete list and goes on from it, and until then says what is missing. An API server
    /// that goes away later changes nothing but the age of the data. It is closed only where the choice of a port leaves
    /// no endpoint at all, which says why there is none.
    pub gate: Gate,
}

/// What was published last.
#[derive(Default)]
struct Published {
    /// There is no endpoint, whatever its conditions.
    empty: bool,
    /// Why Services contribute none.
    problems: Vec<PortProblem>,
}

/// One watch and what it has seen. Ends with its last user.
struct Watched {
    key: WatchKey,
    index: Arc<Mutex<Index>>,
    status: Status,
    task: JoinHandle<()>,
}

// === impl Kube ===

impl Kube {
    /// Nothing is watched until a source asks.
    pub fn new(client: Client) -> Self {
        Self { client, watches: Arc::default() }
    }

    /// The watch with this key: the one that is open already, if there is one.
    fn watch(&self, key: WatchKey) -> Arc<Watched> {
        let mut watches = self.watches.lock();
        if let Some(open) = watches.get(&key).and_then(Weak::upgrade) {
            return open;
        }
        watches.retain(|_key, watched| watched.strong_count() > 0);
        let watched = Arc::new(Watched::start(self.client.clone(), key.clone()));
        watches.insert(key, Arc::downgrade(&watched));
        watched
    }
}

// === impl Watched ===

impl Watched {
    fn start(client: Client, key: WatchKey) -> Self {
        let (index, status) = (Arc::<Mutex<Index>>::default(), Status::default());
        let task = tokio::spawn({
            let (index, status, key) = (index.clone(), status.clone(), key.clone());
            async move {
                let fold = |event: Event<EndpointSlice>| {
                    let mut index = index.lock();
                    match event {
                        Event::Reset { objects, unreadable } => index.reset(&objects, &unreadable),
                        Event::Apply(object) => index.apply(&object),
                        Event::Delete(key) => index.delete(&key),
                    }
                };
                tokio::select! {
                    never = watch::watch(key.api(client.clone()), key, status.clone(), fold) => match never {},
                    never = family::look_up(client, &index, &status) => match never {},
                }
            }
        });
        Self { key, index, status, task }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl KubeSource ===

impl KubeSource {
    /// Keeps the cluster current for ever. The cluster first appears when one watch has a complete list, and every other
    /// has one or has failed to get it. When the future is dropped it stays as it is, and whoever drops it decides whether
    /// to remove it.
    pub async fn run(self) {
        let watches: Vec<Arc<Watched>> = self.keys().into_iter().map(|key| self.kube.watch(key)).collect();
        let mut states: Vec<Receiver<State>> = watches.iter().map(|watched| watched.status.subscribe()).collect();
        let mut projection = Projection::new(self.selection.port.clone());
        let mut published = Published::default();
        let mut complete = false;
        loop {
            let now: Vec<State> = states.iter_mut().map(|state| state.borrow_and_update().clone()).collect();
            // Without any list nothing is known, which is not the same as knowing that there is no endpoint.
            let known = now.iter().any(|state| state.listed);
            if known && now.iter().all(|state| state.listed || state.problem.is_some()) {
                published = self.publish(&watches, &mut projection, &published.problems);
            }
            complete = complete || self.complete(&watches, &now);
            if complete {
                self.report(&published);
            }
            any_change(&mut states).await;
            build::burst(&mut states).await;
        }
    }

    /// One watch for every distinct key.
    fn keys(&self) -> Vec<WatchKey> {
        let mut keys: Vec<WatchKey> = Vec::new();
        for key in self.selection.services.iter().map(Pattern::watch_key) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    fn publish(&self, watches: &[Arc<Watched>], projection: &mut Projection, before: &[PortProblem]) -> Published {
        let mut views = HashMap::new();
        for watched in watches {
            for (service, view) in watched.index.lock().views() {
                if self.selection.services.iter().any(|pattern| pattern.matches(service)) {
                    views.insert(service.clone(), view);
                }
            }
        }
        let (endpoints, problems) = projection.endpoints(views.iter().map(|(service, view)| (service, view.clone())));
        for problem in problems.iter().filter(|problem| !before.contains(problem)) {
            warn!(cluster = %self.cluster, "{problem}");
        }
        let empty = endpoints.is_empty();
        let cluster = Cluster::new(self.cluster.clone(), endpoints);
        let version = self.publisher.apply([Change::Set(Arc::new(cluster))]);
        tracing::debug!(cluster = %self.cluster, %version, services = views.len(), "published");
        Published { empty, problems }
    }

    /// Whether every watch goes on from a complete list; else the gate says what is missing.
    fn complete(&self, watches: &[Arc<Watched>], now: &[State]) -> bool {
        let pending = watches.iter().zip(now).filter(|(_, state)| !state.connected);
        let missing: Vec<String> = pending
            .map(|(watched, state)| match &state.problem {
                Some(problem) => problem.clone(),
                None => format!("waiting for the first complete list of {}", watched.key),
            })
            .collect();
        if missing.is_empty() {
            info!(cluster = %self.cluster, "endpoints are complete");
        } else {
            self.gate.set_not_ready(missing.join("; "));
        }
        missing.is_empty()
    }

    /// Opens the gate, unless the choice of a port is why there is no endpoint.
    fn report(&self, published: &Published) {
        let problems = &published.problems;
        if !published.empty || problems.is_empty() {
            return self.gate.set_ready();
        }
        let named: Vec<String> = problems.iter().take(NAMED).map(ToString::to_string).collect();
        let more = if problems.len() > NAMED { format!(" and {} more", problems.len() - NAMED) } else { String::new() };
        self.gate.set_not_ready(named.join("; ") + &more);
    }
}

#[cfg(test)]
mod tests;
