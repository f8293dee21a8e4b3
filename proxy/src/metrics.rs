//! The numbers of the data plane, kept in atomics that a request only adds to, and rendered as Prometheus text when
//! somebody asks. Numbers of an endpoint live in its target and go with it, so that churn leaves no series behind.

mod histogram;
mod render;
mod text;

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use spans::TraceId;

use crate::{grpc, outcome::Outcome};

use histogram::Tally;
pub use histogram::{Exemplar, Histogram};
pub use render::write;

/// Names of the metric families.
pub mod names {
    /// Kept from the tool this replaces: ready endpoints by `service`.
    pub const SERVICE_ENDPOINT_COUNT: &str = "service_endpoint_count";
    /// Kept from the tool this replaces: time to the end of the answer by `type`, `endpoint` (the route's name) and
    /// `status_code`, in seconds.
    pub const REQUEST_DURATION: &str = "request_duration_seconds";
    /// Requests by `route` and `result`.
    pub const REQUESTS: &str = "fanfare_requests_total";
    /// Requests by `route` and `result`, once their last leg has ended.
    pub const COMPLETED: &str = "fanfare_requests_completed_total";
    /// Requests refused before they had a route, by `status`.
    pub const REFUSED: &str = "fanfare_refused_requests_total";
    /// Legs by `endpoint`, or `route` ([`EndpointMetrics`](crate::config::EndpointMetrics)), and `outcome`.
    pub const LEGS: &str = "fanfare_legs_total";
    /// Time from the start of a leg to its end by `route`, in seconds.
    pub const LEG_DURATION: &str = "fanfare_leg_duration_seconds";
    /// Answers to requests of gRPC by `route`, `source` and `grpc_status`.
    pub const GRPC_REQUESTS: &str = "fanfare_grpc_requests_total";
    /// Legs of gRPC by `route` and `grpc_status`.
    pub const GRPC_LEGS: &str = "fanfare_grpc_legs_total";
    /// Known endpoints by `route` and `condition`.
    pub const ENDPOINTS: &str = "fanfare_endpoints";
    /// Legs in flight by `endpoint` or `route`.
    pub const LEGS_INFLIGHT: &str = "fanfare_legs_in_flight";
    /// Idle connections kept by `endpoint` or `route`.
    pub const IDLE_CONNECTIONS: &str = "fanfare_idle_connections";
    /// Requests in flight, stragglers not counted.
    pub const INFLIGHT: &str = "fanfare_requests_in_flight";
    /// Client connections.
    pub const CONNECTIONS: &str = "fanfare_client_connections";
    /// Client addresses with at least one connection.
    pub const CLIENT_ADDRESSES: &str = "fanfare_client_addresses";
    /// Requests whose answer is out and of which legs still run.
    pub const STRAGGLING: &str = "fanfare_straggling_requests";
    /// Bytes of bodies in memory.
    pub const BUFFERED: &str = "fanfare_buffered_bytes";
    /// How often reading a request body stopped because the window was full, by `route`.
    pub const WINDOW_STALLS: &str = "fanfare_window_stalls_total";
    /// Requests that endpoints answered differently, by `route`, where answers are compared.
    pub const DIVERGENT: &str = "fanfare_divergent_requests_total";
    /// The sequence number of the snapshot that requests are served from.
    pub const SNAPSHOT_VERSION: &str = "fanfare_snapshot_version";
    /// Time since that snapshot was put into service, in seconds.
    pub const SNAPSHOT_AGE: &str = "fanfare_snapshot_age_seconds";
    /// Access-log entries dropped because the log could not be written fast enough.
    pub const LOG_DROPPED: &str = "fanfare_access_log_dropped_total";
    /// Spans by `result`, where requests are traced.
    pub const TRACE_SPANS: &str = "fanfare_trace_spans_total";
}

/// What became of a request that had a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestResult {
    /// Success, every leg ok.
    Ok,
    /// Success, though not every leg was ok.
    Partial,
    /// Failure.
    Failed,
    /// There was no endpoint, or fewer than required.
    Empty,
    /// The client's fault: a bad, late or too large body, or it went away.
    Client,
    /// Refused because of a limit of this process, or a loop.
    Rejected,
    /// Not sent, because its caller only wanted to know what would be.
    DryRun,
}

impl RequestResult {
    /// Every result, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Partial, Self::Failed, Self::Empty, Self::Client, Self::Rejected, Self::DryRun];

    /// Its name in metrics, logs and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Empty => "empty",
            Self::Client => "client",
            Self::Rejected => "rejected",
            Self::DryRun => "dry_run",
        }
    }
}

/// The histograms of a hundred statuses.
type OfHundred = [OnceLock<Box<Histogram>>; 100];

/// The numbers of a route.
#[derive(Debug, Default)]
pub struct RouteMetrics {
    results: [AtomicU64; RequestResult::ALL.len()],
    completed: [AtomicU64; RequestResult::ALL.len()],
    /// Time to the end of the answer, by its status, hundred by hundred; made when a status first occurs.
    requests: [OnceLock<Box<OfHundred>>; 5],
    /// Time from the start of a leg to its end.
    pub legs: Histogram,
    /// Legs by how they ended.
    legs_ended: [AtomicU64; Outcome::ALL.len()],
    /// gRPC statuses of answers, by their source.
    grpc_answers: [[AtomicU64; grpc::NAMES.len()]; grpc::Source::ALL.len()],
    /// Statuses of gRPC that legs have ended with.
    grpc_legs: [AtomicU64; grpc::NAMES.len()],
    /// How often the window was full.
    pub window_stalls: AtomicU64,
    /// Requests that endpoints answered differently.
    pub divergent: AtomicU64,
}

impl RouteMetrics {
    /// Counts a request when its answer has ended; `trace` is where it is recorded.
    pub fn answered(&self, result: RequestResult, status: u16, took: Duration, trace: Option<TraceId>) {
        self.results[result as usize].fetch_add(1, Ordering::Relaxed);
        let status = usize::from(status.saturating_sub(100));
        if let Some(hundred) = self.requests.get(status / 100) {
            let hundred = hundred.get_or_init(|| Box::new([const { OnceLock::new() }; 100]));
            let histogram = hundred[status % 100].get_or_init(Box::default);
            match trace {
                None => histogram.observe(took),
                Some(trace) => histogram.observe_traced(took, trace),
            }
        }
    }

    /// Counts a request when its last leg has ended.
    pub fn completed(&self, result: RequestResult) {
        self.completed[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a leg that has ended.
    pub fn leg_ended(&self, outcome: Outcome) {
        self.legs_ended[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts several legs that have ended.
    pub fn legs_have_ended(&self, outcomes: impl Iterator<Item = Outcome>) {
        let mut tally = Tally::of(&self.legs_ended);
        outcomes.for_each(|outcome| tally.count(outcome as usize));
    }

    /// Legs that ended so.
    #[must_use]
    pub fn legs_ended(&self, outcome: Outcome) -> u64 {
        self.legs_ended[outcome as usize].load(Ordering::Relaxed)
    }

    /// Requests that had this result when their last leg had ended.
    #[must_use]
    pub fn completions(&self, result: RequestResult) -> u64 {
        self.completed[result as usize].load(Ordering::Relaxed)
    }

    /// Requests with this result.
    #[must_use]
    pub fn results(&self, result: RequestResult) -> u64 {
        self.results[result as usize].load(Ordering::Relaxed)
    }

    /// Counts what a request of gRPC was answered with.
    pub fn grpc_answered(&self, status: grpc::Status) {
        if let Some(counter) = self.grpc_answers[status.source as usize].get(usize::from(status.code)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a leg of gRPC that has ended.
    pub fn grpc_leg_ended(&self, code: grpc::Code) {
        if let Some(counter) = self.grpc_legs.get(usize::from(code)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often requests of gRPC were answered with each status by this source, in the order of their numbers.
    pub fn grpc_answers(&self, source: grpc::Source) -> impl Iterator<Item = u64> {
        self.grpc_answers[source as usize].iter().map(|counter| counter.load(Ordering::Relaxed))
    }

    /// How often legs of gRPC have ended with each status, in the order of their numbers.
    pub fn grpc_legs(&self) -> impl Iterator<Item = u64> {
        self.grpc_legs.iter().map(|counter| counter.load(Ordering::Relaxed))
    }

    /// The statuses answered with, and how long that took.
    pub fn requests(&self) -> impl Iterator<Item = (u16, &Histogram)> {
        let hundreds = (1_u16..).zip(&self.requests).filter_map(|(number, hundred)| Some((number, hundred.get()?)));
        hundreds.flat_map(|(number, hundred)| {
            (number * 100..).zip(hundred.iter()).filter_map(|(status, slot)| Some((status, &**slot.get()?)))
        })
    }
}

/// Requests refused before they had a route, by status.
#[derive(Debug)]
pub struct RefusedRequests(Box<[AtomicU64; 500]>);

impl Default for RefusedRequests {
    fn default() -> Self {
        Self(Box::new([const { AtomicU64::new(0) }; 500]))
    }
}

impl RefusedRequests {
    /// Shown from the start, so that a first increase is seen as one.
    const EXPECTED: [u16; 13] = [400, 401, 403, 404, 405, 408, 414, 417, 429, 431, 501, 503, 505];

    /// Counts one.
    pub fn count(&self, status: u16) {
        if let Some(counter) = self.0.get(usize::from(status.saturating_sub(100))) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The statuses that occurred or are to be expected, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        (100_u16..).zip(counts).filter(|(status, count)| *count > 0 || Self::EXPECTED.contains(status))
    }
}
