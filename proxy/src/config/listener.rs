//! The configuration of a listener: its address, routes, access control and limits for clients.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use access::rate::Rate;
use ipnet::IpNet;
use runtime::tls::{Protocol, ServerSettings};
use serde::Serialize;

use super::{
    Route,
    matching::Allow,
    serialize::{display_all, go_duration},
    via::ViaName,
};
use crate::http::request::MAX_FIELDS;

/// A bound address with its routes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listener {
    /// The address; port 0 means a free port.
    pub address: SocketAddr,
    /// Tried in this order; the first match takes the request.
    pub routes: Vec<Arc<Route>>,
    /// The rules for allowed requests and callers; empty allows everything. Other requests are 401 or 403.
    pub allow: Vec<Allow>,
    /// Client networks with control over single requests, besides callers to whom `allow` grants it.
    #[serde(serialize_with = "display_all")]
    pub control_from: Vec<IpNet>,
    /// Authentication of callers, and their rate limit.
    pub auth: Auth,
    /// Whether targets may contain some characters that RFC 3986 requires to be percent-encoded.
    pub lenient_target: bool,
    /// The name of this deployment in `Via`.
    pub via_name: ViaName,
    /// Whether a client connection may carry more than one request.
    pub keepalive: bool,
    /// Whether HTTP/2 is supported: with prior knowledge, and by ALPN with TLS.
    pub http2: bool,
    /// Client networks whose `X-Forwarded-*` and `Forwarded` are trusted.
    #[serde(serialize_with = "display_all")]
    pub trust_forwarded: Vec<IpNet>,
    /// Bounds of a request head.
    pub head: HeadLimits,
    /// How long a client may take.
    pub timeouts: ClientTimeouts,
    /// TLS; without it, clear text. `http2` decides the offered protocols.
    pub tls: Option<ServerSettings>,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
}

/// How the callers of a listener are known, and how often they may ask.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Auth {
    /// The file of the callers' tokens.
    pub tokens: Option<PathBuf>,
    /// The audience of accepted tokens of Kubernetes service accounts.
    pub service_accounts: Option<Box<str>>,
    /// The request rate of each identity, or else client address; requests beyond it are 429.
    pub rate_limit: Option<Rate>,
}

/// Whether connections begin with a PROXY header of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// They do not: such a header is a malformed request.
    #[default]
    Off,
    /// They may, from addresses in `trust_forwarded`.
    Accept,
    /// They must, and only addresses in `trust_forwarded` may connect.
    Require,
}

/// Bounds of a request head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadLimits {
    /// Bytes of the request target; more is 414.
    pub target: usize,
    /// Bytes of the whole head; more is 431.
    pub bytes: usize,
    /// Header fields; more is 431.
    pub fields: usize,
}

/// How long a client may take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClientTimeouts {
    /// From the first byte of a head to its last; then 408.
    #[serde(serialize_with = "go_duration")]
    pub head: Duration,
    /// Between two pieces of a body, or while the client reads nothing of an answer; then 408, or the connection is closed.
    #[serde(serialize_with = "go_duration")]
    pub body: Duration,
    /// Between two requests of a connection; then it is closed.
    #[serde(serialize_with = "go_duration")]
    pub keepalive: Duration,
}

// === impl Listener ===

impl Listener {
    /// Finds rules with identities that no caller can have on this listener.
    pub(super) fn check_identities(&self, at: &str, problem: &mut impl FnMut(String, String)) {
        for (a, allow) in self.allow.iter().enumerate() {
            for pattern in allow.by.patterns() {
                let missing = match pattern.to_string() {
                    name if name.starts_with("token:") && self.auth.tokens.is_none() => "auth.tokens, a file of tokens",
                    name if name.starts_with("sa:") && self.auth.service_accounts.is_none() => {
                        "auth.service_accounts, an audience"
                    }
                    name if name.starts_with("san:") && self.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) => {
                        "tls.client_ca, the authorities of clients"
                    }
                    _ => continue,
                };
                problem(format!("{at}.allow[{a}]"), format!("no caller can prove {pattern}: there is no {missing}"));
            }
        }
    }

    /// TLS with the offered protocols.
    #[must_use]
    pub(crate) fn server_tls(&self) -> Option<ServerSettings> {
        let protocols: &[Protocol] = if self.http2 { &[Protocol::Http2, Protocol::Http1] } else { &[Protocol::Http1] };
        Some(ServerSettings { protocols: protocols.to_vec(), ..self.tls.clone()? })
    }

    /// Whether answers to requests without a route carry `X-Broadcast-*`, because some route's answers do.
    #[must_use]
    pub fn reports(&self) -> bool {
        self.routes.iter().any(|route| route.policy.report)
    }

    /// A listener with these routes and every default.
    #[must_use]
    pub fn new(address: SocketAddr, routes: Vec<Route>) -> Self {
        Self {
            address,
            routes: routes.into_iter().map(Arc::new).collect(),
            allow: Vec::new(),
            control_from: Vec::new(),
            auth: Auth::default(),
            lenient_target: false,
            via_name: ViaName::default(),
            keepalive: true,
            http2: true,
            trust_forwarded: Vec::new(),
            head: HeadLimits::default(),
            timeouts: ClientTimeouts::default(),
            tls: None,
            proxy_protocol: ProxyProtocol::Off,
        }
    }
}

// === impl HeadLimits ===

impl HeadLimits {
    /// The most bytes of a head, because offsets in it have 32 bits.
    pub const MAX_BYTES: usize = u32::MAX as usize;

    pub(super) fn check(&self, at: &str, problem: &mut impl FnMut(String, String)) {
        for (name, bytes) in [("target", self.target), ("bytes", self.bytes)] {
            if bytes > Self::MAX_BYTES {
                problem(format!("{at}.head.{name}"), "must be less than 4GiB".into());
            }
        }
        if self.fields > MAX_FIELDS {
            problem(
                format!("{at}.head.fields"),
                format!("{} is more than the {MAX_FIELDS} that can be read", self.fields),
            );
        }
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { target: 16 * 1024, bytes: 64 * 1024, fields: 128 }
    }
}

// === impl ClientTimeouts ===

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), body: Duration::from_secs(30), keepalive: Duration::from_secs(60) }
    }
}
