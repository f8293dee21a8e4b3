//! The names of the control plane's metrics. They are part of the interface.

use ::metrics::{Unit, describe_counter, describe_gauge};

/// Counter `{kind, type}`: events of watches; type is `apply`, `delete`, `bookmark` or `connect`.
pub const WATCH_EVENTS: &str = "fanfare_watch_events_total";
/// Counter `{kind, reason}`: lists and watches that failed; reason is one of [`Reason`](crate::watch::Reason).
pub const WATCH_ERRORS: &str = "fanfare_watch_errors_total";
/// Counter `{kind}`: complete lists.
pub const WATCH_RELISTS: &str = "fanfare_watch_relists_total";
/// Counter `{kind}`: objects that could not be read and were skipped, each alone.
pub const WATCH_MALFORMED: &str = "fanfare_watch_malformed_total";
/// Gauge `{kind, scope, selector}` in seconds: the age of the data, that is the time since the last event, bookmark or
/// (re)connect.
pub const WATCH_AGE: &str = "fanfare_watch_age_seconds";

/// Gives the recorder the descriptions. Call it once, after the recorder is installed.
pub fn describe() {
    describe_counter!(WATCH_EVENTS, "Events of watches on the Kubernetes API, by kind and type.");
    describe_counter!(WATCH_ERRORS, "Failed lists and watches of the Kubernetes API, by kind and reason.");
    describe_counter!(WATCH_RELISTS, "Complete lists taken from the Kubernetes API, by kind.");
    describe_counter!(WATCH_MALFORMED, "Objects of the Kubernetes API that could not be read and were skipped.");
    describe_gauge!(WATCH_AGE, Unit::Seconds, "Time since the last event, bookmark or connect of a watch.");
}
