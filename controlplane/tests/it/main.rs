//! The Kubernetes source against a real API server: what it publishes, with no more rights than it asks for.

mod bed;
mod catalog;
mod lease;
mod outages;
mod rights;
mod service_account_keys;
mod slices;
