//! The data plane's part of the file: listeners, their routes, and where each route's endpoints come from.

use std::{collections::BTreeMap, sync::Arc};

use controlplane::{
    build::PortSelector,
    source::{
        http,
        kube::{EndpointSelection, Pattern},
    },
};
use proxy::config::{
    AccessLog, Auth, Compare, Ignore, Limits, Listener, OnFailure, Policy, ProxyProtocol, Ratio, Route, Success,
    Tracing, UpstreamProtocol, ViaName, Waves,
};
use runtime::config::{Collector, Node, Section};
use snapshot::ClusterName;

use super::{Target, redelivery, routing, tls};
use crate::{
    identity,
    settings::broadcast::{answer, bounds, callers, endpoints, process, requests, routes, time},
};

/// State while the listeners are read.
struct Reading {
    /// The namespace of Services given without one.
    namespace: Option<String>,
    targets: BTreeMap<ClusterName, Target>,
    /// How often each default name of a route was given, so that no two routes have the same.
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
        threads: bounds::THREADS.or(root, threads()),
        reuse_port: bounds::REUSE_PORT.or(root, false),
        limits: limits(root),
        access_log: process::ACCESS_LOG.or(root, AccessLog::Text),
        endpoint_metrics: process::ENDPOINT_METRICS.read(root),
        tracing: tracing(root),
    };
    for proxy::config::Contradiction { path, message } in proxy.check() {
        collector.add(path_in_file(&path), message);
    }
    (proxy, reading.targets)
}

// === impl Reading ===

impl Reading {
    fn listener(&mut self, node: &Node<'_>) -> Listener {
        let section = node.section();
        // A port of 0 clashes with nothing, so a broken address brings no second problem.
        let address = requests::INTERFACE.required(&section).unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
        let mut listener = Listener::new(address, Vec::new());
        listener.keepalive = requests::KEEPALIVE.or(&section, listener.keepalive);
        listener.http2 = requests::HTTP2.or(&section, listener.http2);
        listener.allow = callers::ALLOW.read(&section);
        listener.control_from = callers::CONTROL_FROM.read(&section);
        listener.auth = auth(section.section("auth"));
        listener.lenient_target = requests::LENIENT_TARGET.or(&section, listener.lenient_target);
        listener.via_name = requests::VIA_NAME.or(&section, via_name());
        listener.trust_forwarded = requests::TRUST_FORWARDED.read(&section);
        listener.tls = tls::of_listener(&section);
        listener.proxy_protocol = requests::PROXY_PROTOCOL.or(&section, listener.proxy_protocol);
        if listener.proxy_protocol != ProxyProtocol::Off && !requests::TRUST_FORWARDED.is_given(&section) {
            let message =
                "no client may send PROXY headers: name the load balancers with trust_forwarded (--trust-forwarded)";
            requests::PROXY_PROTOCOL.problem(&section, message);
        }
        let head = &mut listener.head;
        head.target = requests::MAX_TARGET.or(&section, head.target);
        head.bytes = requests::MAX_HEAD.or(&section, head.bytes);
        head.fields = requests::MAX_FIELDS.or(&section, head.fields);
        let timeouts = &mut listener.timeouts;
        timeouts.head = time::HEAD_TIMEOUT.or(&section, timeouts.head);
        timeouts.body = time::BODY_TIMEOUT.or(&section, timeouts.body);
        timeouts.keepalive = time::KEEPALIVE_TIMEOUT.or(&section, timeouts.keepalive);
        listener.routes = section.list("routes").iter().map(|route| Arc::new(self.route(route))).collect();
        section.finish();
        listener
    }

    fn route(&mut self, node: &Node<'_>) -> Route {
        let section = node.section();
        let to = section.section("to");
        let target = self.target(&to);
        if let Some(target) = &target {
            self.check_other_routes(&to, target);
        }
        let protocol = endpoints::UPSTREAM_PROTOCOL.or(&to, UpstreamProtocol::Auto);
        let tls = tls::of_endpoints(&to, target.as_ref());
        to.finish();
        let cluster = target.as_ref().map(Target::cluster);
        let matches = routing::matches(section.section("match"));
        let changes = routing::changes(&section, &matches);
        let policy = Policy { protocol, tls, ..self.policy(&section) };
        let name = routes::NAME.read(&section);
        section.finish();
        let cluster = cluster.unwrap_or_else(|| ClusterName::new("none").expect("is printable"));
        let name = name.unwrap_or_else(|| self.made_up_name(&cluster));
        if let Some(target) = target {
            self.targets.insert(cluster.clone(), target);
        }
        Route { name, matches, cluster, changes, policy }
    }

    /// A route without a name is called after its endpoints; a second one to the same gets a number.
    fn made_up_name(&mut self, cluster: &ClusterName) -> Arc<str> {
        let count = self.names.entry(cluster.to_string()).or_default();
        *count += 1;
        if *count == 1 { cluster.as_str().into() } else { format!("{cluster}#{count}").into() }
    }

    /// Routes to the same place share what is known about it, so they have to agree on how it is asked.
    fn check_other_routes(&self, to: &Section<'_>, target: &Target) {
        if self.targets.get(&target.cluster()).is_some_and(|other| other != target) {
            let message = "another route has the same URL with other credentials or another refresh: write the same";
            endpoints::ENDPOINTS_URL.problem(to, message);
        }
    }

    fn target(&self, to: &Section<'_>) -> Option<Target> {
        let sources = [
            *endpoints::SERVICE,
            *endpoints::ENDPOINTS,
            *endpoints::ENDPOINTS_FILE,
            *endpoints::ENDPOINTS_URL,
            *endpoints::ENDPOINTS_DNS,
        ];
        let given = sources.iter().filter(|source| source.is_given(to)).count();
        let namespace = self.namespace.as_deref();
        let services = endpoints::SERVICE.read_with(to, |text| Pattern::parse(text, namespace));
        let port = endpoints::PORT_NAME.read(to);
        let fixed = endpoints::ENDPOINTS.read(to);
        let (file, dns) = (endpoints::ENDPOINTS_FILE.read(to), endpoints::ENDPOINTS_DNS.read(to));
        if endpoints::SERVICE.is_given(to) && endpoints::SERVICE.nodes(to).is_empty() {
            endpoints::SERVICE.problem(to, "is empty: name at least one");
        }
        if endpoints::ENDPOINTS.is_given(to) && endpoints::ENDPOINTS.nodes(to).is_empty() {
            endpoints::ENDPOINTS.problem(to, "is empty: name at least one");
        }
        if port.is_some() && !endpoints::SERVICE.is_given(to) {
            endpoints::PORT_NAME.problem(to, "names a port of a service; the other sources bring their own");
        }
        let url = endpoints::ENDPOINTS_URL.read(to);
        let refresh = endpoints::ENDPOINTS_REFRESH.or(to, http::DEFAULT_REFRESH);
        if endpoints::ENDPOINTS_REFRESH.is_given(to) && !endpoints::ENDPOINTS_URL.is_given(to) {
            let message = "is about url, which is not there; the other sources are followed anyway";
            endpoints::ENDPOINTS_REFRESH.problem(to, message);
        }
        if given != 1 {
            to.own_problem(format_args!(
                "exactly one of service, endpoints, file, url and dns tells where the endpoints come from, {given} are given"
            ));
        }
        match (given, services.is_empty(), fixed.is_empty()) {
            (1, false, _) => {
                let port = port.unwrap_or(PortSelector::Only);
                Some(Target::Service(EndpointSelection { services: sorted(services), port }))
            }
            (1, _, false) => Some(Target::Endpoints(sorted(fixed))),
            (1, ..) => {
                let url = url.map(|url| Target::Url { url, refresh });
                file.map(Target::File).or(dns.map(Target::Dns)).or(url)
            }
            _ => None,
        }
    }

    fn policy(&self, section: &Section<'_>) -> Policy {
        let mut policy = Policy::default();
        policy.require = answer::REQUIRE.or(section, policy.require);
        policy.success = self.success(section).unwrap_or_default();
        policy.members = answer::MEMBERS.or(section, policy.members);
        policy.min_endpoints = answer::MIN_ENDPOINTS.or(section, policy.min_endpoints);
        policy.on_empty = answer::ON_EMPTY.or(section, policy.on_empty);
        policy.on_timeout = answer::ON_TIMEOUT.or(section, policy.on_timeout);
        policy.max_body = requests::MAX_BODY.read(section);
        policy.start_after = requests::START_AFTER.or(section, policy.start_after);
        policy.stream = requests::STREAM.or(section, policy.stream);
        policy.min_body_rate = requests::MIN_BODY_RATE.or(section, policy.min_body_rate);
        policy.window = bounds::WINDOW.or(section, policy.window);
        policy.grpc_max_message = bounds::GRPC_MAX_MESSAGE.or(section, policy.grpc_max_message);
        policy.lag_timeout = time::LAG_TIMEOUT.or(section, policy.lag_timeout);
        policy.waves = waves(section.section("waves"));
        redelivery::read(section, &mut policy);
        policy.retries = answer::RETRIES.or(section, policy.retries);
        if answer::IDEMPOTENT.is_given(section) {
            policy.idempotent = answer::IDEMPOTENT.read(section).into_iter().flatten().collect();
        }
        policy.report = answer::REPORT.or(section, policy.report);
        policy.compare = answer::COMPARE.or(section, policy.compare);
        policy.compare_ignore = ignore(section, policy.compare);
        let timeouts = &mut policy.timeouts;
        timeouts.total = time::TIMEOUT.or(section, timeouts.total);
        timeouts.connect = time::CONNECT_TIMEOUT.or(section, timeouts.connect);
        timeouts.first_byte = time::FIRST_BYTE_TIMEOUT.read(section);
        timeouts.idle = time::IDLE_TIMEOUT.or(section, timeouts.idle);
        policy
    }

    fn success(&self, section: &Section<'_>) -> Option<Success> {
        let texts = answer::SUCCESS.read(section);
        match Success::parse(&texts) {
            Ok(success) => Some(success),
            Err(error) => {
                answer::SUCCESS.problem(section, error);
                None
            }
        }
    }
}

/// What in bodies may differ.
fn ignore(section: &Section<'_>, compare: Compare) -> Option<Arc<Ignore>> {
    let ignored = answer::COMPARE_IGNORE.read(section);
    if !ignored.is_empty() && compare != Compare::Body {
        answer::COMPARE_IGNORE
            .problem(section, "is about bodies, which are compared with compare: body (--compare body)");
    }
    (!ignored.is_empty()).then(|| Arc::new(ignored.into_iter().collect()))
}

fn waves(section: Section<'_>) -> Option<Waves> {
    let waves = answer::WAVES.read(&section);
    let pause = answer::WAVES_PAUSE.read(&section);
    let on_failure = answer::WAVES_ON_FAILURE.read(&section);
    let needs_size = pause.is_some_and(|pause| !pause.is_zero()) || on_failure == Some(OnFailure::Continue);
    if needs_size && !answer::WAVES.is_given(&section) {
        answer::WAVES.problem(&section, "is missing: say how many endpoints get a request at a time, like 1 or 25%");
    }
    section.finish();
    let waves = waves?;
    Some(Waves { pause: pause.unwrap_or(waves.pause), on_failure: on_failure.unwrap_or(waves.on_failure), ..waves })
}

fn auth(section: Section<'_>) -> Auth {
    let auth = Auth {
        tokens: callers::AUTH_TOKENS.read(&section),
        service_accounts: callers::AUTH_SERVICE_ACCOUNTS.read(&section),
        rate_limit: callers::RATE_LIMIT.read(&section),
    };
    section.finish();
    auth
}

fn tracing(root: &Section<'_>) -> Option<Tracing> {
    let sample = process::TRACE_SAMPLE.or(root, Ratio::ALL);
    process::OTLP_ENDPOINT.read(root).map(|endpoint| Tracing { endpoint, sample })
}

fn limits(root: &Section<'_>) -> Limits {
    let default = Limits::default();
    Limits {
        connections_per_client: callers::MAX_CONNECTIONS_PER_CLIENT.read(root),
        connections: bounds::MAX_CONNECTIONS.or(root, default.connections),
        inflight: bounds::MAX_INFLIGHT.or(root, default.inflight),
        inflight_per_endpoint: bounds::MAX_INFLIGHT_PER_ENDPOINT.or(root, default.inflight_per_endpoint),
        buffered: bounds::MAX_BUFFERED.or(root, default.buffered),
        pool: bounds::POOL_SIZE.or(root, default.pool),
        pool_idle: time::POOL_IDLE_TIMEOUT.or(root, default.pool_idle),
    }
}

/// The path in the file of what the data plane calls by its own names.
pub(super) fn path_in_file(path: &str) -> String {
    const NAMES: [(&str, &str); 10] = [
        ("listeners[", "broadcast["),
        (".address", ".listen"),
        (".head.target", ".max_target"),
        (".head.bytes", ".max_head"),
        (".head.fields", ".max_fields"),
        (".timeouts.total", ".timeout"),
        (".timeouts.connect", ".connect_timeout"),
        (".policy.tls.roots", ".to.tls.ca"),
        (".policy.tls.certificate", ".to.tls"),
        (".policy.tls", ".to.tls"),
    ];
    NAMES.iter().fold(path.to_owned(), |path, (from, to)| path.replace(from, to))
}

/// A name that all replicas of a deployment have, and nobody else as far as that can be known.
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

/// In the order of their texts, none twice: what is written in another order is the same.
fn sorted<T: ToString + PartialEq>(mut values: Vec<T>) -> Vec<T> {
    values.sort_by_cached_key(ToString::to_string);
    values.dedup();
    values
}
