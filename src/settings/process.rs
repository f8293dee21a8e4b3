//! Settings of the process that several roles have: Kubernetes, the admin API, logs, the drain, replicas.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use runtime::telemetry::{Format, Level};

use super::{
    ROOT, Setting, flag, group, settings,
    values::{address, boolean, duration, name, parsed, path, text},
};

/// The one election for all writers of the process: which of several replicas writes.
const LEADER: &str = "leader_elect";

settings! {
    KUBECONFIG: Setting<PathBuf> = flag("kubeconfig").short('k').at("kubernetes", "kubeconfig")
        .default("$KUBECONFIG, else ~/.kube/config, else in-cluster").one("PATH", path),
        "Kubeconfig file";
    CONTEXT: Setting<String> = flag("context").at("kubernetes", "context").default("the current one").one("NAME", text),
        "Context of the kubeconfig";
    METRICS_INTERFACE: Setting<SocketAddr> = flag("metrics-interface").short('m').always().at("admin", "listen")
        .default("0.0.0.0:8081").one("ADDRESS:PORT", address),
        "Where /metrics, /-/healthy, /-/ready, /-/endpoints, /-/config and /-/log-level are served. Not in the file: \
         not served";
    METRICS_TLS_CERT: Setting<PathBuf> = flag("metrics-tls-cert").at("admin.tls", "cert").one("PATH", path),
        "Server certificate (PEM) of this listener, with its chain; with its --metrics-tls-key. Read again when it \
         changes";
    METRICS_TLS_KEY: Setting<PathBuf> = flag("metrics-tls-key").at("admin.tls", "key").one("PATH", path),
        "Private key (PEM) of that certificate, not encrypted";
    METRICS_TOKENS: Setting<PathBuf> = flag("metrics-tokens").at("admin", "tokens").one("PATH", path),
        "File of tokens, in the format of --auth-tokens, of which every request to this listener needs one, except \
         for /-/healthy and /-/ready. Without it, requests that change something are accepted only from this machine";
    DRAIN_DELAY: Setting<Duration> = flag("drain-delay").at(ROOT, "drain_delay").default("0s")
        .one("DURATION", duration),
        "On SIGTERM, how long to continue serving while not ready, so that load balancers notice";
    DRAIN_IDLE: Setting<Duration> = flag("drain-idle").at(ROOT, "drain_idle").default("1s").one("DURATION", duration),
        "After that, how long a kept connection without a request stays open: a request that is already on its way is \
         answered with Connection: close";
    DRAIN_TIMEOUT: Setting<Duration> = flag("drain-timeout").at(ROOT, "drain_timeout").default("10s")
        .one("DURATION", duration),
        "After that, how long requests in flight may take before they are cut off";
    LOG_LEVEL: Setting<Level> = flag("log-level").short('l').at(ROOT, "log_level").default("info").one("LEVEL", parsed),
        "error, warning, info, debug or trace; can be changed at run time with PUT /-/log-level from this machine";
    LOG_FORMAT: Setting<Format> = flag("log-format").at(ROOT, "log_format").default("text").one("text|json", parsed),
        "Format of log lines on standard error";
}

group!(KUBERNETES, "Kubernetes";
    + KUBECONFIG.entry;
    + CONTEXT.entry;
);

group!(PROCESS, "Process";
    + METRICS_INTERFACE.entry.unless_given();
    + METRICS_TLS_CERT.entry;
    + METRICS_TLS_KEY.entry;
    + METRICS_TOKENS.entry;
    + DRAIN_DELAY.entry;
    + DRAIN_TIMEOUT.entry;
    + LOG_LEVEL.entry;
    + LOG_FORMAT.entry;
);

group!(REPLICAS, "Replicas";
    LEADER_ELECT: Setting<bool> = flag("leader-elect").at(LEADER, "enabled").default("false").switch(boolean),
        "Of several replicas only the elected one writes. In the file, true if the section leader_elect exists";
    LEADER_ELECT_RESOURCE_NAME: Setting<String> = flag("leader-elect-resource-name").at(LEADER, "name")
        .default("fanfare").one("NAME", name),
        "Name of the Lease; the same for all replicas, and only for them";
    LEADER_ELECT_RESOURCE_NAMESPACE: Setting<String> = flag("leader-elect-resource-namespace").at(LEADER, "namespace")
        .default("the service account's").one("NS", name),
        "Namespace of the Lease";
    LEADER_ELECT_LEASE_DURATION: Setting<Duration> = flag("leader-elect-lease-duration").at(LEADER, "lease_duration")
        .default("15s").one("DURATION", duration),
        "How long the Lease holds without renewal";
    LEADER_ELECT_RENEW_DEADLINE: Setting<Duration> = flag("leader-elect-renew-deadline").at(LEADER, "renew_deadline")
        .default("10s").one("DURATION", duration),
        "How long the leader tries to renew";
    LEADER_ELECT_RETRY_PERIOD: Setting<Duration> = flag("leader-elect-retry-period").at(LEADER, "retry_period")
        .default("2s").one("DURATION", duration),
        "How long a candidate waits between two attempts";
    LEADER_ELECT_ID: Setting<String> = flag("leader-elect-id").at(LEADER, "id").default("the host's name and a UUID")
        .one("TEXT", text),
        "Name of this replica as a candidate";
);
