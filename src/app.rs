//! The one way from a checked configuration to a running process: bind, run, drain. Every subcommand and every
//! in-process test takes it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use runtime::{drain::Drain, listener, readiness::Readiness, signal::Request, telemetry::Telemetry};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    broadcast,
    config::Config,
    kubernetes::Kubernetes,
    leader::{self, Leader},
    reload::{Change, Reloader},
    roles,
    shared::Shared,
};

/// Everything that is listened on is, and nothing is answered yet.
pub(crate) struct Bound {
    broadcast: Option<broadcast::Bound>,
    roles: Vec<roles::Bound>,
    /// Ended after the roles, which write under it.
    leader: Option<Leader>,
    /// Tells the roles when to end.
    drain: Drain,
    admin: Option<listener::Bound>,
    shared: Shared,
    /// A reload was asked for before anything ran.
    reload_asked: bool,
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

/// What the main loop waits for.
enum Next {
    Asked(Option<Request>),
    Changed(Box<Change>),
    /// A role has nothing left to do, or cannot go on.
    RoleEnded(anyhow::Result<()>),
}

/// How long an admin request under way may hold up the end.
const ADMIN_PATIENCE: Duration = Duration::from_secs(1);

/// How long a reload waits for the first list of endpoints of new targets.
const FIRST_LIST_PATIENCE: Duration = Duration::from_secs(10);

// === impl Ended ===

impl Ended {
    /// Asked to end before anything was answered.
    pub(crate) fn before_start(request: Request) -> Self {
        if request == Request::Exit { Self::AtOnce } else { Self::Drained { cut: 0 } }
    }
}

// === impl Bound ===

impl Bound {
    /// Binds every listener. Port 0 takes a free one.
    ///
    /// # Errors
    /// An address cannot be bound, or a metrics recorder of somebody else is in the way.
    pub(crate) async fn bind(config: Config, telemetry: &Telemetry) -> anyhow::Result<Self> {
        let metrics = runtime::metrics::install()?;
        controlplane::metrics::describe();
        let (readiness, drain) = (Readiness::new(), Drain::new());
        let kubernetes = Kubernetes::new(&config.kubernetes);
        let config = Arc::new(config);
        let shared = Shared::new(readiness.clone(), config.clone());
        let broadcast = match config.proxy.listeners.is_empty() {
            true => None,
            false => Some(broadcast::Bound::bind(&config, &shared, kubernetes.clone())?),
        };
        let (leadership, leader) = leader::start(config.leader_elect.as_ref(), &kubernetes, &readiness).await?;
        let context =
            roles::Context { readiness, metrics: metrics.clone(), kubernetes, leadership, drain: drain.watch() };
        let roles = roles::bind(&config, &context).await?;
        let admin = match config.admin {
            Some(address) => Some(shared.admin(metrics.clone(), telemetry.clone()).bind(address).await?),
            None => None,
        };
        tokio::spawn(metrics.upkeep());
        Ok(Self { broadcast, roles, leader, drain, admin, shared, reload_asked: false })
    }

    /// Has it reload as soon as it runs, if that was asked for before.
    pub(crate) fn reload_at_once(self, asked: bool) -> Self {
        Self { reload_asked: asked, ..self }
    }

    /// Where requests to broadcast come in, in the order of the configuration.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.broadcast.as_ref().map_or(&[], broadcast::Bound::addresses)
    }

    /// Where the admin API is.
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(listener::Bound::addr)
    }

    /// Whether the process may be sent traffic.
    pub(crate) fn readiness(&self) -> Readiness {
        self.shared.readiness.clone()
    }

    /// Serves until a request to drain, or until every role has done what there is to do, and drains. With a reloader, its
    /// file is followed.
    ///
    /// # Errors
    /// A source of endpoints cannot even be started, or a role cannot go on.
    pub(crate) async fn run(
        self,
        mut requests: mpsc::Receiver<Request>,
        mut reloader: Option<Reloader>,
    ) -> anyhow::Result<Ended> {
        let addresses = self.addresses().to_vec();
        let (stop_admin, admin) = self.admin.map(serve_admin).unzip();
        let shared = self.shared;
        let mut reload_asked = self.reload_asked;
        let mut broadcast = match self.broadcast {
            Some(broadcast) => match unless_ended(broadcast.start(&shared), &mut requests).await {
                Ok((started, asked)) => {
                    reload_asked |= asked;
                    Some(started?)
                }
                Err(request) => return Ok(Ended::before_start(request)),
            },
            None => None,
        };
        if let Some(broadcast) = &broadcast {
            shared.set_data_plane(&broadcast.handle);
        }
        for address in addresses {
            tracing::info!("listening on http://{address} to broadcast");
        }
        let mut roles = JoinSet::new();
        for role in self.roles {
            for address in role.addresses {
                tracing::info!("listening on http://{address} for {}", role.name);
            }
            roles.spawn(async move { role.run.await.context(role.name) });
        }
        if let Some((_, address)) = &admin {
            tracing::info!("listening on http://{address} for the admin API");
        }

        let mut failed = None;
        loop {
            let next = if std::mem::take(&mut reload_asked) {
                Next::Asked(Some(Request::Reload))
            } else {
                tokio::select! {
                    request = requests.recv() => Next::Asked(request),
                    change = Reloader::next(&mut reloader) => Next::Changed(Box::new(change)),
                    Some(ended) = roles.join_next() => Next::RoleEnded(ended.unwrap_or_else(|panic| Err(panic.into()))),
                }
            };
            let change = match next {
                Next::Asked(Some(Request::Exit)) => return Ok(Ended::AtOnce),
                Next::Asked(Some(Request::Reload)) => {
                    if let Some(broadcast) = &broadcast {
                        broadcast.sources.ask_again();
                    }
                    match &reloader {
                        Some(reloader) => reloader.read(),
                        None => {
                            tracing::info!(
                                "endpoints are looked for again; the configuration is the command line, which does not change"
                            );
                            continue;
                        }
                    }
                }
                // Nobody is left who could ask for anything else.
                Next::Asked(Some(Request::Drain) | None) => break,
                Next::Changed(change) => *change,
                Next::RoleEnded(Ok(())) if broadcast.is_some() || !roles.is_empty() => continue,
                Next::RoleEnded(ended) => {
                    failed = ended.err();
                    break;
                }
            };
            let data_plane = broadcast.as_mut().map(|broadcast| (&broadcast.handle, &mut broadcast.sources));
            let reload = crate::reload::apply(change, &shared, data_plane, FIRST_LIST_PATIENCE);
            match unless_ended(reload, &mut requests).await {
                Ok(((), asked)) => reload_asked = asked,
                Err(Request::Exit) => return Ok(Ended::AtOnce),
                Err(_) => break,
            }
        }

        let process = shared.current().process.clone();
        shared.readiness.set_draining();
        let drain = async {
            tokio::time::sleep(process.drain_delay).await;
            self.drain.start();
            let data_plane = async {
                match broadcast.take() {
                    Some(broadcast) => broadcast.drain(process.drain_idle, process.drain_timeout).await,
                    None => 0,
                }
            };
            let (cut, ended) = tokio::join!(data_plane, end_of(&mut roles, process.drain_timeout));
            failed = failed.take().or(ended.err());
            if let Some(leader) = self.leader {
                leader.release().await;
            }
            cut
        };
        let Ok((cut, _)) = unless_ended(drain, &mut requests).await else { return Ok(Ended::AtOnce) };
        if let (Some(stop), Some((task, _))) = (stop_admin, admin) {
            let _ = stop.send(());
            let _ = tokio::time::timeout(ADMIN_PATIENCE, task).await;
        }
        failed.map_or(Ok(Ended::Drained { cut }), Err)
    }
}

/// Waits until every role has ended, and cuts those that have not in time.
async fn end_of(roles: &mut JoinSet<anyhow::Result<()>>, timeout: Duration) -> anyhow::Result<()> {
    let all = async {
        let mut first = Ok(());
        while let Some(ended) = roles.join_next().await {
            first = first.and(ended.unwrap_or_else(|panic| Err(panic.into())));
        }
        first
    };
    if let Ok(ended) = tokio::time::timeout(timeout, all).await {
        return ended;
    }
    tracing::warn!(roles = roles.len(), "not ended within the drain timeout, and cut");
    roles.shutdown().await;
    Ok(())
}

/// Waits for the work, unless a request to drain or exit comes first. Returns with it whether a reload was asked for
/// meanwhile.
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

type AdminTask = (tokio::task::JoinHandle<()>, SocketAddr);

fn serve_admin(admin: listener::Bound) -> (oneshot::Sender<()>, AdminTask) {
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
