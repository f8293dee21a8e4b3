//! Endpoints of Kubernetes Services, from their EndpointSlices.
//!
//! The role needs `list` and `watch` on `endpointslices` (API group `discovery.k8s.io`), in the namespaces of the patterns, and no
//! right on Services.

mod hints;
mod selection;

use std::{collections::BTreeSet, sync::Arc};

pub(crate) use hints::Hints;
use imbl::{OrdMap, ordmap::DiffItem};
use runtime::readiness::Gate;
pub use selection::{EndpointSelection, InvalidPattern, Pattern};
use snapshot::{Change, Cluster, ClusterName, Publisher};
use tokio::sync::watch::Receiver;
use tracing::{info, warn};

use crate::{
    build::{self, PortProblem, Projection},
    index::{Index, ServiceKey, View},
    kube_cluster::{KubeCluster, Watched},
    watch::{State, WatchKey, any_change},
};

/// The most port problems that are named as a reason.
const MAX_NAMED: usize = 5;

/// The source: one selection feeds one cluster.
pub struct KubeSource {
    /// The cluster it owns.
    pub cluster: ClusterName,
    /// The selected Services and their port.
    pub selection: EndpointSelection,
    /// The kube cluster.
    pub kube: KubeCluster,
    /// Receives all endpoints, whatever their conditions.
    pub publisher: Publisher,
    /// Opens when every watch follows a complete list, and until then gives the missing ones. A later outage of the API server
    /// changes only the age of the data. It closes again only if the choice of a port leaves no endpoint at all, with that reason.
    pub gate: Gate,
}

/// The last published state.
#[derive(Default)]
struct Published {
    /// Whether there is no endpoint, whatever its conditions.
    empty: bool,
    /// Why Services contribute no endpoints.
    problems: Vec<PortProblem>,
    /// Whether there are other Services than the hints know of.
    has_other_services: bool,
}

/// The state of the watches that was published last.
struct PublishedViews {
    /// The views of each watch.
    views: Vec<OrdMap<ServiceKey, Arc<View>>>,
    projection: Projection,
}

// === impl KubeSource ===

impl KubeSource {
    /// Keeps the cluster current for ever. The cluster first appears when one watch has a complete list, and every other has one or
    /// has failed to get it. It stays when the future is dropped; removing it is up to the caller.
    pub async fn run(self) {
        let keys = self.keys();
        let mut watches: Vec<Arc<Watched<Index>>> = keys.iter().map(|key| self.kube.slices(key.clone())).collect();
        let mut states: Vec<Receiver<State>> = watches.iter().map(|watched| watched.status.subscribe()).collect();
        let projection = Projection::new(self.selection.port.clone());
        let mut seen = PublishedViews { views: vec![OrdMap::new(); watches.len()], projection };
        let mut published = Published { has_other_services: true, ..Published::default() };
        let mut complete = false;
        let mut hints = Hints::new(self.cluster.as_str(), self.kube.client());
        loop {
            for ((watched, state), key) in watches.iter_mut().zip(&mut states).zip(&keys) {
                if watched.key != *key && watched.is_barred() {
                    *watched = self.kube.slices(key.clone());
                    *state = watched.status.subscribe();
                }
            }
            let now: Vec<State> = states.iter_mut().map(|state| state.borrow_and_update().clone()).collect();
            // Without any list it is unknown whether there are endpoints, so nothing is published.
            let known = now.iter().any(|state| state.listed);
            if known && now.iter().all(|state| state.listed || state.problem.is_some()) {
                published = self.publish(&watches, &mut seen, &published);
            }
            complete = complete || self.complete(&watches, &now);
            if complete {
                self.report(&published);
                if std::mem::take(&mut published.has_other_services) {
                    let services: Vec<ServiceKey> = seen.projection.services().cloned().collect();
                    hints.found(&self.selection.services, &services);
                }
            }
            tokio::select! {
                () = any_change(&mut states) => {}
                () = hints.log_result() => continue,
            }
            build::burst(&mut states).await;
        }
    }

    /// Every distinct key, wider ones first: a key that is covered by a working watch needs none of its own.
    fn keys(&self) -> Vec<WatchKey> {
        let mut keys: Vec<WatchKey> = Vec::new();
        for key in self.selection.services.iter().map(Pattern::watch_key) {
            if !keys.contains(&key) {
                let before = keys.iter().position(|narrower| key.covers(narrower)).unwrap_or(keys.len());
                keys.insert(before, key);
            }
        }
        keys
    }

    /// Takes what has changed in the watches since the last call, and publishes the cluster.
    fn publish(&self, watches: &[Arc<Watched<Index>>], seen: &mut PublishedViews, before: &Published) -> Published {
        let mut changed = BTreeSet::new();
        for (watched, seen) in watches.iter().zip(&mut seen.views) {
            let views = watched.store.lock().views();
            for item in seen.diff(&views) {
                let (DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { old: (key, _), .. }) = item;
                // A shared watch may contain thousands of others.
                if self.selection.services.iter().any(|pattern| pattern.matches(key)) {
                    changed.insert(key.clone());
                }
            }
            *seen = views;
        }
        let mut has_other_services = before.has_other_services;
        for key in changed {
            let view = seen.views.iter().rev().find_map(|views| views.get(&key));
            has_other_services |= seen.projection.update(&key, view.map(|view| &**view));
        }
        let problems = seen.projection.problems();
        for problem in problems.iter().filter(|problem| !before.problems.contains(problem)) {
            warn!(cluster = %self.cluster, "{problem}");
        }
        let (empty, services) = (seen.projection.is_empty(), seen.projection.services().len());
        let cluster = match empty {
            true => Cluster::empty(self.cluster.clone(), &self.why_empty(services > 0, &problems)),
            false => seen.projection.cluster(self.cluster.clone()),
        };
        let version = self.publisher.apply([Change::Set(Arc::new(cluster))]);
        tracing::debug!(cluster = %self.cluster, %version, services, "published");
        Published { empty, problems, has_other_services }
    }

    /// The reason why there is no endpoint, for requests.
    fn why_empty(&self, any_service: bool, problems: &[PortProblem]) -> String {
        match (problems.first(), any_service) {
            (Some(problem), _) => problem.to_string(),
            (None, true) => "the Service has no endpoints, ready or not: it has no pods".to_owned(),
            (None, false) => {
                let patterns: Vec<String> = self.selection.services.iter().map(ToString::to_string).collect();
                format!("there is no Service {}, or it has no EndpointSlice", patterns.join(" or "))
            }
        }
    }

    /// Whether every watch follows a complete list; else the gate gives the missing ones.
    fn complete(&self, watches: &[Arc<Watched<Index>>], now: &[State]) -> bool {
        let pending = watches.iter().zip(now).filter(|(_, state)| !state.connected);
        let mut missing: Vec<String> = pending
            .map(|(watched, state)| match &state.problem {
                Some(problem) => problem.clone(),
                None => format!("waiting for the first complete list of {}", watched.key),
            })
            .collect();
        // Several keys may share one watch.
        missing.dedup();
        if missing.is_empty() {
            info!(cluster = %self.cluster, "endpoints are complete");
        } else {
            self.gate.set_not_ready(missing.join("; "));
        }
        missing.is_empty()
    }

    /// Opens the gate, unless there is no endpoint because of the choice of a port.
    fn report(&self, published: &Published) {
        let problems = &published.problems;
        if !published.empty || problems.is_empty() {
            return self.gate.set_ready();
        }
        let named: Vec<String> = problems.iter().take(MAX_NAMED).map(ToString::to_string).collect();
        let more = if problems.len() > MAX_NAMED {
            format!(" and {} more", problems.len() - MAX_NAMED)
        } else {
            String::new()
        };
        self.gate.set_not_ready(named.join("; ") + &more);
    }
}

#[cfg(test)]
mod tests;
