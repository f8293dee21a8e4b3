//! The names of the mirror's metrics. They are part of the interface.

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use runtime::metrics::from_zero;

/// Gauge `{prefix, kind}`: local objects that are mirrors; kind is `services`, `endpointslices` or `endpoints`.
pub const OBJECTS: &str = "fanfare_mirror_objects";
/// Gauge `{remote}` in seconds: how long ago the remote last gave a sign of life.
pub const STALENESS: &str = "fanfare_mirror_remote_staleness_seconds";
/// Gauge `{remote}`: 1 where everything of the remote has been listed and is watched, else 0.
pub const IN_SYNC: &str = "fanfare_mirror_remote_in_sync";
/// Gauge `{remote}`: remote Services that are selected.
pub const SELECTED: &str = "fanfare_mirror_remote_services";
/// Gauge: local names waiting to be worked on.
pub const QUEUE: &str = "fanfare_mirror_queue_depth";
/// Gauge: local names whose last attempt failed.
pub const FAILING: &str = "fanfare_mirror_failing";
/// Counter: attempts that failed and are retried.
pub const RETRIES: &str = "fanfare_mirror_retries_total";
/// Counter `{kind, verb, result}`: calls of the local API server; result is `ok`, an HTTP status, `deadline`,
/// `not-leading` or `transport`.
pub const CALLS: &str = "fanfare_mirror_api_calls_total";
/// Counter `{reason}`: refusals that were reported, without repetitions.
pub const REFUSED: &str = "fanfare_mirror_refused_total";
/// Gauge: deletions held back because too many were due at once.
pub const HELD: &str = "fanfare_mirror_held_deletions";
/// Gauge `{remote}`: Services that keep endpoints which a list no longer had.
pub const HELD_SLICES: &str = "fanfare_mirror_held_endpoints";
/// Gauge: endpoints of the remotes that cannot be mirrored: loopback, link-local or malformed addresses.
pub const UNUSABLE: &str = "fanfare_mirror_unusable_endpoints";
/// Histogram in seconds: from the first news about a mirror to the end of the writes that it led to.
pub const LAG: &str = "fanfare_mirror_lag_seconds";

/// Why a mirror may be refused.
const REASONS: [&str; 11] = [
    "ForeignService",
    "ForeignEndpointSlice",
    "ForeignEndpoints",
    "OtherClustersMirror",
    "NameCollision",
    "InvalidName",
    "InvalidServiceType",
    "PortConflict",
    "TypeConflict",
    "SessionAffinityConflict",
    "Rejected",
];

/// Describes the metrics to the recorder. Call it once, after the recorder is installed.
pub fn describe() {
    describe_gauge!(OBJECTS, "Local objects that are mirrors, by prefix and kind.");
    describe_gauge!(STALENESS, Unit::Seconds, "Time since the last sign of life of a remote cluster.");
    describe_gauge!(IN_SYNC, "Whether a remote is listed completely and watched.");
    describe_gauge!(SELECTED, "Services of a remote that are selected.");
    describe_gauge!(QUEUE, "Local names waiting to be worked on.");
    describe_gauge!(FAILING, "Local names of which the last try failed.");
    describe_counter!(RETRIES, "Tries that failed and are repeated.");
    describe_counter!(CALLS, "Calls of the local API server for mirrors, by kind, verb and result.");
    describe_counter!(REFUSED, "Mirrors that were refused, by reason.");
    describe_gauge!(HELD, "Deletions held back because too many were due at once.");
    describe_gauge!(HELD_SLICES, "Services that keep endpoints which a list no longer had.");
    describe_gauge!(UNUSABLE, "Endpoints of the remotes that cannot be mirrored because of their addresses.");
    describe_histogram!(LAG, Unit::Seconds, "From the first news about a mirror to the end of the writes it led to.");
    // Shown from the start, so that a first increase is seen as one.
    from_zero(RETRIES, &[]);
    from_zero(REFUSED, &[("reason", &REASONS)]);
}
