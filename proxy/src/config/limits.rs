//! Bounds of the whole process.

use std::time::Duration;

use serde::Serialize;

use super::serialize::go_duration;

/// Bounds of the whole process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Client connections at a time. For one more the one that has been longest without a request makes room, or it gets 503.
    pub connections: usize,
    /// Client connections at a time of one address; one more gets 429. None: as many as there may be.
    pub connections_per_client: Option<usize>,
    /// Requests at a time; one more gets 503.
    pub inflight: usize,
    /// Legs at a time to one endpoint, stragglers included; one more is `rejected`.
    pub inflight_per_endpoint: usize,
    /// Bytes of bodies, requests and answers together, that all requests may keep in memory. Past it each keeps at most
    /// one piece, so that all go on, only slower.
    pub buffered: usize,
    /// Idle connections kept per endpoint and worker.
    pub pool: usize,
    /// How long an idle connection to an endpoint is kept.
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
