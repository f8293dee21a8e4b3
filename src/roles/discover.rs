//! `discover`: exports, and the listener for those that are served over HTTP.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    http::header::RETRY_AFTER,
    response::Response,
};
use controlplane::catalog::follow;
use export::{
    pipeline::{Export, Pipeline, Process},
    sink::{Connect, Served, ServedRequest, ServedResponse, Target},
};
use futures::future::{join_all, try_join_all};
use runtime::{
    drain::DrainWatch,
    if_none_match::IfNoneMatch,
    listener::{self, Limits, WaitingRoom},
};

use super::{BoundRole, Context, listener::RoleListener};
use crate::{
    config::discover::{DiscoverConfig, FormatTargets},
    identity,
};

/// The time limit of an export with `once`.
const ONCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The most connections at a time, besides long polls: many load balancers keep theirs open.
const MAX_CONNECTIONS: usize = 1024;

/// The export of one output.
struct RunningExport {
    pipeline: Pipeline,
    once: bool,
}

/// Binds the listeners and begins to follow the services.
pub(super) async fn bind(config: &[DiscoverConfig], context: &Context) -> anyhow::Result<Option<BoundRole>> {
    if config.is_empty() {
        return Ok(None);
    }
    export::metrics::describe();
    let kube = context.kubernetes.watches().await?;
    let process = Process {
        leadership: context.leadership.clone(),
        // Unique, so that two processes on one host are different writers.
        identity: identity::unique(&identity::host()).into(),
        readiness: context.readiness.clone(),
    };
    let mut served: BTreeMap<SocketAddr, Arc<Served>> = BTreeMap::new();
    let mut running = Vec::new();
    for config in config {
        let is_map = |target: &Target| matches!(target, Target::ConfigMap { .. });
        let kubernetes = match config.outputs.iter().any(|output| output.to.iter().any(is_map)) {
            true => Some(context.kubernetes.connect().await?.client),
            false => None,
        };
        let headers = config.access.headers.iter().map(|header| (header.name.clone(), header.value.clone()));
        let connect = Connect {
            s3: config.access.s3.clone(),
            kubernetes,
            headers: headers.collect(),
            served: config.listen.map(|address| served.entry(address).or_default().clone()),
            timeout: config.pace.timeout,
            manifest: config.manifest,
        };
        for output in &config.outputs {
            let export = export(config, output);
            let gate = context.readiness.register(format!("discover {}", export.name));
            let reader = follow(&kube, config.select.clone(), gate);
            let pipeline = Pipeline::new(export, reader, &process, &connect)?;
            running.push(RunningExport { pipeline, once: config.once });
        }
    }
    let mut listeners = Vec::new();
    for (address, served) in served {
        let drain = context.drain.clone();
        let router = Router::new().fallback(answer).with_state((served, drain));
        let limits = Limits { connections: MAX_CONNECTIONS, ..Limits::default() };
        // Exports that share an address have the same TLS and tokens.
        let sharing = config.iter().find(|config| config.listen == Some(address));
        let access = &sharing.context("nobody listens there")?.listener;
        let listener = RoleListener { name: "discover", address, access, probes: &[], limits };
        listeners.push(listener.bind(router, context, |_| false).await?);
    }
    let urls = listeners.iter().map(listener::Bound::url).collect();
    let run = Box::pin(run(running, listeners, context.drain.clone()));
    Ok(Some(BoundRole { name: "discover", urls, run }))
}

fn export(config: &DiscoverConfig, output: &FormatTargets) -> Export {
    let name = match config.outputs.len() {
        1 => config.name.clone(),
        _ => format!("{}-{}", config.name, output.format.name()),
    };
    Export {
        name: name.into(),
        model: config.model.clone(),
        format: output.format.clone(),
        sinks: output.to.clone(),
        limits: config.limits,
        pace: config.pace,
        cluster: config.cluster.clone(),
    }
}

/// Runs until the drain, or until everything is written with `once`.
async fn run(running: Vec<RunningExport>, listeners: Vec<listener::Bound>, drain: DrainWatch) -> anyhow::Result<()> {
    let (once, always): (Vec<_>, Vec<_>) = running.into_iter().partition(|running| running.once);
    let goes_on = !always.is_empty();
    let once = async {
        let written = join_all(once.into_iter().map(|running| running.pipeline.once(ONCE_TIMEOUT)));
        let written = tokio::select! {
            written = written => written,
            () = drain.wait() => return Err(anyhow::anyhow!("ended by a signal before everything was written")),
        };
        let problems: Vec<String> = written.into_iter().filter_map(Result::err).collect();
        anyhow::ensure!(problems.is_empty(), "not everything was written: {}", problems.join("; "));
        Ok(())
    };
    let always = join_all(always.into_iter().map(|running| running.pipeline.run(drain.clone())));
    let serving = try_join_all(listeners.into_iter().map(|listener| {
        let drain = drain.clone();
        listener.run(async move { drain.wait().await })
    }));
    if goes_on {
        let (once, _, served) = tokio::join!(once, always, serving);
        served.context("the listener of what is served")?;
        once
    } else {
        once.await
    }
}

/// Answers a request for any path.
async fn answer(
    State((served, drain)): State<(Arc<Served>, DrainWatch)>,
    Extension(room): Extension<WaitingRoom>,
    request: Request,
) -> Response {
    let if_none_match = IfNoneMatch::of(request.headers());
    let question = ServedRequest {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query(),
        if_none_match: Some(&if_none_match).filter(|condition| **condition != IfNoneMatch::Absent),
    };
    tokio::select! {
        biased;
        answer = served.answer_where(question, || room.enter().ok()) => response(answer),
        // A client that waits for a change should ask another replica.
        () = drain.wait() => {
            let answer = Response::builder().status(503).header(RETRY_AFTER, "1").body(Body::empty());
            answer.unwrap_or_default()
        }
    }
}

fn response(answer: ServedResponse) -> Response {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.fields {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).expect("the names and values are ours")
}
