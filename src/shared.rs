//! State that several tasks of the process read: readiness, the configuration in force, the data plane; and the admin API
//! that shows it.

use std::sync::{Arc, OnceLock, atomic::AtomicBool};

use runtime::{
    admin::{Admin, Document, MetricsText, Text},
    metrics::{Exposition, Metrics},
    readiness::Readiness,
    telemetry::Telemetry,
};
use tokio::sync::watch;

use crate::{access::Access, config::Config, events, jobs, page};

/// The data plane, once it runs.
pub(crate) type DataPlane = Arc<OnceLock<proxy::Handle>>;

/// State that several tasks read. Clones share it.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) readiness: Readiness,
    /// The configuration in force.
    pub(crate) config: Arc<watch::Sender<Arc<Config>>>,
    /// Whether the last reading of the file was refused.
    pub(crate) is_refused: Arc<AtomicBool>,
    /// The data plane, once it runs.
    handle: DataPlane,
    /// What callers are authenticated with.
    pub(crate) access: Arc<Access>,
}

impl Shared {
    pub(crate) fn new(readiness: Readiness, config: Arc<Config>, access: Arc<Access>) -> Self {
        let config = Arc::new(watch::Sender::new(config));
        Self { readiness, config, is_refused: Arc::default(), handle: Arc::default(), access }
    }

    /// The configuration in force.
    pub(crate) fn current(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Makes the data plane known, once it runs.
    pub(crate) fn set_data_plane(&self, handle: &proxy::Handle) {
        let _ = self.handle.set(handle.clone());
    }

    /// The endpoints of every route, once the data plane runs.
    pub(crate) fn endpoints(&self) -> serde_json::Value {
        self.handle.get().map_or(serde_json::Value::Null, proxy::Handle::endpoints)
    }

    /// The admin API, not yet bound.
    pub(crate) fn admin(&self, metrics: Metrics, telemetry: Telemetry) -> Admin {
        let (handle, config) = (self.handle.clone(), self.config.clone());
        let endpoints: Text = Arc::new(move |out| match handle.get() {
            Some(handle) => handle.write_endpoints(out),
            None => out.write_all(b"null"),
        });
        let config: Document = Arc::new(move || {
            let config = config.borrow().clone();
            config.shown()
        });
        let handle = self.handle.clone();
        let clients: Document = Arc::new(move || handle.get().map_or(serde_json::Value::Null, proxy::Handle::clients));
        let (data_plane, readiness) = (self.handle.clone(), self.readiness.clone());
        let overview = page::Overview { data_plane, readiness, metrics: metrics.clone() };
        let handle = self.handle.clone();
        let data_plane: MetricsText = Arc::new(move |format, out| {
            let exemplars = format == Exposition::OpenMetrics;
            handle.get().map_or(Ok(()), |handle| handle.write_metrics(exemplars, out))
        });
        Admin::new(self.readiness.clone(), metrics, telemetry)
            .more_metrics(data_plane)
            .long_json("/-/endpoints", endpoints)
            .json("/-/clients", clients)
            .merge(events::router(self.handle.clone()), &[events::PATH])
            .merge(page::router(overview), &page::PATHS)
            .merge(jobs::router(self.handle.clone()), &jobs::PATHS)
            .guard(self.access.admin_guard())
            .json("/-/config", config)
    }
}
