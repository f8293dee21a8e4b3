//! The Kubernetes part of the test harness, apart from `testkit` so that tests of the data plane do not build kube. Never shipped.
//!
//! - [`cluster`]: a real Kubernetes control plane
//! - [`relay`], [`fault_proxy`]: proxies between a client and the API server that fail when a test says so
//! - [`interop`]: candidates of a leader election that are client-go's own
//! - [`coredns`]: a real CoreDNS, and queries to it

pub mod cluster;
pub mod coredns;
pub mod fault_proxy;
pub mod interop;
pub mod relay;
