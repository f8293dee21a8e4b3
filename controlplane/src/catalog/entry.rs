//! One Service's entry, from the Service and its slices (pure).

use std::sync::Arc;

use super::{Entry, Facts, Selector, ServicePort};
use crate::index::{About, Index, ServiceKey, Services, View};

/// The label by which controllers mark the slices that they make for Services.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// The prefix of its value for these controllers (`endpointslice-controller.k8s.io`, `endpointslicemirroring-controller.k8s.io`).
const CONTROLLERS: &str = "endpointslice";

/// The stores of one scope.
pub(super) struct Stores<'a> {
    pub(super) slices: &'a mut Index,
    pub(super) orphans: &'a mut Index,
    /// None without the right to read Services.
    pub(super) services: Option<&'a Services>,
}

/// The entry of one Service, if it is selected.
pub(super) fn selected(key: &ServiceKey, selector: &Selector, stores: &mut Stores<'_>) -> Option<Entry> {
    let services_known = stores.services.is_some();
    if let Some(known) = stores.services.and_then(|services| services.get(key)) {
        if !selector.matches(&known.facts.labels) {
            return None;
        }
        let view = stores.slices.view(key).unwrap_or_default();
        return Some(Entry { key: key.clone(), facts: known.facts.clone(), view });
    }
    // A controller's slice without its Service is about to be deleted, or an event of its Service is about to arrive.
    let alone =
        |about: &&About| !services_known || !about.labels.get(MANAGED_BY).is_some_and(|by| by.starts_with(CONTROLLERS));
    let matches = |index: &Index| index.about(key).filter(alone).any(|about| selector.matches(&about.labels));
    if matches(stores.slices) {
        return Some(of_slices(key, stores.slices));
    }
    matches(stores.orphans).then(|| of_slices(key, stores.orphans))
}

/// The entry of a Service from its slices alone, even if it has none.
pub(super) fn of_slices(key: &ServiceKey, slices: &mut Index) -> Entry {
    let view = slices.view(key).unwrap_or_default();
    // The oldest; of two equally old ones by content, so that the choice does not depend on order.
    let oldest = slices.about(key).min_by_key(|about| (about.created, &about.labels, &about.annotations));
    let About { created, labels, annotations } = oldest.cloned().unwrap_or_default();
    let facts = Facts { uid: "".into(), created, labels, annotations, ports: ports(&view) };
    Entry { key: key.clone(), facts, view }
}

fn ports(view: &Arc<View>) -> Vec<ServicePort> {
    let port = |port: &crate::index::Port| ServicePort {
        name: port.name.clone(),
        number: 0,
        target: None,
        protocol: port.protocol,
        app_protocol: view.app_protocol(port).into(),
    };
    view.ports().map(port).collect()
}
