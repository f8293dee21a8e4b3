//! Strict readers of the formats: anything unexpected is a panic.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde_json::Value;

use super::*;
use crate::backend::Application;

/// The contents of a file: the scheme or mode of each backend, and the addresses of its endpoints.
pub(super) type Contents = BTreeMap<String, (String, Vec<SocketAddr>)>;

/// The expected contents of a file. `word` gives the scheme or mode of a backend, or none if the file omits the backend.
pub(super) fn truth(backends: &[Backend], word: impl Fn(Application) -> Option<&'static str>) -> Contents {
    let one = |backend: &Backend| {
        let addresses = backend.endpoints.iter().map(|endpoint| endpoint.address).collect();
        Some((backend.name.to_string(), (word(backend.application)?.to_owned(), addresses)))
    };
    backends.iter().filter_map(one).collect()
}

fn object(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object"))
}

fn keys<'a>(value: &'a Value, allowed: &[&str]) -> &'a serde_json::Map<String, Value> {
    let object = object(value);
    assert!(object.keys().all(|key| allowed.contains(&key.as_str())), "{value} has other keys than {allowed:?}");
    object
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address"))
}

/// Traefik's configuration, YAML or JSON, with its routers' rules.
pub(super) fn traefik(text: &str) -> (Contents, BTreeMap<String, String>) {
    assert!(!text.contains("{{"), "Traefik would run it as a template: {text}");
    let root: Value = serde_yaml::from_str(text).expect("YAML");
    let (mut said, mut rules) = (Contents::new(), BTreeMap::new());
    for (section, content) in keys(&root, &["http", "tcp", "udp"]) {
        let services = object(&content["services"]);
        assert!(!services.is_empty(), "Traefik refuses an empty section");
        for (name, service) in services {
            let servers = &keys(&keys(service, &["loadBalancer"])["loadBalancer"], &["servers"])["servers"];
            let mut scheme = section.clone();
            let server = |server: &Value| match section.as_str() {
                "http" => {
                    let (found, rest) = word(&keys(server, &["url"])["url"]).split_once("://").expect("a URL");
                    scheme = found.to_owned();
                    address(rest)
                }
                _ => address(word(&keys(server, &["address"])["address"])),
            };
            let addresses: Vec<SocketAddr> = list(servers).iter().map(server).collect();
            if section == "http" && addresses.is_empty() {
                scheme = String::new();
            }
            said.insert(name.clone(), (scheme, addresses));
        }
        for (name, router) in content.get("routers").map(object).into_iter().flatten() {
            let service = word(&router["service"]);
            assert!(services.contains_key(service), "a router leads to a service of the file");
            assert_eq!(name.split(':').next(), Some(service), "and is named after it");
            rules.insert(name.clone(), word(&router["rule"]).to_owned());
        }
    }
    (said, rules)
}

/// The plain YAML. Its word is the protocol; empty where there is no target.
pub(super) fn default(text: &str) -> Contents {
    let root: Value = serde_yaml::from_str(text).expect("YAML");
    let mut said = Contents::new();
    for backend in list(&keys(&root, &["backends"])["backends"]) {
        let backend = keys(backend, &["name", "targets"]);
        let mut protocol = String::new();
        let target = |target: &Value| {
            keys(target, &["ip", "port", "protocol"]);
            protocol = word(&target["protocol"]).to_owned();
            let port = target["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port's number");
            SocketAddr::new(word(&target["ip"]).parse().expect("an IP address"), port)
        };
        let targets = list(&backend["targets"]).iter().map(target).collect();
        said.insert(word(&backend["name"]).to_owned(), (protocol, targets));
    }
    said
}

/// Prometheus groups; the word is always the same.
pub(super) fn prometheus(text: &str) -> Contents {
    let root: Value = serde_json::from_str(text).expect("JSON");
    let mut said = Contents::new();
    for group in list(&root) {
        let group = keys(group, &["targets", "labels"]);
        for (name, value) in object(&group["labels"]) {
            let fits = |(at, b): (usize, u8)| b == b'_' || b.is_ascii_alphabetic() || (at > 0 && b.is_ascii_digit());
            assert!(name.bytes().enumerate().all(fits), "{name:?} is no name of a label");
            word(value);
        }
        let backend = said.entry(word(&group["labels"]["backend"]).to_owned()).or_default();
        backend.1.extend(list(&group["targets"]).iter().map(|target| address(word(target))));
    }
    said
}

/// Envoy's set, or its one file.
pub(super) fn envoy(files: &[File]) -> Contents {
    let (clusters, endpoints) = files.split_last().expect("there is a file");
    let parsed = |file: &File| serde_json::from_str::<Value>(text(file)).expect("JSON");
    let by_path: BTreeMap<String, Value> =
        endpoints.iter().map(|file| (format!("/etc/envoy/k8s/{}", file.name), parsed(file))).collect();
    let mut used = BTreeSet::new();
    let mut said = Contents::new();
    for cluster in list(&parsed(clusters)["resources"]) {
        let name = word(&cluster["name"]);
        let assignment = match cluster.get("load_assignment") {
            Some(assignment) => assignment,
            None => {
                let path = word(&cluster["eds_cluster_config"]["eds_config"]["path_config_source"]["path"]);
                used.insert(path.to_owned());
                let resources = list(&by_path[path]["resources"]);
                assert_eq!(resources.len(), 1, "Envoy takes one from a file");
                &resources[0]
            }
        };
        assert_eq!(word(&assignment["cluster_name"]), name);
        let members = list(&assignment["endpoints"]).iter().flat_map(|locality| list(&locality["lb_endpoints"]));
        let mut addresses: Vec<SocketAddr> = members
            .map(|member| {
                let socket = &member["endpoint"]["address"]["socket_address"];
                let port =
                    socket["port_value"].as_u64().and_then(|port| port.try_into().ok()).expect("a port's number");
                SocketAddr::new(word(&socket["address"]).parse().expect("an IP address"), port)
            })
            .collect();
        addresses.sort();
        said.insert(name.to_owned(), (String::new(), addresses));
    }
    assert!(by_path.keys().all(|path| used.contains(path)), "no file is there for nothing");
    for file in endpoints {
        let name = file.name.strip_prefix("eds/").and_then(|name| name.strip_suffix(".json")).expect("in its folder");
        assert!(
            !name.starts_with('.') && !name.contains('/') && name.len() < 250,
            "{name:?} is no safe name of a file"
        );
    }
    said
}

/// HAProxy's sections; the word is the mode.
pub(super) fn haproxy(text: &str) -> Contents {
    let mut said = Contents::new();
    let mut current = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            ["backend", name] => current = Some(said.entry((*name).to_owned()).or_default()),
            ["mode", mode @ ("http" | "tcp")] => current.as_mut().expect("in a section").0 = (*mode).to_owned(),
            ["server", name, at, options @ ..] => {
                let at = address(at);
                assert_eq!(*name, format!("{}_{}", at.ip(), at.port()));
                let known = ["", "proto h2", "ssl verify required ca-file @system-ca"];
                assert!(known.contains(&options.join(" ").as_str()), "{line:?}");
                current.as_mut().expect("in a section").1.push(at);
            }
            _ => panic!("{line:?} is no line of a backend"),
        }
    }
    said
}

/// nginx's upstreams.
pub(super) fn nginx(text: &str) -> Contents {
    let mut said = Contents::new();
    let mut current: Option<(String, Vec<SocketAddr>)> = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("upstream ").and_then(|rest| rest.strip_suffix(" {")) {
            assert!(current.is_none());
            current = Some((name.to_owned(), Vec::new()));
        } else if line == "}" {
            let (name, addresses) = current.take().expect("it was opened");
            said.insert(name, (String::new(), addresses));
        } else {
            let server = line.strip_prefix("    server ").and_then(|rest| rest.strip_suffix(';')).expect("a server");
            let (_, addresses) = current.as_mut().expect("in an upstream");
            if server != "127.0.0.1:9 down" {
                addresses.push(address(server));
            }
        }
    }
    assert!(current.is_none());
    said
}

/// Every name of a hosts file.
pub(super) fn hosts(text: &str) -> BTreeMap<String, BTreeSet<std::net::IpAddr>> {
    let mut said: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (ip, names) = line.split_once(' ').expect("an address and names");
        for name in names.split(' ') {
            assert!(
                name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) && !name.is_empty(),
                "{line:?}"
            );
            said.entry(name.to_owned()).or_default().insert(ip.parse().expect("an IP address"));
        }
    }
    said
}
