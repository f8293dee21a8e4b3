//! Tests of the queues: the rules one by one, an oracle for all short histories, and a simulation with crashes.

mod consistency;
mod oracle;
mod reconcile;
mod rules;
mod simulation;
mod turns;

use super::{Copy, Core, Leg, Member, Members, RouteId, Verdict};
use crate::{
    JobId, Last, Millis, Request, Whom,
    rules::{Limits, Rules},
};

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

/// The time at which tests begin.
const START: Millis = 1_790_000_000_000;

/// Retry delays without jitter, because minimum and maximum are equal.
fn limits() -> Limits {
    Limits { backoff: (Duration::from_secs(1), Duration::from_secs(1)), ..Limits::default() }
}

fn rules() -> Rules {
    Rules::default()
}

fn whom(name: &str) -> Whom {
    Whom { key: name.into(), endpoint: format!("{name}:80").into(), pod: None }
}

fn request(method: &str, target: &str, body: &str) -> Request {
    Request {
        method: method.into(),
        host: "cache".into(),
        target: target.into(),
        head: "X-Request-Id: 1\r\n".into(),
        body: body.to_owned().into(),
        trailers: Bytes::new(),
    }
}

fn purge(target: &str) -> Request {
    request("PURGE", target, "")
}

fn last(outcome: &'static str, at: Millis) -> Last {
    Last { outcome, status: None, at, error: None }
}

fn delivered() -> Verdict {
    Verdict::Delivered(last("ok", START))
}

fn missed() -> Verdict {
    Verdict::Missed(last("connect", START))
}

fn members(ready: &[(&str, bool)]) -> Arc<Members> {
    let member =
        |(name, ready): &(&str, bool)| ((*name).into(), Member { address: format!("{name}:80").into(), ready: *ready });
    Arc::new(ready.iter().map(member).collect())
}

/// A core without a journal, and its one route.
fn memory(rules: Rules, names: &[&str]) -> (Core, RouteId) {
    let mut core = Core::new(limits(), false, 1);
    let route = core.route("purges", rules);
    core.members(START, members(&names.iter().map(|name| (*name, true)).collect::<Vec<_>>()));
    (core, route)
}

/// A request whose legs to these endpoints are held back behind owed deliveries, or else fail.
fn miss(core: &mut Core, route: RouteId, id: u64, request: Request, now: Millis, names: &[&str]) {
    let id = JobId::new(id);
    let legs = names.iter().map(|name| {
        let behind = core.arrive(id, route, name);
        (whom(name), if behind { Leg::Behind } else { Leg::Missed { last: last("connect", now), attempts: 1 } })
    });
    let legs = legs.collect();
    core.defer(now, id, (route, now), request, legs).unwrap();
}

/// Everything that can be sent now.
fn sent(core: &mut Core, now: Millis) -> Vec<Copy> {
    std::iter::from_fn(|| core.next(now)).collect()
}

fn ids(copies: &[Copy]) -> Vec<u64> {
    copies.iter().map(|copy| copy.job.get()).collect()
}

/// The jobs that are owed to an endpoint, in order.
fn owed(core: &Core, name: &str) -> Vec<u64> {
    let jobs = core.jobs.iter().filter(|(_, job)| {
        job.deliveries.iter().any(|delivery| *delivery.whom.key == *name && delivery.state.is_owed())
    });
    jobs.map(|(id, _)| id.get()).collect()
}
