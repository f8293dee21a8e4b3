//! Legs that missed: which of them wait behind what is owed, and which are owed from now on.

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

/// A request whose copies are sent again where they are missed.
pub(super) struct Owing {
    owed: RouteOwed,
    arrival: Arrival,
}

impl Owing {
    /// If the route sends requests like this again.
    pub(super) fn of(route: &Arc<RouteEntry>, method: &[u8], is_grpc: bool) -> Option<Self> {
        let owed = route.owed.as_ref().filter(|owed| {
            let all = route.config.policy.require == crate::config::Require::All;
            // Waves begin legs one after the other, which is an order of its own.
            all && !is_grpc && route.config.policy.waves.is_none() && owed.config.takes(method)
        })?;
        Some(Self { arrival: owed.arrival(), owed: owed.clone() })
    }

    /// Keeps the legs back whose endpoints are owed something that goes first.
    pub(super) fn hold_back(&mut self, exchange: &mut Exchange) {
        let route = exchange.route().clone();
        for (index, member) in route.members.iter().enumerate() {
            if self.arrival.waits_at(self.owed.key(&member.target)) {
                exchange.hold_back(index);
            }
        }
    }

    /// The request has failed: its copies that were missed are owed from now on, if that can be.
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

/// The status where every leg that failed is sent again, if that is another than the failure's.
pub(super) fn status(exchange: &Exchange, decision: Decision) -> Option<u16> {
    let quorum = exchange.quorum();
    let all = quorum.deferred.is_some_and(|deferred| deferred.count == quorum.failed);
    let config = exchange.route().owed.as_ref().map(|owed| &owed.config);
    config.filter(|_| decision == Decision::Failure && all).and_then(|config| config.on_deferred)
}

/// The host that all copies have in common; none where each endpoint gets its own.
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
