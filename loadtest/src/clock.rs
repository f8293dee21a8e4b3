//! A clock that all processes of the harness share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since some point that is the same for every process.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative: it begins at the start of the system.
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}
