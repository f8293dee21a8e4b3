//! The settings of `fanfare elect`. Flags concern one election.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use controlplane::lease::LockKind;
use sidecar::{command::CommandLine, elect::OnStartExit};

use super::{
    Dashes, Entry, Role, Setting, flag, group, process,
    values::{address, boolean, command, duration, name, parsed, path, text},
};

/// An election.
const ELECT: &str = "elect[]";

/// The role.
pub(super) const ROLE: Role = Role {
    name: "elect",
    about: "Takes part in a leader election and says over HTTP who leads",
    dashes: Dashes::OneOrTwo,
    groups: &[CANDIDATE, ANSWERS, WORKLOAD, process::KUBERNETES, PROCESS],
};

/// A flag of klog, which the tool that this role replaces logs with. Its levels are others than ours.
const fn klog(name: &'static str, value: bool) -> Entry {
    flag(name).ignored(value)
}

group!(CANDIDATE, "Election";
    ELECTION: Setting<String> = flag("election").at(ELECT, "name").one("NAME", name),
        "Name of the election, and of its lock. Required";
    NAMESPACE: Setting<String> = flag("namespace").at(ELECT, "namespace").default("default").one("NS", name),
        "Namespace of the lock";
    LOCK_TYPE: Setting<LockKind> = flag("lock-type").at(ELECT, "lock").default("leases").one("KIND", parsed),
        "Kind of the lock: leases, configmaps, endpoints, configmapsleases or endpointsleases; the last two are both \
         at once, for a migration to leases";
    TTL: Setting<Duration> = flag("ttl").at(ELECT, "ttl").default("10s").one("DURATION", duration),
        "How long the lock holds without renewal, rounded up to whole seconds, at least 2s";
    RENEW_DEADLINE: Setting<Duration> = flag("renew-deadline").at(ELECT, "renew_deadline")
        .default("a third of the ttl").one("DURATION", duration),
        "How long a leader tries to renew";
    RETRY_PERIOD: Setting<Duration> = flag("retry-period").at(ELECT, "retry_period")
        .default("a sixth of the ttl").one("DURATION", duration),
        "How long a candidate waits between two attempts";
    ID: Setting<String> = flag("id").at(ELECT, "id").default("the host's name").one("TEXT", text),
        "Name of this candidate";
    UNIQUE_ID: Setting<bool> = flag("unique-id").at(ELECT, "unique_id").default("false").switch(boolean),
        "Appends an underscore and a random UUID to the id, so that a restart is another candidate";
);

group!(ANSWERS, "Answers";
    HTTP: Setting<SocketAddr> = flag("http").at(ELECT, "http").one("ADDRESS:PORT", address),
        "Where the HTTP API of all elections of the process is served; without it, nowhere";
    HTTP_TLS_CERT: Setting<PathBuf> = flag("http-tls-cert").at(ELECT, "http_tls_cert").one("PATH", path),
        "Server certificate (PEM) of this listener, with its chain; with its --http-tls-key. Read again when it \
         changes";
    HTTP_TLS_KEY: Setting<PathBuf> = flag("http-tls-key").at(ELECT, "http_tls_key").one("PATH", path),
        "Private key (PEM) of that certificate, not encrypted";
    HTTP_TOKENS: Setting<PathBuf> = flag("http-tokens").at(ELECT, "http_tokens").one("PATH", path),
        "File of tokens, in lines name:token or name:sha256:<hex>, of which every request to this listener needs one, \
         except for /healthz and /readyz; the token for stepping down is one of them. \
         Read again when it changes";
    STEP_DOWN_TOKEN_FILE: Setting<PathBuf> = flag("step-down-token-file").at(ELECT, "step_down_token_file")
        .one("PATH", path),
        "File with the bearer token that clients on other machines need for POST /v1/step-down";
);

group!(WORKLOAD, "Workload";
    POD: Setting<String> = flag("pod").env(&["ELECTOR_POD_NAME"]).at(ELECT, "pod")
        .default("the host's name").one("NAME", name),
        "The pod of this candidate";
    POD_NAMESPACE: Setting<String> = flag("pod-namespace").env(&["POD_NAMESPACE"])
        .at(ELECT, "pod_namespace").default("the service account's").one("NS", name),
        "The namespace of that pod";
    LABEL: Setting<bool> = flag("label").at(ELECT, "label").default("true").switch(boolean),
        "Keeps the label k8s-elector/status of that pod at leader or standby";
    LEADER_SERVICE: Setting<String> = flag("leader-service").at(ELECT, "leader_service").one("NAME", name),
        "Service without a selector, in the pod's namespace, whose only endpoint is to be the leader";
    ON_START: Setting<CommandLine> = flag("on-start").at(ELECT, "on_start").one("COMMAND", command),
        "Command to run while this process leads, split at spaces, without a shell; ended with the term";
    ON_START_EXIT: Setting<OnStartExit> = flag("on-start-exit").at(ELECT, "on_start_exit")
        .default("step-down").one("WHAT", parsed),
        "What follows if that command ends before the term does, or cannot be started: keep (continue to lead), \
         step-down (let another candidate lead) or exit (end the process, with status 1)";
    ON_STOP: Setting<CommandLine> = flag("on-stop").at(ELECT, "on_stop").one("COMMAND", command),
        "Command to run when this process no longer leads; finished, or killed, before another candidate can lead";
);

group!(PROCESS, "Process";
    + process::METRICS_INTERFACE.entry.unless_given();
    + process::METRICS_TLS_CERT.entry;
    + process::METRICS_TLS_KEY.entry;
    + process::METRICS_TOKENS.entry;
    + process::DRAIN_DELAY.entry;
    + process::DRAIN_TIMEOUT.entry;
    + process::LOG_LEVEL.entry;
    + process::LOG_FORMAT.entry;
    + klog("add_dir_header", false);
    + klog("alsologtostderr", false);
    + klog("log_backtrace_at", true);
    + klog("log_dir", true);
    + klog("log_file", true);
    + klog("log_file_max_size", true);
    + klog("logtostderr", false);
    + klog("skip_headers", false);
    + klog("skip_log_headers", false);
    + klog("stderrthreshold", true);
    + klog("v", true);
    + klog("vmodule", true);
);
