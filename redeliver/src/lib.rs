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

/// A moment, in milliseconds since the Unix epoch. It is read from a clock that never goes back.
pub type Millis = u64;
