//! Sends an admitted request to the endpoints, and answers by the decision.

use std::{borrow::Cow, time::Duration};

use access::identity::Identity;

use super::{
    Admitted, Carrier, Next, RequestContext,
    answer::{self, Answered},
    defer::{self, DeferrableRequest},
};
use crate::{
    clock,
    config::HostValue,
    exchange::{
        Exchange, Leg, MadeUp, Request,
        alarm::Alarm,
        gather::{Fault, Gathered},
        pace::Pace,
        quorum::Decision,
        stream::Streamed,
        window::Coding,
    },
    grpc::{self, Code},
    headers::{self, Forwarding},
    http::Framing,
    metrics::RequestResult,
    outcome::Outcome,
    problem::Problem,
    proxy_error::ProxyError,
    report,
    shared::Concluded,
    target::WireProtocol,
    traces::{self, RequestSpan},
};

/// How a client was answered.
struct Sent {
    status: u16,
    /// Bytes of body.
    body: u64,
    next: Next,
    /// The gRPC status of the answer; none for other requests, or without an answer.
    grpc: Option<grpc::Status>,
}

impl RequestContext<'_> {
    /// Sends the request to every endpoint and answers.
    pub(super) async fn broadcast(&self, admitted: Admitted<'_>, carrier: &mut Carrier<'_>, alarm: &mut Alarm) -> Next {
        let (route, shared) = (&*admitted.route, &self.worker.shared);
        let wants_report = route.config.policy.report && headers::wants_report(self.head);
        let request = Request {
            method: self.head.method(),
            is_idempotent: route.config.policy.is_idempotent(self.head.method()) || self.head.has_idempotency_key(),
            coding: if self.head.framing == Framing::Chunked { Coding::Chunked } else { Coding::Identity },
            has_body: self.head.framing != Framing::Unspecified,
            wants_report,
            excerpt: if wants_report { headers::report_excerpt(self.head) } else { 0 },
            worker: self.worker.index,
            is_grpc: self.is_grpc,
            time_left: if self.is_grpc { self.grpc_timeout() } else { None },
        };
        let mut exchange = Exchange::new(route, &request, &shared.budget, &shared.limits);
        if let Some(trace) = self.trace {
            exchange.set_trace(trace);
        }
        let mut owing = DeferrableRequest::of(route, self.head.method());
        let at_once = owing.as_ref().is_some_and(|owing| owing.keep(&mut exchange, self));
        // gRPC messages come at any rate.
        let pace = if self.is_grpc { Pace { rate: 0, ..self.pace(route) } } else { self.pace(route) };
        if self.is_grpc && route.members.iter().any(|member| member.protocol == WireProtocol::Http1) {
            let made_up = MadeUp::from(no_grpc());
            let sent = self.send_made_up(&mut exchange, &made_up, carrier, alarm, Next::Keep).await;
            let reason = Some(made_up.problem.detail);
            return self.conclude(exchange, admitted.identity, RequestResult::Rejected, sent, reason, carrier);
        }
        let kept_from = self.collect(&mut exchange, carrier, pace, alarm).await;
        // Counted from here on: while a client sends its request, it does not load the endpoints.
        let counted = if kept_from.is_none() { shared.admit() } else { None };
        let gathered = match (kept_from, &counted) {
            (Some(kept_from), _) => Ok(kept_from),
            (None, None) => Err(busy()),
            (None, Some(_)) => {
                if let Some(owing) = &mut owing {
                    owing.hold_back(&mut exchange);
                }
                self.begin(&mut exchange, &admitted, wants_report);
                exchange.count_held_back();
                if at_once && self.accept(&mut owing, &mut exchange).await {
                    let (made_up, next) = (defer::accepted().into(), self.next(carrier));
                    let sent = self.send_made_up(&mut exchange, &made_up, carrier, alarm, next).await;
                    return self.conclude(exchange, admitted.identity, RequestResult::Ok, sent, None, carrier);
                }
                let client = &mut carrier.inbound();
                Ok(std::future::poll_fn(|cx| exchange.poll_gather(cx, client, pace, alarm)).await)
            }
        };
        if let (Some(owing), Ok(Gathered::Decided(_))) = (owing, &gathered)
            && exchange.quorum().ok < exchange.quorum().total
        {
            // Boxed, so that it does not enlarge the future of successful requests.
            Box::pin(owing.defer(&mut exchange, self, alarm)).await;
        }
        let (result, sent, reason) = match gathered {
            Ok(Gathered::Decided(decision)) => {
                let result = report::result(exchange.quorum(), decision);
                (result, self.answer(&mut exchange, decision, carrier, alarm).await, None)
            }
            Ok(Gathered::Fault(fault)) => self.answer_fault(&mut exchange, fault, carrier, alarm).await,
            Ok(Gathered::Gone) => {
                let why = "the client went away in its request body";
                exchange.abort(Outcome::Cancelled, ProxyError::HttpRequestError, why);
                let sent = Sent {
                    status: answer::CLIENT_GONE,
                    body: 0,
                    next: Next::Close,
                    grpc: self.made_up_code(grpc::CANCELLED),
                };
                (RequestResult::Client, sent, Some(why.into()))
            }
            Err(problem) => {
                let (made_up, whole) = (problem.into(), exchange.has_whole_body());
                let next = if whole { self.next(carrier) } else { Next::Linger };
                let sent = self.send_made_up(&mut exchange, &made_up, carrier, alarm, next).await;
                (RequestResult::Rejected, sent, Some(made_up.problem.detail))
            }
        };
        self.conclude(exchange, admitted.identity, result, sent, reason, carrier)
    }

    /// Ends the legs of a request with an invalid body, and answers with the reason.
    async fn answer_fault(
        &self,
        exchange: &mut Exchange,
        fault: Fault,
        carrier: &mut Carrier<'_>,
        alarm: &mut Alarm,
    ) -> (RequestResult, Sent, Option<Cow<'static, str>>) {
        let why = "the client's request body was at fault";
        exchange.abort(Outcome::Cancelled, ProxyError::HttpRequestError, why);
        let (result, kind) = match fault {
            Fault::NoRoom => (RequestResult::Rejected, ProxyError::ConnectionLimitReached),
            _ => (RequestResult::Client, ProxyError::HttpRequestError),
        };
        let made_up = Problem::new(fault.status(), kind, fault.to_string()).into();
        let sent = self.send_made_up(exchange, &made_up, carrier, alarm, Next::Linger).await;
        (result, sent, Some(made_up.problem.detail))
    }

    /// Takes the request as a job before its legs are sent, if that can be.
    async fn accept(&self, owing: &mut Option<DeferrableRequest<'_>>, exchange: &mut Exchange) -> bool {
        let Some(taken) = owing.take() else { return false };
        // Boxed, because hardly any request has need of it.
        *owing = Box::pin(taken.accept(exchange, self)).await.err();
        owing.is_none()
    }

    /// Counts the answer after it was sent, and leaves the stragglers to a task.
    fn conclude(
        &self,
        mut exchange: Box<Exchange>,
        identity: Option<Identity>,
        result: RequestResult,
        sent: Sent,
        reason: Option<Cow<'static, str>>,
        carrier: &mut Carrier<'_>,
    ) -> Next {
        let shared = &self.worker.shared;
        let took = clock::now().saturating_duration_since(self.started);
        exchange.route().metrics.answered(result, sent.status, took, self.sampled());
        if let Some(status) = sent.grpc {
            exchange.route().metrics.grpc_answered(status);
        }
        exchange.release();
        let (route, grpc) = (Some(&**exchange.route()), sent.grpc.map(|status| status.code));
        let answered = traces::TracedAnswer { route, identity: identity.as_ref(), result, status: sent.status, grpc };
        let span = RequestSpan::of(self, &answered);
        // Made in its place, because moving a record takes longer than everything else here.
        let concluded = Concluded {
            answered: result,
            record: shared.log.wants(result).map(|wanted| {
                let (status, body) = (sent.status, sent.body);
                answer::record(self, identity, Answered { wanted, result, status, sent: body, took, reason }, grpc)
            }),
            span,
        };
        shared.conclude(exchange, concluded, carrier.take_place());
        sent.next
    }

    /// The time-out of a gRPC caller.
    fn grpc_timeout(&self) -> Option<Duration> {
        self.head.fields.all("grpc-timeout").next().and_then(grpc::timeout)
    }

    /// Reads the body until the legs can begin. Returns a fault of the client, if there was one.
    async fn collect(
        &self,
        exchange: &mut Exchange,
        carrier: &mut Carrier<'_>,
        pace: Pace,
        alarm: &mut Alarm,
    ) -> Option<Gathered> {
        carrier.ask_for_body(self.head, pace, alarm).await;
        if exchange.has_enough() {
            return None;
        }
        let client = &mut carrier.inbound();
        std::future::poll_fn(|cx| exchange.poll_collect(cx, client, pace, alarm)).await
    }

    /// Begins the legs.
    fn begin(&self, exchange: &mut Exchange, admitted: &Admitted<'_>, wants_report: bool) {
        let (head, changes) = (self.head, &admitted.route.config.changes);
        let forwarding = Forwarding {
            client: self.client_ip,
            trusted: headers::is_trusted(&self.listener.config, self.client.ip()),
            scheme: self.scheme,
            via: &admitted.route.via,
            id: self.is_new_id.then_some(self.id),
            trace: self.trace,
            is_authenticated: admitted.is_authenticated,
            report: wants_report,
            host: changes.fixed_host(),
            replaces_host: changes.host.is_some(),
            target: admitted.target.as_deref(),
            grpc_timeout: self.is_grpc.then(|| exchange.time_left(clock::now())),
            edits: Some(&changes.headers.request).filter(|edits| !edits.is_empty()),
        };
        let own_host = match &changes.host {
            Some(host) => *host == HostValue::Authority,
            None => head.host().is_none(),
        };
        if own_host {
            exchange.begin_each(|target| {
                headers::leg_head(head, &Forwarding { host: Some(target.authority()), ..forwarding })
            });
        } else {
            exchange.begin(|out| headers::put_leg_head(out, head, &forwarding));
        }
    }

    /// Sends the answer of the decision.
    async fn answer(
        &self,
        exchange: &mut Exchange,
        decision: Decision,
        carrier: &mut Carrier<'_>,
        alarm: &mut Alarm,
    ) -> Sent {
        exchange.count_divergent();
        let finished = exchange.has_whole_body();
        let next = if finished { self.next(carrier) } else { Next::Linger };
        if exchange.wants_report() {
            return self.send_report(exchange, decision, carrier, alarm, next).await;
        }
        let decided = exchange.decide(decision);
        let goes_on = decided.is_ok() && exchange.goes_on(decision);
        let abort = |exchange: &mut Exchange| {
            let why = "the answer came before the end of the request";
            exchange.abort(Outcome::Cancelled, ProxyError::HttpRequestError, why);
        };
        if !finished && !goes_on {
            abort(exchange);
        }
        if let Some(status) = defer::status(exchange, decision, self.is_grpc) {
            let detail = "the endpoints that missed it get it later: X-Broadcast-Job has the id of the job";
            let made_up = Problem::new(status, ProxyError::DestinationUnavailable, detail).into();
            return self.send_made_up(exchange, &made_up, carrier, alarm, next).await;
        }
        if let Err(made_up) = decided {
            return self.send_made_up(exchange, &made_up, carrier, alarm, next).await;
        }
        let (status, next) = answer::of_winner(exchange, self, next);
        let (pace, (inbound, mut client)) = (self.pace(exchange.route()), carrier.both());
        let mut inbound = inbound.filter(|_| goes_on);
        let streamed = std::future::poll_fn(|cx| exchange.poll_stream(cx, inbound.as_mut(), &mut client, pace, alarm));
        let streamed = streamed.await;
        let body = exchange.outgoing().body_bytes;
        let code = exchange.winner().and_then(Leg::code);
        let cut = if streamed == Streamed::Cut && self.is_grpc { Some(exchange.put_cut_status()) } else { None };
        let told = match cut {
            Some(_) => exchange.flush(&mut client, pace, alarm).await,
            None => false,
        };
        if !exchange.has_whole_body() {
            exchange.end_winner();
            abort(exchange);
        }
        match streamed {
            Streamed::Whole => Sent { status, body, next, grpc: code.map(grpc::Status::of_endpoint) },
            Streamed::Cut if told => Sent { status, body, next, grpc: cut.and_then(|code| self.made_up_code(code)) },
            // The stream is reset, which a gRPC client reports as this status.
            Streamed::Cut => Sent { status, body, next: Next::Abort, grpc: self.made_up_code(grpc::INTERNAL) },
            Streamed::Gone => {
                let grpc = self.made_up_code(grpc::CANCELLED);
                Sent { status: answer::CLIENT_GONE, body, next: Next::Abort, grpc }
            }
        }
    }

    async fn send_report(
        &self,
        exchange: &mut Exchange,
        decision: Decision,
        carrier: &mut Carrier<'_>,
        alarm: &mut Alarm,
        next: Next,
    ) -> Sent {
        let (status, body) = report::report(exchange, self.about(self.head.target()), decision);
        let status = defer::status(exchange, decision, self.is_grpc).unwrap_or(status);
        let endpoint = exchange.representative(decision).map(|leg| &**leg.target().label());
        let mut out = answer::report((status, body), (exchange.quorum(), endpoint), exchange.route(), self, next);
        let whole = out.flush(&mut carrier.outbound(), self.pace(exchange.route()), alarm).await;
        let made_up = |leg: &Leg| leg.result().is_some_and(|result| result.error.is_some());
        let grpc = exchange.representative(decision).and_then(|leg| {
            let status = if made_up(leg) { grpc::Status::made_up } else { grpc::Status::of_endpoint };
            leg.code().map(status)
        });
        Sent { status, body: out.body_bytes, next: if whole { next } else { Next::Close }, grpc }
    }

    /// Sends a generated answer, which may represent a leg.
    async fn send_made_up(
        &self,
        exchange: &mut Exchange,
        made_up: &MadeUp,
        carrier: &mut Carrier<'_>,
        alarm: &mut Alarm,
        next: Next,
    ) -> Sent {
        let endpoint = made_up.leg.map(|index| &**exchange.legs()[index].target().label());
        let mut out = self.made_up(made_up, (exchange.quorum(), endpoint), exchange.route(), next);
        out.flush(&mut carrier.outbound(), self.pace(exchange.route()), alarm).await;
        let grpc = self.made_up_code(made_up.grpc_code());
        Sent { status: made_up.problem.status, body: out.body_bytes, next, grpc }
    }

    /// A generated gRPC status, for gRPC requests.
    fn made_up_code(&self, code: Code) -> Option<grpc::Status> {
        self.is_grpc.then(|| grpc::Status::made_up(code))
    }
}

/// The answer to a gRPC request whose endpoints do not speak HTTP/2.
fn no_grpc() -> Problem {
    let detail = "endpoints of this route use HTTP/1.1, and gRPC needs HTTP/2: set upstream-protocol to h2, or \
                  the appProtocol of the Service's port to grpc";
    Problem::new(501, ProxyError::HttpProtocolError, detail)
}

/// The answer at the limit of requests in flight.
fn busy() -> Problem {
    let detail = "the proxy has reached its limit of requests in flight: try again later";
    Problem::new(503, ProxyError::ConnectionLimitReached, detail)
}
