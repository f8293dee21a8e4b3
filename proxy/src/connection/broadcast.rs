//! A request that has a route: its legs, and the answer that the decision amounts to.

use std::sync::Arc;

use super::{
    Asked, Connection, Next,
    answer::{self, Answered},
};
use crate::{
    clock,
    config::HostValue,
    exchange::{
        Exchange, Request,
        gather::Gathered,
        pace::Pace,
        quorum::Decision,
        stream::{Outgoing, Streamed},
    },
    headers::{self, Forwarding},
    http::{Framing, body::BodyReader},
    metrics::RequestResult,
    outcome::Outcome,
    problem::Problem,
    report::{self, About},
    shared::Worker,
    table::RouteEntry,
};

impl Connection {
    /// Sends the request to every endpoint and answers.
    pub(super) async fn broadcast(
        &mut self,
        asked: &Asked<'_>,
        client_ip: &str,
        worker: &Worker,
        route: &Arc<RouteEntry>,
        target: Option<&[u8]>,
        body: &mut BodyReader,
    ) -> Next {
        let (head, shared) = (asked.head, &worker.shared);
        let policy = &route.config.policy;
        let wants_report = policy.report && headers::wants_report(head);
        let changes = &route.config.changes;
        let forwarding = Forwarding {
            client: client_ip,
            trusted: headers::is_trusted(&asked.listener.config, self.client.peer.ip()),
            via: &route.via,
            id: asked.is_new.then_some(asked.id),
            report: wants_report,
            host: changes.fixed_host(),
            replaces_host: changes.host.is_some(),
            target,
            edits: Some(&changes.headers.request).filter(|edits| !edits.is_empty()),
        };
        let request = Request {
            method: head.method(),
            is_idempotent: policy.is_idempotent(head.method()) || head.has_idempotency_key(),
            chunked: head.framing == Framing::Chunked,
            has_body: head.framing != Framing::Unsaid,
            wants_report,
            worker: worker.index,
        };
        let mut exchange = Exchange::new(route, &request, &shared.budget, &shared.limits);
        let pace = asked.pace(route);
        let kept_from = self.collect(asked, &mut exchange, body, pace).await;
        // Counted from here on: what a client takes to send its request is no load for anybody else.
        let admitted = if kept_from.is_none() { shared.admit() } else { None };
        let gathered = match (kept_from, &admitted) {
            (Some(kept_from), _) => Ok(kept_from),
            (None, None) => Err(busy()),
            (None, Some(_)) => {
                let own_host = match &changes.host {
                    Some(host) => *host == HostValue::Authority,
                    None => head.host().is_none(),
                };
                if own_host {
                    exchange.begin_each(|target| {
                        headers::leg_head(head, &Forwarding { host: Some(&target.authority), ..forwarding })
                    });
                } else {
                    exchange.begin(|out| headers::put_leg_head(out, head, &forwarding));
                }
                let (client, alarm) = (&mut self.client, &mut self.alarm);
                Ok(std::future::poll_fn(|cx| exchange.poll_gather(cx, client, body, pace, alarm)).await)
            }
        };
        let mut reason = None;
        let (result, status, sent, next) = match gathered {
            Ok(Gathered::Decided(decision)) => {
                let result = report::result(&exchange.quorum, decision);
                let (status, sent, next) = self.answer(asked, &mut exchange, decision).await;
                (result, status, sent, next)
            }
            Ok(Gathered::Fault(fault)) => {
                exchange.abort(Outcome::Cancelled, "http_request_error", "the client's request body was at fault");
                let problem = Problem::new(fault.status(), "http_request_error", fault.to_string());
                let sent = self.send_problem(asked, &problem, (&exchange.quorum, None), route, Next::Linger).await;
                reason = Some(problem.detail);
                (RequestResult::Client, fault.status(), sent, Next::Linger)
            }
            Ok(Gathered::Gone) => {
                let why = "the client went away in its request body";
                exchange.abort(Outcome::Cancelled, "http_request_error", why);
                reason = Some(why.into());
                (RequestResult::Client, answer::CLIENT_GONE, 0, Next::Close)
            }
            Err(problem) => {
                let next = if exchange.window.is_finished() { self.next(asked) } else { Next::Linger };
                let sent = self.send_problem(asked, &problem, (&exchange.quorum, None), route, next).await;
                reason = Some(problem.detail);
                (RequestResult::Rejected, problem.status, sent, next)
            }
        };
        let took = clock::now().saturating_duration_since(asked.started);
        route.metrics.answered(result, status, took);
        exchange.release();
        let told = shared.log.is_on().then(|| {
            let answered = Answered { result, status, sent, took, reason };
            answer::told(asked, self.client.peer, answered)
        });
        shared.conclude(exchange, result, told);
        next
    }

    /// Reads the body until the legs can begin; tells what kept them from that.
    async fn collect(
        &mut self,
        asked: &Asked<'_>,
        exchange: &mut Exchange,
        body: &mut BodyReader,
        pace: Pace,
    ) -> Option<Gathered> {
        let expects = asked.head.expects_continue && self.client.buffer.is_empty();
        if expects && !matches!(body, BodyReader::Length(0)) {
            let mut out = Outgoing::new(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec());
            self.flush(&mut out, pace).await;
        }
        if exchange.has_enough() {
            return None;
        }
        let (client, alarm) = (&mut self.client, &mut self.alarm);
        std::future::poll_fn(|cx| exchange.poll_collect(cx, client, body, pace, alarm)).await
    }

    /// Sends what the decision amounts to. Returns the status, the bytes of body, and what becomes of the connection.
    async fn answer(&mut self, asked: &Asked<'_>, exchange: &mut Exchange, decision: Decision) -> (u16, u64, Next) {
        let finished = exchange.window.is_finished();
        let next = if finished { self.next(asked) } else { Next::Linger };
        let pace = asked.pace(&exchange.route);
        if exchange.wants_report {
            let about = About { id: asked.id, method: asked.head.method(), target: asked.head.target() };
            let (status, body) = report::report(exchange, about, decision);
            let stands_for = exchange.representative(decision).map(|index| &*exchange.legs[index].target.label);
            let mut out = answer::report((status, body), exchange, stands_for, asked, next);
            let whole = self.flush(&mut out, pace).await;
            return (status, out.body_bytes, if whole { next } else { Next::Close });
        }
        let winner = exchange.decide(decision);
        if !finished {
            exchange.abort(Outcome::Cancelled, "http_request_error", "the answer came before the end of the request");
        }
        let winner = match winner {
            Ok(winner) => winner,
            Err((problem, leg)) => {
                let stands_for = leg.map(|index| &*exchange.legs[index].target.label);
                let sent =
                    self.send_problem(asked, &problem, (&exchange.quorum, stands_for), &exchange.route, next).await;
                return (problem.status, sent, next);
            }
        };
        let (status, next) = answer::of_leg(exchange, winner, asked, next);
        let streamed =
            std::future::poll_fn(|cx| exchange.poll_stream(cx, &mut self.client, pace, &mut self.alarm)).await;
        let sent = exchange.outgoing.body_bytes;
        match streamed {
            Streamed::Whole => (status, sent, next),
            Streamed::Cut => (status, sent, Next::Close),
            Streamed::Gone => (answer::CLIENT_GONE, sent, Next::Close),
        }
    }
}

/// The answer where there are as many requests in flight as there may be.
fn busy() -> Problem {
    let detail = "the proxy has as many requests in flight as it takes: try again later";
    Problem::new(503, "connection_limit_reached", detail)
}
