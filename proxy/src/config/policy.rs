//! How a request is sent to the endpoints and what their answers amount to.

use std::{sync::Arc, time::Duration};

use runtime::tls::{ClientSettings, Protocol};
use serde::Serialize;
use snapshot::Spoken;

use super::{
    compare::{Compare, Ignore},
    redeliver::Redeliver,
    require::Require,
    serialize::{go_duration, go_duration_option},
    success::Success,
    upstream::{TlsTo, UpstreamTls},
    waves::Waves,
};
use crate::target::WireProtocol;

/// How a request is sent to the endpoints and what their answers amount to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Policy {
    /// How many legs must be ok.
    pub require: Require,
    /// Which statuses are ok.
    pub success: Success,
    /// What is spoken to the endpoints.
    pub protocol: UpstreamProtocol,
    /// Which endpoints count.
    pub members: Members,
    /// Fewer endpoints than this: 503, no leg starts.
    pub min_endpoints: usize,
    /// The status where there is no endpoint at all.
    pub on_empty: u16,
    /// The status where time ran out.
    pub on_timeout: u16,
    /// Whether endpoints get it in groups, one after the other; none: all at once.
    pub waves: Option<Waves>,
    /// The longest request body in bytes; none: unlimited, but streamed.
    pub max_body: Option<u64>,
    /// The longest request body that is kept for endpoints which get it later, as with waves.
    pub max_kept_body: u64,
    /// How many bytes of a request body are there before the legs begin, unless that is all of it.
    pub start_after: u64,
    /// The legs begin at the first piece of the body, whatever `start_after` says.
    pub stream: bool,
    /// Bytes in a second that a client must send of its body, or take of its answer, on average after the first 10 s; 0:
    /// any.
    pub min_body_rate: u64,
    /// The body window in bytes: what one request may keep in memory of its body, and again of its answers.
    pub window: usize,
    /// How long a leg may block the window alone where the quorum can do without it.
    #[serde(serialize_with = "go_duration")]
    pub lag_timeout: Duration,
    /// Further attempts after a transport failure, while the body is still in the window.
    pub retries: u32,
    /// Methods that may be sent twice, besides those that RFC 9110 calls idempotent.
    pub idempotent: Vec<Box<str>>,
    /// Bytes of an answer of gRPC that are held until the decision; a longer one fails with status 8.
    pub grpc_max_message: usize,
    /// Whether answers carry `X-Broadcast-*` and a client may ask for the JSON report.
    pub report: bool,
    /// What of the answers is compared.
    pub compare: Compare,
    /// What in their bodies may differ; none: nothing.
    pub compare_ignore: Option<Arc<Ignore>>,
    /// How long an endpoint may take.
    pub timeouts: EndpointTimeouts,
    /// How endpoints are reached by TLS; none: by TLS those whose source says so, as [unconfigured](UpstreamTls::unconfigured).
    /// What they are offered to speak is up to `protocol`.
    pub tls: Option<Arc<UpstreamTls>>,
    /// What is sent again to endpoints that missed it; none: nothing.
    #[serde(skip)]
    pub redeliver: Option<Arc<Redeliver>>,
}

/// Which endpoints of a cluster count as "all".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Members {
    /// Those that are ready: what Kubernetes would send traffic to.
    Ready,
    /// Those that are there: one that is not ready counts as a failed leg.
    Known,
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// What is known of the endpoint: by TLS what it agrees to (ALPN), in clear what its `appProtocol` says, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without asking.
    H2,
}

/// How long an endpoint may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointTimeouts {
    /// From the request's head to the end of the answer, time spent waiting for the client not counted.
    #[serde(serialize_with = "go_duration")]
    pub total: Duration,
    /// For a connection to come about.
    #[serde(serialize_with = "go_duration")]
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer; none: only `total` counts.
    #[serde(serialize_with = "go_duration_option")]
    pub first_byte: Option<Duration>,
    /// Between two pieces of an answer that is being streamed to the client.
    #[serde(serialize_with = "go_duration")]
    pub idle: Duration,
}

// === impl Policy ===

impl Policy {
    /// The smallest window: below it a single answer could not be held.
    pub const MIN_WINDOW: usize = 64 * 1024;

    /// TLS as it is configured, if endpoints may be reached by it, with what they are offered to speak.
    #[must_use]
    pub(crate) fn configured_tls(&self) -> Option<ClientSettings> {
        self.tls.as_ref().filter(|tls| tls.to != TlsTo::None).map(|tls| self.client_tls(tls))
    }

    /// TLS to an endpoint, with what it is offered to speak.
    #[must_use]
    pub(crate) fn client_tls(&self, tls: &UpstreamTls) -> ClientSettings {
        ClientSettings { protocols: self.protocol.offered(), ..tls.settings.clone() }
    }

    /// How many bytes of a request body have to be there for the legs to begin before its end.
    #[must_use]
    pub fn begins_at(&self) -> u64 {
        if self.stream { 1 } else { self.start_after }
    }

    /// The longest request body that is taken.
    #[must_use]
    pub fn longest_body(&self) -> Option<u64> {
        match (self.waves, self.max_body) {
            (None, longest) => longest,
            (Some(_), None) => Some(self.max_kept_body),
            (Some(_), Some(longest)) => Some(longest.min(self.max_kept_body)),
        }
    }

    /// Whether a request with this method does the same when it is sent twice.
    #[must_use]
    pub fn is_idempotent(&self, method: &[u8]) -> bool {
        // RFC 9110 section 9.2.2.
        matches!(method, b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE")
            || self.idempotent.iter().any(|known| known.as_bytes() == method)
    }

    pub(super) fn check(&self, at: &str, problem: &mut impl FnMut(String, String)) {
        if self.window < Self::MIN_WINDOW {
            problem(format!("{at}.window"), format!("{} B is less than 64KiB, the least that works", self.window));
        }
        let on_deferred = self.redeliver.as_ref().and_then(|redeliver| redeliver.on_deferred);
        let statuses = [("on_empty", self.on_empty), ("on_timeout", self.on_timeout)];
        for (name, status) in statuses.into_iter().chain(on_deferred.map(|status| ("on_deferred", status))) {
            if !(200..=599).contains(&status) {
                problem(format!("{at}.{name}"), format!("{status} is not a final HTTP status (200 to 599)"));
            }
        }
        if self.timeouts.total.is_zero() {
            problem(format!("{at}.timeouts.total"), "must be longer than 0s".into());
        }
        if self.timeouts.connect.is_zero() {
            problem(format!("{at}.timeouts.connect"), "must be longer than 0s".into());
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            require: Require::All,
            success: Success::default(),
            protocol: UpstreamProtocol::Auto,
            members: Members::Ready,
            min_endpoints: 0,
            on_empty: 503,
            on_timeout: 504,
            waves: None,
            max_body: None,
            max_kept_body: 1024 * 1024,
            start_after: 64 * 1024,
            stream: false,
            min_body_rate: 1024,
            window: 256 * 1024,
            lag_timeout: Duration::from_secs(1),
            retries: 0,
            idempotent: vec!["PURGE".into(), "BAN".into()],
            grpc_max_message: 4 * 1024 * 1024,
            report: true,
            compare: Compare::Off,
            compare_ignore: None,
            timeouts: EndpointTimeouts::default(),
            tls: None,
            redeliver: None,
        }
    }
}

// === impl UpstreamProtocol ===

impl UpstreamProtocol {
    /// What is spoken to an endpoint of which this is said, in clear or by TLS.
    #[must_use]
    pub fn spoken(self, by_tls: bool, spoken: Spoken) -> WireProtocol {
        match self {
            Self::Auto if by_tls => WireProtocol::Negotiated,
            Self::Auto if spoken.is_h2c() => WireProtocol::Http2,
            Self::Auto | Self::Http1 => WireProtocol::Http1,
            Self::H2 => WireProtocol::Http2,
        }
    }

    /// What an endpoint is offered by TLS, the preferred one first.
    #[must_use]
    pub fn offered(self) -> Vec<Protocol> {
        match self {
            Self::Auto => vec![Protocol::Http2, Protocol::Http1],
            Self::Http1 => vec![Protocol::Http1],
            Self::H2 => vec![Protocol::Http2],
        }
    }
}

// === impl EndpointTimeouts ===

impl Default for EndpointTimeouts {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(10),
            connect: Duration::from_secs(1),
            first_byte: None,
            idle: Duration::from_secs(30),
        }
    }
}
