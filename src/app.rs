//! The one way from a checked configuration to a running process: bind, run, drain. Every subcommand and every
//! in-process test takes it.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use runtime::{
    admin::{self, Admin, Document},
    metrics::Metrics,
    readiness::{Gate, Readiness},
    signal::Request,
    telemetry::Telemetry,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{config::Config, reload::Reloader, routes_gate, sources::Sources};

/// Everything that is listened on is, and nothing is answered yet.
pub(crate) struct Bound {
    server: proxy::Server,
    admin: Option<admin::Bound>,
    /// Not ready from the start, so that nobody is told otherwise before requests see the first endpoints.
    routes: Gate,
    sources: Sources,
    shared: Shared,
}

/// What tasks beside the main one look at.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) readiness: Readiness,
    /// The configuration in force.
    pub(crate) config: Arc<watch::Sender<Arc<Config>>>,
    /// The data plane, once it runs.
    handle: Arc<OnceLock<proxy::Handle>>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// In order: what was in flight has finished, or the deadline has cut so many.
    Drained {
        /// Connections that were cut.
        cut: usize,
    },
    /// At once, because a second signal asked for it.
    AtOnce,
}

/// How long an admin request under way may hold up the end.
const ADMIN_PATIENCE: Duration = Duration::from_secs(1);

/// How long a reload waits for the first list of endpoints of new targets.
const FIRST_LIST_PATIENCE: Duration = Duration::from_secs(10);

// === impl Bound ===

impl Bound {
    /// Binds every listener. Port 0 takes a free one.
    ///
    /// # Errors
    /// An address cannot be bound, or a metrics recorder of somebody else is in the way.
    pub(crate) async fn bind(config: Config, telemetry: &Telemetry) -> anyhow::Result<Self> {
        let metrics = runtime::metrics::install()?;
        controlplane::metrics::describe();
        let (publisher, reader) = snapshot::channel();
        let readiness = Readiness::new();
        let routes = readiness.register("routes");
        let server = proxy::Server::bind(config.proxy.clone(), reader.clone())?;
        let sources = Sources::new(publisher, reader, readiness.clone(), config.kubernetes.clone());
        let listen = config.admin;
        let config = Arc::new(watch::Sender::new(Arc::new(config)));
        let shared = Shared { readiness, config, handle: Arc::default() };
        let admin = match listen {
            Some(address) => Some(shared.admin(metrics.clone(), telemetry.clone()).bind(address).await?),
            None => None,
        };
        tokio::spawn(metrics.upkeep());
        Ok(Self { server, admin, routes, sources, shared })
    }

    /// Where requests come in, in the order of the configuration.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Where the admin API is.
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Bound::addr)
    }

    /// Whether the process may be sent traffic.
    pub(crate) fn readiness(&self) -> Readiness {
        self.shared.readiness.clone()
    }

    /// Serves until a request to drain, and drains. With a reloader, its file is followed.
    ///
    /// # Errors
    /// A source of endpoints cannot even be started.
    pub(crate) async fn run(
        self,
        mut requests: mpsc::Receiver<Request>,
        mut reloader: Option<Reloader>,
    ) -> anyhow::Result<Ended> {
        let addresses = self.server.addresses().to_vec();
        let (stop_admin, admin) = self.admin.map(serve_admin).unzip();
        let mut sources = self.sources;
        sources.start(&self.shared.current().targets).await?;
        let running = self.server.start();
        let handle = running.handle();
        // Nobody else sets it.
        let _ = self.shared.handle.set(handle.clone());
        let gate = routes_gate::spawn(self.routes, &self.shared, handle.clone());
        for address in addresses {
            tracing::info!("listening on http://{address} to broadcast");
        }
        if let Some((_, address)) = &admin {
            tracing::info!("listening on http://{address} for the admin API");
        }

        loop {
            let change = tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Exit) => return Ok(Ended::AtOnce),
                    Some(Request::Reload) => match &reloader {
                        Some(reloader) => reloader.read(),
                        None => {
                            tracing::warn!("nothing to reload: the configuration is the command line");
                            continue;
                        }
                    },
                    // Nobody is left who could ask for anything else.
                    Some(Request::Drain) | None => break,
                },
                change = Reloader::next(&mut reloader) => change,
            };
            let reload = crate::reload::apply(change, &self.shared, &handle, &mut sources, FIRST_LIST_PATIENCE);
            match unless_ended(reload, &mut requests).await {
                Ok(()) => {}
                Err(Request::Exit) => return Ok(Ended::AtOnce),
                Err(_) => break,
            }
        }

        let process = self.shared.current().process.clone();
        self.shared.readiness.set_draining();
        let drain = async {
            tokio::time::sleep(process.drain_delay).await;
            running.drain(process.drain_timeout).await
        };
        let Ok(drained) = unless_ended(drain, &mut requests).await else { return Ok(Ended::AtOnce) };
        drop((gate, sources));
        if let (Some(stop), Some((task, _))) = (stop_admin, admin) {
            let _ = stop.send(());
            let _ = tokio::time::timeout(ADMIN_PATIENCE, task).await;
        }
        Ok(Ended::Drained { cut: drained.cut })
    }
}

/// Waits for the work, unless a request to drain or exit comes first. A request to reload meanwhile is dropped: the
/// file is watched anyway.
async fn unless_ended<T>(work: impl Future<Output = T>, requests: &mut mpsc::Receiver<Request>) -> Result<T, Request> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            Some(request) = requests.recv() => match request {
                Request::Reload => {}
                request => return Err(request),
            },
        }
    }
}

type AdminTask = (tokio::task::JoinHandle<()>, SocketAddr);

fn serve_admin(admin: admin::Bound) -> (oneshot::Sender<()>, AdminTask) {
    let address = admin.addr();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let run = admin.run(async move {
            // A dropped sender stops it too.
            let _ = stopped.await;
        });
        if let Err(error) = run.await {
            tracing::error!(%error, "the admin API has ended");
        }
    });
    (stop, (task, address))
}

// === impl Shared ===

impl Shared {
    /// The configuration in force.
    pub(crate) fn current(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    fn admin(&self, metrics: Metrics, telemetry: Telemetry) -> Admin {
        let (handle, config) = (self.handle.clone(), self.config.clone());
        let endpoints: Document =
            Arc::new(move || handle.get().map_or(serde_json::Value::Null, proxy::Handle::endpoints));
        let config: Document = Arc::new(move || {
            let config = config.borrow().clone();
            serde_json::to_value(&*config).unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }))
        });
        let handle = self.handle.clone();
        let data_plane = Arc::new(move || handle.get().map(proxy::Handle::metrics).unwrap_or_default());
        Admin::new(self.readiness.clone(), metrics, telemetry)
            .more_metrics(data_plane)
            .json("/-/endpoints", endpoints)
            .json("/-/config", config)
    }
}
