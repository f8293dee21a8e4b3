//! Sends an admitted request to the endpoints, and answers by the decision.

use std::{borrow::Cow, future::poll_fn, hint::cold_path, sync::Arc, time::Duration};

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
        Exchange, Leg, MadeUp, Outbound, Request,
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
    table::RouteEntry,
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

/// The answer of an endpoint, whose head is queued.
#[derive(Clone, Copy)]
struct Begun {
    status: u16,
    next: Next,
    /// Whether the request goes on meanwhile.
    goes_on: bool,
}

/// What the client gets instead of an endpoint's answer.
enum Generated {
    Report(Next),
    MadeUp(MadeUp, Next),
}

/// The result of a request that its endpoints did not decide, how it was answered, and why.
type Undecided = (RequestResult, Sent, Option<Cow<'static, str>>);

impl RequestContext<'_> {
    /// Sends the request to every endpoint and answers.
    ///
    /// What every request passes through is written out here, because the arguments of another `async fn` are copied twice. The
    /// rest is boxed, so that it does not enlarge the future of a connection.
    pub(super) async fn broadcast(&self, admitted: Admitted<'_>, carrier: &mut Carrier<'_>, alarm: &mut Alarm) -> Next {
        let (route, shared) = (&*admitted.route, &self.worker.shared);
        let mut exchange = self.set_up(route);
        let mut owing = DeferrableRequest::of(route, self.head.method());
        let at_once = owing.as_ref().is_some_and(|owing| owing.keep(&mut exchange, self));
        // gRPC messages come at any rate.
        let pace = if self.is_grpc { Pace { rate: 0, ..self.pace(route) } } else { self.pace(route) };
        if self.is_grpc && lacks_http2(route) {
            let refused = self.answer_no_grpc(&mut exchange, carrier, alarm);
            let (result, sent, reason) = Box::pin(refused).await;
            return self.conclude(exchange, admitted.identity, result, sent, reason, carrier);
        }
        let kept_from =
            if exchange.has_whole_body() { None } else { self.collect(&mut exchange, carrier, pace, alarm).await };
        // Counted from here on: while a client sends its request, it does not load the endpoints.
        let counted = if kept_from.is_none() { shared.admit() } else { None };
        let gathered = match (kept_from, &counted) {
            (Some(kept_from), _) => {
                cold_path();
                Ok(kept_from)
            }
            (None, None) => Err(busy()),
            (None, Some(_)) => {
                self.begin(&mut exchange, &admitted, owing.as_mut());
                if at_once && self.accept(&mut owing, &mut exchange).await {
                    let sent = Box::pin(self.answer_accepted(&mut exchange, carrier, alarm)).await;
                    return self.conclude(exchange, admitted.identity, RequestResult::Ok, sent, None, carrier);
                }
                let client = &mut carrier.inbound();
                Ok(poll_fn(|cx| exchange.poll_gather(cx, client, pace, alarm)).await)
            }
        };
        if let (Some(owing), Ok(Gathered::Decided(_))) = (owing, &gathered)
            && exchange.quorum().ok < exchange.quorum().total
        {
            cold_path();
            Box::pin(owing.defer(&mut exchange, self, alarm)).await;
        }
        let decision = match gathered {
            Ok(Gathered::Decided(decision)) => decision,
            undecided => {
                cold_path();
                let undecided = self.answer_undecided(&mut exchange, undecided, carrier, alarm);
                let (result, sent, reason) = Box::pin(undecided).await;
                return self.conclude(exchange, admitted.identity, result, sent, reason, carrier);
            }
        };
        let result = report::result(exchange.quorum(), decision);
        let sent = match self.begin_answer(&mut exchange, decision, carrier) {
            Ok(begun) => {
                let (pace, (inbound, mut client)) = (self.pace(exchange.route()), carrier.both());
                let mut inbound = inbound.filter(|_| begun.goes_on);
                let streamed = poll_fn(|cx| exchange.poll_stream(cx, inbound.as_mut(), &mut client, pace, alarm)).await;
                let told = if streamed == Streamed::Cut && self.is_grpc {
                    cold_path();
                    Box::pin(self.tell_cut(&mut exchange, &mut client, pace, alarm)).await
                } else {
                    None
                };
                self.end_answer(&mut exchange, begun, streamed, told)
            }
            Err(generated) => {
                cold_path();
                Box::pin(self.send_generated(&mut exchange, generated, decision, carrier, alarm)).await
            }
        };
        self.conclude(exchange, admitted.identity, result, sent, None, carrier)
    }

    /// The exchange of this request, whose legs have not begun.
    fn set_up(&self, route: &Arc<RouteEntry>) -> Box<Exchange> {
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
        let shared = &self.worker.shared;
        let mut exchange = Exchange::new(route, &request, &shared.budget, &shared.limits);
        if let Some(trace) = self.trace {
            cold_path();
            exchange.set_trace(trace);
        }
        exchange
    }

    /// Refuses a gRPC request that some endpoint cannot get.
    async fn answer_no_grpc(&self, exchange: &mut Exchange, carrier: &mut Carrier<'_>, alarm: &mut Alarm) -> Undecided {
        let made_up = MadeUp::from(no_grpc());
        let sent = self.send_made_up(exchange, &made_up, carrier, alarm, Next::Keep).await;
        (RequestResult::Rejected, sent, Some(made_up.problem.detail))
    }

    /// Answers a request that has become a job.
    async fn answer_accepted(&self, exchange: &mut Exchange, carrier: &mut Carrier<'_>, alarm: &mut Alarm) -> Sent {
        let (made_up, next) = (defer::accepted().into(), self.next(carrier));
        self.send_made_up(exchange, &made_up, carrier, alarm, next).await
    }

    /// Answers a request that its endpoints did not decide.
    async fn answer_undecided(
        &self,
        exchange: &mut Exchange,
        gathered: Result<Gathered, Problem>,
        carrier: &mut Carrier<'_>,
        alarm: &mut Alarm,
    ) -> Undecided {
        match gathered {
            Ok(Gathered::Fault(fault)) => self.answer_fault(exchange, fault, carrier, alarm).await,
            // Without a decision there is nobody to answer.
            Ok(Gathered::Gone | Gathered::Decided(_)) => {
                let why = "the client went away in its request body";
                exchange.abort(Outcome::Cancelled, ProxyError::HttpRequestError, why);
                let grpc = self.made_up_code(grpc::CANCELLED);
                let sent = Sent { status: answer::CLIENT_GONE, body: 0, next: Next::Close, grpc };
                (RequestResult::Client, sent, Some(why.into()))
            }
            Err(problem) => {
                let (made_up, whole) = (problem.into(), exchange.has_whole_body());
                let next = if whole { self.next(carrier) } else { Next::Linger };
                let sent = self.send_made_up(exchange, &made_up, carrier, alarm, next).await;
                (RequestResult::Rejected, sent, Some(made_up.problem.detail))
            }
        }
    }

    /// Ends the legs of a request with an invalid body, and answers with the reason.
    async fn answer_fault(
        &self,
        exchange: &mut Exchange,
        fault: Fault,
        carrier: &mut Carrier<'_>,
        alarm: &mut Alarm,
    ) -> Undecided {
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
            cold_path();
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
        cold_path();
        let client = &mut carrier.inbound();
        poll_fn(|cx| exchange.poll_collect(cx, client, pace, alarm)).await
    }

    /// Begins the legs, except those of endpoints to which earlier requests are owed.
    fn begin(&self, exchange: &mut Exchange, admitted: &Admitted<'_>, owing: Option<&mut DeferrableRequest<'_>>) {
        if let Some(owing) = owing {
            cold_path();
            owing.hold_back(exchange);
        }
        let (head, changes) = (self.head, &admitted.route.config.changes);
        let forwarding = Forwarding {
            client: self.client_ip,
            trusted: headers::is_trusted(&self.listener.config, self.client.ip()),
            scheme: self.scheme,
            via: &admitted.route.via,
            id: self.is_new_id.then_some(self.id),
            trace: self.trace,
            is_authenticated: admitted.is_authenticated,
            report: exchange.wants_report(),
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
            cold_path();
            exchange.begin_each(|target| {
                headers::leg_head(head, &Forwarding { host: Some(target.authority()), ..forwarding })
            });
        } else {
            exchange.begin(|out| headers::put_leg_head(out, head, &forwarding));
        }
        exchange.count_held_back();
    }

    /// Begins the answer of the decision.
    fn begin_answer(
        &self,
        exchange: &mut Exchange,
        decision: Decision,
        carrier: &Carrier<'_>,
    ) -> Result<Begun, Generated> {
        exchange.count_divergent();
        let finished = exchange.has_whole_body();
        let next = if finished { self.next(carrier) } else { Next::Linger };
        if exchange.wants_report() {
            cold_path();
            return Err(Generated::Report(next));
        }
        let decided = exchange.decide(decision);
        let goes_on = decided.is_ok() && exchange.goes_on(decision);
        if !finished && !goes_on {
            abort(exchange);
        }
        if let Some(status) = defer::status(exchange, decision, self.is_grpc) {
            let detail = "the endpoints that missed it get it later: X-Broadcast-Job has the id of the job";
            let made_up = Problem::new(status, ProxyError::DestinationUnavailable, detail).into();
            return Err(Generated::MadeUp(made_up, next));
        }
        decided.map_err(|made_up| Generated::MadeUp(made_up, next))?;
        let (status, next) = answer::of_winner(exchange, self, next);
        Ok(Begun { status, next, goes_on })
    }

    /// Sends what there is instead of an endpoint's answer.
    async fn send_generated(
        &self,
        exchange: &mut Exchange,
        generated: Generated,
        decision: Decision,
        carrier: &mut Carrier<'_>,
        alarm: &mut Alarm,
    ) -> Sent {
        match generated {
            Generated::Report(next) => self.send_report(exchange, decision, carrier, alarm, next).await,
            Generated::MadeUp(made_up, next) => self.send_made_up(exchange, &made_up, carrier, alarm, next).await,
        }
    }

    /// Tells a gRPC client that its answer is truncated. Returns the status, if the client accepted it.
    async fn tell_cut(
        &self,
        exchange: &mut Exchange,
        client: &mut Outbound<'_>,
        pace: Pace,
        alarm: &mut Alarm,
    ) -> Option<grpc::Status> {
        let code = exchange.put_cut_status();
        let told = exchange.flush(client, pace, alarm).await;
        told.then(|| grpc::Status::made_up(code))
    }

    /// Ends an answer that was streamed. `told` is the status that a gRPC client got for a truncated one.
    fn end_answer(
        &self,
        exchange: &mut Exchange,
        begun: Begun,
        streamed: Streamed,
        told: Option<grpc::Status>,
    ) -> Sent {
        let Begun { status, next, .. } = begun;
        let body = exchange.outgoing().body_bytes;
        let code = exchange.winner().and_then(Leg::code);
        if !exchange.has_whole_body() {
            cold_path();
            exchange.end_winner();
            abort(exchange);
        }
        match streamed {
            Streamed::Whole => Sent { status, body, next, grpc: code.map(grpc::Status::of_endpoint) },
            Streamed::Cut if told.is_some() => Sent { status, body, next, grpc: told },
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

/// Ends the legs of a request that was answered before its end.
#[cold]
fn abort(exchange: &mut Exchange) {
    let why = "the answer came before the end of the request";
    exchange.abort(Outcome::Cancelled, ProxyError::HttpRequestError, why);
}

/// Whether a gRPC request cannot be sent to some endpoint.
#[cold]
fn lacks_http2(route: &RouteEntry) -> bool {
    route.members.iter().any(|member| member.protocol == WireProtocol::Http1)
}

/// The answer to a gRPC request whose endpoints do not speak HTTP/2.
#[cold]
fn no_grpc() -> Problem {
    let detail = "endpoints of this route use HTTP/1.1, and gRPC needs HTTP/2: set upstream-protocol to h2, or \
                  the appProtocol of the Service's port to grpc";
    Problem::new(501, ProxyError::HttpProtocolError, detail)
}

/// The answer at the limit of requests in flight.
#[cold]
fn busy() -> Problem {
    let detail = "the proxy has reached its limit of requests in flight: try again later";
    Problem::new(503, ProxyError::ConnectionLimitReached, detail)
}
