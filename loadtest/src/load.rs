//! The load: a child process that receives one phase after the other, and reports the result of each.

mod closed;
pub(crate) mod connect;
pub(crate) mod h2load;
mod idle;
mod idle_http2;
mod open;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::process::Helper;

/// The time after the planned end of a phase at which requests in flight are given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The largest recorded latency, in nanoseconds.
const LONGEST: u64 = 120_000_000_000;

/// The client side of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The certificate of the authority that verifies its own, if it speaks TLS.
    pub(crate) ca: Option<PathBuf>,
    /// Whether the load uses HTTP/2.
    pub(crate) http2: bool,
}

/// One phase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// The proxy.
    pub(crate) target: Target,
    /// The load.
    pub(crate) shape: Shape,
}

/// A kind of load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Shape {
    /// Closed loop: each connection sends its next request when it has its answer. For saturation.
    Closed(ClosedLoop),
    /// So many requests of HTTP/2 over one connection, with so many in flight at any time.
    Streams {
        /// The total number of requests.
        requests: u64,
        /// How many in flight.
        streams: usize,
    },
    /// Open loop: requests are due at a constant rate, and latency counts from when each was due. For latency.
    Open {
        /// The duration.
        seconds: f64,
        /// Requests per second.
        rate: f64,
        /// The most requests in flight.
        connections: usize,
    },
    /// Connections that are opened and then left alone, until the end of the next phase.
    Idle {
        /// How many.
        connections: usize,
        /// Whether each carries one request first.
        request: bool,
    },
}

/// A closed loop.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ClosedLoop {
    /// The duration.
    pub(crate) seconds: f64,
    /// Connections, each with one request in flight.
    pub(crate) connections: usize,
    /// The request body.
    pub(crate) body: Body,
    /// Ends after this number of requests, if that is earlier.
    pub(crate) requests: Option<u64>,
    /// Whether each request has a connection of its own.
    pub(crate) reconnect: bool,
}

/// A request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Body {
    /// So many bytes, announced by `Content-Length`; or no body.
    Length(u64),
    /// Chunks of one size.
    Chunked {
        /// How many.
        chunks: u64,
        /// Bytes of each.
        size: u64,
    },
}

/// The result of a phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Requests answered with a status below 400.
    pub(crate) requests: u64,
    /// Requests answered otherwise or not at all.
    pub(crate) errors: u64,
    /// Requests that were due and could not be sent, because every connection waited for an answer.
    pub(crate) unsent: u64,
    /// From the first request to the last answer.
    pub(crate) seconds: f64,
    /// Latencies.
    pub(crate) latency: Latency,
    /// The sum of `total` of `X-Broadcast-Result` over all answers.
    pub(crate) legs: u64,
    /// The sum of `ok`.
    pub(crate) legs_ok: u64,
    /// The first error.
    pub(crate) error: Option<String>,
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// The median.
    pub(crate) p50: f64,
    /// 9 of 10 are below.
    pub(crate) p90: f64,
    /// 99 of 100 are below.
    pub(crate) p99: f64,
    /// 999 of 1,000 are below.
    pub(crate) p999: f64,
    /// The longest.
    pub(crate) max: f64,
}

/// The running sums of a phase, to which every connection adds.
struct Tally {
    load: Load,
    histogram: Histogram<u64>,
}

impl ClosedLoop {
    /// With as many requests as go over kept connections.
    pub(crate) fn new(seconds: f64, connections: usize, body: Body) -> Self {
        Self { seconds, connections, body, requests: None, reconnect: false }
    }
}

impl Body {
    /// Its bytes, without framing.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Length(bytes) => bytes,
            Self::Chunked { chunks, size } => chunks * size,
        }
    }
}

impl Shape {
    /// A closed loop of as many requests as go over kept connections.
    pub(crate) fn closed(seconds: f64, connections: usize, body: Body) -> Self {
        Self::Closed(ClosedLoop::new(seconds, connections, body))
    }

    /// How long its answer may take to come.
    pub(crate) fn patience(&self) -> Duration {
        let seconds = match self {
            Self::Closed(ClosedLoop { seconds, .. }) | Self::Open { seconds, .. } => *seconds,
            // As slow as a subject may be that can still be measured.
            Self::Streams { requests, .. } => *requests as f64 / 100.0,
            Self::Idle { connections, .. } => *connections as f64 / 100.0,
        };
        Duration::from_secs_f64(seconds) + 2 * PATIENCE
    }
}

/// Starts the load's process.
pub(crate) fn start(on: &[usize]) -> anyhow::Result<Helper> {
    Helper::start(&["load".to_owned()], on)
}

/// Has it do one phase.
pub(crate) fn phase(helper: &mut Helper, target: &Target, shape: Shape) -> anyhow::Result<Load> {
    let patience = shape.patience();
    helper.tell(&Phase { target: target.clone(), shape })?;
    helper.hear(patience)
}

/// Does phases as standard input says, until it ends.
pub(crate) fn serve() -> anyhow::Result<()> {
    let mut closed = closed::Closed::new()?;
    let mut idle = idle::Idle::default();
    let mut idle_http2 = idle_http2::IdleHttp2::new()?;
    for line in std::io::stdin().lines() {
        let Phase { target, shape } = serde_json::from_str(&line?)?;
        let load = match shape {
            Shape::Closed(shape) => {
                let load = closed.run(&target, &shape)?;
                idle = idle::Idle::default();
                idle_http2.close();
                load
            }
            Shape::Open { seconds, rate, connections } => {
                open::run(target.address, Duration::from_secs_f64(seconds), rate, connections)
            }
            Shape::Idle { connections, request } if target.http2 => idle_http2.open(&target, connections, request)?,
            Shape::Idle { connections, request } => idle.open(target.address, connections, request),
            Shape::Streams { .. } => anyhow::bail!("streams are the load of h2load"),
        };
        println!("{}", serde_json::to_string(&load)?);
    }
    Ok(())
}

impl Tally {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1_000, LONGEST, 3).expect("the bounds are a valid constant");
        Self { load: Load::default(), histogram }
    }

    /// An answer came after so long.
    fn answered(&mut self, answer: &crate::wire::Answer, after: Duration) {
        self.counted(answer);
        self.late(after);
    }

    /// An answer came, and nobody looks at the time.
    fn counted(&mut self, answer: &crate::wire::Answer) {
        let (legs, ok) = answer.legs.unwrap_or_default();
        self.load.legs += legs;
        self.load.legs_ok += ok;
        match answer.status {
            1..=399 => self.load.requests += 1,
            status => self.failed(&format!("status {status}")),
        }
    }

    /// A request has taken so long, or longer.
    fn late(&mut self, after: Duration) {
        self.histogram.saturating_record(u64::try_from(after.as_nanos()).unwrap_or(LONGEST));
    }

    fn failed(&mut self, why: &str) {
        self.load.errors += 1;
        self.load.error.get_or_insert_with(|| why.to_owned());
    }

    /// Adds the counts of another connection.
    fn add(&mut self, other: &Self) {
        self.load.requests += other.load.requests;
        self.load.errors += other.load.errors;
        self.load.unsent += other.load.unsent;
        self.load.legs += other.load.legs;
        self.load.legs_ok += other.load.legs_ok;
        self.load.error = self.load.error.take().or_else(|| other.load.error.clone());
        // The bounds of both are the same.
        let _ = self.histogram.add(&other.histogram);
    }

    fn into_load(self, seconds: Duration) -> Load {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        let max = self.histogram.max() as f64 / 1_000.0;
        let latency = Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max };
        Load { seconds: seconds.as_secs_f64(), latency, ..self.load }
    }
}
