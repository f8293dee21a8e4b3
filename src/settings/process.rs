//! Settings of the process that several roles have: Kubernetes, the admin API, logs, the drain.

use super::{Group, Kind, Setting, setting};

/// How Kubernetes is reached.
pub(super) const KUBECONFIG: Setting = setting(
    "kubeconfig",
    "kubernetes.kubeconfig",
    Kind::One("PATH"),
    "$KUBECONFIG, else in-cluster",
    "Kubeconfig file",
)
.short('k');

/// Where the admin API is.
pub(super) const ADMIN: Setting = setting(
                    "metrics-interface",
                    "admin.listen",
                    Kind::One("ADDRESS:PORT"),
                    "0.0.0.0:8081",
                    "Where /metrics, /-/healthy, /-/ready, /-/endpoints, /-/config and /-/log-level are served. Not in the file: not served",
                ).short('m').always();

/// How long to serve on after SIGTERM.
pub(super) const DRAIN_DELAY: Setting = setting(
    "drain-delay",
    "drain_delay",
    Kind::One("DURATION"),
    "0s",
    "On SIGTERM, how long to go on serving while not ready, so that load balancers notice",
);

/// How long a kept connection may bring one more request.
pub(super) const DRAIN_IDLE: Setting = setting(
    "drain-idle",
    "drain_idle",
    Kind::One("DURATION"),
    "1s",
    "After that, how long a kept connection without a request stays open: one may be on its way, and is answered with Connection: close",
);

/// How long the drain may take.
pub(super) const DRAIN_TIMEOUT: Setting = setting(
    "drain-timeout",
    "drain_timeout",
    Kind::One("DURATION"),
    "10s",
    "How long what is in flight may take after that, before it is cut",
);

/// How much is logged.
pub(super) const LOG_LEVEL: Setting = setting(
    "log-level",
    "log_level",
    Kind::One("LEVEL"),
    "info",
    "error, warning, info, debug or trace; can be changed at run time with PUT /-/log-level from this machine",
)
.short('l');

/// How it looks.
pub(super) const LOG_FORMAT: Setting =
    setting("log-format", "log_format", Kind::One("text|json"), "text", "How log lines on standard error look");

/// One election for all writers of the process: which of several replicas writes.
pub(super) const LEADER_ELECT: Group = Group {
    title: "Replicas",
    settings: &[
        setting(
            "leader-elect",
            "leader_elect.enabled",
            Kind::Switch,
            "false",
            "Of several replicas only the elected one writes. In the file, true where leader_elect is there at all",
        ),
        setting(
            "leader-elect-resource-name",
            "leader_elect.name",
            Kind::One("NAME"),
            "fanfare",
            "Name of the Lease; the same for all replicas, and for nobody else",
        ),
        setting(
            "leader-elect-resource-namespace",
            "leader_elect.namespace",
            Kind::One("NS"),
            "the service account's",
            "Namespace of the Lease",
        ),
        setting(
            "leader-elect-lease-duration",
            "leader_elect.lease_duration",
            Kind::One("DURATION"),
            "15s",
            "How long the Lease holds without renewal",
        ),
        setting(
            "leader-elect-renew-deadline",
            "leader_elect.renew_deadline",
            Kind::One("DURATION"),
            "10s",
            "How long the leader goes on trying to renew",
        ),
        setting(
            "leader-elect-retry-period",
            "leader_elect.retry_period",
            Kind::One("DURATION"),
            "2s",
            "How long a candidate waits between two tries",
        ),
        setting(
            "leader-elect-id",
            "leader_elect.id",
            Kind::One("TEXT"),
            "the host's name and a UUID",
            "What this replica calls itself",
        ),
    ],
};
