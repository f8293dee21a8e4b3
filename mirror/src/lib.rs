//! Mirrors Services of other clusters as local Services and EndpointSlices.
//!
//! ```text
//! remote API servers -> watch -> index -+
//!                                       +-> world -> desired + live -> plan -> apply -> local API server
//! local API server ---> watch -> live --+                                           -> events
//! ```
//!
//! In reading order: [`config`] says what is mirrored, [`names`] how mirrors are named, [`marks`] which labels they have; `index` holds
//! the objects of a remote and `live` the local ones; `world` holds both and finds the names that a change concerns; `desired` computes
//! the desired state of a mirror and `plan` the steps towards it (both pure); `queue`, `reconcile` and `apply` carry them out.
//! [`Mirror`] runs it all.

mod apply;
pub mod config;
pub mod coredns;
mod desired;
mod health;
mod index;
mod live;
pub mod marks;
pub mod metrics;
pub mod names;
mod plan;
mod queue;
mod reconcile;
mod refusal;
mod report;
mod role;
mod stale;
mod world;

pub use health::Health;
pub use refusal::Refusal;
pub use report::{Entry, Report, Verb};
pub use role::{Access, Connections, Mirror};
