//! Bounds of the whole process.

use std::time::Duration;

use serde::Serialize;

use super::serialize::go_duration;

/// Bounds of the whole process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Client connections at a time. For a further one, the connection that has been idle longest is closed; without an idle one it
    /// gets 503.
    pub connections: usize,
    /// Client connections of one address at a time; a further one gets 429. None means no limit per address.
    pub connections_per_client: Option<usize>,
    /// Requests at a time; a further one gets 503.
    pub inflight: usize,
    /// Legs to one endpoint at a time, including stragglers; a further one is `rejected`.
    pub inflight_per_endpoint: usize,
    /// Bytes of bodies, requests and answers together, that all requests may keep in memory. Beyond it each keeps at most one
    /// piece, so that all continue, but slower.
    pub buffered: usize,
    /// Idle connections kept per endpoint and worker.
    pub pool: usize,
    /// The time for which an idle connection to an endpoint is kept.
    #[serde(serialize_with = "go_duration")]
    pub pool_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_client: None,
            inflight: 10_000,
            inflight_per_endpoint: 1_024,
            buffered: 512 * 1024 * 1024,
            pool: 256,
            pool_idle: Duration::from_secs(60),
        }
    }
}
