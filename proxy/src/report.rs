//! What every answer says about the legs, and the whole story for those who ask for it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{BufMut, Bytes};
use serde::{Serialize, Serializer};
use snapshot::Version;
use spans::TraceId;
use tokio::time::Instant;

use crate::{
    exchange::{
        Exchange, Leg,
        compare::{Comparison, Excerpt},
        quorum::{Decision, Quorum},
    },
    grpc::Code,
    headers,
    metrics::RequestResult,
    outcome::{LegResult, Outcome},
    table::RouteEntry,
    target::Target,
};

/// The report: a superset of what the Varnish broadcaster answers (`method`, `uri`, `ts`, `nodes`, `rate`, `done`).
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// The request's id.
    pub id: &'a str,
    /// The id of the request's trace, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// The request's method.
    pub method: String,
    /// The request's target.
    pub uri: String,
    /// Unix time in seconds.
    pub ts: u64,
    /// The status by the endpoint's name, or by its address where several have the same name; where there was no response, the status that stands for what happened instead.
    pub nodes: BTreeMap<&'a str, u16>,
    /// The share of legs that were ok, in percent, rounded down.
    pub rate: usize,
    /// Whether every leg has ended: always, but for a dry run, of which none begins.
    pub done: bool,
    /// The policy.
    pub require: String,
    /// The status of gRPC that the decision amounts to, where the request is one of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<Code>,
    /// The id of its job, if missed copies are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// `ok`, `partial`, `failed` or `empty`; `dry_run` where nothing was sent.
    pub result: &'static str,
    /// What every leg did, in snapshot order.
    pub results: Vec<LegReport<'a>>,
    /// What "all" meant for this request.
    pub snapshot: SnapshotReport,
}

/// What one leg did.
#[derive(Debug, Serialize)]
pub struct LegReport<'a> {
    /// The endpoint's address.
    pub endpoint: &'a str,
    /// The pod behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<&'a str>,
    /// The node it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<&'a str>,
    /// The zone it runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<&'a str>,
    /// The status of the response.
    pub status: Option<u16>,
    /// The status of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<Code>,
    /// How it ended; none while it runs.
    pub outcome: Option<Outcome>,
    /// How often the endpoint was tried.
    pub attempts: u32,
    /// From start to end, shown in milliseconds.
    #[serde(rename = "ms", serialize_with = "as_millis")]
    pub took: Duration,
    /// Bytes of response body.
    pub bytes: u64,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
    /// What stands for its answer, where answers are compared: the same for answers that are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether its answer differs from what most endpoints answered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub diverges: bool,
    /// The start of the body of its answer, where that was asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyReport<'a>>,
    /// In which wave it would get the request, where there are waves and it is a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wave: Option<usize>,
}

/// The start of the body of an answer.
#[derive(Debug, Serialize)]
pub struct BodyReport<'a> {
    /// As text, where it is UTF-8.
    pub body: Cow<'a, str>,
    /// `base64` where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
    /// Whether there was more of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// The snapshot that a request was served from.
#[derive(Debug, Serialize)]
pub struct SnapshotReport {
    /// Its version.
    pub version: String,
    /// Endpoints that were ready.
    pub ready: usize,
    /// Endpoints that were there, but not ready.
    pub not_ready: usize,
}

/// What is said of the request itself.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Its id.
    pub id: &'a str,
    /// The version of the snapshot that it is served from.
    pub version: Version,
    /// The id of its trace, if it has one.
    pub trace: Option<TraceId>,
    /// Its method.
    pub method: &'a [u8],
    /// Its target.
    pub target: &'a [u8],
}

// === impl Report ===

impl<'a> Report<'a> {
    /// Nothing has been sent yet.
    fn before(route: &RouteEntry, about: About<'a>) -> Self {
        let ready = route.known.iter().filter(|target| target.endpoint.conditions.ready).count();
        Self {
            id: about.id,
            trace_id: about.trace,
            method: String::from_utf8_lossy(about.method).into_owned(),
            uri: String::from_utf8_lossy(about.target).into_owned(),
            ts: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            nodes: BTreeMap::new(),
            rate: 0,
            done: false,
            require: route.config.policy.require.to_string(),
            grpc_status: None,
            job: None,
            result: RequestResult::DryRun.as_str(),
            results: Vec::new(),
            snapshot: SnapshotReport {
                version: about.version.to_string(),
                ready,
                not_ready: route.known.len() - ready,
            },
        }
    }
}

// === impl LegReport ===

impl<'a> LegReport<'a> {
    /// A leg that has not begun.
    fn before(target: &'a Target) -> Self {
        let endpoint = &target.endpoint;
        Self {
            endpoint: target.authority(),
            pod: endpoint.pod.as_ref().map(|pod| &*pod.name),
            node: endpoint.node.as_deref(),
            zone: endpoint.zone.as_deref(),
            status: None,
            grpc_status: None,
            outcome: None,
            attempts: 0,
            took: Duration::ZERO,
            bytes: 0,
            error: None,
            digest: None,
            diverges: false,
            body: None,
            wave: None,
        }
    }
}

// === impl BodyReport ===

impl<'a> From<Excerpt<'a>> for BodyReport<'a> {
    fn from(Excerpt { bytes, is_truncated }: Excerpt<'a>) -> Self {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Some(text),
            // Cut in the middle of a character.
            Err(error) if is_truncated && error.error_len().is_none() => {
                std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        let (body, encoding) = match text {
            Some(text) => (text.into(), None),
            None => (BASE64_STANDARD.encode(bytes).into(), Some("base64")),
        };
        Self { body, encoding, truncated: is_truncated }
    }
}

/// Writes `X-Broadcast-Result`, `X-Broadcast-Divergent` where answers differ, and `X-Broadcast-Endpoint` where the answer is an endpoint's or stands for one.
pub fn put_headers(out: &mut impl BufMut, quorum: &Quorum, endpoint: Option<&str>) {
    let counts: [(&[u8], usize); 5] = [
        (b"X-Broadcast-Result: total=", quorum.total),
        (b", ok=", quorum.ok),
        (b", failed=", quorum.failed),
        (b", pending=", quorum.pending()),
        (b", required=", quorum.required),
    ];
    for (name, count) in counts {
        out.put_slice(name);
        headers::put_number(out, count as u64);
    }
    if let Some(deferred) = quorum.deferred {
        if deferred.count > 0 {
            out.put_slice(b", deferred=");
            headers::put_number(out, deferred.count as u64);
        }
        out.put_slice(b"\r\nX-Broadcast-Job: ");
        out.put_slice(deferred.job.to_string().as_bytes());
    }
    if quorum.divergent > 0 {
        out.put_slice(b"\r\nX-Broadcast-Divergent: ");
        headers::put_number(out, quorum.divergent as u64);
    }
    out.put_slice(b"\r\n");
    if let Some(endpoint) = endpoint {
        headers::put_text(out, "X-Broadcast-Endpoint", &[endpoint]);
    }
}

/// What became of the request, by its legs.
#[must_use]
pub fn result(quorum: &Quorum, decision: Decision) -> RequestResult {
    match decision {
        _ if quorum.total == 0 => RequestResult::Empty,
        Decision::Failure => RequestResult::Failed,
        Decision::Success if quorum.failed == 0 => RequestResult::Ok,
        Decision::Success => RequestResult::Partial,
    }
}

/// What became of the request, now that every leg has ended: what was `answered` may have been decided by some of them.
/// A leg that was given up because of the client says nothing about its endpoint.
#[must_use]
pub fn completed(exchange: &Exchange, answered: RequestResult) -> RequestResult {
    let quorum = exchange.quorum();
    let cancelled = |leg: &&Leg| leg.result().is_some_and(|result| result.outcome == Outcome::Cancelled);
    let cancelled = exchange.legs().iter().filter(cancelled).count();
    match answered {
        RequestResult::Empty | RequestResult::Client | RequestResult::Rejected => answered,
        _ if quorum.ok == quorum.total => RequestResult::Ok,
        _ if quorum.ok + cancelled == quorum.total => RequestResult::Client,
        _ if quorum.ok + cancelled >= quorum.required => RequestResult::Partial,
        _ => RequestResult::Failed,
    }
}

/// What one leg did, up to now, and how its answer compares.
#[must_use]
pub fn leg<'a>(leg: &'a Leg, comparison: Option<&Comparison>, now: Instant) -> LegReport<'a> {
    let result = leg.result();
    LegReport {
        status: result.and_then(|result| result.status),
        grpc_status: leg.code(),
        outcome: leg.outcome(),
        attempts: leg.attempts(),
        took: leg.elapsed(now),
        bytes: leg.received(),
        error: leg.error(),
        diverges: comparison.is_some_and(|comparison| comparison.diverges(leg)),
        ..LegReport::before(leg.target())
    }
}

/// The names of the endpoints, each of them once: where several have the same, as all addresses of a DNS name do, their addresses.
fn names(legs: &[Leg]) -> impl Iterator<Item = &str> {
    let mut count = BTreeMap::<&str, usize>::new();
    for leg in legs {
        *count.entry(leg.target().label()).or_default() += 1;
    }
    legs.iter().map(move |leg| match (count[&**leg.target().label()], leg.target()) {
        (1, target) => target.label(),
        (_, target) => &**target.authority(),
    })
}

/// Writes a duration as milliseconds with at most three digits after the point.
pub fn as_millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e3)
}

/// The report of an exchange whose legs have all ended, and the status it is answered with.
#[must_use]
pub fn report(exchange: &Exchange, about: About<'_>, decision: Decision) -> (u16, Bytes) {
    let now = Instant::now();
    let policy = &exchange.route().config.policy;
    let standing = |leg: &Leg| {
        let result = leg.result();
        let made_up = result.map_or(502, |result| result.outcome.made_up_status(policy.on_timeout));
        // An answer that was cut does not stand for itself, whatever its head said, nor one of gRPC that says at its end that it
        // is an error.
        let denies_itself =
            |result: &LegResult| result.error.is_some() || (leg.code().is_some() && result.outcome != Outcome::Ok);
        result.filter(|result| !denies_itself(result)).and_then(|result| result.status).unwrap_or(made_up)
    };
    let (quorum, route, comparison) = (exchange.quorum(), exchange.route(), exchange.comparison());
    let leg_report = |leg| LegReport {
        digest: comparison.as_ref().and_then(|comparison| comparison.digest(leg)),
        body: leg.excerpt().map(BodyReport::from),
        ..self::leg(leg, comparison.as_ref(), now)
    };
    let report = Report {
        nodes: names(exchange.legs()).zip(exchange.legs().iter().map(standing)).collect(),
        rate: (quorum.ok * 100).checked_div(quorum.total).unwrap_or(0),
        done: true,
        grpc_status: exchange.representative(decision).and_then(Leg::code),
        job: quorum.deferred.map(|deferred| deferred.job.to_string()),
        result: result(quorum, decision).as_str(),
        results: exchange.legs().iter().map(leg_report).collect(),
        ..Report::before(route, about)
    };
    // Only a request with legs has a report, and each of them has been counted.
    let status = exchange.representative(decision).map_or(502, standing);
    // A status that allows no body cannot carry the report.
    let status = if matches!(status, 204 | 304) { 200 } else { status };
    // Texts and numbers always become JSON.
    (status, serde_json::to_vec(&report).map(Bytes::from).unwrap_or_default())
}

/// The report of a request of which nothing is sent: what would be.
#[must_use]
pub fn dry_run(route: &RouteEntry, about: About<'_>) -> Bytes {
    let size = route.config.policy.waves.map(|waves| waves.size.of(route.members.len()));
    let results = route.members.iter().enumerate().map(|(index, target)| {
        let problem = target.endpoint.address.problem().unwrap_or("the endpoint is not ready");
        let wave = size.map(|size| index / size + 1);
        LegReport { error: Some(problem.into()).filter(|_| !target.is_ready), wave, ..LegReport::before(target) }
    });
    let report = Report { results: results.collect(), ..Report::before(route, about) };
    // Texts and numbers always become JSON.
    serde_json::to_vec(&report).map(Bytes::from).unwrap_or_default()
}
