//! Who the endpoints of a service are, for a pod beside which this process runs: over HTTP, in a hosts file, and by a
//! command that runs when that changes.
//!
//! Everything is made from EndpointSlices, in the shape of the older v1 Endpoints, which has no room for what they say since
//! 1,000 addresses. What is not known is not told: before the first complete list there is no answer, and an API server
//! that is away changes nothing but the age of the data.

mod api;
mod deliver;
mod document;
mod exec;
mod hosts;
pub mod metrics;
mod poll;
mod service;

pub use api::Api;
pub use deliver::{Deliver, deliver};
pub use exec::Exec;
pub use hosts::HostsFile;
pub use service::{Published, Service};
