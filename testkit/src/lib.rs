//! The test harness: real parts for tests to stand on. Never shipped.
//!
//! - [`origin`], [`client`]: scripted endpoints that record every byte, and raw clients; [`http`] is their own strict reader
//! - [`cluster`], [`netns`]: a real Kubernetes control plane, in a network namespace where one is needed
//! - [`forward_proxy`]: HTTP and SOCKS proxies that tell what they were asked for
//! - [`relay`], [`fault_proxy`]: what stands between a client and the API server, and fails when a test says so
//! - [`coredns`]: a real CoreDNS, and questions to it
//! - [`interop`]: candidates of a leader election that are client-go's own
//! - [`minio`]: a real S3 store
//! - [`consumers`]: Traefik, Envoy, nginx, HAProxy and Prometheus, which read what is exported
//! - [`docs`]: the examples of the documentation, which tests run
//! - [`mod@eventually`], [`boot_time`]: waiting for a condition instead of sleeping; the clock that processes share

pub mod boot_time;
pub mod client;
pub mod cluster;
pub mod consumers;
pub mod coredns;
pub mod docs;
pub mod eventually;
pub mod fault_proxy;
pub mod forward_proxy;
mod go;
pub mod http;
pub mod interop;
pub mod minio;
pub mod netns;
pub mod origin;
mod packages;
pub mod relay;
