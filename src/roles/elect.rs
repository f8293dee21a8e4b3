//! `elect`: elections, their label and Service, and the HTTP API.

use anyhow::Context as _;
use controlplane::{
    client::Connection,
    lease::{self, Election, Elector},
    workload::{LeaderService, PodLabel},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use runtime::{
    drain::{Drain, DrainWatch},
    listener::{self, Limits},
};
use sidecar::elect::{self, ElectApi, HookContext, StepDownAccess, run_hooks};
use tokio::{sync::oneshot, task::JoinSet};

use super::{BoundRole, Context, listener::RoleListener};
use crate::{
    config::{elect::ElectConfig, single_token},
    identity,
};

/// Binds the API and prepares every election.
pub(super) async fn bind(elections: &[ElectConfig], context: &Context) -> anyhow::Result<Option<BoundRole>> {
    if elections.is_empty() {
        return Ok(None);
    }
    elect::metrics::describe();
    let connection = context.kubernetes.connect().await?;
    let mut running = RunningElections { tasks: JoinSet::new(), leaving: Drain::new(), exits: Vec::new() };
    let mut bound = Vec::new();
    for config in elections {
        bound.push(running.election(config, &connection, context)?);
    }
    let closing = Drain::new();
    let api = match elections.iter().find_map(|config| Some((config.http?, &config.listener))) {
        Some((address, access)) => {
            let token = match elections.iter().find_map(|config| config.step_down_token_file.as_deref()) {
                Some(path) => Some(single_token(path).map_err(anyhow::Error::msg)?),
                None => None,
            };
            let step_down = StepDownAccess { token };
            let api = ElectApi {
                elections: bound,
                step_down: step_down.clone(),
                readiness: context.readiness.clone(),
                metrics: context.metrics.clone(),
                closing: closing.watch(),
            };
            let limits = Limits::default();
            let listener = RoleListener { name: "elect", address, access, probes: &["/healthz", "/readyz"], limits };
            // The token for stepping down gives access to everything else.
            Some(listener.bind(api.router(), context, move |token| step_down.takes(token)).await?)
        }
        None => None,
    };
    let urls = api.iter().map(listener::Bound::url).collect();
    let run = Box::pin(run(running, api, closing, context.drain.clone()));
    Ok(Some(BoundRole { name: "elect", urls, run }))
}

/// The running elections.
struct RunningElections {
    /// The tasks that end with them.
    tasks: JoinSet<()>,
    /// Begins when the leases are to be released.
    leaving: Drain,
    /// Each receives the reason why the process must end, if there is one.
    exits: Vec<oneshot::Receiver<String>>,
}

impl RunningElections {
    /// Prepares one election, whose elector does not run yet.
    fn election(
        &mut self,
        config: &ElectConfig,
        connection: &Connection,
        context: &Context,
    ) -> anyhow::Result<Election> {
        let Connection { client, namespace } = connection;
        let host = identity::host();
        let id = config.id.clone().unwrap_or_else(|| host.clone());
        let settings = lease::Config {
            name: config.name.clone(),
            namespace: config.namespace.clone(),
            lock: config.lock,
            identity: if config.unique_id { identity::unique(&id) } else { id },
            timing: config.timing,
        };
        let gate = context.readiness.register(format!("election {}", config.name));
        let mut elector = Elector::new(settings, client.clone())?.with_gate(gate);
        let election = elector.election();
        let pod = config.pod.clone().unwrap_or(host);
        let pod_namespace = config.pod_namespace.clone().unwrap_or_else(|| identity::namespace(namespace));
        if config.label {
            let label = PodLabel::new(client.clone(), &pod_namespace, &pod, election.clone());
            self.tasks.spawn(label.run(elector.terms()));
        }
        if let Some(service) = &config.leader_service {
            let service = LeaderService::new(client.clone(), &pod_namespace, service, &pod, election.clone());
            self.tasks.spawn(service.run(elector.terms()));
        }
        if !config.hooks.is_empty() {
            let (exit, exits) = oneshot::channel();
            self.exits.push(exits);
            let gate = context.readiness.register(format!("commands of election {}", config.name));
            let about = HookContext { election: election.clone(), gate, exit };
            self.tasks.spawn(run_hooks(config.hooks.clone(), about, elector.terms()));
        }
        self.tasks.spawn(elector.run(self.leaving.watch()));
        Ok(election)
    }

    /// Waits for a drain, or for a command that ends the process, and then until every lease is released.
    async fn end(self, drain: DrainWatch) -> anyhow::Result<()> {
        let Self { mut tasks, leaving, exits } = self;
        // A dropped sender is not a request.
        let exits = exits.into_iter().map(|exit| Box::pin(async { exit.await.ok() }));
        let mut exits: FuturesUnordered<_> = exits.collect();
        let mut asked = None;
        loop {
            tokio::select! {
                () = drain.wait(), if !leaving.watch().is_draining() => leaving.start(),
                Some(exit) = exits.next() => {
                    asked = asked.or(exit);
                    if asked.is_some() {
                        leaving.start();
                    }
                }
                ended = tasks.join_next() => match ended {
                    Some(ended) => {
                        ended.context("a task of an election has ended")?;
                        anyhow::ensure!(leaving.watch().is_draining(), "an elector has ended by itself");
                    }
                    None => break,
                },
            }
        }
        asked.map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
    }
}

/// Runs the elections. The API answers until the last lease is released.
async fn run(
    running: RunningElections,
    api: Option<listener::Bound>,
    closing: Drain,
    drain: DrainWatch,
) -> anyhow::Result<()> {
    let closed = closing.watch();
    let mut api = tokio::spawn(async move {
        match api {
            Some(api) => api.run(async move { closed.wait().await }).await,
            None => {
                closed.wait().await;
                Ok(())
            }
        }
    });
    let ended = running.end(drain).await;
    closing.start();
    let served = (&mut api).await.context("the API of elections");
    ended?;
    served??;
    Ok(())
}
