//! The test harness: real parts for tests to stand on. Never shipped.
//!
//! - [`origin`], [`client`]: scripted endpoints that record every byte, and raw clients; [`http`] is their own strict reader
//! - [`cluster`], [`netns`], [`relay`]: a real Kubernetes control plane, in a network namespace where one is needed
//! - [`mod@eventually`]: waiting for a condition instead of sleeping

pub mod client;
pub mod cluster;
pub mod eventually;
pub mod http;
pub mod netns;
pub mod origin;
pub mod relay;
