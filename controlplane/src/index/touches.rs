//! The changes of a store, kept for each of its observers until they ask for them.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
};

use super::ServiceKey;

/// One of a store's observers.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
pub(crate) struct Observer(u64);

/// The Services that have changed since an observer last asked.
pub(crate) type Touches = HashMap<ServiceKey, Touch>;

/// How one Service has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Touch {
    /// Whether a complete list has changed it, so that its losses are inferred.
    pub(crate) listed: bool,
    /// Addresses that events have added or removed, since the last list that lacked them.
    pub(crate) told: HashSet<SocketAddr>,
}

/// The observers of one store, each with its pending changes: at most one for every Service that exists or existed in the meantime.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    last: u64,
    pending: HashMap<Observer, Touches>,
}

// === impl Observers ===

impl Observers {
    /// Adds an observer, for which all these count as changed.
    pub(crate) fn add(&mut self, known: impl IntoIterator<Item = ServiceKey>) -> Observer {
        self.last += 1;
        let observer = Observer(self.last);
        self.pending.insert(observer, known.into_iter().map(|key| (key, Touch::default())).collect());
        observer
    }

    /// Removes an observer.
    pub(crate) fn remove(&mut self, observer: Observer) {
        self.pending.remove(&observer);
    }

    /// The changes since the last call for this observer.
    pub(crate) fn take(&mut self, observer: Observer) -> Touches {
        self.pending.get_mut(&observer).map(std::mem::take).unwrap_or_default()
    }

    /// Whether there is no observer.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Records that an event has changed a Service, and has added or removed these addresses.
    pub(crate) fn told(&mut self, service: &ServiceKey, addresses: &[SocketAddr]) {
        for touches in self.pending.values_mut() {
            touches.entry(service.clone()).or_default().told.extend(addresses);
        }
    }

    /// Records that a complete list has changed a Service, and lacks these addresses.
    pub(crate) fn listed(&mut self, service: &ServiceKey, lost: &HashSet<SocketAddr>) {
        for touches in self.pending.values_mut() {
            let touch = touches.entry(service.clone()).or_default();
            touch.listed = true;
            touch.told.retain(|address| !lost.contains(address));
        }
    }
}

impl Touch {
    /// Adds the changes of another store for the same Service.
    pub(crate) fn merge(&mut self, other: Self) {
        self.listed |= other.listed;
        self.told.extend(other.told);
    }
}
