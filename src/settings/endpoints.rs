//! The settings of `fanfare endpoints`.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Serialize, Serializer};
use sidecar::command::CommandLine;

use super::{
    Dashes, List, Role, Setting, flag, group, process,
    values::{address, command, duration, is_label, name, path, time},
};

/// The endpoints API.
const ENDPOINTS: &str = "endpoints";

/// The role.
pub(super) const ROLE: Role = Role {
    name: "endpoints",
    about: "Answers over HTTP who the endpoints of a service are",
    dashes: Dashes::Two,
    groups: &[SERVICES, ANSWERS, ON_CHANGE, process::KUBERNETES, process::PROCESS],
};

/// `[namespace/]name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceName {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

group!(SERVICES, "Services";
    SERVICE: List<ServiceName> = flag("service").short('s').env(&["KUBERNETES_POD_DISCOVERY_SERVICE_NAME"])
        .at(ENDPOINTS, "services").commas("[NS/]NAME", service_name),
        "Services whose endpoints are listed; commas separate several. The first one is at /endpoints, each at \
         /v1/services/NS/NAME/endpoints. Required";
    NAMESPACE: Setting<String> = flag("namespace").short('n').env(&["KUBERNETES_POD_DISCOVERY_NAMESPACE"])
        .at(ENDPOINTS, "namespace").default("$POD_NAMESPACE, else the service account's").one("NS", label),
        "Namespace of services that are named without one";
);

group!(ANSWERS, "Answers";
    LISTEN: Setting<SocketAddr> = flag("listen").env(&["KUBERNETES_POD_DISCOVERY_LISTEN_PORT"]).always()
        .at(ENDPOINTS, "listen").default("0.0.0.0:8080").one("[ADDRESS:]PORT", listen),
        "Where /endpoints, /health, /ready and /metrics are served. Not in the file: not served";
    LISTEN_TLS_CERT: Setting<PathBuf> = flag("listen-tls-cert").at(ENDPOINTS, "listen_tls_cert").one("PATH", path),
        "Server certificate (PEM) of this listener, with its chain; with its --listen-tls-key. Read again when it \
         changes";
    LISTEN_TLS_KEY: Setting<PathBuf> = flag("listen-tls-key").at(ENDPOINTS, "listen_tls_key").one("PATH", path),
        "Private key (PEM) of that certificate, not encrypted";
    LISTEN_TOKENS: Setting<PathBuf> = flag("listen-tokens").at(ENDPOINTS, "listen_tokens").one("PATH", path),
        "File of tokens, in lines name:token or name:sha256:<hex>, of which every request to this listener needs one, \
         except for /health and /ready. \
         Read again when it changes";
    MAX_AGE: Setting<Duration> = flag("max-age").at(ENDPOINTS, "max_age").one("DURATION", time),
        "How old the data may be before /ready fails. If nothing changes, the API server sends something only every \
         minute, so at least 90s is needed";
);

group!(ON_CHANGE, "On change";
    HOSTS_FILE: Setting<PathBuf> = flag("hosts-file").at(ENDPOINTS, "hosts_file").one("PATH", path),
        "Hosts file in which the names of the ready endpoints are kept up to date, in a block of their own";
    CLUSTER_DOMAIN: Setting<String> = flag("cluster-domain").at(ENDPOINTS, "cluster_domain").default("cluster.local")
        .one("DOMAIN", name),
        "What full names in the hosts file end in";
    EXEC: Setting<CommandLine> = flag("exec").at(ENDPOINTS, "exec").one("COMMAND", command),
        "Command to run when the endpoints have changed, and once when they are first known; run without a shell, in \
         the file also a list of words. FANFARE_CHANGED names the services";
    EXEC_DEBOUNCE: Setting<Duration> = flag("exec-debounce").at(ENDPOINTS, "exec_debounce").default("1s")
        .one("DURATION", duration),
        "How long after a change the command runs; further changes within that time are part of the same run";
    EXEC_TIMEOUT: Setting<Duration> = flag("exec-timeout").at(ENDPOINTS, "exec_timeout").default("30s")
        .one("DURATION", time),
        "How long the command may take before it is killed, with all that it has started";
);

fn service_name(text: &str) -> Result<ServiceName, String> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(label(namespace)?), name),
        None => (None, text),
    };
    Ok(ServiceName { namespace, name: label(name)? })
}

fn label(text: &str) -> Result<String, String> {
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not the name of a service or namespace: use at most 63 lower-case letters, digits and -"
        ))
    }
}

/// An address, or a port of every address, as the tool that this replaces takes it.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if port { address(&format!(":{text}")) } else { address(text) }
}

// === impl ServiceName ===

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Serialize for ServiceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
