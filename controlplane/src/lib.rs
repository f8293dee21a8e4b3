//! The control plane: clusters of Kubernetes, files, HTTP servers and DNS go in, snapshots come out.
//!
//! ```text
//! API server -> client -> watch -> index -> build -> Publisher
//!                                        -> catalog -> exports, endpoints API
//! file, URL, DNS, fixed list ---------- source ----> Publisher
//! ```
//!
//! In reading order: [`client`] connects, [`watch`] is the only watcher, [`index`] merges what it sees into one view per Service
//! (pure), [`kube_cluster`] opens each watch once for all who use it, [`build`] turns views into clusters (pure) and bundles
//! bursts, [`source`] keeps named clusters of the snapshot up to date from all that. [`catalog`] does so for users of whole
//! Services: with labels, all ports, and whether a loss is inferred. [`guard`] limits the losses that may be inferred at once.
//! [`service_account_keys`] fetches the keys that verify callers.

pub mod build;
pub mod catalog;
pub mod client;
pub mod guard;
pub mod index;
pub mod kube_cluster;
pub mod lease;
pub mod metrics;
pub mod service_account_keys;
pub mod source;
pub mod watch;
pub mod workload;
