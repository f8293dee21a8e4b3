//! `elect`: elections, what they lead to for the pod beside, and the HTTP API that tells of them.

use std::{fs, path::Path};

use anyhow::Context as _;
use controlplane::{
    client::Connection,
    lease::{self, Election, Elector},
    workload::{LeaderService, PodLabel},
};
use runtime::{
    drain::{Drain, DrainWatch},
    listener::{self, Limits},
};
use sidecar::elect::{Api, StepDownAccess, run_hooks};
use tokio::task::JoinSet;

use super::{Bound, Context};
use crate::{config::elect::Config, identity};

/// Binds the API and gets every election ready to begin.
pub(super) async fn bind(elections: &[Config], context: &Context) -> anyhow::Result<Option<Bound>> {
    if elections.is_empty() {
        return Ok(None);
    }
    let connection = context.kubernetes.connect().await?;
    // Everything that ends with the elections.
    let mut tasks = JoinSet::new();
    let mut bound = Vec::new();
    for config in elections {
        bound.push(election(config, &connection, context, &mut tasks)?);
    }
    let closing = Drain::new();
    let api = match elections.iter().find_map(|config| config.http) {
        Some(address) => {
            let token = elections.iter().find_map(|config| config.step_down_token_file.as_deref());
            let api = Api {
                elections: bound,
                step_down: StepDownAccess { token: token.map(read_token).transpose()? },
                readiness: context.readiness.clone(),
                metrics: context.metrics.clone(),
                closing: closing.watch(),
            };
            Some(listener::Bound::bind("elect", address, api.router(), Limits::default()).await?)
        }
        None => None,
    };
    let addresses = api.iter().map(listener::Bound::addr).collect();
    let run = Box::pin(run(tasks, api, closing, context.drain.clone()));
    Ok(Some(Bound { name: "elect", addresses, run }))
}

/// One election, its elector not yet begun.
fn election(
    config: &Config,
    connection: &Connection,
    context: &Context,
    tasks: &mut JoinSet<()>,
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
        tasks.spawn(label.run(elector.terms()));
    }
    if let Some(service) = &config.leader_service {
        let service = LeaderService::new(client.clone(), &pod_namespace, service, &pod, election.clone());
        tasks.spawn(service.run(elector.terms()));
    }
    if config.hooks != Default::default() {
        tasks.spawn(run_hooks(config.hooks.clone(), config.name.clone(), elector.terms()));
    }
    tasks.spawn(elector.run(context.drain.clone()));
    Ok(election)
}

/// The API answers until the last lease is given back.
async fn run(
    mut tasks: JoinSet<()>,
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
    let elections = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a task of an election has ended")?;
            anyhow::ensure!(drain.is_draining(), "an elector has ended by itself");
        }
        Ok(())
    };
    elections.await?;
    closing.start();
    (&mut api).await.context("the API of elections")??;
    Ok(())
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the token in {}", path.display()))?;
    let token = text.trim();
    anyhow::ensure!(!token.is_empty(), "the token in {} is empty", path.display());
    Ok(token.to_owned())
}
