//! Puts together what the client gets, and what the log is told of it.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use super::{Asked, Next, knows_chunks};
use crate::{
    access_log::{Told, loggable},
    exchange::{Exchange, quorum::Quorum, stream::Outgoing},
    headers::{self, AnswerFraming},
    http::{self, Framing, Version},
    metrics::RequestResult,
    problem::Problem,
    report,
};
use bytes::Bytes;

/// The status that is logged where the client went away before it had an answer.
pub(super) const CLIENT_GONE: u16 = 499;

/// Begins the answer of a leg: its head is in the queue, its body is to follow. Tells its status, and what becomes of the
/// connection.
pub(super) fn of_leg(exchange: &mut Exchange, winner: usize, asked: &Asked<'_>, next: Next) -> (u16, Next) {
    let Exchange { legs, outgoing, route, quorum, .. } = exchange;
    let leg = &legs[winner];
    // Only a leg with a response wins.
    let Some(response) = &leg.response else { return (502, Next::Close) };
    let bodiless = response.is_bodiless(asked.head.is_head());
    let framing = match response.framing {
        _ if response.status == 204 => AnswerFraming::Bodiless,
        Framing::Length(length) => AnswerFraming::Length(length),
        _ if bodiless => AnswerFraming::Bodiless,
        _ if knows_chunks(asked.head) => AnswerFraming::Chunked,
        _ => AnswerFraming::Close,
    };
    let next = if framing == AnswerFraming::Close && next == Next::Keep { Next::Close } else { next };
    outgoing.reset(|out| {
        out.reserve(response.fields.bytes().len() + 256);
        headers::put_answer(out, response, framing);
        if route.config.policy.report {
            report::put_headers(out, quorum, Some(&leg.target.label));
        }
        put_connection(out, asked, next);
    });
    outgoing.chunked = framing == AnswerFraming::Chunked;
    (response.status, next)
}

/// A made-up answer, whole.
pub(super) fn problem(problem: &Problem, quorum: Option<&Quorum>, asked: &Asked<'_>, next: Next) -> Outgoing {
    let body = problem.body(Some(asked.id));
    let mut out = Vec::with_capacity(1024);
    problem.put_head(&mut out, body.len());
    if let Some(quorum) = quorum {
        report::put_headers(&mut out, quorum, None);
    }
    put_connection(&mut out, asked, next);
    whole(out, body, asked)
}

/// The report, whole.
pub(super) fn report(status: u16, body: Bytes, quorum: &Quorum, asked: &Asked<'_>, next: Next) -> Outgoing {
    let mut out = Vec::with_capacity(512);
    headers::put_status(&mut out, status, http::reason(status).as_bytes());
    headers::put_text(&mut out, "Content-Type", &[headers::REPORT]);
    headers::put_text(&mut out, "Vary", &["Accept"]);
    headers::put_framing(&mut out, AnswerFraming::Length(body.len() as u64));
    report::put_headers(&mut out, quorum, None);
    put_connection(&mut out, asked, next);
    whole(out, body, asked)
}

fn whole(head: Vec<u8>, body: Bytes, asked: &Asked<'_>) -> Outgoing {
    let mut outgoing = Outgoing::new(head);
    if !asked.head.is_head() {
        outgoing.push_body(body);
    }
    outgoing
}

/// Writes what the client has to know about the connection, and the end of the head.
fn put_connection(out: &mut Vec<u8>, asked: &Asked<'_>, next: Next) {
    match next {
        Next::Keep if asked.head.version == Version::Http10 => headers::put_text(out, "Connection", &["keep-alive"]),
        Next::Keep => {}
        Next::Close | Next::Linger => headers::put_text(out, "Connection", &["close"]),
    }
    out.extend_from_slice(b"\r\n");
}

/// What the log is told of a request.
pub(super) fn told(
    asked: &Asked<'_>,
    client: SocketAddr,
    result: RequestResult,
    status: u16,
    sent: u64,
    took: Duration,
) -> Told {
    let head = asked.head;
    Told {
        time: SystemTime::now() - took,
        id: asked.id.to_owned(),
        client,
        method: loggable(head.method()),
        host: loggable(head.host().unwrap_or_default()),
        target: loggable(head.target()),
        status,
        result,
        sent,
        took,
    }
}
