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
    /// A complete list has changed it: nobody saw a deletion of what it lost.
    pub(crate) listed: bool,
    /// Addresses that came or went by events, after the last list that took them away.
    pub(crate) told: HashSet<SocketAddr>,
}

/// The observers of one store, each with the changes that it has not taken yet: at most one for every Service that exists
/// or existed in the meantime.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    last: u64,
    pending: HashMap<Observer, Touches>,
}

// === impl Observers ===

impl Observers {
    /// Adds an observer, to whom all these are new.
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

    /// What has changed since this was asked last.
    pub(crate) fn take(&mut self, observer: Observer) -> Touches {
        self.pending.get_mut(&observer).map(std::mem::take).unwrap_or_default()
    }

    /// Whether there is no observer.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// An event has changed a Service, and these addresses came or went with it.
    pub(crate) fn told(&mut self, service: &ServiceKey, addresses: &[SocketAddr]) {
        for touches in self.pending.values_mut() {
            touches.entry(service.clone()).or_default().told.extend(addresses);
        }
    }

    /// A complete list has changed a Service, and has taken these addresses away.
    pub(crate) fn listed(&mut self, service: &ServiceKey, lost: &HashSet<SocketAddr>) {
        for touches in self.pending.values_mut() {
            let touch = touches.entry(service.clone()).or_default();
            touch.listed = true;
            touch.told.retain(|address| !lost.contains(address));
        }
    }
}

impl Touch {
    /// Adds what another store says about the same Service.
    pub(crate) fn merge(&mut self, other: Self) {
        self.listed |= other.listed;
        self.told.extend(other.told);
    }
}
