//! A process that runs: its main loop, and the drain at its end.

use std::{net::SocketAddr, time::Duration};

use runtime::{drain::Drain, listener, signal::Request, systemd};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};

use super::{Ended, unless_ended};
use crate::{
    broadcast::RunningDataPlane,
    leader::Leader,
    reload::{self, Change, Reloader},
    shared::Shared,
};

/// A process whose data plane and roles are running.
pub(super) struct RunningProcess {
    pub(super) broadcast: Option<RunningDataPlane>,
    pub(super) roles: JoinSet<anyhow::Result<()>>,
    /// Ended after the roles, which write under it.
    pub(super) leader: Option<Leader>,
    /// Ends the roles.
    pub(super) drain: Drain,
    pub(super) admin: Option<AdminTask>,
    pub(super) shared: Shared,
    pub(super) reloader: Option<Reloader>,
    /// Whether a reload was requested and has not begun.
    pub(super) reload_asked: bool,
}

/// The admin API, which answers until the drain is over.
pub(super) struct AdminTask {
    pub(super) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// An event of the main loop.
enum Event {
    /// A signal; `None` if no sender is left.
    Signal(Option<Request>),
    /// The configuration file has changed.
    FileChanged(Box<Change>),
    /// A role has finished its work, or has failed.
    RoleEnded(anyhow::Result<()>),
}

/// Why the main loop ended.
enum LoopEnd {
    /// To drain, because of a signal, or because every role has finished its work.
    Drain,
    /// To drain, because a role has failed.
    Failed(anyhow::Error),
    /// To exit at once.
    Exit,
}

/// The longest time for which an admin request in flight delays the end.
const ADMIN_END_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest time for which a reload waits for the first lists of new targets.
const FIRST_LIST_TIMEOUT: Duration = Duration::from_secs(10);

// === impl RunningProcess ===

impl RunningProcess {
    /// Serves until there is a reason to end, and drains.
    ///
    /// # Errors
    /// A role has failed.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) -> anyhow::Result<Ended> {
        match self.serve(&mut requests).await {
            LoopEnd::Drain => self.drain(&mut requests, None).await,
            LoopEnd::Failed(error) => self.drain(&mut requests, Some(error)).await,
            LoopEnd::Exit => Ok(Ended::AtOnce),
        }
    }

    async fn serve(&mut self, requests: &mut mpsc::Receiver<Request>) -> LoopEnd {
        loop {
            let change = match self.next(requests).await {
                Event::Signal(Some(Request::Exit)) => return LoopEnd::Exit,
                // Without a sender no later request could end the process.
                Event::Signal(Some(Request::Drain) | None) => return LoopEnd::Drain,
                Event::Signal(Some(Request::Reload)) => match self.refresh() {
                    Some(change) => change,
                    None => continue,
                },
                Event::FileChanged(change) => *change,
                Event::RoleEnded(Ok(())) if self.broadcast.is_some() || !self.roles.is_empty() => continue,
                Event::RoleEnded(Ok(())) => return LoopEnd::Drain,
                Event::RoleEnded(Err(error)) => return LoopEnd::Failed(error),
            };
            let data_plane = self.broadcast.as_mut().map(|broadcast| (&broadcast.handle, &mut broadcast.sources));
            let reload = reload::apply(change, &self.shared, data_plane, FIRST_LIST_TIMEOUT);
            match unless_ended(reload, requests).await {
                Ok(((), asked)) => self.reload_asked = asked,
                Err(Request::Exit) => return LoopEnd::Exit,
                Err(_) => return LoopEnd::Drain,
            }
        }
    }

    async fn next(&mut self, requests: &mut mpsc::Receiver<Request>) -> Event {
        if std::mem::take(&mut self.reload_asked) {
            return Event::Signal(Some(Request::Reload));
        }
        tokio::select! {
            request = requests.recv() => Event::Signal(request),
            change = Reloader::next(&mut self.reloader) => Event::FileChanged(Box::new(change)),
            Some(ended) = self.roles.join_next() => Event::RoleEnded(ended.unwrap_or_else(|panic| Err(panic.into()))),
        }
    }

    /// Refreshes all endpoints, and reads the file, if there is one.
    fn refresh(&self) -> Option<Change> {
        if let Some(broadcast) = &self.broadcast {
            broadcast.sources.ask_again();
        }
        if self.reloader.is_none() {
            let refreshed = if self.broadcast.is_some() { "the endpoints are refreshed; " } else { "" };
            tracing::info!("{refreshed}the configuration comes from the command line, which does not change");
        }
        self.reloader.as_ref().map(Reloader::read)
    }

    /// Ends everything in order. Returns the failure of the main loop, if there was one.
    async fn drain(
        self,
        requests: &mut mpsc::Receiver<Request>,
        failed: Option<anyhow::Error>,
    ) -> anyhow::Result<Ended> {
        let Self { broadcast, mut roles, leader, drain, admin, shared, .. } = self;
        let process = shared.current().process.clone();
        shared.readiness.set_draining();
        systemd::stopping();
        let drained = async {
            tokio::time::sleep(process.drain_delay).await;
            drain.start();
            let data_plane = async {
                match broadcast {
                    Some(broadcast) => broadcast.drain(process.drain_idle, process.drain_timeout).await,
                    None => 0,
                }
            };
            let (cut, ended) = tokio::join!(data_plane, end_of(&mut roles, process.drain_timeout));
            if let Some(leader) = leader {
                leader.release().await;
            }
            (cut, failed.or(ended.err()))
        };
        let Ok(((cut, failed), _)) = unless_ended(drained, requests).await else { return Ok(Ended::AtOnce) };
        if let Some(admin) = admin {
            admin.end().await;
        }
        failed.map_or(Ok(Ended::Drained { cut }), Err)
    }
}

/// Waits until every role has ended, and aborts those that have not in time.
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
    tracing::warn!(roles = roles.len(), "roles that have not ended within the drain timeout are aborted");
    roles.shutdown().await;
    Ok(())
}

// === impl AdminTask ===

impl AdminTask {
    pub(super) fn spawn(admin: listener::Bound) -> Self {
        let address = admin.addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let run = admin.run(async move {
                // A dropped sender stops it, too.
                let _ = stopped.await;
            });
            if let Err(error) = run.await {
                tracing::error!(%error, "the admin API has ended");
            }
        });
        Self { address, stop, task }
    }

    async fn end(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(ADMIN_END_TIMEOUT, self.task).await;
    }
}
