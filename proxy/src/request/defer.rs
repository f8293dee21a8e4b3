//! Defers legs to redelivery: those that wait behind pending requests, and those that failed.

use std::sync::Arc;

use redeliver::{Arrival, Last, core::Leg as OwedLeg, wall_clock};

use super::RequestContext;
use crate::{
    config::HostValue,
    exchange::{
        Exchange,
        quorum::{Decision, Deferred},
    },
    outcome::{LegError, Outcome},
    owed::RouteOwed,
    proxy_error::ProxyError,
    table::RouteEntry,
};

/// A request with redelivery.
pub(super) struct Owing {
    owed: RouteOwed,
    arrival: Arrival,
}

impl Owing {
    /// Redelivery for this request, if the route has it for such requests.
    pub(super) fn of(route: &Arc<RouteEntry>, method: &[u8], is_grpc: bool) -> Option<Self> {
        let owed = route.owed.as_ref().filter(|owed| {
            let all = route.config.policy.require == crate::config::Require::All;
            // Waves have an order of their own.
            all && !is_grpc && route.config.policy.waves.is_none() && owed.config.takes(method)
        })?;
        Some(Self { arrival: owed.arrival(), owed: owed.clone() })
    }

    /// Holds back legs whose endpoints have pending requests that must go first.
    pub(super) fn hold_back(&mut self, exchange: &mut Exchange) {
        let route = exchange.route().clone();
        for (index, member) in route.members.iter().enumerate() {
            if self.arrival.waits_at(self.owed.key(&member.target)) {
                exchange.hold_back(index);
            }
        }
    }

    /// Defers the failed legs of a request, if possible.
    pub(super) async fn defer(self, exchange: &mut Exchange, request: &RequestContext<'_>) {
        let missed = self.missed(exchange);
        if missed.is_empty() {
            return;
        }
        let deferred = match (exchange.whole_body(), exchange.first_head()) {
            (Some(body), Some(head)) => {
                let legs =
                    missed.iter().map(|(index, leg)| (self.owed.whom(exchange.legs()[*index].target()), leg.clone()));
                let legs = legs.collect();
                let kept = redeliver::Request {
                    method: String::from_utf8_lossy(request.head.method()).into(),
                    host: host(exchange.route(), request).into(),
                    target: String::from_utf8_lossy(target_of(&head)).into(),
                    body,
                    head,
                };
                self.arrival.defer(kept, legs).await.map_err(|why| why.to_string())
            }
            _ => Err("not deferred: its body is no longer there".to_owned()),
        };
        match deferred {
            Ok(job) => {
                missed.iter().for_each(|(index, _)| exchange.mark_deferred(*index));
                exchange.set_deferred(Deferred { count: missed.len(), job });
            }
            Err(why) => {
                for (index, _) in missed.iter().filter(|(_, leg)| *leg == OwedLeg::Behind) {
                    let why = format!("the endpoint is owed earlier requests, and this one is {why}");
                    exchange.mark_rejected(*index, LegError::new(ProxyError::ConnectionLimitReached, why));
                }
            }
        }
    }

    fn missed(&self, exchange: &Exchange) -> Vec<(usize, OwedLeg)> {
        let at = wall_clock();
        let failed = exchange.legs().iter().enumerate().filter(|(_, leg)| !leg.is_ok());
        let missed = failed.filter_map(|(index, leg)| {
            let (outcome, status, error) = match leg.result() {
                Some(result) => (result.outcome, result.status, result.error.as_ref()),
                None => (Outcome::ServerError, leg.response().map(|head| head.status), None),
            };
            if outcome == Outcome::Deferred {
                return Some((index, OwedLeg::Behind));
            }
            let error = error.map(|error| error.detail.as_ref().into());
            let last = Last { outcome: outcome.as_str(), status, at, error };
            let counts = self.owed.config.on.counts(last.outcome, last.status);
            counts.then_some((index, OwedLeg::Missed(last)))
        });
        missed.collect()
    }
}

/// The status if every failed leg is deferred and the route configures one.
pub(super) fn status(exchange: &Exchange, decision: Decision) -> Option<u16> {
    let quorum = exchange.quorum();
    let all = quorum.deferred.is_some_and(|deferred| deferred.count == quorum.failed);
    let config = exchange.route().owed.as_ref().map(|owed| &owed.config);
    config.filter(|_| decision == Decision::Failure && all).and_then(|config| config.on_deferred)
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
