//! The endpoints of a service, for the pod in which this process runs as a sidecar: over HTTP, in a hosts file, and by a command that
//! runs on a change.
//!
//! They come from EndpointSlices, because the API server truncates v1 Endpoints at 1,000 addresses, but have the format of v1
//! Endpoints. Before the first complete list the answer is 503, and an unavailable API server changes nothing but the age of the
//! data.

mod api;
mod deliver;
mod document;
mod exec;
mod hosts;
pub mod metrics;
mod poll;
mod service;

pub use api::EndpointsApi;
pub use deliver::{Deliver, deliver};
pub use exec::Exec;
pub use hosts::HostsFile;
pub use service::{Published, Service};
