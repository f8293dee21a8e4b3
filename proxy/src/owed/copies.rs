//! Sends a copy that is owed: an exchange with one leg, in a thread and on connections of its own.

use std::{future::poll_fn, sync::Arc, time::Duration};

use memchr::memmem;
use redeliver::{
    Last, Sender,
    core::{Copy, Verdict},
    wall_clock,
};
use tokio::sync::watch;

use crate::{
    clock,
    config::{Compare, Limits, Require},
    exchange::{Exchange, Request, alarm::Alarm, window::Coding},
    grpc,
    shared::Shared,
    table::{Member, RouteEntry},
};

/// How long copies that are on their way may take when the process ends.
const GRACE: Duration = Duration::from_secs(2);

/// Sends copies.
pub(super) struct Copies {
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    /// No connection is kept: copies are few, and an endpoint that missed one has mostly closed it.
    limits: Limits,
}

impl Copies {
    pub(super) fn new(shared: Arc<Shared>, stop: watch::Receiver<bool>) -> Self {
        let limits = Limits { pool: 0, ..shared.limits.clone() };
        Self { shared, stop, limits }
    }

    /// The route of a copy, as if its endpoint were the only one.
    fn route(&self, copy: &Copy) -> Option<Arc<RouteEntry>> {
        let table = self.shared.table.load();
        let route = table.routes().find(|route| *route.config.name == *copy.route)?;
        let owed = route.owed.as_ref()?;
        let target = route.known.iter().find(|target| *owed.key(target) == copy.whom.key)?;
        let mut own = RouteEntry::clone(route);
        own.members = [Member { target: target.clone(), ready: true }].into();
        let policy = &mut Arc::make_mut(&mut own.config).policy;
        (policy.require, policy.compare) = (Require::All, Compare::Off);
        Some(Arc::new(own))
    }

    async fn exchange(&self, copy: &Copy, route: &Arc<RouteEntry>) -> Verdict {
        let request = &copy.request;
        let is_chunked = memmem::find(&request.head, b"\r\nTransfer-Encoding: chunked\r\n").is_some();
        let described = Request {
            method: request.method.as_bytes(),
            is_idempotent: true,
            coding: if is_chunked { Coding::Chunked } else { Coding::Identity },
            has_body: is_chunked || !request.is_head_only(),
            // So that no body of an answer is kept.
            wants_report: true,
            excerpt: 0,
            worker: self.shared.table.load().config.threads,
            is_grpc: is_grpc(request, &route.via),
            time_left: None,
        };
        let mut exchange = Exchange::new(route, &described, &self.shared.budget, &self.limits);
        exchange.give_body(request.body.clone(), request.trailers.clone());
        exchange.begin(|out| put_head(out, copy, &route.members[0].target.authority));
        let mut alarm = Alarm::default();
        clock::per_wake_up(poll_fn(|cx| exchange.poll_rest(cx, &mut alarm))).await;
        if let Some(result) = exchange.legs().first().and_then(|leg| leg.result()) {
            route.metrics.leg_ended(result.outcome);
        }
        let verdict = route.owed.as_ref().zip(exchange.legs().first()).map(|(owed, leg)| owed.verdict(leg));
        exchange.put_aside();
        verdict.unwrap_or(Verdict::Cancelled)
    }
}

impl Sender for Copies {
    async fn send(&self, copy: Copy) -> Verdict {
        let Some(route) = self.route(&copy) else {
            let error = Some("no route of this name leads to it any more".into());
            return Verdict::Missed(Last { outcome: "rejected", status: None, at: wall_clock(), error });
        };
        let mut stop = self.stop.clone();
        let stopped = async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            verdict = self.exchange(&copy, &route) => verdict,
            () = stopped => Verdict::Cancelled,
        }
    }
}

/// Whether a request that is kept came as a call of gRPC, which our own `Via` shows.
fn is_grpc(request: &redeliver::Request, via: &str) -> bool {
    let mut lines = request.head.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
    let came_by_http2 = || memmem::find(&request.head, format!("\r\nVia: 2.0 {via}\r\n").as_bytes()).is_some();
    let says_so = |line: &[u8]| {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"content-type") && grpc::is_content_type(value)
    };
    &*request.method == "POST" && lines.any(says_so) && came_by_http2()
}

/// The head of a copy, as it was, and what is said of copies that are sent again.
fn put_head(out: &mut Vec<u8>, copy: &Copy, authority: &str) {
    let head = &copy.request.head;
    let lines = head.strip_suffix(b"\r\n").unwrap_or(head);
    match memmem::find(lines, b"\r\nHost: ") {
        // The request named no host, so each endpoint gets its own.
        Some(at) if copy.request.host.is_empty() => {
            let value = at + b"\r\nHost: ".len();
            let end = memmem::find(&lines[value..], b"\r\n").map_or(lines.len(), |length| value + length);
            out.extend_from_slice(&lines[..value]);
            out.extend_from_slice(authority.as_bytes());
            out.extend_from_slice(&lines[end..]);
        }
        _ => out.extend_from_slice(lines),
    }
    let said = format!("X-Broadcast-Attempt: {}\r\nX-Broadcast-Age: {}\r\n\r\n", copy.number, copy.age / 1_000);
    out.extend_from_slice(said.as_bytes());
}
