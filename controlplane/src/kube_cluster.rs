//! A kube cluster and its shared watches: one per key, and none if a wider one is open.

mod family;
mod keys;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Weak},
};

pub(crate) use keys::{orphaned_slices, service_slices, services, slices_of_services};
use kube::Client;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::{
    index::{Index, Services, Store},
    watch::{self, Reason, Status, WatchKey},
};

/// One kube cluster, and the watches that are open on it. Cloning shares them.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
    slices: Open<Index>,
    orphans: Open<Index>,
    services: Open<Services>,
}

/// The watches of one kind that are in use.
type Open<S> = Arc<Mutex<HashMap<WatchKey, Weak<Watched<S>>>>>;

/// One watch and its store. It ends with its last user.
pub(crate) struct Watched<S> {
    pub(crate) key: WatchKey,
    pub(crate) store: Arc<Mutex<S>>,
    pub(crate) status: Status,
    task: JoinHandle<()>,
}

// === impl KubeCluster ===

impl KubeCluster {
    /// Watches nothing yet.
    pub fn new(client: Client) -> Self {
        Self { client, slices: Arc::default(), orphans: Arc::default(), services: Arc::default() }
    }

    /// The client, for requests other than these watches.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A watch on the slices of Services with this key: an open one with the same key or with a wider one, else a new one. The
    /// caller has to filter, because a wider watch contains more. A new watch is never wider than its key.
    pub(crate) fn slices(&self, key: WatchKey) -> Arc<Watched<Index>> {
        let client = self.client.clone();
        let families =
            |store: Arc<Mutex<Index>>, status: Status| async move { family::look_up(client, &store, &status).await };
        self.open(&self.slices, key, Index::default, families)
    }

    /// The same for slices that name no Service.
    pub(crate) fn orphans(&self, key: WatchKey) -> Arc<Watched<Index>> {
        self.open(&self.orphans, key, Index::of_orphans, |_store, _status| std::future::pending())
    }

    /// The same for Services.
    pub(crate) fn services(&self, key: WatchKey) -> Arc<Watched<Services>> {
        self.open(&self.services, key, Services::default, |_store, _status| std::future::pending())
    }

    fn open<S: Store, F>(
        &self,
        open: &Open<S>,
        key: WatchKey,
        empty: impl FnOnce() -> S,
        beside: impl FnOnce(Arc<Mutex<S>>, Status) -> F,
    ) -> Arc<Watched<S>>
    where
        F: Future<Output = Infallible> + Send + 'static,
    {
        let mut open = open.lock();
        if let Some(watched) = open.get(&key).and_then(Weak::upgrade) {
            return watched;
        }
        open.retain(|_key, watched| watched.strong_count() > 0);
        let wider =
            open.iter().filter(|(wider, _watched)| wider.covers(&key)).filter_map(|(_key, open)| open.upgrade());
        if let Some(watched) = wider.into_iter().find(|watched| !watched.is_barred()) {
            return watched;
        }
        let (store, status) = (Arc::new(Mutex::new(empty())), Status::default());
        let beside = beside(store.clone(), status.clone());
        let task = tokio::spawn({
            let (api, key, status, store) = (key.api(self.client.clone()), key.clone(), status.clone(), store.clone());
            async move {
                tokio::select! {
                    never = watch::watch(api, key, status, |event| store.lock().fold(event)) => match never {},
                    never = beside => match never {},
                }
            }
        });
        let watched = Arc::new(Watched { key: key.clone(), store, status, task });
        open.insert(key, Arc::downgrade(&watched));
        watched
    }
}

// === impl Watched ===

impl<S> Watched<S> {
    /// Whether a right was missing from the start, so that there is no list. A narrower watch may be permitted.
    pub(crate) fn is_barred(&self) -> bool {
        let state = self.status.now();
        !state.listed && state.reason == Some(Reason::Forbidden)
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
