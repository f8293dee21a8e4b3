//! Exports: files for load balancers, made from what the control plane knows, and written to stores.
//!
//! ```text
//! Catalog -> guard -> backend (model, names) -> render (formats) -> sink ==> a store -> bridge -> files elsewhere
//! ```
//!
//! [`pipeline`] runs an export: it renders every change of a catalog once, and keeps each sink up to date independently of the others.
//! [`guard`], [`backend`] and [`render`] are pure. [`sink`] writes files to stores, as a whole and only when they have changed.
//! [`bridge`] pulls from a store what was written there.

pub mod backend;
pub mod bridge;
pub mod guard;
pub mod metrics;
pub mod pipeline;
pub mod render;
pub mod sink;
