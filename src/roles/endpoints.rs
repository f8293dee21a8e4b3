//! `endpoints`: followed services, their HTTP API, and the deliveries of changes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use controlplane::{
    catalog::{Selection, follow},
    index::ServiceKey,
};
use runtime::{
    drain::DrainWatch,
    listener::{self, Limits},
    readiness::Gate,
};
use sidecar::endpoints::{Deliver, EndpointsApi, Exec, HostsFile, Service, deliver, metrics};
use tokio::time::MissedTickBehavior;

use super::{BoundRole, Context, listener::RoleListener};
use crate::{config::endpoints::EndpointsConfig, identity};

/// The most connections at a time, besides long polls: many pods keep theirs open.
const MAX_CONNECTIONS: usize = 1024;

/// The paths of probes, which need no token, with and without a final slash.
const PROBES: [&str; 8] = ["/health", "/health/", "/healthz", "/healthz/", "/ready", "/ready/", "/readyz", "/readyz/"];

/// The interval at which the age of the data is checked.
const AGE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The longest silence of an API server without changes, with a margin.
const LONGEST_SILENCE: Duration = Duration::from_secs(90);

/// Binds the API and begins to follow the services.
pub(super) async fn bind(config: Option<&EndpointsConfig>, context: &Context) -> anyhow::Result<Option<BoundRole>> {
    let Some(config) = config else { return Ok(None) };
    metrics::describe();
    if let Some(max_age) = config.max_age.filter(|max_age| *max_age < LONGEST_SILENCE) {
        let max_age = runtime::duration::format(max_age);
        tracing::warn!(
            max_age,
            "without changes the API server sends something only every minute: this will not stay ready"
        );
    }
    let kube = context.kubernetes.watches().await?;
    let namespace = match &config.namespace {
        Some(namespace) => namespace.clone(),
        // The namespace of the kubeconfig has the lowest precedence.
        None => identity::namespace(&context.kubernetes.connect().await?.namespace),
    };
    let keys = config.services.iter().map(|service| ServiceKey {
        namespace: service.namespace.as_deref().unwrap_or(&namespace).into(),
        name: service.name.as_str().into(),
    });
    let keys: Vec<ServiceKey> = keys.collect();
    let different = keys.iter().collect::<BTreeSet<_>>().len();
    anyhow::ensure!(different == keys.len(), "a service is named twice, with its namespace {namespace} and without");
    let services: Vec<Arc<Service>> = keys
        .into_iter()
        .map(|key| {
            let gate = context.readiness.register(format!("endpoints of {key}"));
            let reader = follow(&kube, Selection::Service(key.clone()), gate);
            Arc::new(Service::follow(key, reader))
        })
        .collect();
    let api = EndpointsApi {
        services: services.clone(),
        max_age: config.max_age,
        metrics: context.metrics.clone(),
        closing: context.drain.clone(),
    };
    let api = match config.listen {
        Some(address) => {
            let limits = Limits { connections: MAX_CONNECTIONS, ..Limits::default() };
            let access = &config.listener;
            let listener = RoleListener { name: "endpoints", address, access, probes: &PROBES, limits };
            Some(listener.bind(api.router(), context, |_| false).await?)
        }
        None => None,
    };
    let urls = api.iter().map(listener::Bound::url).collect();
    let gate = config.max_age.map(|max_age| (context.readiness.register("age of the endpoints"), max_age));
    let run = Box::pin(run(services, deliveries(config), api, gate, context.drain.clone()));
    Ok(Some(BoundRole { name: "endpoints", urls, run }))
}

fn deliveries(config: &EndpointsConfig) -> Deliver {
    let hosts =
        config.hosts_file.as_ref().map(|path| HostsFile { path: path.clone(), domain: config.cluster_domain.clone() });
    let exec = config.exec.as_ref().map(|command| Exec {
        command: command.clone(),
        debounce: config.exec_debounce,
        timeout: config.exec_timeout,
    });
    Deliver { hosts, exec }
}

/// Answers until the drain is over. A running command is killed with it.
async fn run(
    services: Vec<Arc<Service>>,
    deliveries: Deliver,
    api: Option<listener::Bound>,
    gate: Option<(Gate, Duration)>,
    drain: DrainWatch,
) -> anyhow::Result<()> {
    let answers = async {
        let drained = drain.clone();
        match api {
            Some(api) => api.run(async move { drained.wait().await }).await.context("the endpoints API"),
            None => {
                drain.wait().await;
                Ok(())
            }
        }
    };
    tokio::select! {
        ended = answers => ended,
        () = deliver(&services, deliveries) => Ok(()),
        () = watch_age(&services, gate) => Ok(()),
    }
}

/// Makes the process not ready while the data is too old. Never ends.
async fn watch_age(services: &[Arc<Service>], gate: Option<(Gate, Duration)>) {
    let Some((gate, max_age)) = gate else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(AGE_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let oldest = services.iter().max_by_key(|service| service.age());
        match oldest.map(|service| (service, service.age())).filter(|(_, age)| *age > max_age) {
            Some((service, age)) => {
                let max_age = runtime::duration::format(max_age);
                gate.set_not_ready(format!("{} is {}s old, and may be {max_age} old", service.key(), age.as_secs()));
            }
            None => gate.set_ready(),
        }
    }
}
