//! Turns raw YAML into the checked configuration. Every key is read here or in the module of its role, and every problem is
//! reported with its path.

use std::net::SocketAddr;

use runtime::config::{Collector, Problems, Section};
use serde_yaml::Value;

use super::{
    Config, Dns, KubernetesConfig, Process, Written, bridge, broadcast, discover, elect, endpoints, leader, mirror,
    tls,
    variables::{FileEnvironment, Filled},
};
use crate::settings::{
    self, ROLES,
    broadcast::{
        endpoints::{DNS_FAMILY, DNS_MAX_TTL, DNS_NEGATIVE_TTL, NAMESPACE},
        process::{READY, READY_NO_ENDPOINT},
    },
    process::{
        CONTEXT, DRAIN_DELAY, DRAIN_IDLE, DRAIN_TIMEOUT, KUBECONFIG, LOG_FORMAT, LOG_LEVEL, METRICS_INTERFACE,
        METRICS_TOKENS,
    },
};

impl Config {
    /// Checks a raw configuration.
    ///
    /// # Errors
    /// [`Problems`] with every problem.
    pub(crate) fn check(raw: &Value) -> Result<Self, Problems> {
        Self::check_in(raw, &FileEnvironment::default()).0
    }

    /// The same with the placeholders of the values filled in. What was filled in comes with it.
    pub(super) fn check_in(raw: &Value, environment: &FileEnvironment) -> (Result<Self, Problems>, Filled) {
        let filled = environment.fill(raw);
        let collector = Collector::new();
        filled.problems.iter().for_each(|problem| collector.add(problem.path.clone(), &problem.message));
        let written = Written::new(raw, environment);
        let checked = Self::check_filled(&filled.value, collector, written).map_err(|problems| filled.told(&problems));
        (checked, filled)
    }

    fn check_filled(raw: &Value, collector: Collector, written: Written) -> Result<Self, Problems> {
        let meant = settings::without_defaults_in_words(raw);
        let root = collector.root(&meant);
        let (mut admin_tls, mut admin_tokens) = (None, None);
        let admin = root.optional_section("admin").and_then(|admin| {
            let listen = METRICS_INTERFACE.required(&admin);
            admin_tls = tls::of_admin(&admin);
            admin_tokens = METRICS_TOKENS.read(&admin);
            admin.finish();
            listen
        });
        let kubernetes = root.section("kubernetes");
        let namespace = NAMESPACE.read(&kubernetes).flatten();
        let kubeconfig = KUBECONFIG.read(&kubernetes);
        let context = CONTEXT.read(&kubernetes);
        kubernetes.finish();
        let process = process(&root);
        let names: Vec<_> = ROLES.iter().map(|role| role.name).collect();
        let given = |role: &&str| match root.get(role).value() {
            Some(Value::Sequence(list)) => !list.is_empty(),
            other => other.is_some(),
        };
        if !names.iter().any(given) {
            root.own_problem(format_args!("has none of {}: there is nothing to do", names.join(", ")));
        }
        let (proxy, targets) = broadcast::read(&root, &collector, namespace);
        let config = Self {
            elect: elect::read(&root),
            discover: discover::read(&root),
            bridge: bridge::read(&root),
            endpoints: endpoints::read(&root),
            mirror: mirror::read(&root),
            leader_elect: leader::read(&root),
            dns: dns(&root),
            proxy: proxy.into(),
            targets,
            kubernetes: KubernetesConfig { kubeconfig, context },
            admin,
            admin_tls,
            admin_tokens,
            process,
            written,
        };
        root.finish();
        let admin_twice =
            |admin: &SocketAddr| admin.port() != 0 && config.proxy.listeners.iter().any(|l| l.address == *admin);
        if let Some(admin) = config.admin.filter(admin_twice) {
            collector.add(METRICS_INTERFACE.path(), format!("{admin} is the address of two listeners"));
        }
        collector.into_result(Some(config))
    }
}

fn dns(root: &Section<'_>) -> Dns {
    let default = Dns::default();
    Dns {
        max_ttl: DNS_MAX_TTL.or(root, default.max_ttl),
        negative_ttl: DNS_NEGATIVE_TTL.or(root, default.negative_ttl),
        family: DNS_FAMILY.or(root, default.family),
    }
}

fn process(root: &Section<'_>) -> Process {
    let default = Process::default();
    Process {
        ready: READY.or(root, default.ready),
        ready_no_endpoint: READY_NO_ENDPOINT.or(root, default.ready_no_endpoint),
        drain_delay: DRAIN_DELAY.or(root, default.drain_delay),
        drain_idle: DRAIN_IDLE.or(root, default.drain_idle),
        drain_timeout: DRAIN_TIMEOUT.or(root, default.drain_timeout),
        log_level: LOG_LEVEL.or(root, default.log_level),
        log_format: LOG_FORMAT.or(root, default.log_format),
    }
}

#[cfg(test)]
mod tests {
    use snapshot::ClusterName;

    use super::*;
    use crate::settings::Role;

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
    fn routes_to_one_url_agree_on_how_it_is_asked() {
        let config = |one: &str, two: &str| {
            let route = |to: &str, path: &str| format!("{{match: {{path: {path}}}, to: {{{to}}}}}");
            let (one, two) = (route(one, "/a"), route(two, "/b"));
            let text = format!("broadcast: [{{listen: '127.0.0.1:0', routes: [{one}, {two}]}}]");
            Config::parse(text.as_bytes())
        };
        let same = config("url: 'https://u:s3cret@a/x', refresh: 5s", "url: 'https://u:s3cret@a/x', refresh: 5s");
        assert_eq!(same.unwrap().targets.len(), 1);
        for two in ["url: 'https://u:other@a/x', refresh: 5s", "url: 'https://u:s3cret@a/x'"] {
            let problems = config("url: 'https://u:s3cret@a/x', refresh: 5s", two).unwrap_err().to_string();
            assert!(problems.starts_with("broadcast[0].routes[1].to.url: another route"), "{problems}");
        }
        for (to, told) in [
            ("url: 'u:s3cret@a/x'", "to.url: \"***@a/x\" is not the URL"),
            ("url: 'https://a/x', refresh: 10ms", "to.refresh: \"10ms\" is too short"),
            ("file: a, refresh: 10s", "to.refresh: is about url"),
            ("url: 'https://a/x', file: a", "to: exactly one of service, endpoints, file, url and dns"),
            ("file: 'a[b'", "to.file: \"a[b\" is not a file pattern"),
        ] {
            let problems = config(to, "dns: 'a:80'").unwrap_err().to_string();
            assert!(problems.contains(told) && !problems.contains("s3cret"), "{problems}");
        }
    }

    #[test]
    fn statuses_may_be_numbers_and_methods_may_not() {
        let policy = |success: &str| {
            let text = format!(
                "broadcast: [{{listen: '127.0.0.1:0', routes: [{{to: {{dns: 'a:80'}}, success: {success}}}]}}]"
            );
            Config::parse(text.as_bytes()).map(|config| config.proxy.listeners[0].routes[0].policy.success.clone())
        };
        let success = policy("[200, 404]").unwrap();
        assert!(success.is_ok(b"GET", 404) && !success.is_ok(b"GET", 204));
        assert_eq!(policy("'200,404'").unwrap(), success);
        assert_eq!(policy("404").unwrap(), policy("'404'").unwrap());
        assert_eq!(policy("[200, 'PURGE=200,404']").unwrap(), policy("'200,PURGE=200,404'").unwrap());
        assert!(policy("[PURGE=200, 404]").unwrap_err().to_string().contains("success"));
        let all = parse("broadcast: [{listen: '127.0.0.1:0', routes: [{match: {methods: '*'}, to: {dns: 'a:80'}}]}]");
        assert!(all.proxy.listeners[0].routes[0].matches.is_everything());
        let method = "broadcast: [{listen: '127.0.0.1:0', routes: [{match: {methods: [200]}, to: {dns: 'a:80'}}]}]";
        assert!(Config::parse(method.as_bytes()).unwrap_err().to_string().contains("begins with a letter"));
    }

    #[test]
    fn a_route_says_what_it_changes_and_contradictions_are_found() {
        let problems = |route: &str| {
            let text = format!("broadcast: [{{listen: '127.0.0.1:0', routes: [{{to: {{dns: 'a:80'}}, {route}}}]}}]");
            Config::parse(text.as_bytes()).map_or_else(|problems| problems.to_string(), |_| String::new())
        };
        for good in [
            "match: {headers: {X-A: b, X-B: ['1', 2], X-C: '*'}}",
            "match: {headers: 'X-A: b'}",
            "match: {path: /a/*}, rewrite: /b/*",
            "rewrite: /b, host: a.example",
            "headers: {request: {set: {X-A: 1, X-B: true, X-C: ''}, add: ['X-A: b'], remove: X-D}}",
        ] {
            assert_eq!(problems(good), "", "{good}");
        }
        let route = "broadcast[0].routes[0]";
        for (bad, told) in [
            ("rewrite: /b, strip_prefix: /a", "rewrite: stands beside strip_prefix"),
            ("match: {path: /a}, rewrite: /b/*", "rewrite: has a *"),
            ("headers: {request: {set: {Host: a}}}", "headers.request.set.Host: Host is set with the key host"),
            ("headers: {request: {remove: [Via]}}", "headers.request.remove[0]: Via cannot be changed"),
            ("headers: {response: {add: ['Content-Length: 1']}}", "headers.response.add[0]: Content-Length cannot"),
            ("headers: {request: {set: {X-A: null}}}", "headers.request.set.X-A: has no value"),
            ("headers: {request: {set: {X-A: \"a\\r\\nb\"}}}", "headers.request.set.X-A: "),
            ("headers: {requests: {}}", "headers.requests: unknown key"),
            ("match: {headers: {'X A': b}}", "match.headers.\"X A\": "),
            ("host: '{host}'", "host: "),
            ("match: {path: /a/../b}", "match.path: "),
        ] {
            assert!(problems(bad).starts_with(&format!("{route}.{told}")), "{bad}: {}", problems(bad));
        }
    }

    #[test]
    fn every_key_of_the_table_of_settings_is_read() {
        for setting in ROLES.iter().flat_map(Role::settings).filter(|setting| !setting.key.is_empty()) {
            // No key accepts this value, so a key that is read causes a problem other than an unknown key.
            let mut text = String::from("{bad: {bad: 1}}");
            for step in setting.path().rsplit('.') {
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
