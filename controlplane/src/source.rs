//! Where endpoints come from. Every source owns one cluster of the snapshot, sets it whenever it has changed, and never
//! takes away what was good because it failed.

pub mod dns;
pub mod file;
pub mod fixed;
mod groups;
pub mod http;
pub mod kube;
mod list;
