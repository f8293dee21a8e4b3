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

/// A catalog that is kept up to date, for as long as this lives.
///
/// It is not to be cloned, because it keeps account of what was done with the catalog: one for each export.
#[derive(Debug)]
pub struct CatalogReader {
    pub(super) catalog: watch::Receiver<Catalog>,
    pub(super) data_age: DataAge,
    pub(super) settled: Arc<AtomicU64>,
    pub(super) task: JoinHandle<()>,
}

/// How old the data of a catalog is. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct DataAge(Arc<Mutex<Vec<Status>>>);

impl DataAge {
    /// The time since the last event, bookmark or (re)connect of the watch that was silent longest.
    pub fn now(&self) -> Duration {
        self.0.lock().iter().map(Status::age).max().unwrap_or_default()
    }

    /// These are its watches from now on.
    pub(super) fn set(&self, statuses: Vec<Status>) {
        *self.0.lock() = statuses;
    }
}

impl CatalogReader {
    /// The catalog now; its sequence is 0 while nothing is known.
    pub fn load(&self) -> Catalog {
        self.catalog.borrow().clone()
    }

    /// Waits until the catalog is newer than the one with this sequence. Those in between may be skipped: the newest is
    /// what counts. What is known before everything has its first complete list comes as well, see
    /// [`Catalog::unlisted`]. May be dropped and called again.
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

    /// The age for others to ask.
    pub fn data_age(&self) -> DataAge {
        self.data_age.clone()
    }

    /// Says that the catalog with this sequence has been acted on: losses that it had inferred need no longer be kept.
    pub fn settle(&self, sequence: u64) {
        self.settled.fetch_max(sequence, Ordering::Relaxed);
    }
}

impl Drop for CatalogReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}
