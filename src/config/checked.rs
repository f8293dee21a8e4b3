//! Raw YAML to the checked configuration. Every key of the file is read here, and every problem is noted with its path.

use std::{
    collections::BTreeMap, fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration,
};

use controlplane::{
    build::PortSelector,
    source::{
        fixed,
        kube::{Pattern, Selection},
    },
};
use proxy::config::{AccessLog, Limits, Listener, Match, Members, Policy, Require, Route, Success};
use runtime::{
    config::{Collector, Node, Problems, Section},
    duration, size,
};
use serde_yaml::Value;
use snapshot::ClusterName;

use super::{
    Config, Kubernetes, Process, Target,
    target::{is_label, port},
};

/// What is read while the listeners are.
struct Reading<'a> {
    collector: &'a Collector,
    /// The namespace of Services given without one.
    namespace: Option<String>,
    targets: BTreeMap<ClusterName, Target>,
    /// How often a route name was made up, so that each is its own.
    names: BTreeMap<String, usize>,
}

impl Config {
    /// Checks a raw configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn check(raw: &Value) -> Result<Self, Problems> {
        let collector = Collector::new();
        let root = collector.root(raw);
        let admin = root.optional_section("admin").and_then(|admin| {
            let listen = admin.required_with("listen", address);
            admin.finish();
            listen
        });
        let kubernetes = root.section("kubernetes");
        let namespace = kubernetes.parse_with("namespace", namespace).flatten();
        let kubeconfig = kubernetes.parse_with("kubeconfig", path);
        kubernetes.finish();
        let process = process(&root);
        let mut reading =
            Reading { collector: &collector, namespace, targets: BTreeMap::new(), names: BTreeMap::new() };
        let listeners = root.list("broadcast");
        if listeners.is_empty() {
            root.problem("broadcast", "has no listener: there is nothing to do");
        }
        let proxy = proxy::Config {
            listeners: listeners.iter().map(|listener| reading.listener(listener)).collect(),
            threads: root.or_default_with("threads", threads(), number),
            limits: limits(&root),
            access_log: root.or_default_with("access_log", AccessLog::Text, access_log),
        };
        let targets = std::mem::take(&mut reading.targets);
        root.finish();
        for proxy::config::Problem { path, message } in proxy.check() {
            collector.add(path_in_file(&path), message);
        }
        let admin_twice = |admin: &SocketAddr| admin.port() != 0 && proxy.listeners.iter().any(|l| l.address == *admin);
        if let Some(admin) = admin.filter(admin_twice) {
            collector.add("admin.listen", format!("{admin} is listened on twice"));
        }
        let config = Self { proxy, targets, kubernetes: Kubernetes { kubeconfig }, admin, process };
        collector.into_result(Some(config))
    }
}

// === impl Reading ===

impl Reading<'_> {
    fn listener(&mut self, node: &Node<'_>) -> Listener {
        let section = node.section();
        // A port of 0 clashes with nothing, so a broken address brings no second problem.
        let address = section.required_with("listen", address).unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
        let mut listener = Listener::new(address, Vec::new());
        listener.keepalive = section.or_default_with("keepalive", listener.keepalive, boolean);
        listener.allow =
            self.texts(&section, "allow").iter().filter_map(|node| node.parse_with(Match::from_str)).collect();
        listener.trust_forwarded = self.split(&section, &["trust_forwarded"], network);
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
        let matches = self.matches(section.section("match"));
        let policy = self.policy(&section);
        let name = section.parse_with("name", route_name);
        section.finish();
        let cluster = cluster.unwrap_or_else(|| ClusterName::new("none").expect("is printable"));
        let name = name.unwrap_or_else(|| self.made_up_name(&cluster));
        if let Some(target) = target {
            self.targets.insert(cluster.clone(), target);
        }
        Route { name, matches, cluster, policy }
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
        let services = self.split(&to, &["service"], |text| Pattern::parse(text, namespace));
        let port = to.parse_with("port", port);
        let endpoints = self.split(&to, &["endpoints"], fixed::Target::from_str);
        let (file, dns) = (to.parse_with("file", path), to.parse_with("dns", str::parse));
        for key in ["service", "endpoints"] {
            if to.contains(key) && self.texts(&to, key).is_empty() {
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

    fn matches(&self, section: Section<'_>) -> Match {
        let matches = Match {
            methods: self.split(&section, &["methods", "method"], Match::method),
            hosts: self.split(&section, &["hosts", "host"], str::parse),
            paths: self.split(&section, &["paths", "path"], str::parse),
        };
        section.finish();
        matches
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
        policy.window = section.or_default_with("window", policy.window, bytes);
        policy.lag_timeout = section.or_default_with("lag_timeout", policy.lag_timeout, duration::parse);
        policy.retries = section.or_default_with("retries", policy.retries, number);
        policy.report = section.or_default_with("report", policy.report, boolean);
        let timeouts = &mut policy.timeouts;
        timeouts.total = section.or_default_with("timeout", timeouts.total, duration::parse);
        timeouts.connect = section.or_default_with("connect_timeout", timeouts.connect, duration::parse);
        timeouts.first_byte = section.parse_with("first_byte_timeout", time);
        timeouts.idle = section.or_default_with("idle_timeout", timeouts.idle, time);
        policy
    }

    fn success(&self, section: &Section<'_>) -> Option<Success> {
        let nodes = self.texts(section, "success");
        let texts: Vec<String> = nodes.iter().filter_map(|node| node.parse_with(text)).collect();
        match Success::parse(&texts) {
            Ok(success) => Some(success),
            Err(error) => {
                section.problem("success", error);
                None
            }
        }
    }

    /// The values of a list, or the one value that stands in its place.
    fn texts<'a>(&self, section: &Section<'a>, key: &str) -> Vec<Node<'a>> {
        let node = section.get(key);
        match node.value() {
            None => Vec::new(),
            Some(Value::Sequence(_)) => node.list(),
            Some(_) => vec![node],
        }
    }

    /// The same for a key and its other spellings, each value in turn separated by commas.
    fn split<T, E: Display>(
        &self,
        section: &Section<'_>,
        keys: &[&str],
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let mut parsed = Vec::new();
        for node in keys.iter().flat_map(|key| self.texts(section, key)) {
            let Some(text) = node.parse_with(text) else { continue };
            for item in text.split(',').map(str::trim) {
                match parse(item) {
                    Ok(value) => parsed.push(value),
                    Err(error) => self.collector.add(node.path(), error),
                }
            }
        }
        parsed
    }
}

fn process(root: &Section<'_>) -> Process {
    let default = Process::default();
    Process {
        ready_no_endpoint: root.or_default_with("ready_no_endpoint", default.ready_no_endpoint, boolean),
        drain_delay: root.or_default_with("drain_delay", default.drain_delay, duration::parse),
        drain_timeout: root.or_default_with("drain_timeout", default.drain_timeout, duration::parse),
        log_level: root.or_default_with("log_level", default.log_level, str::parse),
        log_format: root.or_default_with("log_format", default.log_format, str::parse),
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
fn path_in_file(path: &str) -> String {
    const NAMES: [(&str, &str); 4] = [
        ("listeners[", "broadcast["),
        (".address", ".listen"),
        (".timeouts.total", ".timeout"),
        (".timeouts.connect", ".connect_timeout"),
    ];
    NAMES.iter().fold(path.to_owned(), |path, (from, to)| path.replace(from, to))
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

// Parsers of single values: what they refuse is said in a way that tells what to write instead.

/// An address to listen on. `:8080` is every address and `localhost` the loopback one, as in the Go tools; other names
/// are refused, since which address they mean may change.
fn address(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let full = match host {
        "" => format!("0.0.0.0:{port}"),
        "localhost" => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    full.parse().map_err(|_| {
        format!("{text:?} is not an address to listen on: use for instance 0.0.0.0:8080, [::]:8080 or :8080")
    })
}

fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let single = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    text.parse::<ipnet::IpNet>()
        .or_else(|_| single())
        .map_err(|_| format!("{text:?} is not a network: use for instance 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1"))
}

/// Empty is every namespace, as in the flags people have.
fn namespace(text: &str) -> Result<Option<String>, String> {
    match text {
        "" | "*" => Ok(None),
        _ if is_label(text) => Ok(Some(text.to_owned())),
        _ => Err(format!("{text:?} is not a namespace: use lower-case letters, digits and -")),
    }
}

fn path(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("is empty: name a file") } else { Ok(text.into()) }
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

fn text(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.to_owned())
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number that fits here"))
}

fn positive(text: &str) -> Result<usize, String> {
    number(text).and_then(|n| if n > 0 { Ok(n) } else { Err("must be at least 1".to_owned()) })
}

/// A time in which something has to happen: none at all would be too short for anything.
fn time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("must be longer than 0s".to_owned()) } else { Ok(time) }
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes = size::parse(text).map_err(|error| error.to_string())?;
    usize::try_from(bytes).map_err(|_| format!("{text:?} is more than this machine can address"))
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn routes_to_the_same_share_one_source_and_have_names_of_their_own() {
        let config = parse(
            "
broadcast:
  - listen: 127.0.0.1:0
    routes:
      - {match: {method: PURGE}, to: {endpoints: ['192.0.2.2:80', '192.0.2.1:80']}}
      - {to: {endpoints: '192.0.2.1:80, 192.0.2.2:80'}}
      - {name: cache, to: {service: shop/cache, port: http}}
      - {to: {service: cache}}
kubernetes: {namespace: shop}
",
        );
        let routes = &config.proxy.listeners[0].routes;
        let names: Vec<_> = routes.iter().map(|route| &*route.name).collect();
        let fixed = "fixed:192.0.2.1:80,192.0.2.2:80";
        assert_eq!(names, [fixed, &format!("{fixed}#2"), "cache", "kube:shop/cache"]);
        let clusters: Vec<_> = config.targets.keys().map(ClusterName::as_str).collect();
        assert_eq!(clusters, [fixed, "kube:shop/cache", "kube:shop/cache:http"]);
    }

    #[test]
    fn addresses_as_the_go_tools_write_them() {
        assert_eq!(address(":80"), Ok(([0, 0, 0, 0], 80).into()));
        assert_eq!(address("localhost:80"), Ok(([127, 0, 0, 1], 80).into()));
        assert!(address("[::]:80").is_ok());
        for text in ["", "80", "a:80", "1.2.3.4", "1.2.3.4:", ":x", "[::1:80"] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_configured_is_shown_as_it_is_written() {
        let shown = serde_json::to_value(parse(
            "
broadcast:
  - listen: 127.0.0.1:0
    routes: [{to: {service: shop/cache, port: 8080}}, {to: {dns: 'a.example:80'}}, {to: {file: /x}}]
",
        ))
        .unwrap();
        assert_eq!(shown["targets"]["kube:shop/cache:8080"]["service"]["services"][0], "shop/cache");
        assert_eq!(shown["targets"]["kube:shop/cache:8080"]["service"]["port"], 8080);
        assert_eq!(shown["targets"]["dns:a.example:80"]["dns"], "a.example:80");
        assert_eq!(shown["targets"]["file:/x"]["file"], "/x");
    }

    #[test]
    fn the_example_of_the_reference_is_valid() {
        let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
        let (_, rest) = reference.split_once("```yaml\n").expect("there is an example");
        let (example, _) = rest.split_once("```").expect("the example ends");
        assert_eq!(parse(example).proxy.listeners[0].routes.len(), 3);
    }

    #[test]
    fn every_key_of_the_table_of_settings_is_read() {
        for setting in crate::settings::all().filter(|setting| !setting.key.is_empty()) {
            // A mapping is no value that any key takes, so a key that is read is a problem other than an unknown key.
            let mut text = String::from("{bad: 1}");
            for step in setting.key.rsplit('.') {
                text = match step.strip_suffix("[]") {
                    Some(key) => format!("{{{key}: [{text}]}}"),
                    None => format!("{{{step}: {text}}}"),
                };
            }
            let problems = Config::parse(text.as_bytes()).expect_err(&text).to_string();
            assert!(problems.contains("expected a single value"), "{text}\n{problems}");
            assert!(!problems.contains("unknown key"), "{text}\n{problems}");
        }
    }
}
