//! What the control plane knows in, files for load balancers in their stores out.
//!
//! ```text
//! Catalog -> guard -> backend (model, names) -> render (formats) -> sink ==> a store -> bridge -> files elsewhere
//! ```
//!
//! [`pipeline`] is what runs: it turns every change of a catalog into files, once for each export, and keeps each sink up to
//! date with them on its own. [`guard`], [`backend`] and [`render`] are pure. [`sink`] puts files into stores, whole and only
//! when they changed. [`bridge`] is the other end: it pulls from a store what was written there.

pub mod backend;
pub mod bridge;
pub mod guard;
pub mod metrics;
pub mod pipeline;
pub mod render;
pub mod sink;
