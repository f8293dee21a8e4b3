//! The names of the metrics of exports and bridges. They are part of the interface.

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use runtime::metrics::from_zero;

/// Gauge `{export}`: backends in the file.
pub const BACKENDS: &str = "fanfare_export_backends";
/// Gauge `{export}`: endpoints in the file.
pub const ENDPOINTS: &str = "fanfare_export_endpoints";
/// Gauge `{export}`: backends that the format cannot express.
pub const LEFT_OUT: &str = "fanfare_export_left_out";
/// Gauge `{export}`: endpoints that only the shrink guard keeps.
pub const HELD: &str = "fanfare_export_held_endpoints";
/// Counter `{export}`: catalogs that could not be rendered.
pub const RENDER_ERRORS: &str = "fanfare_export_render_errors_total";
/// Counter `{export, sink, result}`: attempts to bring a sink up to date; result is `written`, `unchanged`, `standby`, `held`
/// or one of [`SinkErrorKind`](crate::sink::SinkErrorKind).
pub const PUTS: &str = "fanfare_export_puts_total";
/// Counter `{export, sink}`: writes that had to be repeated because another writer had written in between.
pub const CONFLICTS: &str = "fanfare_export_conflicts_total";
/// Gauge `{export, sink}`: 1 where the sink holds what it should, else 0.
pub const IN_SYNC: &str = "fanfare_export_in_sync";
/// Histogram `{export}` in seconds: from a change in the catalog to the bytes in a sink, debounce included.
pub const PROPAGATION: &str = "fanfare_export_propagation_seconds";
/// Counter `{bridge, result}`: attempts of a bridge to pull from its store; result is `written`, `unchanged`, `missing`, `mismatch` or one of
/// [`SinkErrorKind`](crate::sink::SinkErrorKind).
pub const PULLS: &str = "fanfare_bridge_pulls_total";
/// Gauge `{bridge}`: 1 where the files are those of the store at the last pull, else 0.
pub const BRIDGE_IN_SYNC: &str = "fanfare_bridge_in_sync";

/// Describes the metrics to the recorder. Call it once, after the recorder is installed.
pub fn describe() {
    describe_gauge!(BACKENDS, "Backends in an exported file.");
    describe_gauge!(ENDPOINTS, "Endpoints in an exported file.");
    describe_gauge!(LEFT_OUT, "Backends that the format of an export cannot express.");
    describe_gauge!(HELD, "Endpoints that only the shrink guard keeps.");
    describe_counter!(RENDER_ERRORS, "Catalogs that could not be rendered.");
    describe_counter!(PUTS, "Attempts to bring a sink up to date, by result.");
    describe_counter!(CONFLICTS, "Writes repeated because another writer had written in between.");
    describe_gauge!(IN_SYNC, "Whether a sink has the current content.");
    describe_histogram!(PROPAGATION, Unit::Seconds, "From a change in the catalog to the bytes in a sink.");
    describe_counter!(PULLS, "Attempts of a bridge to pull from its store, by result.");
    describe_gauge!(BRIDGE_IN_SYNC, "Whether the files of a bridge are those of its store at the last pull.");
}

/// The names of [`SinkErrorKind`](crate::sink::SinkErrorKind).
const ERROR_KINDS: [&str; 5] = ["unavailable", "denied", "refused", "conflict", "foreign"];

/// Shows the counters of an export and one of its sinks as 0 from the start.
pub(crate) fn sink_from_zero(export: &str, sink: &str) {
    let labels = [("export", &[export][..]), ("sink", &[sink][..])];
    from_zero(RENDER_ERRORS, &labels[..1]);
    from_zero(CONFLICTS, &labels);
    let results = [&["written", "unchanged", "standby", "held"][..], &ERROR_KINDS].concat();
    from_zero(PUTS, &[labels[0], labels[1], ("result", &results)]);
}

/// Shows the counters of a bridge as 0 from the start.
pub(crate) fn bridge_from_zero(bridge: &str) {
    let results = [&["written", "unchanged", "missing", "mismatch"][..], &ERROR_KINDS].concat();
    from_zero(PULLS, &[("bridge", &[bridge]), ("result", &results)]);
}
