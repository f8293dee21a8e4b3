//! The names of the control plane's metrics. They are part of the interface.
//!
//! The label `kube_cluster` is empty for the process's own kube cluster, else the name of the remote one.

use ::metrics::{Unit, describe_counter, describe_gauge};
use runtime::metrics::from_zero;

/// Counter `{kube_cluster, kind, type}`: events of watches; type is `apply`, `delete`, `bookmark` or `connect`.
pub const WATCH_EVENTS: &str = "fanfare_watch_events_total";
/// Counter `{kube_cluster, kind, reason}`: lists and watches that failed; reason is one of
/// [`Reason`](crate::watch::Reason).
pub const WATCH_ERRORS: &str = "fanfare_watch_errors_total";
/// Counter `{kube_cluster, kind}`: complete lists.
pub const WATCH_RELISTS: &str = "fanfare_watch_relists_total";
/// Counter `{kube_cluster, kind}`: objects that could not be read and were skipped, each alone.
pub const WATCH_MALFORMED: &str = "fanfare_watch_malformed_total";
/// Gauge `{kube_cluster, kind, scope, selector}` in seconds: the age of the data, that is the time since the last event,
/// bookmark or (re)connect.
pub const WATCH_AGE: &str = "fanfare_watch_age_seconds";
/// Gauge `{name}`: 1 while this process leads, as client-go has it; name is that of the lock.
pub const ELECTION_MASTER: &str = "leader_election_master_status";
/// Counter `{name}`: renewals for which the lock had to be read again, as client-go has it.
pub const ELECTION_SLOWPATH: &str = "leader_election_slowpath_total";
/// Counter `{name}`: terms of this process that have begun.
pub const ELECTION_TERMS: &str = "fanfare_election_terms_total";
/// Counter `{name, cause}`: terms of this process that have ended; cause is one of [`Cause`](crate::lease::Cause).
pub const ELECTION_TERMS_ENDED: &str = "fanfare_election_terms_ended_total";
/// Counter `{name}`: acknowledged renewals.
pub const ELECTION_RENEWALS: &str = "fanfare_election_renewals_total";
/// Counter `{name, verb, reason}`: requests for the lock that failed; reason is `conflict`, `forbidden`, `unauthorized`,
/// `server`, `transport`, `timeout` or `malformed`.
pub const ELECTION_ERRORS: &str = "fanfare_election_errors_total";
/// Counter `{name, result}`: releases at the end of the process or when it steps down; result is `released` or `runs_out`.
pub const ELECTION_RELEASES: &str = "fanfare_election_releases_total";

/// Describes the metrics to the recorder. Call it once, after the recorder is installed.
pub fn describe() {
    describe_counter!(WATCH_EVENTS, "Events of watches on the Kubernetes API, by kind and type.");
    describe_counter!(WATCH_ERRORS, "Failed lists and watches of the Kubernetes API, by kind and reason.");
    describe_counter!(WATCH_RELISTS, "Complete lists read from the Kubernetes API, by kind.");
    describe_counter!(WATCH_MALFORMED, "Objects of the Kubernetes API that could not be read and were skipped.");
    describe_gauge!(WATCH_AGE, Unit::Seconds, "Time since the last event, bookmark or connect of a watch.");
    describe_gauge!(ELECTION_MASTER, "1 while this process leads.");
    describe_counter!(ELECTION_SLOWPATH, "Renewals for which the lock had to be read again.");
    describe_counter!(ELECTION_TERMS, "Terms of this process that have begun.");
    describe_counter!(ELECTION_TERMS_ENDED, "Terms of this process that have ended, by cause.");
    describe_counter!(ELECTION_RENEWALS, "Acknowledged renewals of the lease.");
    describe_counter!(ELECTION_ERRORS, "Failed requests for the lock, by verb and reason.");
    describe_counter!(ELECTION_RELEASES, "Releases of the lease, by result.");
}

/// Registers the counters of an election with 0.
pub(crate) fn election_from_zero(name: &str) {
    let name = ("name", &[name][..]);
    for counted in [ELECTION_TERMS, ELECTION_RENEWALS, ELECTION_SLOWPATH] {
        from_zero(counted, &[name]);
    }
    let reasons = ["conflict", "forbidden", "unauthorized", "server", "transport", "timeout", "malformed"];
    from_zero(ELECTION_ERRORS, &[name, ("verb", &["get", "create", "update"]), ("reason", &reasons)]);
    let causes = ["expired", "overtaken", "deleted", "stepped_down", "shut_down"];
    from_zero(ELECTION_TERMS_ENDED, &[name, ("cause", &causes)]);
    from_zero(ELECTION_RELEASES, &[name, ("result", &["released", "runs_out"])]);
}

/// Registers the counters of a kind's watches with 0.
pub(crate) fn watch_from_zero(kube_cluster: &str, kind: &str) {
    let watch = [("kube_cluster", &[kube_cluster][..]), ("kind", &[kind][..])];
    from_zero(WATCH_RELISTS, &watch);
    from_zero(WATCH_MALFORMED, &watch);
    let reasons = ["forbidden", "unauthorized", "gone", "server", "transport", "timeout", "decode"];
    from_zero(WATCH_ERRORS, &[watch[0], watch[1], ("reason", &reasons)]);
    from_zero(WATCH_EVENTS, &[watch[0], watch[1], ("type", &["apply", "delete", "bookmark", "connect"])]);
}
