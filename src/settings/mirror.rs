//! The settings of `fanfare mirror`. Flags concern one remote cluster.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use controlplane::client::remote::Url;
use mirror::{
    config::{ExternalNames, MaxDelete, Stale, Zones},
    names::Scheme,
};

use super::{
    Dashes, Entry, List, Role, Setting, flag, group, process,
    values::{address, boolean, duration, name, number, parsed, path, text},
};

/// What is mirrored, and how.
const MIRROR: &str = "mirror";

/// A remote cluster.
const REMOTE: &str = "mirror.remotes[]";

/// Services of several remote clusters as one.
const GLOBAL_SERVICES: &str = "mirror.global";

/// The variables of the tool that this role replaces, and of that tool's successor.
macro_rules! variables {
    ($name:literal) => {
        &[concat!("KSM_", $name), concat!("SSM_", $name)]
    };
}

/// The role.
pub(super) const ROLE: Role = Role {
    name: "mirror",
    about: "Mirrors services of other kube clusters into this one",
    dashes: Dashes::OneOrTwo,
    groups: &[SELECTION, REMOTE_CLUSTER, MIRRORS, GLOBAL, DNS, KUBERNETES, process::REPLICAS, PROCESS],
};

/// The same setting under the name that it has here.
const fn named(flag: &'static str, common: Entry) -> Entry {
    Entry { flag, short: None, ..common }
}

group!(SELECTION, "What is mirrored";
    LABEL_SELECTOR: Setting<String> = flag("label-selector").env(variables!("LABEL_SELECTOR"))
        .at(REMOTE, "select.labels").one("SELECTOR", text),
        "Which services of the remote cluster, by their labels. Required";
    NAMESPACES: List<String> = flag("namespaces").env(variables!("NAMESPACES")).at(REMOTE, "namespaces")
        .commas("NS,...", name),
        "The remote namespaces, each with its own watch, so that a Role in each is sufficient; if none is given, all \
         of them, which needs a ClusterRole";
    EXTERNAL_NAMES: Setting<ExternalNames> = flag("external-names").env(variables!("EXTERNAL_NAMES"))
        .at(REMOTE, "external_names").default("refuse").one("refuse|copy", external_names),
        "Whether services of the type ExternalName are refused with an event, or copied as aliases";
    LABELS: List<String> = flag("labels").env(variables!("LABELS")).at(REMOTE, "labels.include").default("*")
        .commas("KEY,...", text),
        "Labels that mirrors get from their services; * at the end stands for anything";
    EXCLUDE_LABELS: List<String> = flag("exclude-labels").env(variables!("EXCLUDE_LABELS"))
        .at(REMOTE, "labels.exclude").commas("KEY,...", text),
        "Labels that mirrors do not get";
    ANNOTATIONS: List<String> = flag("annotations").env(variables!("ANNOTATIONS")).at(REMOTE, "annotations.include")
        .commas("KEY,...", text),
        "Annotations that mirrors get from their services";
    EXCLUDE_ANNOTATIONS: List<String> = flag("exclude-annotations").env(variables!("EXCLUDE_ANNOTATIONS"))
        .at(REMOTE, "annotations.exclude").commas("KEY,...", text),
        "Annotations that mirrors do not get";
    ZONES: Setting<Zones> = flag("zones").env(variables!("ZONES")).at(REMOTE, "zones").default("keep")
        .one("keep|drop", zones),
        "Whether the zones of remote endpoints are kept; other names for them, and hints, can be given in the file";
    TRAFFIC_DISTRIBUTION: Setting<bool> = flag("traffic-distribution").env(variables!("TRAFFIC_DISTRIBUTION"))
        .at(REMOTE, "traffic_distribution").default("true").switch(go_boolean),
        "Mirrors get the trafficDistribution of their services";
);

group!(REMOTE_CLUSTER, "The remote cluster";
    TARGET_KUBE_CONFIG: Setting<PathBuf> = flag("target-kube-config").env(variables!("TARGET_KUBE_CONFIG"))
        .at(REMOTE, "kubeconfig").one("PATH", path),
        "Kubeconfig of the remote cluster, read again when it changes; alternatively its URL";
    TARGET_CONTEXT: Setting<String> = flag("target-context").env(variables!("TARGET_CONTEXT")).at(REMOTE, "context")
        .default("the current one").one("NAME", text),
        "Context of that kubeconfig";
    REMOTE_API_URL: Setting<Url> = flag("remote-api-url").env(variables!("REMOTE_API_URL")).at(REMOTE, "url")
        .one("URL", server),
        "URL of the API server of the remote cluster";
    REMOTE_CA_URL: Setting<Url> = flag("remote-ca-url").env(variables!("REMOTE_CA_URL")).at(REMOTE, "ca_url")
        .one("URL", protected_url),
        "URL (https) of the CA certificates (PEM) that the API server is verified with; fetched again every 10m, and \
         when verification fails. Without it and without a file, those of the system";
    REMOTE_CA_URL_TRUST: Setting<PathBuf> = flag("remote-ca-url-trust").env(variables!("REMOTE_CA_URL_TRUST"))
        .at(REMOTE, "ca_url_trust").default("the system's").one("PATH", path),
        "CA certificates (PEM) that the server of that URL is verified with";
    REMOTE_CA_FILE: Setting<PathBuf> = flag("remote-ca-file").env(variables!("REMOTE_CA_FILE")).at(REMOTE, "ca_file")
        .one("PATH", path),
        "The CA certificates as a file (PEM), read again when it changes";
    REMOTE_SA_TOKEN_PATH: Setting<PathBuf> = flag("remote-sa-token-path").env(variables!("REMOTE_SA_TOKEN_PATH"))
        .at(REMOTE, "token_file").one("PATH", path),
        "File with the bearer token for the API server, read again when it changes";
    REMOTE_TOKEN_ENV: Setting<String> = flag("remote-token-env").env(variables!("REMOTE_TOKEN_ENV"))
        .at(REMOTE, "token_env").default("KSM_REMOTE_SERVICE_ACCOUNT_TOKEN").one("NAME", text),
        "The environment variable with the token, if there is no file";
    REMOTE_NAME: Setting<String> = flag("remote-name").env(variables!("REMOTE_NAME")).at(REMOTE, "name")
        .default("the prefix").one("TEXT", text),
        "Name of the remote cluster in logs, metrics and annotations";
    REMOTE_FORMER: List<String> = flag("remote-former").env(variables!("REMOTE_FORMER")).at(REMOTE, "former")
        .commas("UID,...", text),
        "UIDs that the cluster's namespace kube-system had before the cluster was rebuilt: mirrors made then are \
         still its own";
);

group!(MIRRORS, "The mirrors";
    MIRROR_NS: Setting<String> = flag("mirror-ns").env(variables!("MIRROR_NS")).at(REMOTE, "namespace")
        .default("this pod's").one("NS", name),
        "Namespace of this cluster that the mirrors are in";
    SVC_PREFIX: Setting<String> = flag("svc-prefix").env(variables!("SVC_PREFIX")).at(REMOTE, "prefix")
        .one("TEXT", text),
        "Prefix of the mirrors' names, and the value of their label mirror-svc-prefix-sync. Required";
    NAMES: Setting<Scheme> = flag("names").env(variables!("NAMES")).at(REMOTE, "names").default("v0.2")
        .one("v0.2|v0.3|TEMPLATE", parsed),
        "Names of mirrors: as that version of kube-service-mirror forms them, or a text with {prefix}, {namespace} \
         and {service}; too long a name is cut and hashed";
    SVC_SYNC: Setting<bool> = flag("svc-sync").env(variables!("SVC_SYNC")).at(REMOTE, "sync").default("true")
        .switch(go_boolean),
        "Delete mirrors of services that were deleted while no watch was running";
    MAX_DELETE: Setting<MaxDelete> = flag("max-delete").env(variables!("MAX_DELETE")).at(REMOTE, "max_delete")
        .default("10/30%").one("N|N/P%|unlimited", parsed),
        "Deletions that follow from comparing with a complete list are held back if there are more than this at once: \
         more than N, or with N/P% more than N that are also more than P per cent of all";
    CONFIRM_AFTER: Setting<Option<Duration>> = flag("confirm-after").env(variables!("CONFIRM_AFTER"))
        .at(REMOTE, "confirm_after").default("1h0m0s").one("DURATION|never", confirm_after),
        "Deletions held back are carried out if they are still due after this";
    STALE: Setting<Stale> = flag("stale").env(variables!("STALE")).at(REMOTE, "stale").default("keep")
        .one("keep|not-ready|delete|ttl=DURATION", parsed),
        "What happens with the mirrors while the remote cluster is unreachable";
    LOST_AFTER: Setting<Duration> = flag("lost-after").env(variables!("LOST_AFTER")).at(REMOTE, "lost_after")
        .default("30s").one("DURATION", duration),
        "How long it must be unreachable before not-ready and delete take effect";
    RESYNC_PERIOD: Setting<Duration> = flag("resync-period").env(variables!("RESYNC_PERIOD")).at(MIRROR, "resync")
        .default("1h0m0s").one("DURATION", duration),
        "How often everything is compared again, whatever the watches say; 0s is never";
    WORKERS: Setting<usize> = flag("workers").env(variables!("WORKERS")).at(MIRROR, "workers").default("8")
        .one("N", number),
        "Most mirrors that are worked on at the same time";
    DRY_RUN: Setting<bool> = flag("dry-run").env(variables!("DRY_RUN")).at(MIRROR, "dry_run").default("false")
        .switch(go_boolean),
        "Print what would be created, adopted, changed, deleted and refused, and exit";
);

group!(GLOBAL, "Services of several remote clusters as one";
    GLOBAL_LABEL: Setting<String> = flag("global-label").env(variables!("GLOBAL_LABEL")).at(GLOBAL_SERVICES, "label")
        .one("KEY[=VALUE]", text),
        "Label by which a service also becomes part of the global service of its name and namespace";
    GLOBAL_NS: Setting<String> = flag("global-ns").env(variables!("GLOBAL_NS")).at(GLOBAL_SERVICES, "namespace")
        .default("this pod's").one("NS", name),
        "Namespace of this cluster that the global services are in";
    GLOBAL_PREFIX: Setting<String> = flag("global-prefix").env(variables!("GLOBAL_PREFIX"))
        .at(GLOBAL_SERVICES, "prefix").default("gl").one("TEXT", text),
        "Prefix of their names, and the value of their label";
    GLOBAL_NAMES: Setting<Scheme> = flag("global-names").env(variables!("GLOBAL_NAMES")).at(GLOBAL_SERVICES, "names")
        .default("v0.3").one("v0.2|v0.3|TEMPLATE", parsed),
        "Names of the global services";
);

group!(DNS, "DNS (for fanfare mirror coredns)";
    REMOTE_DOMAIN: Setting<String> = flag("remote-domain").env(variables!("REMOTE_DOMAIN")).at(REMOTE, "domain")
        .default("cluster.<prefix>").one("DOMAIN", domain),
        "Domain under which services of the remote cluster are resolved here";
    GLOBAL_DOMAIN: Setting<String> = flag("global-domain").env(variables!("GLOBAL_DOMAIN"))
        .at(GLOBAL_SERVICES, "domain").default("cluster.global").one("DOMAIN", domain),
        "The same for global services";
    CLUSTER_DOMAIN: Setting<String> = flag("cluster-domain").env(variables!("CLUSTER_DOMAIN"))
        .at(MIRROR, "cluster_domain").default("cluster.local").one("DOMAIN", domain),
        "Domain of this cluster";
);

group!(KUBERNETES, "Kubernetes";
    + named("kube-config", process::KUBECONFIG.entry).env(variables!("KUBE_CONFIG"));
    + process::CONTEXT.entry;
);

group!(PROCESS, "Process";
    LISTEN: Setting<SocketAddr> = flag("listen").env(variables!("LISTEN")).always().at(MIRROR, "listen")
        .default("0.0.0.0:8080").one("ADDRESS:PORT", address),
        "Where /healthz, /readyz and /metrics are served. Not in the file: not served";
    + process::METRICS_INTERFACE.entry.unless_given();
    + process::METRICS_TLS_CERT.entry;
    + process::METRICS_TLS_KEY.entry;
    + process::METRICS_TOKENS.entry;
    + process::DRAIN_DELAY.entry;
    + process::DRAIN_TIMEOUT.entry;
    + process::LOG_LEVEL.entry.env(variables!("LOG_LEVEL"));
    + process::LOG_FORMAT.entry;
);

fn confirm_after(text: &str) -> Result<Option<Duration>, String> {
    if text == "never" { Ok(None) } else { duration(text).map(Some) }
}

fn external_names(text: &str) -> Result<ExternalNames, String> {
    match text {
        "refuse" => Ok(ExternalNames::Refuse),
        "copy" => Ok(ExternalNames::Copy),
        _ => Err(format!("{text:?} is neither refuse nor copy")),
    }
}

fn zones(text: &str) -> Result<Zones, String> {
    match text {
        "keep" => Ok(Zones::Keep),
        "drop" => Ok(Zones::Drop),
        _ => Err(format!("{text:?} is neither keep nor drop; other names for zones stand under zone_map")),
    }
}

/// As client-go takes it: without a scheme it is https.
fn server(text: &str) -> Result<Url, String> {
    let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("https://{text}")) };
    url.map_err(|error| error.to_string())
}

fn protected_url(text: &str) -> Result<Url, String> {
    Url::parse_protected(text).map_err(|error| error.to_string())
}

/// As Go's `strconv.ParseBool` takes it, and as YAML writes it.
fn go_boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => boolean(text),
    }
}

/// A domain, without the dot that may end it.
fn domain(text: &str) -> Result<String, String> {
    let domain = text.trim_end_matches('.');
    name(domain).map_err(|_| format!("{text:?} is not a domain: use for instance cluster.local"))
}
