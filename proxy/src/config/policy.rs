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
    /// The endpoints that are members.
    pub members: Members,
    /// The least number of endpoints; with fewer the answer is 503 and no leg starts.
    pub min_endpoints: usize,
    /// The status without any endpoint.
    pub on_empty: u16,
    /// The status after a time-out.
    pub on_timeout: u16,
    /// Waves: endpoints get a request in groups, one after the other; none means all at once.
    pub waves: Option<Waves>,
    /// The longest request body in bytes; none means unlimited.
    pub max_body: Option<u64>,
    /// The longest request body in bytes that is kept for endpoints that get it later, as with waves.
    pub max_kept_body: u64,
    /// The bytes of a request body that must have arrived before the legs begin, unless the body is shorter.
    pub start_after: u64,
    /// The legs begin at the first piece of the body, whatever `start_after` says.
    pub stream: bool,
    /// The least bytes a second that a client must send or read on average, after the first 10 s; 0 means no limit.
    pub min_body_rate: u64,
    /// The body window in bytes: what one request may keep in memory of its body, and again of its answers.
    pub window: usize,
    /// The time for which a leg may block the window alone, if the quorum does not need it.
    #[serde(serialize_with = "go_duration")]
    pub lag_timeout: Duration,
    /// Further attempts after a transport failure, while the body is still in the window.
    pub retries: u32,
    /// Methods that may be sent twice, besides those that RFC 9110 calls idempotent.
    pub idempotent: Vec<Box<str>>,
    /// The longest gRPC answer in bytes that is held until the decision; a longer one fails with status 8.
    pub grpc_max_message: usize,
    /// Whether answers carry `X-Broadcast-*` and a client may ask for the JSON report.
    pub report: bool,
    /// What of the answers is compared.
    pub compare: Compare,
    /// What in their bodies may differ; none: nothing.
    pub compare_ignore: Option<Arc<Ignore>>,
    /// How long an endpoint may take.
    pub timeouts: EndpointTimeouts,
    /// TLS to endpoints; without it, TLS is used for endpoints whose source says so, as [unconfigured](UpstreamTls::unconfigured).
    /// `protocol` decides the offered protocols.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Redelivery of missed requests; none if it is off.
    #[serde(skip)]
    pub redeliver: Option<Arc<Redeliver>>,
}

/// Which endpoints of a cluster count as "all".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Members {
    /// Those that are ready, as for Kubernetes.
    Ready,
    /// All known ones: one that is not ready counts as a failed leg.
    Known,
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// With TLS the protocol is negotiated by ALPN; in clear text it is that of the `appProtocol`, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    H2,
}

/// How long an endpoint may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointTimeouts {
    /// From the request's head to the end of the answer, time spent waiting for the client not counted.
    #[serde(serialize_with = "go_duration")]
    pub total: Duration,
    /// For establishing a connection.
    #[serde(serialize_with = "go_duration")]
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer; without it only `total` applies.
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

    /// The configured TLS with the offered protocols, if endpoints may use TLS.
    #[must_use]
    pub(crate) fn configured_tls(&self) -> Option<ClientSettings> {
        self.tls.as_ref().filter(|tls| tls.to != TlsTo::None).map(|tls| self.client_tls(tls))
    }

    /// TLS to an endpoint, with the offered protocols.
    #[must_use]
    pub(crate) fn client_tls(&self, tls: &UpstreamTls) -> ClientSettings {
        ClientSettings { protocols: self.protocol.offered(), ..tls.settings.clone() }
    }

    /// The bytes of a request body that must have arrived for the legs to begin before its end.
    #[must_use]
    pub fn begins_at(&self) -> u64 {
        if self.stream { 1 } else { self.start_after }
    }

    /// The longest accepted request body in bytes.
    #[must_use]
    pub fn longest_body(&self) -> Option<u64> {
        match (self.waves, self.max_body) {
            (None, longest) => longest,
            (Some(_), None) => Some(self.max_kept_body),
            (Some(_), Some(longest)) => Some(longest.min(self.max_kept_body)),
        }
    }

    /// Whether requests with this method are idempotent.
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
    /// The protocol for an endpoint with this attribute, in clear text or with TLS.
    #[must_use]
    pub fn spoken(self, by_tls: bool, spoken: Spoken) -> WireProtocol {
        match self {
            Self::Auto if by_tls => WireProtocol::Negotiated,
            Self::Auto if spoken.is_h2c() => WireProtocol::Http2,
            Self::Auto | Self::Http1 => WireProtocol::Http1,
            Self::H2 => WireProtocol::Http2,
        }
    }

    /// The protocols in ALPN, the preferred one first.
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
