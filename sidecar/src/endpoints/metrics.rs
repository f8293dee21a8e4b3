//! The names of the endpoints API's metrics. They are part of the interface.

use ::metrics::{Unit, describe_counter, describe_gauge};

/// Gauge `{service}` in seconds: the age of the data, that is the time since the last event, bookmark or (re)connect.
pub const AGE: &str = "fanfare_endpoints_age_seconds";
/// Gauge `{service, state}`: published addresses; state is `ready` or `not_ready`.
pub const ADDRESSES: &str = "fanfare_endpoints_addresses";
/// Counter `{service}`: changes of the published endpoints, the first list included.
pub const CHANGES: &str = "fanfare_endpoints_changes_total";
/// Gauge: long polls and event streams that wait for a change.
pub const WAITING: &str = "fanfare_endpoints_waiting";
/// Counter `{result}`: writes of the hosts file; result is `replaced`, `in_place` or `failed`.
pub const HOSTS_WRITES: &str = "fanfare_endpoints_hosts_writes_total";
/// Counter `{result}`: runs of the command on change; result is `ok`, `failed` or `killed`.
pub const COMMANDS: &str = "fanfare_endpoints_commands_total";

/// Describes the metrics to the recorder. Call it once, after the recorder is installed.
pub fn describe() {
    describe_gauge!(AGE, Unit::Seconds, "Time since the last event, bookmark or (re)connect of a service.");
    describe_gauge!(ADDRESSES, "Published addresses of a service, by state.");
    describe_counter!(CHANGES, "Changes of a service's published endpoints.");
    describe_gauge!(WAITING, "Long polls and event streams that wait for a change.");
    describe_counter!(HOSTS_WRITES, "Writes of the hosts file, by result.");
    describe_counter!(COMMANDS, "Runs of the command on change, by result.");
}

/// Registers the counters of the hosts file and of the command with 0, if these are configured.
pub(super) fn from_zero(hosts: bool, command: bool) {
    if hosts {
        runtime::metrics::from_zero(HOSTS_WRITES, &[("result", &["replaced", "in_place", "failed"])]);
    }
    if command {
        runtime::metrics::from_zero(COMMANDS, &[("result", &["ok", "failed", "killed"])]);
    }
}
