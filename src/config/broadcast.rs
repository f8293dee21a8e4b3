//! The data plane's part of the file: listeners, their routes, and where each route's endpoints come from.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use controlplane::{
    build::PortSelector,
    source::{
        fixed,
        kube::{Pattern, Selection},
    },
};
use proxy::config::{
    AccessLog, InvalidMatch, Limits, Listener, Match, Members, Policy, Require, Route, Success, ViaName,
};
use runtime::{
    config::{Collector, Node, Section},
    duration, size,
};
use snapshot::ClusterName;

use super::{
    Target, routing,
    target::port,
    values::{address, boolean, bytes, network, number, path, positive, sorted, split, text, texts, time},
};
use crate::identity;

/// What is read while the listeners are.
struct Reading {
    /// The namespace of Services given without one.
    namespace: Option<String>,
    targets: BTreeMap<ClusterName, Target>,
    /// How often a route name was made up, so that each is its own.
    names: BTreeMap<String, usize>,
}

/// Reads the listeners, and the bounds that hold for all of them.
pub(super) fn read(
    root: &Section<'_>,
    collector: &Collector,
    namespace: Option<String>,
) -> (proxy::Config, BTreeMap<ClusterName, Target>) {
    let mut reading = Reading { namespace, targets: BTreeMap::new(), names: BTreeMap::new() };
    let proxy = proxy::Config {
        listeners: root.list("broadcast").iter().map(|listener| reading.listener(listener)).collect(),
        threads: root.or_default_with("threads", threads(), number),
        limits: limits(root),
        access_log: root.or_default_with("access_log", AccessLog::Text, access_log),
    };
    for proxy::config::Problem { path, message } in proxy.check() {
        collector.add(path_in_file(&path), message);
    }
    (proxy, reading.targets)
}

// === impl Reading ===

impl Reading {
    fn listener(&mut self, node: &Node<'_>) -> Listener {
        let section = node.section();
        // A port of 0 clashes with nothing, so a broken address brings no second problem.
        let address = section.required_with("listen", address).unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
        let mut listener = Listener::new(address, Vec::new());
        listener.keepalive = section.or_default_with("keepalive", listener.keepalive, boolean);
        listener.allow = texts(&section, "allow").iter().filter_map(|node| node.parse_with(allowed)).collect();
        listener.lenient_target = section.or_default_with("lenient_target", listener.lenient_target, boolean);
        listener.via_name = section.or_default_with("via_name", via_name(), ViaName::from_str);
        listener.trust_forwarded = split(&section, &["trust_forwarded"], network);
        let head = &mut listener.head;
        head.target = section.or_default_with("max_target", head.target, bytes);
        head.bytes = section.or_default_with("max_head", head.bytes, bytes);
        head.fields = section.or_default_with("max_fields", head.fields, positive);
        let timeouts = &mut listener.timeouts;
        timeouts.head = section.or_default_with("head_timeout", timeouts.head, time);
        timeouts.body = section.or_default_with("body_timeout", timeouts.body, time);
        timeouts.keepalive = section.or_default_with("keepalive_timeout", timeouts.keepalive, time);
        listener.routes = section.list("routes").iter().map(|route| self.route(route)).collect();
        section.finish();
        listener
    }

    fn route(&mut self, node: &Node<'_>) -> Route {
        let section = node.section();
        let target = self.target(section.section("to"));
        let cluster = target.as_ref().map(Target::cluster);
        let matches = routing::matches(section.section("match"));
        let changes = routing::changes(&section, &matches);
        let policy = self.policy(&section);
        let name = section.parse_with("name", route_name);
        section.finish();
        let cluster = cluster.unwrap_or_else(|| ClusterName::new("none").expect("is printable"));
        let name = name.unwrap_or_else(|| self.made_up_name(&cluster));
        if let Some(target) = target {
            self.targets.insert(cluster.clone(), target);
        }
        Route { name, matches, cluster, changes, policy }
    }

    /// A route without a name is called what it sends to; a second one to the same gets a number.
    fn made_up_name(&mut self, cluster: &ClusterName) -> Arc<str> {
        let count = self.names.entry(cluster.to_string()).or_default();
        *count += 1;
        if *count == 1 { cluster.as_str().into() } else { format!("{cluster}#{count}").into() }
    }

    fn target(&self, to: Section<'_>) -> Option<Target> {
        let given = ["service", "endpoints", "file", "dns"].iter().filter(|key| to.contains(key)).count();
        let namespace = self.namespace.as_deref();
        let services = split(&to, &["service"], |text| Pattern::parse(text, namespace));
        let port = to.parse_with("port", port);
        let endpoints = split(&to, &["endpoints"], fixed::Target::from_str);
        let (file, dns) = (to.parse_with("file", path), to.parse_with("dns", str::parse));
        for key in ["service", "endpoints"] {
            if to.contains(key) && texts(&to, key).is_empty() {
                to.problem(key, "is empty: name at least one");
            }
        }
        if port.is_some() && !to.contains("service") {
            to.problem("port", "names a port of a service; the other sources bring their own");
        }
        if given != 1 {
            to.own_problem(format_args!(
                "exactly one of service, endpoints, file and dns tells where the endpoints come from, {given} are given"
            ));
        }
        to.finish();
        match (given, services.is_empty(), endpoints.is_empty()) {
            (1, false, _) => {
                let port = port.unwrap_or(PortSelector::Only);
                Some(Target::Service(Selection { services: sorted(services), port }))
            }
            (1, _, false) => Some(Target::Endpoints(sorted(endpoints))),
            (1, ..) => file.map(Target::File).or(dns.map(Target::Dns)),
            _ => None,
        }
    }

    fn policy(&self, section: &Section<'_>) -> Policy {
        let mut policy = Policy::default();
        policy.require = section.or_default_with("require", policy.require, Require::from_str);
        policy.success = self.success(section).unwrap_or_default();
        policy.members = section.or_default_with("members", policy.members, members);
        policy.min_endpoints = section.or_default_with("min_endpoints", policy.min_endpoints, number);
        policy.on_empty = section.or_default_with("on_empty", policy.on_empty, number);
        policy.on_timeout = section.or_default_with("on_timeout", policy.on_timeout, number);
        policy.max_body = section.parse_with("max_body", size::parse);
        policy.start_after = section.or_default_with("start_after", policy.start_after, size::parse);
        policy.stream = section.or_default_with("stream", policy.stream, boolean);
        policy.min_body_rate = section.or_default_with("min_body_rate", policy.min_body_rate, rate);
        policy.window = section.or_default_with("window", policy.window, bytes);
        policy.lag_timeout = section.or_default_with("lag_timeout", policy.lag_timeout, duration::parse);
        policy.retries = section.or_default_with("retries", policy.retries, number);
        if section.contains("idempotent") {
            policy.idempotent = idempotent(section);
        }
        policy.report = section.or_default_with("report", policy.report, boolean);
        let timeouts = &mut policy.timeouts;
        timeouts.total = section.or_default_with("timeout", timeouts.total, duration::parse);
        timeouts.connect = section.or_default_with("connect_timeout", timeouts.connect, duration::parse);
        timeouts.first_byte = section.parse_with("first_byte_timeout", time);
        timeouts.idle = section.or_default_with("idle_timeout", timeouts.idle, time);
        policy
    }

    fn success(&self, section: &Section<'_>) -> Option<Success> {
        let nodes = texts(section, "success");
        let texts: Vec<String> = nodes.iter().filter_map(|node| node.parse_with(text)).collect();
        match Success::parse(&texts) {
            Ok(success) => Some(success),
            Err(error) => {
                section.problem("success", error);
                None
            }
        }
    }
}

fn limits(root: &Section<'_>) -> Limits {
    let default = Limits::default();
    Limits {
        connections: root.or_default_with("max_connections", default.connections, positive),
        inflight: root.or_default_with("max_inflight", default.inflight, positive),
        inflight_per_endpoint: root.or_default_with(
            "max_inflight_per_endpoint",
            default.inflight_per_endpoint,
            positive,
        ),
        buffered: root.or_default_with("max_buffered", default.buffered, bytes),
        pool: root.or_default_with("pool_size", default.pool, number),
        pool_idle: root.or_default_with("pool_idle_timeout", default.pool_idle, duration::parse),
    }
}

/// Where in the file the data plane's own name for a place is.
pub(super) fn path_in_file(path: &str) -> String {
    const NAMES: [(&str, &str); 7] = [
        ("listeners[", "broadcast["),
        (".address", ".listen"),
        (".head.target", ".max_target"),
        (".head.bytes", ".max_head"),
        (".head.fields", ".max_fields"),
        (".timeouts.total", ".timeout"),
        (".timeouts.connect", ".connect_timeout"),
    ];
    NAMES.iter().fold(path.to_owned(), |path, (from, to)| path.replace(from, to))
}

/// Reads what may be requested.
fn allowed(text: &str) -> Result<Match, String> {
    if text.trim() == "everything" {
        return Err("\"everything\" stands alone: take out the rest, or this".to_owned());
    }
    text.parse().map_err(|error: InvalidMatch| error.to_string())
}

/// The same for all replicas of a deployment, and for nobody else as far as that can be told.
fn via_name() -> ViaName {
    match identity::deployment() {
        Some((namespace, service)) => ViaName::for_deployment(&format!("{namespace}/{service}")),
        None => ViaName::OfHost(identity::host().into()),
    }
}

/// As many worker threads as the process may use CPUs.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Bytes in a second, which may be said.
fn rate(text: &str) -> Result<u64, size::SizeError> {
    size::parse(text.strip_suffix("/s").unwrap_or(text))
}

/// The methods that may be sent twice; `none` for no other than those that always may.
fn idempotent(section: &Section<'_>) -> Vec<Box<str>> {
    let methods = split(section, &["idempotent"], |text| match text {
        "none" => Ok(None),
        method => Match::method(method).map(Some),
    });
    methods.into_iter().flatten().collect()
}

/// Shown in metric labels and log lines, so it is short and printable.
fn route_name(text: &str) -> Result<Arc<str>, String> {
    let printable = (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if printable {
        Ok(text.into())
    } else {
        Err(format!("{text:?} is not a name: use 1 to 200 printable ASCII characters without spaces"))
    }
}

fn members(text: &str) -> Result<Members, String> {
    match text {
        "ready" => Ok(Members::Ready),
        "known" => Ok(Members::Known),
        _ => Err(format!("{text:?} is not a set of members: use ready or known")),
    }
}

fn access_log(text: &str) -> Result<AccessLog, String> {
    match text {
        "off" | "false" => Ok(AccessLog::Off),
        "text" => Ok(AccessLog::Text),
        "json" => Ok(AccessLog::Json),
        _ => Err(format!("{text:?} is not an access log: use off, text or json")),
    }
}
