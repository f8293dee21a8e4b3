//! The data of exports and the endpoints API: every selected Service with its labels, annotations and ports, and the view of
//! all its slices.
//!
//! Rule: Services are selected by their own labels, slices join by `kubernetes.io/service-name`; a slice without a Service is
//! selected by the labels of its own. Without the right to read Services, all are selected by the labels of their slices, to which
//! the controllers copy those of the Service.

mod entry;
mod part;
mod reader;
mod selector;
mod source;
mod watching;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use imbl::OrdMap;
pub use reader::{CatalogReader, DataAge};
pub use selector::{InvalidSelector, Selector};
pub use source::follow;

pub use crate::index::{Facts, ServicePort};
use crate::index::{ServiceKey, Touch, View};

/// All selected Services at one moment. Clones share their contents.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By namespace and name.
    pub services: OrdMap<ServiceKey, Arc<Entry>>,
    /// Grows with every change; 0 before the first list.
    pub sequence: u64,
    /// Selected namespaces without a complete list, because a right is missing or the API server is unavailable. Their Services may
    /// exist even if they are not in [`services`](Self::services).
    pub unlisted: Arc<BTreeSet<Arc<str>>>,
    /// Endpoints that were missing from a complete list, each with the sequence at which it vanished.
    vanished: OrdMap<ServiceKey, Arc<BTreeMap<SocketAddr, u64>>>,
}

/// One Service and its endpoints.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its namespace and name, or those of the slice if the slice names no Service.
    pub key: ServiceKey,
    /// The facts of its object, or of its slices if only these are known.
    pub facts: Facts,
    /// Its endpoints by port, whatever their conditions.
    pub view: Arc<View>,
}

/// Which Services are in a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those whose labels match. Needs `list` and `watch` on `endpointslices`, and on `services` for facts that slices do not have.
    Labels {
        /// The label selector.
        selector: Selector,
        /// These namespaces, for which Roles are enough; `None` means all namespaces, which needs a ClusterRole.
        namespaces: Option<Vec<Arc<str>>>,
    },
    /// One Service by its name, which is in the catalog as soon as its slices are listed, even if it has none. Needs no right on
    /// `services`.
    Service(ServiceKey),
}

// === impl Catalog ===

impl Catalog {
    /// Whether this endpoint was missing from a complete list, so that its loss is inferred. False if a watch reported that it was
    /// deleted, changed or deselected, and if it still exists.
    pub fn is_inferred_loss(&self, service: &ServiceKey, endpoint: SocketAddr) -> bool {
        self.vanished.get(service).is_some_and(|vanished| vanished.contains_key(&endpoint))
    }

    /// Whether any endpoint has vanished from a complete list since the catalog with this sequence.
    pub fn has_inferred_losses_since(&self, sequence: u64) -> bool {
        self.vanished.values().any(|vanished| vanished.values().any(|since| *since > sequence))
    }

    /// Sets or removes one entry, and records the endpoints that were missing from a complete list. Returns whether anything
    /// changed.
    fn put(&mut self, key: &ServiceKey, entry: Option<Entry>, touch: &Touch, settled: u64) -> bool {
        let before = self.services.get(key).cloned();
        let addresses =
            |view: Option<&View>| view.into_iter().flat_map(View::addresses).collect::<BTreeSet<SocketAddr>>();
        let had = addresses(before.as_ref().map(|entry| &*entry.view));
        let has = addresses(entry.as_ref().map(|entry| &*entry.view));
        let mut vanished = self.vanished.get(key).map(|vanished| (**vanished).clone()).unwrap_or_default();
        vanished.retain(|address, since| *since > settled && !touch.told.contains(address) && !has.contains(address));
        if touch.listed {
            let lost = had.difference(&has).filter(|address| !touch.told.contains(address));
            vanished.extend(lost.map(|address| (*address, self.sequence)));
        }
        if vanished.is_empty() {
            self.vanished.remove(key);
        } else {
            self.vanished.insert(key.clone(), Arc::new(vanished));
        }
        match (before, entry) {
            (Some(before), Some(entry)) if *before == entry => false,
            (None, None) => false,
            (_, Some(entry)) => {
                self.services.insert(key.clone(), Arc::new(entry));
                true
            }
            (Some(_), None) => {
                self.services.remove(key);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
