//! testkit

pub mod client;
pub mod cluster;
pub mod eventually;
pub mod http;
pub mod netns;
pub mod origin;
