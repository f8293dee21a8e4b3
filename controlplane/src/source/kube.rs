//! Endpoints of Kubernetes Services, from their EndpointSlices.
//!
//! The role needs `list` and `watch` on `endpointslices` (API group `discovery.k8s.io`), in the namespaces that the
//! patterns name. Services need not be readable.

mod hints;
mod selection;

use std::{collections::BTreeMap, sync::Arc};

pub(crate) use hints::Hints;
use runtime::readiness::Gate;
pub use selection::{EndpointSelection, InvalidPattern, Pattern};
use snapshot::{Change, Cluster, ClusterName, Publisher};
use tokio::sync::watch::Receiver;
use tracing::{info, warn};

use crate::{
    build::{self, PortProblem, Projection},
    index::{Index, ServiceKey},
    kube_cluster::{KubeCluster, Watched},
    watch::{State, WatchKey, any_change},
};

/// Most port problems that are named as a reason.
const MAX_NAMED: usize = 5;

/// The source: one selection feeds one cluster.
pub struct KubeSource {
    /// The cluster it owns.
    pub cluster: ClusterName,
    /// What is selected.
    pub selection: EndpointSelection,
    /// Where from.
    pub kube: KubeCluster,
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
    /// The Services that were found.
    services: Vec<ServiceKey>,
}

// === impl KubeSource ===

impl KubeSource {
    /// Keeps the cluster current for ever. The cluster first appears when one watch has a complete list, and every other
    /// has one or has failed to get it. When the future is dropped it stays as it is, and whoever drops it decides whether
    /// to remove it.
    pub async fn run(self) {
        let keys = self.keys();
        let mut watches: Vec<Arc<Watched<Index>>> = keys.iter().map(|key| self.kube.slices(key.clone())).collect();
        let mut states: Vec<Receiver<State>> = watches.iter().map(|watched| watched.status.subscribe()).collect();
        let mut projection = Projection::new(self.selection.port.clone());
        let mut published = Published::default();
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
            // Without any list nothing is known, which is not the same as knowing that there is no endpoint.
            let known = now.iter().any(|state| state.listed);
            if known && now.iter().all(|state| state.listed || state.problem.is_some()) {
                published = self.publish(&watches, &mut projection, &published.problems);
            }
            complete = complete || self.complete(&watches, &now);
            if complete {
                self.report(&published);
                hints.found(&self.selection.services, &published.services);
            }
            tokio::select! {
                () = any_change(&mut states) => {}
                () = hints.say() => continue,
            }
            build::burst(&mut states).await;
        }
    }

    /// Every distinct key, and before it those that see more: where their watches work, it needs none of its own.
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

    fn publish(
        &self,
        watches: &[Arc<Watched<Index>>],
        projection: &mut Projection,
        before: &[PortProblem],
    ) -> Published {
        let mut views = BTreeMap::new();
        for watched in watches {
            let (exact, wild): (Vec<&Pattern>, Vec<&Pattern>) =
                self.selection.services.iter().partition(|pattern| pattern.exact().is_some());
            // A shared watch may see thousands of others.
            for service in exact.into_iter().filter_map(Pattern::exact) {
                if let Some(view) = watched.store.lock().view(&service) {
                    views.insert(service, view);
                }
            }
            if wild.is_empty() {
                continue;
            }
            let all = watched.store.lock().views();
            let matching = all.into_iter().filter(|(service, _)| wild.iter().any(|pattern| pattern.matches(service)));
            views.extend(matching);
        }
        let (endpoints, problems) = projection.endpoints(views.iter().map(|(service, view)| (service, view.clone())));
        for problem in problems.iter().filter(|problem| !before.contains(problem)) {
            warn!(cluster = %self.cluster, "{problem}");
        }
        let empty = endpoints.is_empty();
        let cluster = match empty {
            true => Cluster::empty(self.cluster.clone(), &self.why_empty(!views.is_empty(), &problems)),
            false => Cluster::new(self.cluster.clone(), endpoints),
        };
        let version = self.publisher.apply([Change::Set(Arc::new(cluster))]);
        tracing::debug!(cluster = %self.cluster, %version, services = views.len(), "published");
        Published { empty, problems, services: views.into_keys().collect() }
    }

    /// Why there is no endpoint, for those who ask for one.
    fn why_empty(&self, any_service: bool, problems: &[PortProblem]) -> String {
        match (problems.first(), any_service) {
            (Some(problem), _) => problem.to_string(),
            (None, true) => "the Service has no endpoint at all, ready or not: no pod is behind it".to_owned(),
            (None, false) => {
                let patterns: Vec<String> = self.selection.services.iter().map(ToString::to_string).collect();
                format!("there is no Service {}, or it has no EndpointSlice", patterns.join(" or "))
            }
        }
    }

    /// Whether every watch goes on from a complete list; else the gate says what is missing.
    fn complete(&self, watches: &[Arc<Watched<Index>>], now: &[State]) -> bool {
        let pending = watches.iter().zip(now).filter(|(_, state)| !state.connected);
        let mut missing: Vec<String> = pending
            .map(|(watched, state)| match &state.problem {
                Some(problem) => problem.clone(),
                None => format!("waiting for the first complete list of {}", watched.key),
            })
            .collect();
        // Several keys may have one watch.
        missing.dedup();
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
