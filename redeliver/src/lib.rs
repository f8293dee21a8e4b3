//! Redelivery of requests that endpoints missed: queues, a journal and a driver.
//!
//! - [`Request`], [`Whom`]: an owed request, and its endpoint.
//! - [`rules`]: the rules of a route, and the bounds of all routes together.
//! - [`core`]: the queues. Values and the time go in, decisions come out; no I/O, no clock.
//! - [`journal`]: the owed jobs on disk.
//! - [`Redelivery`]: the interface for the data plane, and the task that sends by a [`Sender`].
//! - [`metrics`]: the metrics.
//! - [`view`]: the JSON of jobs in the admin API.

pub mod core;
mod driver;
mod fields;
mod id;
pub mod journal;
pub mod metrics;
mod request;
pub mod rules;
pub mod view;

pub use driver::{Arrival, Redelivery, Sender};
pub use id::{Ids, JobId, NotAnId};
pub use request::{Last, Request, Stored, Whom};

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time in milliseconds since the Unix epoch, from a monotonic clock.
pub type Millis = u64;

/// The system's wall-clock time, which may go back.
#[must_use]
pub fn wall_clock() -> Millis {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration in milliseconds, saturating.
fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
