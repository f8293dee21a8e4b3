//! What endpoints are still owed: queues, a journal and the loop around them.
//!
//! - [`Request`], [`Whom`]: what is owed, and to whom.
//! - [`rules`]: what a route promises, and the bounds of all routes together.
//! - [`core`]: the queues. Values and the time go in, decisions come out; no I/O, no clock.
//! - [`journal`]: what is owed, on disk.
//! - [`Redelivery`]: what the data plane calls, and the task that sends what is owed, by a [`Sender`].
//! - [`metrics`]: the numbers.
//! - [`view`]: how jobs are shown.

pub mod core;
mod driver;
mod id;
pub mod journal;
pub mod metrics;
mod request;
pub mod rules;
pub mod view;

pub use driver::{Arrival, Redelivery, Sender};
pub use id::{Ids, JobId};
pub use request::{Last, Request, Stored, Whom};

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment, in milliseconds since the Unix epoch. It is read from a clock that never goes back.
pub type Millis = u64;

/// What the clock of the system says. It may go back.
#[must_use]
pub fn wall_clock() -> Millis {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration in milliseconds, or the longest that there is.
fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
