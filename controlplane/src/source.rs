//! The sources of endpoints. Every source owns one cluster of the snapshot, sets it whenever it has changed, and keeps the last
//! good state after a failure.

pub mod dns;
pub mod file;
pub mod fixed;
mod groups;
pub mod http;
pub mod kube;
mod list;
