//! The data plane and its sources of endpoints, started and ended together.

use std::{net::SocketAddr, time::Duration};

use runtime::{
    readiness::{Gate, Readiness},
    systemd::PassedSockets,
};

use crate::{
    config::{self, Config},
    kubernetes::Kubernetes,
    routes_gate,
    shared::Shared,
    sources::Sources,
};

/// A data plane whose listeners are bound, and which does not answer yet.
pub(crate) struct BoundDataPlane {
    server: proxy::Server,
    /// Not ready from the start, until requests see the first endpoints.
    routes: Gate,
    sources: Sources,
    /// Readiness of the sources, from which that of the routes follows.
    lists: Readiness,
    /// Whether it shares its address with the process that it replaces, or takes sockets that are older than it: what it answers before it knows its
    /// endpoints would fail, and waits instead.
    replaces: bool,
}

/// A data plane that answers requests.
pub(crate) struct RunningDataPlane {
    running: proxy::Running,
    pub(crate) handle: proxy::Handle,
    pub(crate) sources: Sources,
    _gate: routes_gate::RoutesGateTask,
}

/// How long a process that takes the place of another one lets connections wait for its first lists of endpoints.
const REPLACING_TIMEOUT: Duration = Duration::from_secs(10);

/// The names of passed sockets for the listeners, in their order: `broadcast`, `broadcast-2` and so on.
pub(crate) fn socket_names(config: &Config) -> impl Iterator<Item = String> {
    (1..=config.proxy.listeners.len()).map(|n| if n == 1 { "broadcast".to_owned() } else { format!("broadcast-{n}") })
}

// === impl BoundDataPlane ===

impl BoundDataPlane {
    /// Binds every listener.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub(crate) fn bind(
        config: &Config,
        shared: &Shared,
        kubernetes: Kubernetes,
        passed: &mut PassedSockets,
    ) -> anyhow::Result<Self> {
        let (publisher, reader) = snapshot::channel();
        let routes = shared.readiness.register("routes");
        let passed: Vec<_> = socket_names(config).map(|name| passed.take(&name)).collect();
        let replaces = config.proxy.reuse_port || passed.iter().any(Option::is_some);
        let access = shared.access.sources().clone();
        let server = proxy::Server::bind_passed(config.proxy.clone(), reader.clone(), access, &passed);
        let server = server.map_err(|error| match error {
            // A file has changed since the configuration was checked.
            proxy::BindError::Tls(problems) => anyhow::anyhow!(config::tls_problems_text(&problems)),
            error => error.into(),
        })?;
        let lists = Readiness::new();
        let sources = Sources::new(publisher, reader, lists.clone(), kubernetes, config.dns);
        let names = config.proxy.listeners.iter().flat_map(|listener| &listener.routes).map(|route| &route.name);
        let starting = names.map(|name| (name.to_string(), Err("starting".to_owned())));
        shared.readiness.set_parts(starting.collect());
        Ok(Self { server, routes, sources, lists, replaces })
    }

    /// The addresses of the listeners, in the order of the configuration.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Starts the sources, then the listeners.
    ///
    /// # Errors
    /// A source of endpoints cannot be started.
    pub(crate) async fn start(self, shared: &Shared) -> anyhow::Result<RunningDataPlane> {
        let Self { server, routes, mut sources, lists, replaces } = self;
        let targets = shared.current().targets.clone();
        sources.start(&targets).await?;
        if replaces && let Err(why) = sources.first_lists(&targets, REPLACING_TIMEOUT).await {
            tracing::warn!("{why}; requests are answered all the same");
        }
        // Connections wait that the process before has left: none of them is refused because a journal is still being read.
        if replaces && tokio::time::timeout(REPLACING_TIMEOUT, server.journals_read()).await.is_err() {
            tracing::warn!("a journal is still being read: requests that need it are refused until then");
        }
        let running = server.start();
        let handle = running.handle();
        let _gate = routes_gate::spawn(routes, shared, handle.clone(), lists);
        Ok(RunningDataPlane { running, handle, sources, _gate })
    }
}

// === impl RunningDataPlane ===

impl RunningDataPlane {
    /// Lets requests in flight finish, and cuts off connections whose requests take longer. Returns how many were cut off.
    pub(crate) async fn drain(self, idle: Duration, timeout: Duration) -> usize {
        self.running.drain(idle, timeout).await.cut
    }
}
