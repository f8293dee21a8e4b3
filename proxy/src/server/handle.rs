//! What the rest of the process may ask of a running server, and tell it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use redeliver::{
    JobId, Redelivery,
    view::{JobState, JobView, JobsView, Query},
};
use snapshot::{ClusterName, Version};
use tokio::sync::watch;

use super::list;
use crate::{
    config::{Config, Contradiction},
    events::{TooManyWatchers, Watcher},
    introspect::{Endpoints, Look},
    owed::RouteOwed,
    secured::{Secured, TlsProblem},
    shared::Shared,
    table::RouteEntry,
};

/// What the rest of the process may ask of a running server, and tell it.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

/// The readiness of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteState {
    /// Its name.
    pub name: Arc<str>,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Whether requests see a list of the cluster's endpoints, be it an empty one.
    pub has_list: bool,
    /// Whether the cluster has a ready endpoint.
    pub has_endpoint: bool,
    /// Why there is none, if known.
    pub why_none: String,
    /// The journal of its redelivery, while that has not been read.
    pub unread_journal: Option<PathBuf>,
}

/// The routes as they were when somebody last looked at them.
#[derive(Debug, Default)]
pub struct SeenRoutes {
    config: Option<Arc<Config>>,
    routes: Vec<Arc<RouteEntry>>,
}

/// The routes that have changed.
#[derive(Debug)]
pub struct ChangedRoutes {
    /// Whether these are all routes that there are.
    pub all: bool,
    /// Their readiness.
    pub routes: Vec<RouteState>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration contradicts itself.
    #[error("{}", list(.0))]
    Config(Vec<Contradiction>),
    /// Files of certificates or keys cannot be used.
    #[error("{}", list(.0))]
    Tls(Vec<TlsProblem>),
    /// Something changed that needs a restart.
    #[error("{0} cannot change while the process runs: restart it, or put the old value back")]
    Restart(&'static str),
}

// === impl RouteState ===

impl RouteState {
    fn of(route: &RouteEntry) -> Self {
        Self {
            name: route.config.name.clone(),
            cluster: route.config.cluster.clone(),
            has_list: route.has_list(),
            has_endpoint: route.members.iter().any(|member| member.is_ready),
            why_none: route.without_endpoint().unwrap_or_default().into_owned(),
            unread_journal: route.owed.as_ref().and_then(RouteOwed::unread_journal).map(Path::to_owned),
        }
    }
}

// === impl Handle ===

impl Handle {
    /// Applies another configuration to new requests. Requests in flight keep the old one.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing has changed then.
    pub fn reload(&self, config: impl Into<Arc<Config>>) -> Result<(), ReloadError> {
        let config = config.into();
        let problems = config.check();
        if !problems.is_empty() {
            return Err(ReloadError::Config(problems));
        }
        let current = self.config();
        let addresses = |config: &Config| config.listeners.iter().map(|l| l.address).collect::<Vec<_>>();
        let restart = [
            ("the addresses of the listeners", addresses(&config) != addresses(&current)),
            ("the number of threads", config.threads != current.threads),
            ("whether the port is shared (reuse_port)", config.reuse_port != current.reuse_port),
            ("the limits of the process", config.limits != current.limits),
            ("the format of the access log", config.access_log != current.access_log),
            (
                "where spans are sent (otlp_endpoint)",
                config.tracing.as_ref().map(|it| &it.endpoint) != current.tracing.as_ref().map(|it| &it.endpoint),
            ),
            (
                "where missed requests are kept (another journal, or redelivery where there was none)",
                !self.shared.owed.serve(&config),
            ),
        ];
        if let Some((what, _)) = restart.into_iter().find(|(_, changed)| *changed) {
            return Err(ReloadError::Restart(what));
        }
        let secured = Secured::load(&config, Some(&self.shared.table.load().secured)).map_err(ReloadError::Tls)?;
        if let (Some(tracer), Some(tracing)) = (&self.shared.tracer, &config.tracing) {
            tracer.set_sample(tracing.sample);
        }
        self.shared.rebuild(Some((config, secured)));
        Ok(())
    }

    /// The current configuration.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.shared.table.load().config.clone()
    }

    /// The version of the snapshot that requests are served from. It changes after the table, so that requests already use a
    /// version that is seen here.
    #[must_use]
    pub fn in_service(&self) -> watch::Receiver<Version> {
        self.shared.tables.subscribe()
    }

    /// Waits until every journal of redelivery was read, or cannot be for now.
    pub async fn journals_read(&self) {
        self.shared.owed.until_read().await;
    }

    /// The readiness of every route.
    #[must_use]
    pub fn routes(&self) -> Vec<RouteState> {
        self.changed_routes(&mut SeenRoutes::default()).routes
    }

    /// The readiness of the routes that have changed since `seen` was last given here; of all of them if others are configured.
    #[must_use]
    pub fn changed_routes(&self, seen: &mut SeenRoutes) -> ChangedRoutes {
        let table = self.shared.table.load();
        let all = seen.config.as_ref().is_none_or(|config| !Arc::ptr_eq(config, &table.config));
        if all {
            *seen = SeenRoutes { config: Some(table.config.clone()), routes: table.routes().cloned().collect() };
            return ChangedRoutes { all, routes: table.routes().map(|route| RouteState::of(route)).collect() };
        }
        let mut routes = Vec::new();
        for (seen, route) in seen.routes.iter_mut().zip(table.routes()) {
            if !Arc::ptr_eq(seen, route) {
                seen.clone_from(route);
                routes.push(RouteState::of(route));
            }
        }
        ChangedRoutes { all, routes }
    }

    /// The endpoints of every route, with the outcomes of their last legs.
    #[must_use]
    pub fn endpoints(&self) -> serde_json::Value {
        // What is shown has texts as keys only, so it can be written as JSON.
        serde_json::to_value(Endpoints(&self.shared.table.load_full())).unwrap_or_default()
    }

    /// The same, written as indented JSON, without having all of it in memory.
    ///
    /// # Errors
    /// That of the writer.
    pub fn write_endpoints(&self, out: &mut dyn io::Write) -> io::Result<()> {
        Ok(serde_json::to_writer_pretty(out, &Endpoints(&self.shared.table.load_full()))?)
    }

    /// The routes in numbers and the endpoints that are looked for, for `/-/overview`.
    #[must_use]
    pub fn overview(&self, look: &Look) -> serde_json::Value {
        crate::introspect::overview(&self.shared.table.load(), look)
    }

    /// What is owed, as far as it is shown, for `/-/overview`.
    #[must_use]
    pub fn owed(&self, limit: usize) -> Vec<JobsView> {
        self.jobs(&Query { state: Some(JobState::Owed), limit: Some(limit), ..Query::default() })
    }

    /// How many deliveries each endpoint is owed, for `/-/overview`.
    #[must_use]
    pub fn owed_by_endpoint(&self) -> BTreeMap<Arc<str>, usize> {
        redeliver::metrics::owed_by_endpoint(&self.redeliveries())
    }

    /// The requested jobs of each journal, for `/-/jobs`.
    #[must_use]
    pub fn jobs(&self, query: &Query) -> Vec<JobsView> {
        self.shared.owed.jobs(query)
    }

    /// One job, for `/-/jobs/<id>`.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<JobView> {
        self.shared.owed.job(id)
    }

    /// The redelivery of each journal, or of memory.
    #[must_use]
    pub fn redeliveries(&self) -> Vec<Redelivery> {
        self.shared.owed.redeliveries()
    }

    /// Watches requests and endpoints, until the drain begins.
    ///
    /// # Errors
    /// There are as many watchers as there may be.
    pub fn watch(&self) -> Result<Watcher, TooManyWatchers> {
        self.shared.events.watch(self.shared.work.clone())
    }

    /// The clients with most connections as JSON, for `/-/clients`.
    #[must_use]
    pub fn clients(&self) -> serde_json::Value {
        crate::introspect::clients(&self.shared.clients)
    }

    /// The metrics of the data plane in the Prometheus text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut text = Vec::new();
        // Writing into memory cannot fail.
        let _ = self.write_metrics(false, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// The same, written piece by piece; optionally with recorded traces as exemplars of request durations, which only
    /// OpenMetrics supports.
    ///
    /// # Errors
    /// That of the writer.
    pub fn write_metrics(&self, exemplars: bool, out: &mut dyn io::Write) -> io::Result<()> {
        crate::metrics::write(&self.shared, exemplars, out)
    }

    /// Requests in flight, stragglers included.
    #[must_use]
    pub fn inflight(&self) -> usize {
        self.shared.inflight.load(Ordering::Relaxed) + self.shared.straggling.load(Ordering::Relaxed)
    }
}
