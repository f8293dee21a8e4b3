//! One request, whatever version of HTTP brought it: it is admitted or refused, its exchange runs, and the client gets one
//! answer. Stragglers and the log entry outlive the answer.

mod admit;
mod answer;
mod broadcast;
mod carrier;
mod defer;
mod dry_run;
pub(crate) mod id;
mod without_route;

use std::{borrow::Cow, hint::cold_path, net::SocketAddr, sync::Arc};

use access::identity::{CertificateNames, Identity};
use spans::{RemoteParent, RequestTrace, TraceId};
use tokio::time::Instant;

use self::{admit::Refusal, answer::Answered};
pub(crate) use self::{
    carrier::{Carrier, Http1Carrier, Http2Carrier},
    without_route::WithoutRoute,
};
use crate::{
    clock,
    exchange::{MadeUp, Outgoing, alarm::Alarm, pace::Pace, quorum::Quorum},
    grpc::{self, Code},
    http::{Class, request::RequestHead},
    metrics::RequestResult,
    report::About,
    shared::Worker,
    table::{ListenerEntry, RouteEntry},
    traces::{self, RequestSpan},
};

/// The context of one request.
pub(crate) struct RequestContext<'a> {
    pub(crate) head: &'a RequestHead,
    /// The listener's entry of the table at the start of the request.
    pub(crate) listener: &'a ListenerEntry,
    pub(crate) worker: &'a Worker,
    pub(crate) id: &'a str,
    /// Whether the id was generated, because the client sent no valid one.
    pub(crate) is_new_id: bool,
    pub(crate) client: SocketAddr,
    /// The client's address as text, for the heads of legs.
    pub(crate) client_ip: &'a str,
    /// The names in its certificate.
    pub(crate) certificate: Option<&'a CertificateNames>,
    /// Of the listener: `http` or `https`.
    pub(crate) scheme: &'static str,
    /// Whether it is a gRPC request.
    pub(crate) is_grpc: bool,
    /// Its trace, if tracing is configured.
    pub(crate) trace: Option<RequestTrace>,
    pub(crate) started: Instant,
}

/// The state of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is kept for the next one.
    Keep,
    /// It is closed; an answer that ends with the connection is complete.
    Close,
    /// It is aborted, so that the client notices a truncated answer.
    Abort,
    /// It is closed once the client has stopped sending its body, or after some time.
    Linger,
}

// === impl RequestContext ===

impl RequestContext<'_> {
    /// Answers the request.
    pub(crate) async fn serve(&self, carrier: &mut Carrier<'_>, alarm: &mut Alarm) -> Next {
        match admit::admit(self) {
            Ok(admitted) if admitted.is_dry_run => {
                cold_path();
                // Boxed, so that it does not enlarge the future of ordinary requests.
                Box::pin(self.answer_dry_run(admitted, carrier, alarm)).await
            }
            Ok(admitted) => self.broadcast(admitted, carrier, alarm).await,
            Err(refusal) => {
                cold_path();
                let next = if carrier.inbound().skip() { self.next(carrier) } else { Next::Linger };
                self.refuse(refusal, carrier, alarm, next).await
            }
        }
    }

    /// Answers a request for which no leg was started.
    async fn refuse(&self, refusal: Refusal, carrier: &mut Carrier<'_>, alarm: &mut Alarm, next: Next) -> Next {
        let Refusal { route, identity, result, problem } = refusal;
        let made_up = MadeUp::from(problem);
        let problem = &made_up.problem;
        let took = clock::now().saturating_duration_since(self.started);
        let grpc_status = self.is_grpc.then(|| grpc::Status::made_up(made_up.grpc_code()));
        let sent = match &route {
            Some(route) => {
                if let Some(status) = grpc_status {
                    route.metrics.grpc_answered(status);
                }
                route.metrics.answered(result, problem.status, took, self.sampled());
                route.metrics.completed(result);
                let quorum = Quorum::new(route.config.policy.require, route.members.len());
                let mut out = self.made_up(&made_up, (&quorum, None), route, next);
                out.flush(&mut carrier.outbound(), self.pace(route), alarm).await;
                out.body_bytes
            }
            None => {
                self.worker.shared.refused.count(problem.status);
                let none = (&Quorum::default(), None);
                let report = self.listener.config.reports().then_some(none);
                let mut out = answer::problem(&made_up, report, b"", self, next);
                let idle = self.listener.config.timeouts.body;
                out.flush(&mut carrier.outbound(), Pace { idle, ..Pace::UNKNOWN }, alarm).await;
                out.body_bytes
            }
        };
        let grpc_code = grpc_status.map(|status| status.code);
        self.record_span(route.as_deref(), identity.as_ref(), (result, problem.status, grpc_code));
        let log = &self.worker.shared.log;
        if let Some(wanted) = log.wants(result) {
            let (status, reason) = (problem.status, Some(problem.detail.clone()));
            let answered = Answered { wanted, result, status, sent, took, reason };
            let record = answer::record(self, identity, answered, grpc_code);
            record.write(log, route.as_ref().map_or("-", |route| &route.config.name), result, None);
        }
        next
    }

    /// A generated answer for a request with this route.
    fn made_up(&self, made_up: &MadeUp, report: (&Quorum, Option<&str>), route: &RouteEntry, next: Next) -> Outgoing {
        let report = route.config.policy.report.then_some(report);
        answer::problem(made_up, report, route.config.changes.headers.response.lines_of_made_up(), self, next)
    }

    /// The request's part of a report.
    fn about<'a>(&'a self, target: &'a [u8]) -> About<'a> {
        let (trace, version) = (self.trace_id(), self.listener.version);
        About { id: self.id, trace, version, method: self.head.method(), target }
    }

    /// The id of its trace; without tracing, the one in the client's `traceparent`.
    fn trace_id(&self) -> Option<TraceId> {
        match self.trace {
            Some(trace) => Some(trace.trace),
            None => RemoteParent::of(self.head.fields.of(Class::TraceParent)).map(|parent| parent.trace),
        }
    }

    /// The id of its trace, if it is recorded.
    fn sampled(&self) -> Option<TraceId> {
        self.trace.filter(RequestTrace::is_sampled).map(|trace| trace.trace)
    }

    /// Records the span of a request without legs.
    fn record_span(
        &self,
        route: Option<&RouteEntry>,
        identity: Option<&Identity>,
        (result, status, grpc): (RequestResult, u16, Option<Code>),
    ) {
        let answered = traces::TracedAnswer { route, identity, result, status, grpc };
        if let Some(tracer) = &self.worker.shared.tracer
            && let Some(span) = RequestSpan::of(self, &answered)
        {
            tracer.record(span.end(None, result).into_iter());
        }
    }

    /// The least speed of a client with this route.
    fn pace(&self, route: &RouteEntry) -> Pace {
        Pace { idle: self.listener.config.timeouts.body, rate: route.config.policy.min_body_rate }
    }

    /// The state of the connection after a request that was read to its end.
    fn next(&self, carrier: &Carrier<'_>) -> Next {
        let keep = self.head.keepalive && self.listener.config.keepalive && !carrier.has_to_end();
        if keep { Next::Keep } else { Next::Close }
    }
}

/// A request that may be sent to the endpoints.
struct Admitted<'a> {
    /// Its route, with the control settings of its caller applied.
    route: Cow<'a, Arc<RouteEntry>>,
    /// The target for endpoints, if it differs from the client's.
    target: Option<Vec<u8>>,
    /// The caller's identity, if known.
    identity: Option<Identity>,
    /// Whether its `Authorization` was accepted as a token, and is not passed on.
    is_authenticated: bool,
    /// Whether it is a dry run.
    is_dry_run: bool,
}
