//! Builds the client's answer, and the log record.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use access::identity::Identity;
use bytes::Bytes;

use super::{Next, RequestContext};
use crate::{
    access_log::{LogRecord, Texts, Wanted},
    exchange::{BodyForm, Exchange, MadeUp, Outgoing, quorum::Quorum},
    grpc::{self, Code},
    headers::{self, AnswerFraming},
    http::{self, Framing, Version},
    metrics::RequestResult,
    report,
    table::RouteEntry,
};

/// The logged status if the client disconnected before the answer.
pub(super) const CLIENT_GONE: u16 = 499;

/// Begins the answer of the winning leg by queueing its head. Returns its status, and the state of the connection after it.
pub(super) fn of_winner(exchange: &mut Exchange, request: &RequestContext<'_>, next: Next) -> (u16, Next) {
    // Only a leg with a response wins.
    let Some((leg, outgoing, route, quorum)) = exchange.winner_and_outgoing() else { return (502, Next::Close) };
    let Some(response) = leg.response() else { return (502, Next::Close) };
    let bodiless = response.is_bodiless(request.head.is_head());
    let framing = match response.framing {
        _ if response.status == 204 => AnswerFraming::Bodiless,
        Framing::Length(length) => AnswerFraming::Length(length),
        _ if bodiless => AnswerFraming::Bodiless,
        _ => match request.head.version {
            Version::Http10 => AnswerFraming::Close,
            Version::Http11 => AnswerFraming::Chunked,
            Version::Http2 => AnswerFraming::Frames,
        },
    };
    let next = if framing == AnswerFraming::Close && next == Next::Keep { Next::Close } else { next };
    outgoing.reset(form(request, framing), |out| {
        out.reserve(response.fields.bytes().len() + 256);
        headers::put_answer(out, response, framing, &route.config.changes.headers.response);
        if route.config.policy.report {
            report::put_headers(out, quorum, Some(leg.target().label()));
        }
        put_connection(out, request, next);
    });
    (response.status, next)
}

/// A complete generated answer, with the summary of the legs and the represented endpoint. `lines` are fields that the route adds.
pub(super) fn problem(
    made_up: &MadeUp,
    report: Option<(&Quorum, Option<&str>)>,
    lines: &[u8],
    request: &RequestContext<'_>,
    next: Next,
) -> Outgoing {
    let (mut out, problem) = (Vec::with_capacity(1024), &made_up.problem);
    let body = if request.is_grpc {
        grpc::put_made_up(&mut out, made_up.grpc_code(), &problem.detail);
        Bytes::new()
    } else {
        let body = problem.body(Some(request.id));
        problem.put_head(&mut out, body.len());
        body
    };
    if let Some((quorum, endpoint)) = report {
        report::put_headers(&mut out, quorum, endpoint);
    }
    out.extend_from_slice(lines);
    put_connection(&mut out, request, next);
    whole(out, body, request)
}

/// The complete report.
pub(super) fn report(
    (status, body): (u16, Bytes),
    (quorum, endpoint): (&Quorum, Option<&str>),
    route: &RouteEntry,
    request: &RequestContext<'_>,
    next: Next,
) -> Outgoing {
    let mut out = Vec::with_capacity(512);
    headers::put_status(&mut out, status, http::reason(status).as_bytes());
    headers::put_text(&mut out, "Content-Type", &[headers::REPORT_MEDIA_TYPE]);
    headers::put_text(&mut out, "Vary", &["Accept"]);
    headers::put_framing(&mut out, AnswerFraming::Length(body.len() as u64));
    report::put_headers(&mut out, quorum, endpoint);
    out.extend_from_slice(route.config.changes.headers.response.lines_of_made_up());
    put_connection(&mut out, request, next);
    whole(out, body, request)
}

fn whole(head: Vec<u8>, body: Bytes, request: &RequestContext<'_>) -> Outgoing {
    let mut outgoing = Outgoing::new(head, form(request, AnswerFraming::Length(body.len() as u64)));
    if !request.head.is_head() {
        outgoing.push_body(body);
    }
    outgoing.end();
    outgoing
}

/// The form of a body with this framing.
fn form(request: &RequestContext<'_>, framing: AnswerFraming) -> BodyForm {
    match (request.head.version, framing) {
        (Version::Http2, _) => BodyForm::Frames,
        (_, AnswerFraming::Chunked) => BodyForm::Chunks { trailers: request.head.takes_trailers() },
        _ => BodyForm::Plain,
    }
}

/// Writes the `Connection` field, and the end of the head.
fn put_connection(out: &mut Vec<u8>, request: &RequestContext<'_>, next: Next) {
    match next {
        // HTTP/2 uses frames for this.
        _ if request.head.version == Version::Http2 => {}
        Next::Keep if request.head.version == Version::Http10 => headers::put_text(out, "Connection", &["keep-alive"]),
        Next::Keep => {}
        Next::Close | Next::Abort | Next::Linger => headers::put_text(out, "Connection", &["close"]),
    }
    out.extend_from_slice(b"\r\n");
}

/// How a request was answered.
pub(super) struct Answered {
    /// Who is told of it.
    pub(super) wanted: Wanted,
    pub(super) result: RequestResult,
    pub(super) status: u16,
    /// Bytes of body.
    pub(super) sent: u64,
    pub(super) took: Duration,
    /// Why the proxy decided instead of the endpoints, if it did.
    pub(super) reason: Option<Cow<'static, str>>,
}

/// The log record of a request.
pub(super) fn record(
    request: &RequestContext<'_>,
    identity: Option<Identity>,
    answered: Answered,
    grpc_status: Option<Code>,
) -> LogRecord {
    let (head, Answered { wanted, result, status, sent, took, reason }) = (request.head, answered);
    LogRecord {
        wanted,
        time: SystemTime::now() - took,
        texts: Texts::new(request.id, head.method(), head.host().unwrap_or_default(), head.target()),
        trace: request.trace_id(),
        client: request.client,
        identity,
        status,
        grpc_status,
        result,
        sent,
        took,
        reason,
    }
}
