//! The part of the test harness that speaks Kubernetes. It is apart from `testkit`, so that tests of the data plane do not build
//! kube. Never shipped.
//!
//! - [`cluster`]: a real Kubernetes control plane
//! - [`relay`], [`fault_proxy`]: what stands between a client and the API server, and fails when a test says so
//! - [`interop`]: candidates of a leader election that are client-go's own
//! - [`coredns`]: a real CoreDNS, and questions to it

pub mod cluster;
pub mod coredns;
pub mod fault_proxy;
pub mod interop;
pub mod relay;
