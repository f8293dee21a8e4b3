//! Samples requests, accepts their spans from the workers, and has them exported in the background.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;

pub use crate::exporter::ExporterError as StartError;
use crate::{
    context::{RemoteParent, RequestTrace},
    exporter::{Counters, Exporter},
    queue::Queue,
    settings::{Ratio, Settings},
    span::Span,
};

/// A handle for tracing. Clones share it.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sample: ArcSwap<Ratio>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
}

/// The number of spans by result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Accepted by the collector.
    pub exported: u64,
    /// Not accepted by the collector in time.
    pub failed: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
}

// === impl Tracer ===

impl Tracer {
    /// Starts the thread that exports spans; `instance` is a unique id of this process. The collector need not be reachable yet.
    ///
    /// # Errors
    /// [`StartError`] if the settings or the environment are invalid.
    pub fn start(settings: &Settings, instance: &str) -> Result<Self, StartError> {
        let (queue, counters) = (Arc::<Queue>::default(), Arc::<Counters>::default());
        Exporter::start(settings.endpoint.clone(), instance, queue.clone(), counters.clone())?;
        Ok(Self(Arc::new(Shared { sample: ArcSwap::from_pointee(settings.sample), queue, counters })))
    }

    /// Changes the sampling ratio.
    pub fn set_sample(&self, sample: Ratio) {
        self.0.sample.store(Arc::new(sample));
    }

    /// The ids of a request with this parent.
    #[must_use]
    pub fn begin(&self, parent: Option<RemoteParent>) -> RequestTrace {
        parent.map_or_else(|| RequestTrace::begun(|trace| self.0.sample.load().takes(trace)), RequestTrace::continued)
    }

    /// Queues the spans of a request that has ended.
    pub fn record(&self, spans: impl ExactSizeIterator<Item = Span>) {
        self.0.queue.put(spans);
    }

    /// The number of spans so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Shared { queue, counters, .. } = &*self.0;
        Counts {
            exported: counters.exported.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            dropped: queue.dropped(),
        }
    }

    /// Waits until all spans so far are exported or lost, for at most `patience`. Blocks the thread.
    pub fn flush(&self, patience: Duration) {
        if self.0.queue.flush().recv_timeout(patience).is_err() {
            let left = self.0.queue.len();
            tracing::warn!("the collector has not accepted all spans within {patience:?}; at least {left} are lost");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}
