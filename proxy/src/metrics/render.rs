//! Renders the numbers in the Prometheus text exposition format (version 0.0.4).

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, atomic::Ordering},
};

use super::{Histogram, RequestResult, RouteMetrics, names};
use crate::{
    config::Compare,
    grpc,
    outcome::Outcome,
    shared::Shared,
    table::RouteEntry,
    target::{Target, WireProtocol},
};

/// All families of the data plane.
#[must_use]
pub fn render(shared: &Shared) -> String {
    let table = shared.table.load();
    let routes: Vec<&RouteEntry> = table.routes().map(|route| &**route).collect();
    // Several where routes speak to an endpoint differently.
    let mut targets: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
    for target in table.targets() {
        targets.entry(&target.authority).or_default().push(target);
    }
    let mut out = Text(String::with_capacity(16 * 1024));

    out.family(names::SERVICE_ENDPOINT_COUNT, "gauge", "Endpoints of the service that count.");
    // Two routes may lead to different ports of one service: its endpoints are the same pods.
    let mut services = BTreeMap::new();
    for route in &routes {
        let count = services.entry(service(route.config.cluster.as_str())).or_insert(0);
        *count = route.members.len().max(*count);
    }
    for (service, count) in services {
        out.sample(names::SERVICE_ENDPOINT_COUNT, &[("service", service)], count);
    }

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

    out.family(names::LEGS, "counter", "Legs by how they ended.");
    for (authority, same) in &targets {
        // Targets that differ in how the endpoint is reached have the same ones.
        let mut counts: Vec<_> = same.iter().map(|target| &target.counts).collect();
        counts.sort_by_key(|counts| Arc::as_ptr(counts));
        counts.dedup_by_key(|counts| Arc::as_ptr(counts));
        for outcome in Outcome::ALL {
            let labels = [("endpoint", *authority), ("outcome", outcome.as_str())];
            out.sample(names::LEGS, &labels, counts.iter().map(|counts| counts.ended(outcome)).sum::<u64>());
        }
    }
    out.family(names::LEG_DURATION, "histogram", "Time from the start of a leg to its end.");
    for route in &routes {
        out.histogram(names::LEG_DURATION, &[("route", &route.config.name)], &route.metrics.legs);
    }
    out.family(names::LEGS_INFLIGHT, "gauge", "Legs in flight, stragglers included.");
    for (authority, same) in &targets {
        let inflight: usize = same.iter().map(|target| target.inflight()).sum();
        out.sample(names::LEGS_INFLIGHT, &[("endpoint", authority)], inflight);
    }
    out.family(names::IDLE_CONNECTIONS, "gauge", "Idle connections kept.");
    for (authority, same) in &targets {
        let idle: usize = same.iter().map(|target| target.idle()).sum();
        out.sample(names::IDLE_CONNECTIONS, &[("endpoint", authority)], idle);
    }
    endpoints(&mut out, &routes);
    out.family(names::WINDOW_STALLS, "counter", "How often a request body waited because the window was full.");
    for route in &routes {
        let stalls = route.metrics.window_stalls.load(Ordering::Relaxed);
        out.sample(names::WINDOW_STALLS, &[("route", &route.config.name)], stalls);
    }

    divergent(&mut out, &routes);
    process(&mut out, shared, &table);
    let redeliveries = shared.owed.redeliveries();
    if !redeliveries.is_empty() {
        redeliver::metrics::render(&redeliveries, &mut out.0);
    }
    out.0
}

/// What is counted once for the process.
fn process(out: &mut Text, shared: &Shared, table: &crate::table::Table) {
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
}

/// Of routes that compare answers.
fn divergent(out: &mut Text, routes: &[&RouteEntry]) {
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

fn results(out: &mut Text, routes: &[&RouteEntry]) {
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
                out.sample(name, &labels, count(&route.metrics, result));
            }
        }
    }
}

/// Of routes that take gRPC, which are those whose endpoints may speak HTTP/2, or that somebody has tried it with.
fn grpc_statuses(out: &mut Text, routes: &[&RouteEntry]) {
    let answers = |route: &RouteEntry| grpc::Source::ALL.map(|source| route.metrics.grpc_answers(source).sum::<u64>());
    let speaks_http2 = |target: &std::sync::Arc<Target>| target.protocol != WireProtocol::Http1;
    let takes_grpc = |route: &&&RouteEntry| route.known.iter().any(speaks_http2) || answers(route) != [0, 0];
    let routes: Vec<&&RouteEntry> = routes.iter().filter(takes_grpc).collect();
    if routes.is_empty() {
        return;
    }
    out.family(names::GRPC_REQUESTS, "counter", "Requests of gRPC by the status of their answer and who has said it.");
    for route in &routes {
        for source in grpc::Source::ALL {
            for (code, count) in grpc::NAMES.into_iter().zip(route.metrics.grpc_answers(source)) {
                let labels = [("route", &*route.config.name), ("source", source.as_str()), ("grpc_status", code)];
                out.sample(names::GRPC_REQUESTS, &labels, count);
            }
        }
    }
    out.family(names::GRPC_LEGS, "counter", "Legs of gRPC by their status.");
    for route in &routes {
        for (code, count) in grpc::NAMES.into_iter().zip(route.metrics.grpc_legs()) {
            out.sample(names::GRPC_LEGS, &[("route", &route.config.name), ("grpc_status", code)], count);
        }
    }
}

fn endpoints(out: &mut Text, routes: &[&RouteEntry]) {
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
            out.sample(names::ENDPOINTS, &[("route", &route.config.name), ("condition", condition)], count);
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

struct Text(String);

// Formatting into a string cannot fail, so the results are not looked at.
impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        let mut separator = '{';
        for (label, text) in labels {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{separator}{label}=\"{text}\"");
            separator = ',';
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let (bucket, mut all) = (format!("{name}_bucket"), 0);
        for (bound, count) in histogram.cumulative() {
            let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
            let labels: Vec<_> = labels.iter().copied().chain([("le", &*bound)]).collect();
            self.sample(&bucket, &labels, count);
            all = count;
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum());
        self.sample(&format!("{name}_count"), labels, all);
    }
}
