//! The command that runs on a change of endpoints: one run at a time, with a time limit, and always once more after the last change.

use std::time::Duration;

use ::metrics::counter;
use runtime::boot_time::BootTime;
use tracing::{info, warn};

use super::metrics as names;
use crate::command::CommandLine;

/// The command, and when it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The command. It finds the changed services in `FANFARE_CHANGED`, as `namespace/name` with spaces between.
    pub command: CommandLine,
    /// The delay between a change and the run. Further changes within that time are part of the same run.
    pub debounce: Duration,
    /// The time limit of a run, after which its process group is killed.
    pub timeout: Duration,
}

impl Exec {
    /// Runs it once. Returns whether it succeeded. Dropping the future kills it.
    pub(super) async fn run(&self, changed: &str) -> bool {
        let command = &self.command;
        let result = match command.start(&[("FANFARE_CHANGED", changed)]) {
            Err(error) => {
                warn!(%error, "the command on change cannot be started");
                "failed"
            }
            Ok(running) => match running.end_by(BootTime::now() + self.timeout).await {
                Some(status) if status.success() => {
                    info!(%command, changed, "the command on change has run");
                    "ok"
                }
                Some(status) => {
                    warn!(%command, changed, %status, "the command on change has failed");
                    "failed"
                }
                None => {
                    let after = runtime::duration::format(self.timeout);
                    warn!(%command, changed, after, "the command on change took too long and was killed");
                    "killed"
                }
            },
        };
        counter!(names::COMMANDS, "result" => result).increment(1);
        result == "ok"
    }
}
