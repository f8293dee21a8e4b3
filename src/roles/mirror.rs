//! `mirror`: mirrors of other kube clusters' services, and the listener with their state.

mod api;

use std::time::Duration;

use anyhow::Context as _;
use controlplane::client::remote::{self, RemoteConnection};
use mirror::{Connections, Mirror};
use runtime::listener::{self, Limits};
use tokio::{sync::watch, task::JoinSet};

use super::{BoundRole, Context};
use crate::{config::mirror::MirrorConfig, console, identity};
use api::Api;

/// The time for which a dry run waits for the lists of a cluster.
const DRY_RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// Binds the listener, and makes the clients of the remote clusters, which connect later.
pub(super) async fn bind(config: Option<&MirrorConfig>, context: &Context) -> anyhow::Result<Option<BoundRole>> {
    let Some(config) = config else { return Ok(None) };
    mirror::metrics::describe();
    let local = context.kubernetes.connect().await?;
    let checked = config.in_namespace(Some(&identity::namespace(&local.namespace)));
    let (mut following, mut remotes) = (JoinSet::new(), Vec::new());
    for remote in &config.remotes {
        // A remote that cannot be reached does not stop the others.
        remotes.push(match remote.access.clone().resolve() {
            Ok(access) => {
                let RemoteConnection { client, server } = remote::connect(access);
                let (sender, receiver) = watch::channel(Ok(client.clone()));
                following.spawn(follow(client, server, sender));
                receiver
            }
            Err(why) => {
                tracing::error!(remote = remote.mirror.name, "{why:#}; this remote is unavailable until a restart");
                watch::channel(Err(format!("{why:#}"))).1
            }
        });
    }
    let connections = Connections {
        local: local.client,
        remotes,
        leadership: context.leadership.clone(),
        gate: context.readiness.register("mirror"),
    };
    let mirror = Mirror::new(checked, connections)?;
    if config.dry_run {
        let run = Box::pin(async move {
            let planned = plan(mirror).await;
            drop(following);
            planned
        });
        return Ok(Some(BoundRole { name: "mirror", urls: Vec::new(), run }));
    }
    let api = Api { health: mirror.health(), readiness: context.readiness.clone(), metrics: context.metrics.clone() };
    let api = match config.listen {
        Some(address) => Some(listener::Bound::bind("mirror", address, api.router(), Limits::default()).await?),
        None => None,
    };
    let urls = api.iter().map(listener::Bound::url).collect();
    let drain = context.drain.clone();
    let run = Box::pin(async move {
        let (ended, drained) = (watch::channel(()).0, drain.clone());
        let mut done = ended.subscribe();
        // It answers until the last write has ended.
        let serving = async {
            match api {
                Some(api) => api.run(async move { drop(done.changed().await) }).await,
                None => Ok(()),
            }
        };
        let mirroring = async {
            mirror.run(drained).await;
            drop((ended, following));
        };
        let (served, ()) = tokio::join!(serving, mirroring);
        served.context("the listener of the mirror")
    });
    Ok(Some(BoundRole { name: "mirror", urls, run }))
}

/// A client follows changes of its credentials by itself. Only a change of the server, which may be another cluster, causes new
/// lists.
async fn follow<C: Clone>(
    client: C,
    mut server: watch::Receiver<Option<String>>,
    sender: watch::Sender<Result<C, String>>,
) {
    let mut known = None;
    while server.changed().await.is_ok() {
        let now = server.borrow_and_update().clone();
        if known.is_some() {
            tracing::info!(server = ?now, "the remote cluster has another address now: listing everything again");
            let _before = sender.send_replace(Ok(client.clone()));
        }
        known = now;
    }
}

/// Prints the planned actions, without taking them.
async fn plan(mirror: Mirror) -> anyhow::Result<()> {
    let report = mirror.plan(DRY_RUN_TIMEOUT).await;
    console::print(&report.to_string())?;
    anyhow::ensure!(report.problems.is_empty(), "some facts are unknown: {}", report.problems.join("; "));
    Ok(())
}
