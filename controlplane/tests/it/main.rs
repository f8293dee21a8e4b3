//! The Kubernetes source against a real API server: what it publishes, with no more rights than it asks for.

mod bed;
mod outages;
mod rights;
mod slices;
