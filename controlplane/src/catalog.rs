//! The data of exports and the endpoints API: every selected Service with its labels, annotations and ports, and the view of
//! all its slices.
//!
//! Rule: Services are selected by their own labels, slices join by `kubernetes.io/service-name`; a slice without a Service
//! is selected by the labels of its own. Where Services may not be read, all are selected by the labels of their slices,
//! to which the controllers copy them.

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

/// All selected Services at one moment. Cloning shares what is in it.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By namespace and name.
    pub services: OrdMap<ServiceKey, Arc<Entry>>,
    /// Grows with every change; 0 while nothing is known.
    pub sequence: u64,
    /// Selected namespaces of which there is no complete list, because a right is missing or the API server is away. That
    /// a Service of theirs is not in [`services`](Self::services) does not mean that it is gone.
    pub unlisted: Arc<BTreeSet<Arc<str>>>,
    /// Endpoints that complete lists took away, each with the sequence since when.
    vanished: OrdMap<ServiceKey, Arc<BTreeMap<SocketAddr, u64>>>,
}

/// One Service and its endpoints.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its namespace and name; of a slice that names no Service, the slice's.
    pub key: ServiceKey,
    /// What its object says; of a Service that is known by its slices alone, what these say.
    pub facts: Facts,
    /// Its endpoints by port, whatever their conditions.
    pub view: Arc<View>,
}

/// Which Services are in a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those whose labels match. Needs `list` and `watch` on `endpointslices` and, for more than their slices tell, on
    /// `services`.
    Labels {
        /// What labels.
        selector: Selector,
        /// In these namespaces, where Roles are enough; in all without any, which needs a ClusterRole.
        namespaces: Option<Vec<Arc<str>>>,
    },
    /// One, by its name: it is in the catalog as soon as its slices are listed, even if it has none. Needs no right on
    /// `services`.
    Service(ServiceKey),
}

// === impl Catalog ===

impl Catalog {
    /// Whether a complete list took this endpoint away, so that its end is inferred; not where a watch told that it was
    /// deleted, changed or deselected, and not where it is still there.
    pub fn is_inferred_loss(&self, service: &ServiceKey, endpoint: SocketAddr) -> bool {
        self.vanished.get(service).is_some_and(|vanished| vanished.contains_key(&endpoint))
    }

    /// Sets or removes one entry, and keeps account of what a complete list took away. Returns whether anything changed.
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
