//! Services of other clusters in, mirrored Services and EndpointSlices out.
//!
//! ```text
//! remote API servers -> watch -> index -+
//!                                       +-> world -> desired + live -> plan -> apply -> local API server
//! local API server ---> watch -> live --+                                           -> events
//! ```
//!
//! In reading order: [`config`] says what is mirrored, [`names`] how it is called, [`marks`] how it is known; `index` keeps
//! what a remote has and `live` what there is here; `world` holds both and tells what a change concerns; `desired` says what
//! a mirror is to be and `plan` what to do about it (both pure); `queue`, `reconcile` and `apply` do it. [`Mirror`] runs it.

mod apply;
pub mod config;
pub mod coredns;
mod desired;
mod guard;
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
