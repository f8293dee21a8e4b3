//! The Services of one catalog in one scope: the watches that it needs, and the entry of each Service.

use tokio::sync::watch;

use super::{Catalog, Entry, Selector, entry, entry::Stores, watching::Watching};
use crate::{
    index::{Index, ServiceKey, Services, Touches},
    kube_cluster::{KubeCluster, orphaned_slices, service_slices, services, slices_of_services},
    watch::{Scope, State, Status},
};

/// The selected Services in one scope.
pub(super) struct CatalogPart {
    pub(super) scope: Scope,
    slices: Watching<Index>,
    by_labels: Option<ByLabels>,
    /// Whether everything has a complete list, or never will because an optional right is missing.
    pub(super) known: bool,
}

/// The watches that a selection by labels needs besides the slices of Services.
struct ByLabels {
    selector: Selector,
    orphans: Watching<Index>,
    services: Watching<Services>,
    /// Whether there was a complete list of Services at the last check.
    listed: bool,
}

// === impl CatalogPart ===

impl CatalogPart {
    pub(super) fn by_labels(kube: &KubeCluster, scope: Scope, selector: &Selector) -> Self {
        let by_labels = ByLabels {
            selector: selector.clone(),
            orphans: Watching::new(orphaned_slices(scope.clone()), |key| kube.orphans(key)),
            services: Watching::new(services(scope.clone()), |key| kube.services(key)),
            listed: false,
        };
        let slices = Watching::new(slices_of_services(scope.clone()), |key| kube.slices(key));
        Self { scope, slices, by_labels: Some(by_labels), known: false }
    }

    pub(super) fn of_one(kube: &KubeCluster, service: &ServiceKey) -> Self {
        let scope = Scope::Namespace(service.namespace.clone());
        let slices = Watching::new(service_slices(scope.clone(), &service.name), |key| kube.slices(key));
        Self { scope, slices, by_labels: None, known: false }
    }

    /// Replaces shared watches by narrower ones of its own if a right for the shared ones is missing. Returns whether it did.
    pub(super) fn reconsider(&mut self, kube: &KubeCluster) -> bool {
        let mut any = self.slices.reconsider(|key| kube.slices(key));
        if let Some(by) = &mut self.by_labels {
            any |= by.orphans.reconsider(|key| kube.orphans(key));
            any |= by.services.reconsider(|key| kube.services(key));
        }
        any
    }

    /// Whether this part's Services are known: there is a complete list of slices, and of Services unless the right to read them is
    /// missing. Other failures are waited out.
    pub(super) fn is_known(&self) -> bool {
        self.slices.state().listed
            && self.by_labels.as_ref().is_none_or(|by| {
                by.orphans.state().listed && (by.services.state().listed || by.services.is_forbidden())
            })
    }

    /// Starts over, so that every Service counts as changed.
    pub(super) fn start_over(&mut self) {
        self.slices.start_over();
        if let Some(by) = &mut self.by_labels {
            by.orphans.start_over();
            by.services.start_over();
        }
    }

    /// The Services to recompute.
    pub(super) fn touches(&mut self, catalog: &Catalog) -> Touches {
        let mut touches = self.slices.touches();
        let Some(by) = &mut self.by_labels else { return touches };
        for (key, touch) in by.orphans.touches().into_iter().chain(by.services.touches()) {
            touches.entry(key).or_default().merge(touch);
        }
        // The watches may have a wider scope.
        touches.retain(|key, _touch| self.scope.contains(&key.namespace));
        let listed = by.services.state().listed;
        if listed && !by.listed {
            // Names that were selected by the labels of their slices need not be Services.
            for key in catalog.services.keys().filter(|key| self.scope.contains(&key.namespace)) {
                touches.entry(key.clone()).or_default().listed = true;
            }
        }
        by.listed = listed;
        touches
    }

    pub(super) fn entry(&self, key: &ServiceKey) -> Option<Entry> {
        let mut slices = self.slices.watched.store.lock();
        let Some(by) = &self.by_labels else { return Some(entry::of_slices(key, &mut slices)) };
        let mut orphans = by.orphans.watched.store.lock();
        let services = by.listed.then(|| by.services.watched.store.lock());
        let primary = services.as_ref().and_then(|services| services.get(key)).and_then(|known| known.primary);
        if primary.is_some_and(|primary| slices.set_primary(key, primary)) {
            // Wakes the other users of the watch.
            self.slices.watched.status.changed();
        }
        let mut stores = Stores { slices: &mut slices, orphans: &mut orphans, services: services.as_deref() };
        entry::selected(key, &by.selector, &mut stores)
    }

    /// Whether a Service has a slice.
    pub(super) fn has_slice(&self, key: &ServiceKey) -> bool {
        self.slices.watched.store.lock().about(key).next().is_some()
    }

    pub(super) fn states(&self) -> Vec<watch::Receiver<State>> {
        let by = self.by_labels.iter().flat_map(|by| [by.orphans.state.clone(), by.services.state.clone()]);
        [self.slices.state.clone()].into_iter().chain(by).collect()
    }

    pub(super) fn statuses(&self) -> Vec<Status> {
        let by = self.by_labels.iter();
        let by = by.flat_map(|by| [by.orphans.watched.status.clone(), by.services.watched.status.clone()]);
        [self.slices.watched.status.clone()].into_iter().chain(by).collect()
    }

    pub(super) fn missing(&self) -> Vec<String> {
        let by = self.by_labels.iter().flat_map(|by| [by.orphans.missing(), by.services.missing()]);
        let mut missing: Vec<String> = [self.slices.missing()].into_iter().chain(by).flatten().collect();
        // Two watches on slices may lack the same right.
        missing.dedup();
        missing
    }
}
