//! The test harness: real peers instead of mocks. Its Kubernetes part is the crate `kubekit`. Never shipped.
//!
//! - [`origin`], [`client`]: scripted endpoints that record every byte, and raw clients; [`http`] is their own strict reader
//! - [`forward_proxy`]: HTTP and SOCKS proxies that record what clients ask for
//! - [`netns`]: runs a test in a network namespace, in which addresses count as real ones
//! - [`process`]: child processes that end with the test; [`named_pipe`]: files that make whoever opens them wait
//! - [`minio`]: a real S3 store; [`h2spec`]: an independent suite of checks for servers of HTTP/2; [`grpc_interop`]: real gRPC; [`otlp_collector`]: a real
//!   collector of traces
//! - [`http2`]: a client that sends any frames of HTTP/2, wrong ones too; [`clients`]: curl and h2load
//! - [`consumers`]: Traefik, Envoy, nginx, HAProxy, Prometheus, Alertmanager, Pushgateway and Varnish
//! - [`browser`]: a headless Chromium with one page, and axe-core's look at it
//! - [`helm`]: helm, which lints and renders the chart
//! - [`packages`], [`go`]: what tests need of the distribution, and what they build of Go modules
//! - [`pki`], [`tls_relay`]: a certificate authority, files of certificates that are swapped like Secrets, and a relay that adds
//!   or removes TLS
//! - [`docs`]: the examples of the documentation, which tests run
//! - [`seed`]: the seeds of random tests
//! - [`mod@eventually`], [`boot_time`]: waiting for a condition instead of sleeping; the clock that processes share

pub mod boot_time;
pub mod browser;
pub mod client;
pub mod clients;
pub mod consumers;
pub mod docs;
pub mod eventually;
pub mod forward_proxy;
pub mod go;
pub mod grpc_interop;
pub mod h2spec;
pub mod helm;
pub mod http;
pub mod http2;
pub mod minio;
pub mod named_pipe;
pub mod netns;
pub mod origin;
pub mod otlp_collector;
pub mod packages;
pub mod pki;
pub mod process;
pub mod seed;
pub mod tls_relay;
