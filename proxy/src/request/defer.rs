//! Defers legs to redelivery: those that wait behind pending requests, those that failed, and those that still run.

use std::{
    future::{Future, poll_fn},
    hint::cold_path,
    pin::pin,
    task::Poll,
};

use redeliver::{
    Arrival, JobId, Whom,
    core::{Leg as OwedLeg, Refused, Verdict, Why},
};
use runtime::size::ByteSize;

use super::RequestContext;
use crate::{
    config::HostValue,
    exchange::{Exchange, Leg, alarm::Alarm, quorum::Decision},
    headers,
    outcome::Outcome,
    owed::{RouteOwed, RunningLegs},
    problem::Problem,
    proxy_error::ProxyError,
    table::RouteEntry,
};

/// A request with redelivery. It borrows from its route: a request that goes well changes no shared reference count.
pub(super) struct DeferrableRequest<'a> {
    route: &'a RouteEntry,
    owed: &'a RouteOwed,
    arrival: Arrival<'a>,
}

impl<'a> DeferrableRequest<'a> {
    /// Redelivery for this request, if the route has it for such requests.
    pub(super) fn of(route: &'a RouteEntry, method: &[u8]) -> Option<Self> {
        let owed = route.owed.as_ref()?;
        cold_path();
        // Waves have an order of their own.
        if route.config.policy.waves.is_some() || !owed.config.takes(method) {
            return None;
        }
        Some(Self { arrival: owed.arrival(), owed, route })
    }

    /// Makes the exchange keep the body for redelivery. Returns whether the request is answered before it is sent.
    pub(super) fn keep(&self, exchange: &mut Exchange, request: &RequestContext<'_>) -> bool {
        exchange.keep(self.owed.config.rules.max_body as u64, self.owed.config.grace);
        // A call of gRPC has an answer that only endpoints can give.
        let at_once = self.owed.config.respond_async && !request.is_grpc && headers::prefers_async(request.head);
        if at_once {
            exchange.wait_for_whole_body();
        }
        at_once
    }

    /// Holds back legs whose endpoints have pending requests that must go first.
    pub(super) fn hold_back(&mut self, exchange: &mut Exchange) {
        if self.arrival.is_first() {
            return;
        }
        for (index, member) in self.route.members.iter().enumerate() {
            if self.arrival.waits_at(self.owed.key(member)) {
                exchange.hold_back(index);
            }
        }
    }

    /// Defers the failed and the running legs of a request that is about to be answered, if possible.
    pub(super) async fn defer(self, exchange: &mut Exchange, request: &RequestContext<'_>, alarm: &mut Alarm) {
        let legs = self.legs(exchange);
        if legs.is_empty() {
            return;
        }
        let Some(kept) = kept(exchange, request) else {
            let failed = legs.iter().filter(|(_, leg)| *leg != OwedLeg::Pending).count();
            let (why, detail) = not_kept(exchange, self.owed);
            self.arrival.refuse(failed, why);
            return not_deferred(exchange, &legs, &detail);
        };
        let taking = self.arrival.defer(kept, whoms(self.owed, exchange, &legs));
        match while_legs_run(exchange, alarm, taking).await {
            Ok(job) => belong_to(self.owed.clone(), exchange, job, &legs),
            Err(why) => not_deferred(exchange, &legs, &why.to_string()),
        }
    }

    /// The request is to be answered before its legs, which are about to begin, are sent: takes it as a job, if that can be.
    ///
    /// # Errors
    /// It cannot, and is served like any other.
    pub(super) async fn accept(self, exchange: &mut Exchange, request: &RequestContext<'_>) -> Result<(), Self> {
        exchange.count_ended();
        let legs = self.legs(exchange);
        let Some(kept) = kept(exchange, request).filter(|_| !legs.is_empty()) else { return Err(self) };
        let Self { route, owed, arrival } = self;
        // Nothing of the request may leave before the journal has it, so no leg is polled meanwhile.
        let taken = arrival.defer(kept, whoms(owed, exchange, &legs)).await;
        // A slow disk must not look like slow endpoints.
        exchange.restart_time();
        if let Ok(job) = taken {
            belong_to(owed.clone(), exchange, job, &legs);
            return Ok(());
        }
        // The places that it had are given up.
        let mut again = Self { arrival: owed.arrival(), owed, route };
        for (index, _) in legs.iter().filter(|(_, leg)| *leg == OwedLeg::Behind) {
            again.arrival.waits_at(again.owed.key(exchange.legs()[*index].target()));
        }
        Err(again)
    }

    /// The legs that are owed, or may be, and how each of them stands.
    fn legs(&self, exchange: &Exchange) -> Vec<(usize, OwedLeg)> {
        let stands = |leg: &Leg| match self.owed.verdict(leg) {
            _ if leg.is_ok() => None,
            _ if leg.is_pending() => Some(OwedLeg::Pending),
            _ if leg.outcome() == Some(Outcome::Deferred) => Some(OwedLeg::Behind),
            Verdict::Missed(last) => Some(OwedLeg::Missed { last, attempts: leg.attempts() }),
            Verdict::Delivered(_) | Verdict::Refused(_) | Verdict::Cancelled => None,
        };
        let legs = exchange.legs().iter().enumerate();
        legs.filter_map(|(index, leg)| stands(leg).map(|stands| (index, stands))).collect()
    }
}

/// The answer to a request that is sent only now.
pub(super) fn accepted() -> Problem {
    let detail = "the request is being sent: X-Broadcast-Job says where to look";
    Problem::new(202, ProxyError::DestinationUnavailable, detail).with_field("Preference-Applied", "respond-async")
}

/// The endpoints of these legs, and the state of each leg.
fn whoms(owed: &RouteOwed, exchange: &Exchange, legs: &[(usize, OwedLeg)]) -> Vec<(Whom, OwedLeg)> {
    legs.iter().map(|(index, leg)| (owed.whom(exchange.legs()[*index].target()), leg.clone())).collect()
}

/// The request has become a job, to which these legs belong.
fn belong_to(owed: RouteOwed, exchange: &mut Exchange, job: JobId, legs: &[(usize, OwedLeg)]) {
    let (running, failed): (Vec<_>, Vec<_>) = legs.iter().partition(|(_, leg)| *leg == OwedLeg::Pending);
    let key = |index: usize| owed.key(exchange.legs()[index].target()).clone();
    let running = running.into_iter().map(|(index, _)| (*index, key(*index))).collect();
    let failed: Vec<_> = failed.into_iter().map(|(index, _)| *index).collect();
    exchange.belong_to(job, &failed, RunningLegs::new(owed, job, running));
}

/// Waits for the journal, while the legs go on that have not ended.
async fn while_legs_run<T>(exchange: &mut Exchange, alarm: &mut Alarm, waiting: impl Future<Output = T>) -> T {
    let mut waiting = pin!(waiting);
    poll_fn(|cx| {
        if let Poll::Ready(value) = waiting.as_mut().poll(cx) {
            return Poll::Ready(value);
        }
        // Whether they are over makes no difference.
        let _ = exchange.poll_rest(cx, alarm);
        Poll::Pending
    })
    .await
}

/// The request as it is kept; `None` if its body is not complete.
fn kept(exchange: &Exchange, request: &RequestContext<'_>) -> Option<redeliver::Request> {
    let (body, head) = (exchange.kept_body()?, exchange.first_head()?);
    Some(redeliver::Request {
        method: String::from_utf8_lossy(request.head.method()).into(),
        host: host(exchange.route(), request).into(),
        target: String::from_utf8_lossy(target_of(&head)).into(),
        body,
        head,
        trailers: exchange.kept_trailers(),
    })
}

/// Why a body is not there as a whole.
fn not_kept(exchange: &Exchange, owed: &RouteOwed) -> (Why, String) {
    let longest = owed.config.rules.max_body as u64;
    if exchange.body_received() > longest {
        return (Why::Body, Refused(Why::Body).to_string());
    }
    if !exchange.has_whole_body() {
        return (Why::Incomplete, "not deferred: it was answered before its end".to_owned());
    }
    let longest = ByteSize(longest);
    let detail = format!(
        "not deferred: of its body, which is shorter than {longest}, no more could be kept: see --max-buffered"
    );
    (Why::Incomplete, detail)
}

/// The legs that failed are not sent again, for this reason.
fn not_deferred(exchange: &mut Exchange, legs: &[(usize, OwedLeg)], why: &str) {
    let why = why.into();
    for (index, _) in legs.iter().filter(|(_, leg)| *leg != OwedLeg::Pending) {
        exchange.mark_not_deferred(*index, &why);
    }
}

/// The status if every failed leg is deferred and the route configures one. gRPC has none for that.
pub(super) fn status(exchange: &Exchange, decision: Decision, is_grpc: bool) -> Option<u16> {
    let quorum = exchange.quorum();
    let all = quorum.deferred.is_some_and(|deferred| deferred.count == quorum.failed);
    let config = exchange.route().owed.as_ref().map(|owed| &owed.config);
    config.filter(|_| decision == Decision::Failure && all && !is_grpc).and_then(|config| config.on_deferred)
}

/// The common host of all copies; empty if each endpoint gets its own.
fn host(route: &RouteEntry, request: &RequestContext<'_>) -> String {
    let changes = &route.config.changes;
    match &changes.host {
        Some(HostValue::Authority) => String::new(),
        _ => {
            let fixed = changes.fixed_host().map(str::as_bytes);
            String::from_utf8_lossy(fixed.or(request.head.host()).unwrap_or_default()).into_owned()
        }
    }
}

/// The target in the first line of a head.
fn target_of(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}
