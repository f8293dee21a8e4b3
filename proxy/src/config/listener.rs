//! Where requests come in: an address, its routes, who may, and what a client may cost.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

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
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Tried in this order; the first match takes the request.
    pub routes: Vec<Route>,
    /// What may be requested at all, and by whom; empty: everything by anyone. The rest is 401 or 403.
    pub allow: Vec<Allow>,
    /// Clients that may decide how a request of theirs is sent, beside callers to whom `allow` grants control.
    #[serde(serialize_with = "display_all")]
    pub control_from: Vec<IpNet>,
    /// How callers are known, and how often they may ask.
    pub auth: Auth,
    /// Whether targets may hold some characters as they are that RFC 3986 wants percent-encoded.
    pub lenient_target: bool,
    /// What this deployment is called in `Via`.
    pub via_name: ViaName,
    /// Whether a client connection may carry more than one request.
    pub keepalive: bool,
    /// Whether HTTP/2 is spoken: by prior knowledge, and by ALPN where there is TLS.
    pub http2: bool,
    /// Clients whose `X-Forwarded-*` and `Forwarded` are believed.
    #[serde(serialize_with = "display_all")]
    pub trust_forwarded: Vec<IpNet>,
    /// Bounds of a request head.
    pub head: HeadLimits,
    /// How long a client may take.
    pub timeouts: ClientTimeouts,
    /// What clients are shown; none speaks in clear. What they are offered to speak is up to `http2`.
    pub tls: Option<ServerSettings>,
    /// Whether a load balancer says in front of a connection whom it is for.
    pub proxy_protocol: ProxyProtocol,
}

/// How the callers of a listener are known, and how often they may ask.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Auth {
    /// The file of the tokens that prove who a caller is.
    pub tokens: Option<PathBuf>,
    /// The audience of the tokens by which Kubernetes service accounts prove who they are.
    pub service_accounts: Option<Box<str>>,
    /// How many requests an identity, or else a client address, may send in a time; more are 429.
    pub rate_limit: Option<Rate>,
}

/// Whether a load balancer says in front of a connection whom it is for (the PROXY protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// It does not: such a header is a malformed request.
    #[default]
    Off,
    /// It may, where `trust_forwarded` has its address.
    Accept,
    /// It must, and `trust_forwarded` must have its address.
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
    /// Between two pieces of a body, or while it takes nothing of an answer; then 408 or the connection is closed.
    #[serde(serialize_with = "go_duration")]
    pub body: Duration,
    /// Between two requests of a connection; then it is closed.
    #[serde(serialize_with = "go_duration")]
    pub keepalive: Duration,
}

// === impl Listener ===

impl Listener {
    /// Finds rules that name identities which nobody could prove here.
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
                problem(
                    format!("{at}.allow[{a}]"),
                    format!("{pattern} can be proven by nobody: there is no {missing}"),
                );
            }
        }
    }

    /// What clients are shown, with what they are offered to speak.
    #[must_use]
    pub(crate) fn server_tls(&self) -> Option<ServerSettings> {
        let protocols: &[Protocol] = if self.http2 { &[Protocol::Http2, Protocol::Http1] } else { &[Protocol::Http1] };
        Some(ServerSettings { protocols: protocols.to_vec(), ..self.tls.clone()? })
    }

    /// Whether answers to requests that have no route carry `X-Broadcast-*`: as some of its routes do.
    #[must_use]
    pub fn reports(&self) -> bool {
        self.routes.iter().any(|route| route.policy.report)
    }

    /// A listener with these routes and every default.
    #[must_use]
    pub fn new(address: SocketAddr, routes: Vec<Route>) -> Self {
        Self {
            address,
            routes,
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
    /// The most bytes of a head: places in it are numbers of 32 bits.
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
