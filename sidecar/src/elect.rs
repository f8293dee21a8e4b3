//! Leader election for a pod beside which this process runs: who leads over HTTP, commands when that changes.
//!
//! The answer `is_leader: true` is judged by the clock at the moment of the answer, so that it ends with the claim whatever
//! happens to the API server, this process or the machine.

mod api;
mod hooks;
pub mod metrics;
mod state;

pub use api::{Api, StepDownAccess};
pub use hooks::{About, Hooks, InvalidOnStartExit, OnStartExit, run as run_hooks};
