//! The checked configuration of the data plane: what a command line and a file turn into before anything is bound.
//!
//! Every value here is valid on its own; [`Config::check`] finds what is wrong between them. Nothing is read from the
//! environment and nothing is resolved: names of clusters refer to whatever the snapshot holds at the time of a request.

mod below;
mod changes;
mod field;
mod fields;
mod host;
mod matching;
mod path;
mod require;
mod success;
mod upstream;
mod via;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use access::rate::Rate;
use ipnet::IpNet;
use runtime::tls::{ClientSettings, Protocol, ServerSettings};
use serde::Serialize;
use snapshot::ClusterName;

use crate::{http::request::MAX_FIELDS, target::WireProtocol};

pub use changes::{Changes, HeaderChanges, HostValue, InvalidChange, NewPath, Prefix, Unchangeable};
pub use field::FieldPattern;
pub use fields::{Direction, FieldEdits, FieldLine, FieldName, InvalidField};
pub use host::HostPattern;
pub(crate) use matching::is_token;
pub use matching::{Allow, InvalidAllow, InvalidMatch, Match};
pub use path::{PathPattern, Verdict, split_target};
pub use require::{InvalidRequire, Require};
pub use success::{InvalidSuccess, StatusSet, Success};
pub use upstream::UpstreamTls;
pub use via::{InvalidVia, ViaName};

/// Everything the data plane needs to know.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Where requests come in.
    pub listeners: Vec<Listener>,
    /// Worker threads; each has its own connections to clients and endpoints.
    pub threads: usize,
    /// Bounds of the whole process.
    pub limits: Limits,
    /// Where access-log entries go.
    pub access_log: AccessLog,
}

/// A bound address with its routes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listener {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Tried in this order; the first match takes the request.
    pub routes: Vec<Route>,
    /// What may be requested at all, and by whom; empty: everything by anyone. The rest is 401 or 403.
    pub allow: Vec<Allow>,
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

/// One way for requests: what matches goes to all endpoints of a cluster, and a policy makes one answer of theirs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// What metrics and logs call it.
    pub name: Arc<str>,
    /// Which requests take it.
    #[serde(rename = "match")]
    pub matches: Match,
    /// The cluster of the snapshot whose endpoints get the request.
    #[serde(serialize_with = "display")]
    pub cluster: ClusterName,
    /// What it changes about requests and answers.
    #[serde(flatten)]
    pub changes: Changes,
    /// How it is sent and what the answers amount to.
    pub policy: Policy,
}

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
    /// The longest request body in bytes; none: unlimited, but streamed.
    pub max_body: Option<u64>,
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
    /// How long an endpoint may take.
    pub timeouts: EndpointTimeouts,
    /// How endpoints are reached by TLS; none speaks in clear. What they are offered to speak is up to `protocol`.
    pub tls: Option<Arc<UpstreamTls>>,
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
    /// What is known of the endpoint: by TLS what it agrees to (ALPN), else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without asking.
    H2,
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

/// Where access-log entries go: one entry per request, written when its last leg has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output, one line of text each.
    Text,
    /// Standard output, one JSON object a line.
    Json,
}

/// Something wrong between values that are each valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Problem {
    /// Where in the configuration, for instance `listeners[0].routes[1].name`.
    pub path: String,
    /// What is wrong and what to do about it.
    pub message: String,
}

// === impl Config ===

impl Config {
    /// Finds everything that is wrong between values. Empty: the configuration can be used.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |path: String, message: String| problems.push(Problem { path, message });
        if self.threads == 0 {
            problem("threads".into(), "must be at least 1".into());
        }
        let mut names = std::collections::HashSet::new();
        let mut addresses = std::collections::HashSet::new();
        for (l, listener) in self.listeners.iter().enumerate() {
            let at = format!("listeners[{l}]");
            if listener.address.port() != 0 && !addresses.insert(listener.address) {
                problem(format!("{at}.address"), format!("{} is listened on twice", listener.address));
            }
            listener.head.check(&at, &mut problem);
            listener.check_identities(&at, &mut problem);
            if listener.routes.is_empty() {
                problem(format!("{at}.routes"), "has no route, every request would be 404".into());
            }
            for (r, route) in listener.routes.iter().enumerate() {
                let at = format!("{at}.routes[{r}]");
                if !names.insert(route.name.clone()) {
                    problem(format!("{at}.name"), format!("{:?} is the name of another route too", route.name));
                }
                route.policy.check(&at, &mut problem);
            }
        }
        problems
    }
}

impl Policy {
    /// The smallest window: below it a single answer could not be held.
    pub const MIN_WINDOW: usize = 64 * 1024;

    /// TLS to the endpoints, with what they are offered to speak.
    #[must_use]
    pub(crate) fn client_tls(&self) -> Option<ClientSettings> {
        let settings = self.tls.as_ref()?.settings.clone();
        Some(ClientSettings { protocols: self.protocol.offered(), ..settings })
    }

    /// How many bytes of a request body have to be there for the legs to begin before its end.
    #[must_use]
    pub fn begins_at(&self) -> u64 {
        if self.stream { 1 } else { self.start_after }
    }

    /// Whether a request with this method does the same when it is sent twice.
    #[must_use]
    pub fn is_idempotent(&self, method: &[u8]) -> bool {
        // RFC 9110 section 9.2.2.
        matches!(method, b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE")
            || self.idempotent.iter().any(|known| known.as_bytes() == method)
    }

    fn check(&self, at: &str, problem: &mut impl FnMut(String, String)) {
        if self.window < Self::MIN_WINDOW {
            problem(format!("{at}.window"), format!("{} B is less than 64KiB, the least that works", self.window));
        }
        for (name, status) in [("on_empty", self.on_empty), ("on_timeout", self.on_timeout)] {
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

impl UpstreamProtocol {
    /// What is spoken to an endpoint of which nothing else is known, in clear or by TLS.
    #[must_use]
    pub fn spoken(self, by_tls: bool) -> WireProtocol {
        match self {
            Self::Auto if by_tls => WireProtocol::Negotiated,
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

impl HeadLimits {
    /// The most bytes of a head: places in it are numbers of 32 bits.
    pub const MAX_BYTES: usize = u32::MAX as usize;

    fn check(&self, at: &str, problem: &mut impl FnMut(String, String)) {
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

impl Default for HeadLimits {
    fn default() -> Self {
        Self { target: 16 * 1024, bytes: 64 * 1024, fields: 128 }
    }
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), body: Duration::from_secs(30), keepalive: Duration::from_secs(60) }
    }
}

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
            max_body: None,
            start_after: 64 * 1024,
            stream: false,
            min_body_rate: 1024,
            window: 256 * 1024,
            lag_timeout: Duration::from_secs(1),
            retries: 0,
            idempotent: vec!["PURGE".into(), "BAN".into()],
            grpc_max_message: 4 * 1024 * 1024,
            report: true,
            timeouts: EndpointTimeouts::default(),
            tls: None,
        }
    }
}

impl Listener {
    /// Finds rules that name identities which nobody could prove here.
    fn check_identities(&self, at: &str, problem: &mut impl FnMut(String, String)) {
        for (a, allow) in self.allow.iter().enumerate() {
            for pattern in allow.by.patterns() {
                let missing = match pattern.to_string() {
                    name if name.starts_with("token:") && self.auth.tokens.is_none() => "auth.tokens, a file of tokens",
                    name if name.starts_with("sa:") && self.auth.service_accounts.is_none() => {
                        "auth.service_accounts, an audience"
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

fn display<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn display_all<T: std::fmt::Display, S: serde::Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

fn go_duration<S: serde::Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&runtime::duration::format(*value))
}

fn go_duration_option<S: serde::Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => go_duration(value, serializer),
        None => serializer.serialize_none(),
    }
}
