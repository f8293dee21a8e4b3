//! Makes the spans of a request and its legs when it has ended, with attributes by OpenTelemetry's conventions for HTTP.

mod parents;

use std::time::SystemTime;

use access::identity::Identity;
use spans::{Kind, RequestTrace, Span};
use tokio::time::Instant;

use crate::{
    access_log::{loggable, loggable_query, loggable_target},
    clock,
    config::{Channel, split_target},
    exchange::{Exchange, Leg},
    grpc::{self, Code},
    http::Version,
    metrics::RequestResult,
    outcome::Outcome,
    request::RequestContext,
    table::RouteEntry,
};

pub(crate) use self::parents::{OwnParent, Parents, with_parent};

/// The methods of HTTP and of caches. Others are not used as names of spans, because clients choose them.
const METHODS: [&str; 12] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PURGE", "BAN", "REFRESH", "CONNECT"];

/// The name of spans with other methods.
const OTHER: &str = "HTTP";

/// The most bytes of a client's text in an attribute.
const MAX_TEXT: usize = 256;

/// How a request was answered.
pub(crate) struct TracedAnswer<'a> {
    pub(crate) route: Option<&'a RouteEntry>,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) result: RequestResult,
    pub(crate) status: u16,
    pub(crate) grpc: Option<Code>,
}

/// The span of an answered request, whose legs may still run.
#[derive(Debug)]
pub(crate) struct RequestSpan {
    trace: RequestTrace,
    span: Span,
    clocks: Clocks,
}

/// The time of both clocks at the same moment.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    system: SystemTime,
    steady: Instant,
}

// === impl Clocks ===

impl Clocks {
    fn now() -> Self {
        Self { system: SystemTime::now(), steady: clock::now() }
    }

    fn at(self, time: Instant) -> SystemTime {
        match time.checked_duration_since(self.steady) {
            Some(later) => self.system + later,
            None => self.system - self.steady.saturating_duration_since(time),
        }
    }
}

// === impl RequestSpan ===

impl RequestSpan {
    /// The span of a request whose answer has just ended; none if it is not recorded. Boxed, because most requests have none.
    #[inline]
    pub(crate) fn of(request: &RequestContext<'_>, answered: &TracedAnswer<'_>) -> Option<Box<Self>> {
        let trace = request.trace.filter(RequestTrace::is_sampled)?;
        Some(Self::begun(trace, request, answered))
    }

    /// Not inlined, so that a request without a trace costs one comparison.
    #[cold]
    fn begun(trace: RequestTrace, request: &RequestContext<'_>, answered: &TracedAnswer<'_>) -> Box<Self> {
        let (head, clocks) = (request.head, Clocks::now());
        let method = Method::of(head.method());
        let times = (clocks.at(request.started), clocks.system);
        let mut span = Span::new(&trace, Kind::Server, trace.request_span(), method.name(), times);
        if trace.parent.is_some() {
            let states: Vec<_> = head.fields.of(crate::http::Class::TraceState).map(String::from_utf8_lossy).collect();
            span.state = states.join(",");
        }
        method.describe(&mut span);
        describe_target(&mut span, head.target());
        span.set("url.scheme", request.scheme);
        let default_port = if request.scheme == "https" { 443 } else { 80 };
        describe_server(&mut span, &String::from_utf8_lossy(head.host().unwrap_or_default()), default_port);
        span.set("client.address", request.client_ip.to_owned());
        span.set("client.port", request.client.port());
        span.set(
            "network.protocol.version",
            match head.version {
                Version::Http10 => "1.0",
                Version::Http11 => "1.1",
                Version::Http2 => "2",
            },
        );
        span.set_some("user_agent.original", head.fields.all("user-agent").next().map(shortened));
        span.set("http.response.status_code", answered.status);
        describe_grpc(&mut span, answered.grpc);
        span.set("fanfare.request_id", request.id.to_owned());
        span.set("fanfare.result", answered.result.as_str());
        if let Some(route) = answered.route {
            span.set("fanfare.route", route.config.name.clone());
            span.set("fanfare.policy", route.config.policy.require.to_string());
        }
        span.set_some("fanfare.identity", answered.identity.map(|identity| identity.as_str().to_owned()));
        // Errors of clients are not errors of a server's span.
        let error = match answered.grpc {
            Some(code) => {
                grpc::NAMES.get(usize::from(code)).filter(|_| is_grpc_server_error(code)).map(ToString::to_string)
            }
            None => (answered.status >= 500).then(|| answered.status.to_string()),
        };
        if let Some(error) = error {
            span.set("error.type", error);
            span.error = Some(String::new());
        }
        Box::new(Self { trace, span, clocks })
    }

    /// All spans of the request, whose legs have ended: its own first.
    pub(crate) fn end(self: Box<Self>, exchange: Option<&Exchange>, completed: RequestResult) -> Vec<Span> {
        let Self { trace, mut span, clocks } = *self;
        span.set("fanfare.completed", completed.as_str());
        let Some(exchange) = exchange else { return vec![span] };
        let (quorum, now) = (exchange.quorum(), clock::now());
        for (name, count) in [
            ("fanfare.legs.total", quorum.total),
            ("fanfare.legs.ok", quorum.ok),
            ("fanfare.legs.failed", quorum.failed),
        ] {
            span.set(name, count);
        }
        let mut all = Vec::with_capacity(exchange.legs().len() + 1);
        for (index, leg) in exchange.legs().iter().enumerate() {
            let (began, ended) = leg.times(now);
            let times = (clocks.at(began), clocks.at(ended));
            let mut own = Span::new(&trace, Kind::Client, trace.leg_span(index), span.name, times);
            own.state.clone_from(&span.state);
            describe_leg(&mut own, leg, exchange);
            all.push(own);
        }
        all.insert(0, span);
        all
    }
}

/// The span of a redelivered copy, whose exchange has ended. It is in the trace of its request, whose span is its parent and its
/// link.
pub(crate) fn of_copy(trace: &RequestTrace, exchange: &Exchange, attempt: u32, age: u64) -> Option<Span> {
    let leg = exchange.legs().first()?;
    let (clocks, (began, ended)) = (Clocks::now(), leg.times(clock::now()));
    let name = Method::of(exchange.method()).name();
    let mut span = Span::new(trace, Kind::Client, trace.leg_span(0), name, (clocks.at(began), clocks.at(ended)));
    (span.parent, span.has_remote_parent, span.link) = (trace.parent, trace.parent.is_some(), trace.parent);
    describe_leg(&mut span, leg, exchange);
    span.set("fanfare.route", exchange.route().config.name.clone());
    span.set("fanfare.redelivery.attempt", attempt);
    span.set("fanfare.redelivery.age_seconds", usize::try_from(age / 1_000).unwrap_or(usize::MAX));
    Some(span)
}

/// A method in the form of a span.
enum Method<'a> {
    Known(&'static str),
    Other(&'a [u8]),
}

// === impl Method ===

impl<'a> Method<'a> {
    fn of(method: &'a [u8]) -> Self {
        match METHODS.into_iter().find(|known| known.as_bytes() == method) {
            Some(known) => Self::Known(known),
            None => Self::Other(method),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Known(method) => method,
            Self::Other(_) => OTHER,
        }
    }

    fn describe(&self, span: &mut Span) {
        match self {
            Self::Known(method) => span.set("http.request.method", *method),
            Self::Other(method) => {
                span.set("http.request.method", "_OTHER");
                span.set("http.request.method_original", shortened(method));
            }
        }
    }
}

fn describe_leg(span: &mut Span, leg: &Leg, exchange: &Exchange) {
    let (target, sent, result) = (leg.target(), exchange.target(), leg.result());
    Method::of(exchange.method()).describe(span);
    let scheme = if matches!(target.channel(), Channel::Clear) { "http" } else { "https" };
    span.set("url.full", format!("{scheme}://{}{}", target.authority(), loggable_target(sent)));
    describe_target(span, sent);
    describe_server(span, target.authority(), if scheme == "https" { 443 } else { 80 });
    if leg.response().is_some() {
        span.set("network.protocol.version", target.version());
    }
    if leg.attempts() > 1 {
        span.set("http.request.resend_count", leg.attempts() - 1);
    }
    let status = result.and_then(|result| result.status);
    span.set_some("http.response.status_code", status);
    describe_grpc(span, leg.code());
    let endpoint = &target.endpoint;
    span.set("fanfare.endpoint", String::from(&**target.authority()));
    span.set_some("fanfare.endpoint.pod", endpoint.pod.as_ref().map(|pod| pod.name.to_string()));
    span.set_some("fanfare.endpoint.node", endpoint.node.as_deref().map(str::to_owned));
    span.set_some("fanfare.endpoint.zone", endpoint.zone.as_deref().map(str::to_owned));
    let Some(outcome) = leg.outcome() else { return };
    span.set("fanfare.outcome", outcome.as_str());
    match (outcome, leg.code(), status) {
        (Outcome::Ok, ..) => return,
        (Outcome::ClientError | Outcome::ServerError, Some(code), _) => {
            span.set_some("error.type", grpc::NAMES.get(usize::from(code)).copied());
        }
        (Outcome::ClientError | Outcome::ServerError, None, Some(status)) => {
            span.set("error.type", status.to_string());
        }
        _ => span.set("error.type", outcome.as_str()),
    }
    span.error = Some(leg.error().map(String::from).unwrap_or_default());
}

/// Whether a gRPC status is an error in a server's span, by OpenTelemetry's conventions.
fn is_grpc_server_error(code: Code) -> bool {
    // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
}

fn describe_grpc(span: &mut Span, code: Option<Code>) {
    if let Some(code) = code {
        span.set("rpc.system", "grpc");
        span.set("rpc.grpc.status_code", u16::from(code));
    }
}

/// Adds the path and the query, in the form of the access log.
fn describe_target(span: &mut Span, target: &[u8]) {
    let (path, query) = split_target(target);
    span.set("url.path", loggable(path));
    span.set_some("url.query", query.strip_prefix(b"?").map(loggable_query));
}

fn describe_server(span: &mut Span, authority: &str, default_port: u16) {
    if authority.is_empty() {
        return;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(default_port)),
        _ => (authority, default_port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    span.set("server.address", shortened(host.as_bytes()));
    span.set("server.port", port);
}

fn shortened(text: &[u8]) -> String {
    loggable(&text[..text.len().min(MAX_TEXT)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(describe: impl FnOnce(&mut Span)) -> Vec<(&'static str, String)> {
        let trace = RequestTrace::begun(|_| true);
        let now = SystemTime::UNIX_EPOCH;
        let mut span = Span::new(&trace, Kind::Client, trace.leg_span(0), "GET", (now, now));
        describe(&mut span);
        let text = |value| match value {
            spans::Value::Word(text) => text.to_owned(),
            spans::Value::Text(text) => text,
            spans::Value::Shared(text) => text.to_string(),
            spans::Value::Number(number) => number.to_string(),
        };
        span.attributes.into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    #[test]
    fn the_server_is_named_without_its_port_and_brackets() {
        for (authority, host, port) in [
            ("a.example:8080", "a.example", "8080"),
            ("a.example", "a.example", "80"),
            ("[2001:db8::1]:81", "2001:db8::1", "81"),
            ("[2001:db8::1]", "2001:db8::1", "80"),
        ] {
            let want = [("server.address", host.to_owned()), ("server.port", port.to_owned())];
            assert_eq!(described(|span| describe_server(span, authority, 80)), want, "{authority}");
        }
        assert!(described(|span| describe_server(span, "", 80)).is_empty());
    }

    #[test]
    fn only_known_methods_are_names() {
        assert_eq!((Method::of(b"PURGE").name(), Method::of(b"purge").name()), ("PURGE", OTHER));
        let want = [("http.request.method", "_OTHER"), ("http.request.method_original", "X-Y")];
        let want = want.map(|(name, value)| (name, value.to_owned()));
        assert_eq!(described(|span| Method::of(b"X-Y").describe(span)), want);
    }
}
