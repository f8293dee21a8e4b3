//! The reading end of a catalog.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

use super::Catalog;
use crate::watch::Status;

/// A catalog that is kept up to date until this is dropped.
///
/// It is not `Clone`, because it records what was done with the catalog: each export has its own.
#[derive(Debug)]
pub struct CatalogReader {
    pub(super) catalog: watch::Receiver<Catalog>,
    pub(super) data_age: DataAge,
    pub(super) settled: Arc<AtomicU64>,
    /// What keeps it up to date; none if that is up to the sender of the catalogs.
    pub(super) task: Option<JoinHandle<()>>,
}

/// The age of a catalog's data. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct DataAge(Arc<Mutex<Vec<Status>>>);

impl DataAge {
    /// The time since the last event, bookmark or (re)connect of the watch that was silent longest.
    pub fn now(&self) -> Duration {
        self.0.lock().iter().map(Status::age).max().unwrap_or_default()
    }

    /// Replaces its watches.
    pub(super) fn set(&self, statuses: Vec<Status>) {
        *self.0.lock() = statuses;
    }
}

impl CatalogReader {
    /// A reader of catalogs from any source, such as a test.
    pub fn of(catalog: watch::Receiver<Catalog>) -> Self {
        Self { catalog, data_age: DataAge::default(), settled: Arc::default(), task: None }
    }

    /// The current catalog, whose sequence is 0 before the first list.
    pub fn load(&self) -> Catalog {
        self.catalog.borrow().clone()
    }

    /// Waits until the catalog is newer than the one with this sequence. Catalogs in between may be skipped. It may return an
    /// incomplete catalog, see [`Catalog::unlisted`]. Safe to cancel.
    pub async fn newer_than(&mut self, sequence: u64) -> Catalog {
        let newer = match self.catalog.wait_for(|catalog| catalog.sequence > sequence).await {
            Ok(catalog) => Some(catalog.clone()),
            // The task ends with this reader; only a shutdown of the runtime ends it before.
            Err(_closed) => None,
        };
        match newer {
            Some(catalog) => catalog,
            None => std::future::pending().await,
        }
    }

    /// How old the data is: the time since the last event, bookmark or (re)connect of the watch that was silent longest.
    pub fn age(&self) -> Duration {
        self.data_age.now()
    }

    /// A handle on the age.
    pub fn data_age(&self) -> DataAge {
        self.data_age.clone()
    }

    /// Reports that the catalog with this sequence was applied, so that its inferred losses need no longer be recorded.
    pub fn settle(&self, sequence: u64) {
        self.settled.fetch_max(sequence, Ordering::Relaxed);
    }
}

impl Drop for CatalogReader {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
