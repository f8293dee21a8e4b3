//! The names of the metrics of an election's commands. They are part of the interface.

use ::metrics::{describe_counter, describe_gauge};

/// Counter `{name, result}`: start commands that ended before their term did; result is `ok`, `failed` or `not_started`.
pub const START_COMMAND_ENDS: &str = "fanfare_election_start_command_ends_total";
/// Gauge `{name}`: 1 while the start command runs.
pub const START_COMMAND_RUNNING: &str = "fanfare_election_start_command_running";

/// Describes the metrics to the recorder. Call it once, after the recorder is installed.
pub fn describe() {
    describe_counter!(START_COMMAND_ENDS, "Start commands that ended before their term did, by result.");
    describe_gauge!(START_COMMAND_RUNNING, "1 while the start command runs.");
}
