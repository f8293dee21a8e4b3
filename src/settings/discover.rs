//! The settings of `fanfare discover`. Flags concern one export.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use controlplane::catalog::Selector;
use export::{
    backend::{Members, NameTemplate, PortChoice},
    render::Trust,
};
use runtime::files;

use super::{
    Dashes, Group, List, Role, Setting, flag, group, key, process, store,
    values::{address, boolean, duration, name, parsed, path, text, time},
};

/// An export.
pub(crate) const EXPORT: &str = "discover[]";

/// The role.
pub(super) const ROLE: Role = Role {
    name: "discover",
    about: "Writes the endpoints of services where load balancers read them",
    dashes: Dashes::Two,
    groups: &[
        SELECTION,
        FORMATS,
        SINKS,
        Group { settings: &store::under(EXPORT), ..store::GROUP },
        SAFETY_AND_PACE,
        process::KUBERNETES,
        process::REPLICAS,
        PROCESS,
    ],
};

group!(SELECTION, "Selection";
    NAME: Setting<String> = key(EXPORT, "name").default("discover, of several discover-1 and so on").one("NAME", name),
        "Name of the export in logs and metrics, and of its file in a directory; no two have the same";
    SELECT: Setting<Selector> = flag("select").env(&["LABEL_FILTER"]).at(EXPORT, "select.labels")
        .one("SELECTOR", selector),
        "Label selector of Services, in the format of kubectl's --selector; empty: all. Required";
    NAMESPACES: List<Arc<str>> = flag("namespaces").short('n').at(EXPORT, "select.namespaces")
        .default("all, which needs a ClusterRole").commas("NS", shared_name),
        "Namespaces, each of which needs only a Role; commas separate several";
    PORTS: List<PortChoice> = flag("ports").at(EXPORT, "ports").default("all").commas("NAME|NUMBER", parsed),
        "Which ports of a service, by name or by the number that its pods listen on";
    MEMBERS: Setting<Members> = flag("members").at(EXPORT, "members").default("ready").one("RULE", parsed),
        "Which endpoints: ready; serving (also terminating ones that still serve); ready-else-serving; known";
    NAMES: Setting<NameTemplate> = flag("names").at(EXPORT, "names").default("{service}-{port}")
        .one("TEMPLATE", parsed),
        "Names of backends; also {namespace}, {port_name}, {service_port}, {protocol}. Of two with the same name the \
         later one gets its namespace as a prefix";
);

group!(FORMATS, "Format";
    FORMAT: List<String> = flag("format").short('f').env(&["OUTPUT_FORMATS"]).at(EXPORT, "format").default("traefik")
        .commas("FORMAT", text),
        "traefik, traefik-json, default, json, prometheus, envoy, envoy-cds, haproxy, haproxy-map, nginx, \
         nginx-stream, hosts or template; commas separate several";
    ROUTERS: Setting<bool> = flag("routers").at(EXPORT, "routers").default("false").switch(boolean),
        "traefik: routers too, for services with the annotation fanfare/host";
    SERVERS_TRANSPORT: Setting<String> = flag("servers-transport").at(EXPORT, "servers_transport").one("NAME", text),
        "traefik: the serversTransport of backends with TLS";
    ENVOY_DIRECTORY: Setting<String> = flag("envoy-directory").at(EXPORT, "envoy_directory").one("PATH", text),
        "envoy: the directory of the files as Envoy sees it";
    TRUST: Setting<Trust> = flag("trust").at(EXPORT, "trust").default("system").one("WHOM", parsed),
        "envoy, haproxy: the authorities they trust for endpoints with TLS: system, anyone, or the path of a file of \
         authorities \
         as they see it";
    TEMPLATE: Setting<String> = flag("template").at(EXPORT, "template").one("PATH", content),
        "template: the file of the template (minijinja)";
);

group!(SINKS, "Sinks";
    TO: List<String> = flag("to").short('t').at(EXPORT, "to").many("PLACE", text),
        "Targets: s3://BUCKET/KEY, a path, configmap://NS/NAME/KEY, an http(s) URL (PUT), or serve:/PATH. \
         One that ends in / is a directory; {format} becomes traefik.yaml, default.yaml, ... Required";
    LISTEN: Setting<SocketAddr> = flag("listen").at(EXPORT, "listen").one("ADDRESS:PORT", address),
        "Where serve:/PATH is served; required for it";
    LISTEN_TLS_CERT: Setting<PathBuf> = flag("listen-tls-cert").at(EXPORT, "listen_tls_cert").one("PATH", path),
        "Server certificate (PEM) of this listener, with its chain; with its --listen-tls-key. Read again when it \
         changes";
    LISTEN_TLS_KEY: Setting<PathBuf> = flag("listen-tls-key").at(EXPORT, "listen_tls_key").one("PATH", path),
        "Private key (PEM) of that certificate, not encrypted";
    LISTEN_TOKENS: Setting<PathBuf> = flag("listen-tokens").at(EXPORT, "listen_tokens").one("PATH", path),
        "File of tokens, in lines name:token or name:sha256:<hex>, of which every request to this listener needs one. \
         Read again when it changes";
    MANIFEST: Setting<bool> = flag("manifest").at(EXPORT, "manifest").default("true with --leader-elect")
        .switch(boolean),
        "Keep a manifest beside the file, so that several writers exclude each other and bridges verify what they \
         pull";
    CLUSTER: Setting<Arc<str>> = flag("cluster").at(EXPORT, "cluster").default("default").one("NAME", shared_name),
        "Name of this kube cluster in manifests; a target whose manifest names another cluster is never written";
);

group!(SAFETY_AND_PACE, "Safety and timing";
    MAX_SHRINK: Setting<f64> = flag("max-shrink").at(EXPORT, "max_shrink").default("30%").one("PERCENT", share),
        "Largest share of the endpoints that may disappear without an observed deletion (a restart, a new list), if \
         these are more than 10";
    EMPTY_HOLD: Setting<Duration> = flag("empty-hold").at(EXPORT, "empty_hold").default("30s")
        .one("DURATION", duration),
        "How long an empty result is held back that no observed deletion explains";
    DEBOUNCE: Setting<Duration> = flag("debounce").at(EXPORT, "debounce").default("200ms").one("DURATION", duration),
        "How long to wait for further changes before writing; a change after a longer pause is written at once";
    DEBOUNCE_MAX: Setting<Duration> = flag("debounce-max").at(EXPORT, "debounce_max").default("2s")
        .one("DURATION", duration),
        "Longest time from the first change to writing";
    RESYNC: Setting<Duration> = flag("resync").at(EXPORT, "resync").default("5m0s").one("DURATION", time),
        "How often each sink is checked for the content that it should hold";
    WRITE_TIMEOUT: Setting<Duration> = flag("write-timeout").at(EXPORT, "timeout").default("10s").one("DURATION", time),
        "How long bringing one sink up to date may take";
    ONCE: Setting<bool> = flag("once").at(EXPORT, "once").default("false").switch(boolean),
        "Write once and exit, with a status other than 0 if something could not be written within a minute";
);

group!(PROCESS, "Process";
    + process::METRICS_INTERFACE.entry;
    + process::METRICS_TLS_CERT.entry;
    + process::METRICS_TLS_KEY.entry;
    + process::METRICS_TOKENS.entry;
    + process::DRAIN_DELAY.entry;
    + process::DRAIN_TIMEOUT.entry;
    + process::LOG_LEVEL.entry;
    + process::LOG_FORMAT.entry;
);

fn selector(text: &str) -> Result<Selector, String> {
    Selector::parse(text).map_err(|error| error.to_string())
}

fn shared_name(text: &str) -> Result<Arc<str>, String> {
    name(text).map(Arc::from)
}

/// The content of a file.
fn content(path: &str) -> Result<String, String> {
    let read = files::read_once(Path::new(path), files::MAX_BYTES);
    let read = read.map_err(|error| format!("cannot read {path}: {error}"))?;
    String::from_utf8(read).map_err(|_| format!("{path} is not UTF-8 text"))
}

/// `30%`.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').map(str::trim_end).and_then(|number| number.parse::<f64>().ok());
    match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("{text:?} is not a share: use for instance 30%")),
    }
}
