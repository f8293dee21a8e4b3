//! Shows the numbers of the data plane as metrics.

use std::{collections::BTreeMap, io, sync::atomic::Ordering};

use spans::Counts;

use super::{RequestResult, RouteMetrics, names, text::Text};
use crate::{
    config::{Compare, EndpointMetrics},
    grpc,
    outcome::Outcome,
    shared::Shared,
    table::{RouteEntry, Table},
    target::{Target, WireProtocol},
};

const LEGS_HELP: &str = "Legs by how they ended.";
const LEGS_INFLIGHT_HELP: &str = "Legs in flight, stragglers included.";
const IDLE_CONNECTIONS_HELP: &str = "Idle connections kept.";

/// The number of endpoints up to which each has series of its own, unless the configuration says so.
const MOST_ENDPOINTS: usize = 1000;

/// The number of routes beyond which samples of 0 are left out.
const MOST_ROUTES: usize = 100;

/// All families of the data plane, optionally with exemplars.
///
/// # Errors
/// That of the writer, to which the text goes piece by piece.
pub fn write(shared: &Shared, exemplars: bool, out: &mut dyn io::Write) -> io::Result<()> {
    let table = shared.table.load_full();
    let routes: Vec<&RouteEntry> = table.routes().map(|route| &**route).collect();
    let mut out = Text::new(out, exemplars);
    services(&mut out, &routes);
    out.sparse = routes.len() > MOST_ROUTES;

    out.family(names::REQUEST_DURATION, "histogram", "Time from a request's head to the end of its answer.");
    for route in &routes {
        for (status, histogram) in route.metrics.requests() {
            let (status, name) = (status.to_string(), &*route.config.name);
            let labels = [("type", "HTTP"), ("endpoint", name), ("status_code", &status)];
            out.histogram(names::REQUEST_DURATION, &labels, histogram);
        }
    }

    results(&mut out, &routes);
    grpc_statuses(&mut out, &routes);
    out.family(names::REFUSED, "counter", "Requests refused before they had a route.");
    for (status, count) in shared.refused.iter() {
        out.sample(names::REFUSED, &[("status", &status.to_string())], count);
    }

    match detail(shared, &table) {
        EndpointMetrics::Off => {}
        EndpointMetrics::Route => legs_by_route(&mut out, &routes),
        EndpointMetrics::Endpoint => legs_by_endpoint(&mut out, &table),
    }
    out.family(names::LEG_DURATION, "histogram", "Time from the start of a leg to its end.");
    for route in &routes {
        out.histogram(names::LEG_DURATION, &[("route", &route.config.name)], &route.metrics.legs);
    }
    endpoints(&mut out, &routes);
    out.family(names::WINDOW_STALLS, "counter", "How often a request body waited because the window was full.");
    for route in &routes {
        let stalls = route.metrics.window_stalls.load(Ordering::Relaxed);
        out.count(names::WINDOW_STALLS, &[("route", &route.config.name)], stalls);
    }

    divergent(&mut out, &routes);
    process(&mut out, shared, &table);
    let redeliveries = shared.owed.redeliveries();
    if !redeliveries.is_empty() {
        out.others(|text| redeliver::metrics::render(&redeliveries, text));
    }
    out.finish()
}

/// The detail of the metrics of endpoints. Once there have been too many, it stays that of routes, so that series do not come and go.
fn detail(shared: &Shared, table: &Table) -> EndpointMetrics {
    if let Some(configured) = table.config.endpoint_metrics {
        return configured;
    }
    let known: usize = table.routes().map(|route| route.known.len()).sum();
    if known > MOST_ENDPOINTS && !shared.many_endpoints.swap(true, Ordering::Relaxed) {
        tracing::info!(
            endpoints = known,
            "metrics of legs and connections are by route from now on, because there are more than {MOST_ENDPOINTS} endpoints; \
             --endpoint-metrics endpoint keeps them by endpoint"
        );
    }
    match shared.many_endpoints.load(Ordering::Relaxed) {
        true => EndpointMetrics::Route,
        false => EndpointMetrics::Endpoint,
    }
}

fn services(out: &mut Text<'_>, routes: &[&RouteEntry]) {
    out.family(names::SERVICE_ENDPOINT_COUNT, "gauge", "Endpoints of the service that count.");
    // Two routes may lead to different ports of one service: its endpoints are the same pods.
    let mut services = BTreeMap::new();
    for route in routes {
        let count = services.entry(service(route.config.cluster.as_str())).or_insert(0);
        *count = route.members.len().max(*count);
    }
    for (service, count) in services {
        out.sample(names::SERVICE_ENDPOINT_COUNT, &[("service", service)], count);
    }
}

fn legs_by_endpoint(out: &mut Text<'_>, table: &Table) {
    // Several where routes speak to an endpoint differently.
    let mut targets: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
    for target in table.targets() {
        targets.entry(target.authority()).or_default().push(target);
    }
    out.family(names::LEGS, "counter", LEGS_HELP);
    for (authority, same) in &targets {
        // Targets that differ in how the endpoint is reached have the same ones.
        let mut counts: Vec<_> = same.iter().map(|target| &target.counts).collect();
        counts.sort_by_key(|counts| counts.address());
        counts.dedup_by(|one, other| one.is_same(other));
        for outcome in Outcome::ALL {
            let labels = [("endpoint", *authority), ("outcome", outcome.as_str())];
            out.sample(names::LEGS, &labels, counts.iter().map(|counts| counts.ended(outcome)).sum::<u64>());
        }
    }
    out.family(names::LEGS_INFLIGHT, "gauge", LEGS_INFLIGHT_HELP);
    for (authority, same) in &targets {
        let inflight: usize = same.iter().map(|target| target.inflight()).sum();
        out.sample(names::LEGS_INFLIGHT, &[("endpoint", authority)], inflight);
    }
    out.family(names::IDLE_CONNECTIONS, "gauge", IDLE_CONNECTIONS_HELP);
    for (authority, same) in &targets {
        let idle: usize = same.iter().map(|target| target.idle()).sum();
        out.sample(names::IDLE_CONNECTIONS, &[("endpoint", authority)], idle);
    }
}

/// An endpoint that two routes share is among the gauges of both.
fn legs_by_route(out: &mut Text<'_>, routes: &[&RouteEntry]) {
    out.family(names::LEGS, "counter", LEGS_HELP);
    for route in routes {
        for outcome in Outcome::ALL {
            let labels = [("route", &*route.config.name), ("outcome", outcome.as_str())];
            out.count(names::LEGS, &labels, route.metrics.legs_ended(outcome));
        }
    }
    let sum = |route: &RouteEntry, of: fn(&Target) -> usize| route.known.iter().map(|target| of(target) as u64).sum();
    out.family(names::LEGS_INFLIGHT, "gauge", LEGS_INFLIGHT_HELP);
    for route in routes {
        out.count(names::LEGS_INFLIGHT, &[("route", &route.config.name)], sum(route, Target::inflight));
    }
    out.family(names::IDLE_CONNECTIONS, "gauge", IDLE_CONNECTIONS_HELP);
    for route in routes {
        out.count(names::IDLE_CONNECTIONS, &[("route", &route.config.name)], sum(route, Target::idle));
    }
}

/// What is counted once for the process.
fn process(out: &mut Text<'_>, shared: &Shared, table: &Table) {
    let load = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
    let age = table.made.elapsed().unwrap_or_default().as_secs_f64();
    out.single(names::INFLIGHT, "gauge", "Requests in flight.", load(&shared.inflight));
    out.single(names::STRAGGLING, "gauge", "Answered requests of which legs still run.", load(&shared.straggling));
    out.single(names::CONNECTIONS, "gauge", "Client connections.", load(&shared.connections));
    out.single(
        names::CLIENT_ADDRESSES,
        "gauge",
        "Client addresses with at least one connection.",
        shared.clients.len(),
    );
    out.single(names::BUFFERED, "gauge", "Bytes of bodies in memory.", shared.budget.used());
    out.single(
        names::SNAPSHOT_VERSION,
        "gauge",
        "The sequence number of the snapshot in service.",
        table.version.sequence,
    );
    out.single(names::SNAPSHOT_AGE, "gauge", "Seconds since the snapshot was put into service.", age);
    out.single(names::LOG_DROPPED, "counter", "Access-log entries that were lost.", shared.log.dropped());
    if let Some(tracer) = &shared.tracer {
        let Counts { exported, failed, dropped } = tracer.counts();
        out.family(names::TRACE_SPANS, "counter", "Spans by result.");
        for (result, count) in [("exported", exported), ("failed", failed), ("dropped", dropped)] {
            out.sample(names::TRACE_SPANS, &[("result", result)], count);
        }
    }
}

/// Of routes that compare answers.
fn divergent(out: &mut Text<'_>, routes: &[&RouteEntry]) {
    let mut compared = routes.iter().filter(|route| route.config.policy.compare != Compare::Off).peekable();
    if compared.peek().is_none() {
        return;
    }
    out.family(names::DIVERGENT, "counter", "Requests that endpoints answered differently.");
    for route in compared {
        let divergent = route.metrics.divergent.load(Ordering::Relaxed);
        out.sample(names::DIVERGENT, &[("route", &route.config.name)], divergent);
    }
}

fn results(out: &mut Text<'_>, routes: &[&RouteEntry]) {
    type Count = fn(&RouteMetrics, RequestResult) -> u64;
    let families: [(&str, &str, Count); 2] = [
        (names::REQUESTS, "Requests by the result in their answer.", RouteMetrics::results),
        (names::COMPLETED, "Requests by their final result, when the last leg has ended.", RouteMetrics::completions),
    ];
    for (name, help, count) in families {
        out.family(name, "counter", help);
        for route in routes {
            for result in RequestResult::ALL {
                let labels = [("route", &*route.config.name), ("result", result.as_str())];
                let count = count(&route.metrics, result);
                match name {
                    // A route shows that it is there, and the first request of each kind is seen as an increase.
                    names::REQUESTS => out.sample(name, &labels, count),
                    _ => out.count(name, &labels, count),
                }
            }
        }
    }
}

/// Of routes that take gRPC, which are those whose endpoints may speak HTTP/2, or that somebody has tried it with.
fn grpc_statuses(out: &mut Text<'_>, routes: &[&RouteEntry]) {
    let answers = |route: &RouteEntry| grpc::Source::ALL.map(|source| route.metrics.grpc_answers(source).sum::<u64>());
    let speaks_http2 = |target: &std::sync::Arc<Target>| target.protocol != WireProtocol::Http1;
    let takes_grpc = |route: &&&RouteEntry| route.known.iter().any(speaks_http2) || answers(route) != [0, 0];
    let routes: Vec<&&RouteEntry> = routes.iter().filter(takes_grpc).collect();
    if routes.is_empty() {
        return;
    }
    out.family(
        names::GRPC_REQUESTS,
        "counter",
        "gRPC requests by the status of the answer and the source of that status.",
    );
    for route in &routes {
        for source in grpc::Source::ALL {
            for (code, count) in grpc::NAMES.into_iter().zip(route.metrics.grpc_answers(source)) {
                let labels = [("route", &*route.config.name), ("source", source.as_str()), ("grpc_status", code)];
                out.count(names::GRPC_REQUESTS, &labels, count);
            }
        }
    }
    out.family(names::GRPC_LEGS, "counter", "Legs of gRPC by their status.");
    for route in &routes {
        for (code, count) in grpc::NAMES.into_iter().zip(route.metrics.grpc_legs()) {
            out.count(names::GRPC_LEGS, &[("route", &route.config.name), ("grpc_status", code)], count);
        }
    }
}

fn endpoints(out: &mut Text<'_>, routes: &[&RouteEntry]) {
    out.family(names::ENDPOINTS, "gauge", "Known endpoints by condition; \"itself\" is this proxy, which is left out.");
    for route in routes {
        let count = |which: &dyn Fn(snapshot::Conditions) -> bool| {
            route.known.iter().filter(|target| which(target.endpoint.conditions)).count()
        };
        let counts = [
            ("ready", count(&|c| c.ready)),
            ("not_ready", count(&|c| !c.ready && !c.terminating)),
            ("terminating", count(&|c| !c.ready && c.terminating)),
            ("itself", route.own.len()),
        ];
        for (condition, count) in counts {
            let labels = [("route", &*route.config.name), ("condition", condition)];
            if condition == "ready" {
                out.sample(names::ENDPOINTS, &labels, count);
            } else {
                out.count(names::ENDPOINTS, &labels, count as u64);
            }
        }
    }
}

/// The part of a cluster's name that people know the service by: `kube:shop/cache:http` is `shop/cache`.
fn service(cluster: &str) -> &str {
    match cluster.strip_prefix("kube:") {
        Some(rest) => rest.split(':').next().unwrap_or(rest),
        None => cluster,
    }
}
