//! One followed service: its published state, the time of the last change, and the age of the data.

use std::{sync::Arc, time::Duration};

use ::metrics::{counter, gauge};
use axum::body::Bytes;
use controlplane::{
    catalog::{CatalogReader, DataAge, Entry},
    index::ServiceKey,
};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    document::{Document, endpoints},
    metrics as names,
};

/// A service that is followed until this is dropped.
#[derive(Debug)]
pub struct Service {
    key: ServiceKey,
    published: watch::Receiver<Option<Arc<Published>>>,
    age: DataAge,
    task: JoinHandle<()>,
}

/// The published state of a service between two changes.
#[derive(Debug)]
pub struct Published {
    /// Grows with every change, also from one process to the next, if the clock does not go back.
    pub index: u64,
    /// The JSON, a v1 Endpoints object.
    pub body: Bytes,
    /// The strong entity tag of the JSON, with quotes (RFC 9110, 8.8.3): equal for equal bytes in every process.
    pub etag: String,
    /// When it changed to this state.
    pub changed: Timestamp,
    /// The endpoints.
    pub entry: Arc<Entry>,
}

// === impl Service ===

impl Service {
    /// Follows one service, whose only entry is in this catalog.
    #[must_use]
    pub fn follow(key: ServiceKey, reader: CatalogReader) -> Self {
        let (sender, published) = watch::channel(None);
        runtime::metrics::from_zero(names::CHANGES, &[("service", &[&*key.to_string()])]);
        let age = reader.data_age();
        let task = tokio::spawn(publish(key.clone(), reader, sender));
        Self { key, published, age, task }
    }

    /// Its namespace and name.
    #[must_use]
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }

    /// The current state; `None` before the first complete list.
    #[must_use]
    pub fn now(&self) -> Option<Arc<Published>> {
        self.published.borrow().clone()
    }

    /// The age of the data: the time since the last event, bookmark or connection.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age.now()
    }

    /// A receiver of the current state and of changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.clone()
    }

    /// Reports the age.
    pub(super) fn report_age(&self) {
        gauge!(names::AGE, "service" => self.key.to_string()).set(self.age().as_secs_f64());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn publish(key: ServiceKey, mut reader: CatalogReader, sender: watch::Sender<Option<Arc<Published>>>) {
    let mut sequence = 0;
    let mut before: Option<Arc<Published>> = None;
    loop {
        let catalog = reader.newer_than(sequence).await;
        sequence = catalog.sequence;
        reader.settle(sequence);
        let Some(entry) = catalog.services.get(&key) else { continue };
        let next = Published::new(entry.clone(), before.as_deref(), Timestamp::now());
        // The change may not concern anything that is published.
        if before.as_ref().is_some_and(|before| before.etag == next.etag) {
            continue;
        }
        next.report(&key);
        let next = Arc::new(next);
        before = Some(next.clone());
        sender.send_replace(Some(next));
    }
}

// === impl Published ===

impl Published {
    pub(super) fn new(entry: Arc<Entry>, before: Option<&Self>, now: Timestamp) -> Self {
        // All keys are text, and all numbers are whole.
        let body = serde_json::to_vec(&Document::new(&entry)).expect("a document has nothing that cannot be JSON");
        let digest = Sha256::digest(&body);
        let etag = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // The index begins at the clock's time, so that a client with an index of an earlier process is not kept waiting.
        let clock = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let index = before.map_or(clock, |before| clock.max(before.index + 1));
        Self { index, body: body.into(), etag: format!("\"{etag}\""), changed: now, entry }
    }

    /// How many addresses are ready, and how many are there but not ready.
    pub(super) fn count(&self) -> (usize, usize) {
        let mut addresses: Vec<_> =
            endpoints(&self.entry.view).map(|(_, e)| (e.address.ip(), e.conditions.ready)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let ready = addresses.iter().filter(|(_, ready)| *ready).count();
        (ready, addresses.len() - ready)
    }

    fn report(&self, key: &ServiceKey) {
        let (ready, not_ready) = self.count();
        for (state, number) in [("ready", ready), ("not_ready", not_ready)] {
            #[expect(clippy::cast_precision_loss, reason = "there are not so many")]
            gauge!(names::ADDRESSES, "service" => key.to_string(), "state" => state).set(number as f64);
        }
        counter!(names::CHANGES, "service" => key.to_string()).increment(1);
        tracing::info!(service = %key, index = self.index, ready, not_ready, "the endpoints have changed");
    }
}
