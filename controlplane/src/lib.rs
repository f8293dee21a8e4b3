//! The control plane: clusters of Kubernetes, files, HTTP servers and DNS go in, snapshots come out.
//!
//! ```text
//! API server -> client -> watch -> index -> build -> Publisher
//!                                        -> catalog -> exports, endpoints API
//! file, URL, DNS, fixed list ---------- source ----> Publisher
//! ```
//!
//! In reading order: [`client`] connects, [`watch`] is the only watcher, [`index`] merges what it sees into one view per
//! Service (pure), [`kube_cluster`] opens each watch once for all who use it, [`build`] turns views into clusters (pure) and
//! bundles bursts, [`source`] keeps named clusters of the snapshot up to date from all that. [`catalog`] is the same for those
//! who want Services as a whole: their labels, all ports, and how what is gone came to be gone. [`guard`] limits how much of
//! it may be believed lost at once. [`service_account_keys`] fetches what verifies callers. This is the only crate that sees
//! kube.

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
