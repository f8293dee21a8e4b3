//! Sends a copy that is owed: an exchange with one leg, in a thread and on connections of its own.

use std::{borrow::Cow, future::poll_fn, sync::Arc, time::Duration};

use memchr::memmem;
use redeliver::{
    Last, Sender,
    core::{Copy, Verdict},
    wall_clock,
};
use spans::{RemoteParent, RequestTrace};
use tokio::sync::watch;

use crate::{
    clock,
    config::{Compare, Limits, Require},
    exchange::{Exchange, Request, alarm::Alarm, window::Coding},
    grpc,
    shared::Shared,
    table::RouteEntry,
    traces,
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
        own.members = vec![target.clone()].into();
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
        let trace = self.shared.tracer.as_ref().map(|tracer| tracer.begin(trace_of(&request.head)));
        if let Some(trace) = trace {
            exchange.set_trace(trace);
        }
        exchange.begin(|out| put_head(out, copy, route.members[0].authority(), trace.as_ref()));
        let mut alarm = Alarm::default();
        clock::per_wake_up(poll_fn(|cx| exchange.poll_rest(cx, &mut alarm))).await;
        if let Some(result) = exchange.legs().first().and_then(|leg| leg.result()) {
            route.metrics.leg_ended(result.outcome);
        }
        let verdict = route.owed.as_ref().zip(exchange.legs().first()).map(|(owed, leg)| owed.verdict(leg));
        if let (Some(tracer), Some(trace)) = (&self.shared.tracer, trace.filter(RequestTrace::is_sampled)) {
            let span = traces::of_copy(&trace, &exchange, copy.number, copy.age);
            tracer.record(span.into_iter());
        }
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

/// The trace context in a stored head, whose parent is the span of the request.
fn trace_of(head: &[u8]) -> Option<RemoteParent> {
    let lines = head.split(|byte| *byte == b'\n').filter_map(|line| value_of(line, b"traceparent"));
    RemoteParent::of(lines)
}

/// The value of a header line, if it has this name.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (is, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":").filter(|_| is.eq_ignore_ascii_case(name))?;
    Some(value.trim_ascii())
}

/// A stored head with another trace context.
fn in_trace(head: &[u8], trace: &RequestTrace) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 80);
    for line in head.split_inclusive(|byte| *byte == b'\n').filter(|line| *line != b"\r\n") {
        let replaced = value_of(line, b"traceparent").is_some();
        if !replaced && (trace.parent.is_some() || value_of(line, b"tracestate").is_none()) {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"traceparent: ");
    // The exchange replaces the parent by the span of the copy.
    out.extend_from_slice(&trace.traceparent(trace.request_span()));
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// The head of a copy, as it was but for its place in a trace, and what is said of copies that are sent again.
fn put_head(out: &mut Vec<u8>, copy: &Copy, authority: &str, trace: Option<&RequestTrace>) {
    let kept = &*copy.request.head;
    let head = trace.map_or(Cow::Borrowed(kept), |trace| in_trace(kept, trace).into());
    let head = &*head;
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

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_copy_goes_on_with_the_trace_of_its_request() {
        let head = format!("PURGE / HTTP/1.1\r\nHost: a\r\nTraceParent: {PARENT}\r\ntracestate: b=c\r\nX-D: e\r\n\r\n");
        let trace = RequestTrace::continued(trace_of(head.as_bytes()).unwrap());
        let own = String::from_utf8(trace.traceparent(trace.request_span()).into()).unwrap();
        let want = format!("PURGE / HTTP/1.1\r\nHost: a\r\ntracestate: b=c\r\nX-D: e\r\ntraceparent: {own}\r\n\r\n");
        assert_eq!(String::from_utf8(in_trace(head.as_bytes(), &trace)).unwrap(), want);
        assert!(own.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    }

    #[test]
    fn a_copy_of_a_request_without_a_trace_begins_one() {
        let head = "PURGE / HTTP/1.1\r\nHost: a\r\ntracestate: b=c\r\n\r\n";
        assert_eq!(trace_of(head.as_bytes()), None);
        let trace = RequestTrace::begun(|_| true);
        let own = String::from_utf8(trace.traceparent(trace.request_span()).into()).unwrap();
        let want = format!("PURGE / HTTP/1.1\r\nHost: a\r\ntraceparent: {own}\r\n\r\n");
        assert_eq!(String::from_utf8(in_trace(head.as_bytes(), &trace)).unwrap(), want);
    }
}
