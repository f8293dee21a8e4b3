//! The clock that every process of a machine shares and that goes on while the machine is suspended.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since the machine started.
#[must_use]
pub fn now() -> Duration {
    clock_gettime(ClockId::Boottime).try_into().expect("a machine does not start in the future")
}
