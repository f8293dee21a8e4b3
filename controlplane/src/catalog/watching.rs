//! One watch that a catalog follows, with the catalog's position in it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    index::{Observer, Store, Touches},
    kube_cluster::Watched,
    watch::{Reason, State, WatchKey},
};

/// A watch and its user's position in it.
pub(super) struct Watching<S: Store> {
    /// The key that was asked for; the watch may have a wider one.
    wanted: WatchKey,
    pub(super) watched: Arc<Watched<S>>,
    observer: Observer,
    pub(super) state: watch::Receiver<State>,
}

// === impl Watching ===

impl<S: Store> Watching<S> {
    pub(super) fn new(wanted: WatchKey, open: impl FnOnce(WatchKey) -> Arc<Watched<S>>) -> Self {
        let watched = open(wanted.clone());
        let observer = watched.store.lock().observe();
        let state = watched.status.subscribe();
        Self { wanted, watched, observer, state }
    }

    /// Replaces the watch if it has a wider key for which a right is missing.
    pub(super) fn reconsider(&mut self, open: impl FnOnce(WatchKey) -> Arc<Watched<S>>) -> bool {
        let barred = self.watched.key != self.wanted && self.watched.is_barred();
        if barred {
            *self = Self::new(self.wanted.clone(), open);
        }
        barred
    }

    pub(super) fn start_over(&mut self) {
        let mut store = self.watched.store.lock();
        store.leave(self.observer);
        self.observer = store.observe();
    }

    pub(super) fn state(&self) -> watch::Ref<'_, State> {
        self.state.borrow()
    }

    pub(super) fn is_forbidden(&self) -> bool {
        self.state().reason == Some(Reason::Forbidden)
    }

    pub(super) fn touches(&self) -> Touches {
        self.watched.store.lock().touches(self.observer)
    }

    /// Why this watch is not yet following a complete list, if it is not.
    pub(super) fn missing(&self) -> Option<String> {
        let state = self.state();
        let waiting = || format!("waiting for the first complete list of {}", self.watched.key);
        (!state.connected).then(|| state.problem.clone().unwrap_or_else(waiting))
    }
}

impl<S: Store> Drop for Watching<S> {
    fn drop(&mut self) {
        self.watched.store.lock().leave(self.observer);
    }
}
