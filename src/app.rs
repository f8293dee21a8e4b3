//! The way from a checked configuration to a running process, for every subcommand and in-process test: bind, run, drain.

mod running;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use runtime::{
    drain::Drain,
    listener,
    readiness::Readiness,
    signal::Request,
    systemd::{self, PassedSockets},
    telemetry::Telemetry,
    tls::{ServerSettings, ServerTls},
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    access::Access,
    broadcast,
    config::Config,
    kubernetes::Kubernetes,
    leader::{self, Leader},
    memory,
    reload::Reloader,
    roles,
    shared::Shared,
};
use running::{AdminTask, RunningProcess};

/// A process whose listeners are bound, and which does not answer yet.
pub(crate) struct BoundProcess {
    broadcast: Option<broadcast::BoundDataPlane>,
    roles: Vec<roles::BoundRole>,
    /// Ended after the roles, which write under it.
    leader: Option<Leader>,
    /// Ends the roles.
    drain: Drain,
    admin: Option<listener::Bound>,
    shared: Shared,
    /// Whether a reload was requested before the process ran.
    reload_asked: bool,
}

/// The name of a passed socket for the admin API.
const ADMIN_SOCKET: &str = "admin";

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a drain: requests in flight have finished, or were cut off at the deadline.
    Drained {
        /// Connections that were cut off.
        cut: usize,
    },
    /// At once, because of a second signal.
    AtOnce,
}

// === impl Ended ===

impl Ended {
    /// The end of a process that a signal ended before it served anything.
    pub(crate) fn before_start(request: Request) -> Self {
        if request == Request::Exit { Self::AtOnce } else { Self::Drained { cut: 0 } }
    }
}

// === impl BoundProcess ===

impl BoundProcess {
    /// Binds every listener. Port 0 takes a free one.
    ///
    /// # Errors
    /// An address cannot be bound, or another metrics recorder is installed.
    pub(crate) async fn bind(config: Config, telemetry: &Telemetry, mut passed: PassedSockets) -> anyhow::Result<Self> {
        let metrics = runtime::metrics::install()?;
        controlplane::metrics::describe();
        ::access::metrics::describe();
        let (readiness, drain) = (Readiness::new(), Drain::new());
        let kubernetes = Kubernetes::new(&config.kubernetes);
        let config = Arc::new(config);
        let access = Arc::new(Access::new(kubernetes.clone(), readiness.clone()));
        access.prepare(&config).await?;
        let shared = Shared::new(readiness.clone(), config.clone(), access.clone());
        let broadcast = match config.proxy.listeners.is_empty() {
            true => None,
            false => Some(broadcast::BoundDataPlane::bind(&config, &shared, kubernetes.clone(), &mut passed)?),
        };
        let (leadership, leader) = leader::start(config.leader_elect.as_ref(), &kubernetes, &readiness).await?;
        let context = roles::Context {
            readiness,
            metrics: metrics.clone(),
            kubernetes,
            access,
            leadership,
            drain: drain.watch(),
        };
        let roles = roles::bind(&config, &context).await?;
        let admin = match config.admin {
            Some(address) => {
                let tls = config.admin_tls.clone().map(ServerTls::load).transpose().context("admin.tls")?;
                let admin = shared.admin(metrics.clone(), telemetry.clone()).tls(tls);
                Some(match passed.take(ADMIN_SOCKET) {
                    Some(socket) => admin.listen(socket)?,
                    None => admin.bind(address).await?,
                })
            }
            None => None,
        };
        let known: Vec<String> = broadcast::socket_names(&config).chain([ADMIN_SOCKET.to_owned()]).collect();
        passed.check_none_left(&known)?;
        tokio::spawn(metrics.upkeep());
        Ok(Self { broadcast, roles, leader, drain, admin, shared, reload_asked: false })
    }

    /// Makes it reload as soon as it runs, if a reload was requested before.
    pub(crate) fn reload_at_once(self, asked: bool) -> Self {
        Self { reload_asked: asked, ..self }
    }

    /// The addresses of the data plane's listeners, in the order of the configuration.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.broadcast.as_ref().map_or(&[], broadcast::BoundDataPlane::addresses)
    }

    /// The address of the admin API.
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(listener::Bound::addr)
    }

    /// State that others read while it runs.
    pub(crate) fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// Whether the process may be sent traffic.
    pub(crate) fn readiness(&self) -> Readiness {
        self.shared.readiness.clone()
    }

    /// Serves until a request to drain, or until every role has finished its work, and drains. With a reloader, follows its file.
    ///
    /// # Errors
    /// A source of endpoints cannot be started, or a role fails.
    pub(crate) async fn run(
        self,
        mut requests: mpsc::Receiver<Request>,
        reloader: Option<Reloader>,
    ) -> anyhow::Result<Ended> {
        let addresses = self.addresses().to_vec();
        let admin = self.admin.map(AdminTask::spawn);
        let shared = self.shared;
        let (broadcast, reload_asked) = match self.broadcast {
            Some(broadcast) => match unless_ended(broadcast.start(&shared), &mut requests).await {
                Ok((started, asked)) => (Some(started?), self.reload_asked || asked),
                Err(request) => return Ok(Ended::before_start(request)),
            },
            None => (None, self.reload_asked),
        };
        if let Some(broadcast) = &broadcast {
            shared.set_data_plane(&broadcast.handle);
        }
        let config = shared.current();
        for (address, listener) in addresses.iter().zip(&config.proxy.listeners) {
            tracing::info!("listening on {}://{address} to broadcast", scheme(listener.tls.as_ref()));
        }
        let mut roles = JoinSet::new();
        for role in self.roles {
            for url in role.urls {
                tracing::info!("listening on {url} for {}", role.name);
            }
            roles.spawn(async move { role.run.await.context(role.name) });
        }
        if let Some(admin) = &admin {
            tracing::info!("listening on {}://{} for the admin API", scheme(config.admin_tls.as_ref()), admin.address);
        }
        systemd::ready();
        let told = tokio::spawn(systemd::watch(shared.readiness.clone()));
        let trimming = tokio::spawn(memory::trim_regularly());
        let (leader, drain) = (self.leader, self.drain);
        let running = RunningProcess { broadcast, roles, leader, drain, admin, shared, reloader, reload_asked };
        let ended = running.run(requests).await;
        told.abort();
        trimming.abort();
        ended
    }
}

fn scheme(tls: Option<&ServerSettings>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// Waits for the work, unless a request to drain or exit comes first. Also returns whether a reload was requested meanwhile.
pub(crate) async fn unless_ended<T>(
    work: impl Future<Output = T>,
    requests: &mut mpsc::Receiver<Request>,
) -> Result<(T, bool), Request> {
    let mut work = std::pin::pin!(work);
    let mut reload_asked = false;
    loop {
        tokio::select! {
            done = &mut work => return Ok((done, reload_asked)),
            Some(request) = requests.recv() => match request {
                Request::Reload => reload_asked = true,
                request => return Err(request),
            },
        }
    }
}
