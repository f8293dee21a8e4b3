//! Leader election for the pod in which this process runs as a sidecar: who leads, over HTTP, and commands that run on a change.
//!
//! The clock is read for each answer `is_leader: true`, so that it ends with the claim, whatever happens to the API server, this process
//! or the machine.

mod api;
mod hooks;
pub mod metrics;
mod state;

pub use api::{ElectApi, StepDownAccess};
pub use hooks::{HookContext, Hooks, InvalidOnStartExit, OnStartExit, run as run_hooks};
