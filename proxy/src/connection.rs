//! One client connection: requests come in one after the other, each gets its answer, and what remains of a request
//! after its answer (stragglers, the log entry) goes on without the connection.

mod answer;
mod broadcast;
mod draining;
mod head;

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use self::{answer::Answered, draining::Draining, head::Refused};
use crate::{
    clock,
    config::{Listener, Unchangeable},
    downstream::Downstream,
    exchange::{alarm::Alarm, pace::Pace, quorum::Quorum, stream::Outgoing},
    headers,
    http::{
        Class, Fields, Framing, Version,
        body::{BodyReader, Piece},
        chunked::Decoder,
        request::RequestHead,
    },
    metrics::RequestResult,
    problem::Problem,
    seats::Seat,
    shared::{Shared, Worker},
    table::{ListenerEntry, NoRoute, RouteEntry},
};

/// How long a client may still send after an answer that came before the end of its body, so that it gets to read it.
const LINGER: Duration = Duration::from_secs(2);

/// How long at least a connection that has not carried a request yet may still bring one after the drain has begun.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How slow a client may be of whose request nothing is known.
const UNKNOWN: Pace = Pace { idle: Duration::from_secs(30), rate: 1024 };

/// A client connection and what serves it.
pub(crate) struct Connection {
    /// Which listener of the table it came through.
    listener: usize,
    /// The configuration of that, and which table it is from.
    config: Arc<Listener>,
    tables: u64,
    client: Downstream,
    /// The client's address as text, which every leg is told.
    client_ip: Box<str>,
    alarm: Alarm,
    draining: Draining,
    seat: Arc<Seat>,
    /// Whether this task is woken when it has to make room.
    is_registered: bool,
    /// Memory for the fields of the next head.
    fields: Fields,
    /// When the first byte of the head came that was read last.
    began: Instant,
    served: u64,
}

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It carries the next one.
    Keep,
    /// It is closed.
    Close,
    /// It is closed once the client has stopped sending, or after [`LINGER`].
    Linger,
}

/// What all answers to one request have in common.
struct Asked<'a> {
    head: &'a RequestHead,
    listener: &'a ListenerEntry,
    id: &'a str,
    /// Whether the id was made here, because the client sent none that can be taken over.
    is_new: bool,
    started: Instant,
}

// === impl Asked ===

impl Asked<'_> {
    /// How slow the client may be, with a request that has this route.
    fn pace(&self, route: &RouteEntry) -> Pace {
        Pace { idle: self.listener.config.timeouts.body, rate: route.config.policy.min_body_rate }
    }
}

// === impl Connection ===

impl Connection {
    /// Takes a connection that a listener has accepted; none where the table does not have that listener.
    pub(crate) fn new(
        shared: &Shared,
        listener: usize,
        client: Downstream,
        shutdown: watch::Receiver<Duration>,
        seat: Arc<Seat>,
    ) -> Option<Self> {
        let tables = shared.tables_made();
        let config = shared.table.load().listeners.get(listener)?.config.clone();
        let client_ip = client.peer.ip().to_canonical().to_string().into();
        let (alarm, draining, fields) = (Alarm::default(), Draining::new(shutdown), Fields::default());
        Some(Self {
            listener,
            config,
            tables,
            client,
            client_ip,
            alarm,
            draining,
            seat,
            is_registered: false,
            fields,
            began: clock::now(),
            served: 0,
        })
    }

    /// Serves requests until the connection ends.
    pub(crate) async fn serve(mut self, worker: &Worker) {
        loop {
            let head = self.read_head(&worker.shared).await;
            self.seat.paid();
            let next = match head {
                Ok(Some(head)) => self.request(worker, head).await,
                Ok(None) => Next::Close,
                Err(refused) => {
                    self.refuse_head(&worker.shared, refused).await;
                    Next::Linger
                }
            };
            self.served += 1;
            match next {
                Next::Keep => {}
                Next::Close => return,
                Next::Linger => return self.linger().await,
            }
        }
    }

    /// Answers a client for whom there is no room.
    pub(crate) async fn refuse(mut self, shared: &Shared) {
        let detail = "the proxy has as many connections as it takes: try again later, or raise max-connections";
        let problem = Problem::new(503, "connection_limit_reached", detail);
        self.answer_without_request(shared, RequestResult::Rejected, problem, &[], LINGER).await;
        self.linger().await;
    }

    /// Answers a head that is not one, or not one for here.
    async fn refuse_head(&mut self, shared: &Shared, Refused { problem, seen }: Refused) {
        let idle = self.config.timeouts.body;
        self.answer_without_request(shared, RequestResult::Client, problem, &seen, idle).await;
    }

    /// Answers where there is no request that could have a route; `seen` is what came of one.
    async fn answer_without_request(
        &mut self,
        shared: &Shared,
        result: RequestResult,
        problem: Problem,
        seen: &[u8],
        idle: Duration,
    ) {
        shared.refused.count(problem.status);
        let id = random_id();
        let mut out = answer::refusal(&problem, id.as_str(), self.config.reports());
        self.flush(&mut out, Pace { idle, ..UNKNOWN }).await;
        if shared.log.is_on() {
            let took = clock::now().saturating_duration_since(self.began);
            let (status, sent, reason) = (problem.status, out.body_bytes, Some(problem.detail));
            let answered = Answered { result, status, sent, took, reason };
            let told = answer::told_without_request(id.as_str(), self.client.peer, seen, answered);
            told.write(&shared.log, "-", result, None);
        }
    }

    /// Serves one request, whose head has come in.
    async fn request(&mut self, worker: &Worker, head: RequestHead) -> Next {
        let started = clock::now();
        // The one load of this request: everything it needs to know comes from here.
        let listener = worker.shared.table.load().listeners.get(self.listener).cloned();
        let Some(listener) = listener else { return Next::Close };
        let generated;
        let own = request_id(&head);
        let id = match own {
            Some(id) => id,
            None => {
                generated = random_id();
                generated.as_str()
            }
        };
        let asked = Asked { head: &head, listener: &listener, id, is_new: own.is_none(), started };
        let mut body = match head.framing {
            Framing::Unsaid => BodyReader::EMPTY,
            Framing::Length(length) => BodyReader::Length(length),
            Framing::Chunked => BodyReader::Chunked(Decoder::default()),
        };
        let next = match admit(&asked) {
            Ok((route, target)) => {
                let client_ip = std::mem::take(&mut self.client_ip);
                let next = self.broadcast(&asked, &client_ip, worker, route, target.as_deref(), &mut body).await;
                self.client_ip = client_ip;
                next
            }
            Err((route, result, problem)) => {
                let next = if self.skip(&mut body) { self.next(&asked) } else { Next::Linger };
                self.answer_without_legs(&asked, &worker.shared, route.as_ref(), result, &problem, next).await
            }
        };
        self.fields = head.fields.recycle();
        next
    }

    /// Answers a request for which no leg was started.
    async fn answer_without_legs(
        &mut self,
        asked: &Asked<'_>,
        shared: &Shared,
        route: Option<&Arc<RouteEntry>>,
        result: RequestResult,
        problem: &Problem,
        next: Next,
    ) -> Next {
        let took = clock::now().saturating_duration_since(asked.started);
        let sent = match route {
            Some(route) => {
                route.metrics.answered(result, problem.status, took);
                route.metrics.completed(result);
                let quorum = Quorum::new(route.config.policy.require, route.members.len());
                self.send_problem(asked, problem, (&quorum, None), route, next).await
            }
            None => {
                shared.refused.count(problem.status);
                let none = (&Quorum::default(), None);
                let report = asked.listener.config.reports().then_some(none);
                let mut out = answer::problem(problem, report, b"", asked, next);
                self.flush(&mut out, Pace { idle: asked.listener.config.timeouts.body, ..UNKNOWN }).await;
                out.body_bytes
            }
        };
        if shared.log.is_on() {
            let (status, reason) = (problem.status, Some(problem.detail.clone()));
            let told = answer::told(asked, self.client.peer, Answered { result, status, sent, took, reason });
            told.write(&shared.log, route.map_or("-", |route| &route.config.name), result, None);
        }
        next
    }

    async fn send_problem(
        &mut self,
        asked: &Asked<'_>,
        problem: &Problem,
        report: (&Quorum, Option<&str>),
        route: &RouteEntry,
        next: Next,
    ) -> u64 {
        let report = route.config.policy.report.then_some(report);
        let lines = route.config.changes.headers.response.lines_of_made_up();
        let mut out = answer::problem(problem, report, lines, asked, next);
        self.flush(&mut out, asked.pace(route)).await;
        out.body_bytes
    }

    /// What becomes of the connection after a request that was read to its end.
    fn next(&self, asked: &Asked<'_>) -> Next {
        let ends = self.draining.has_begun() || self.seat.is_cut();
        let keep = asked.head.keepalive && asked.listener.config.keepalive && !ends;
        if keep { Next::Keep } else { Next::Close }
    }

    /// Takes the rest of a body that nobody wants, as far as it is here already; whether that is all of it.
    fn skip(&mut self, body: &mut BodyReader) -> bool {
        loop {
            match body.next(&mut self.client.buffer) {
                Ok(Piece::End) => return true,
                Ok(Piece::Data(_)) => {}
                Ok(Piece::Partial) | Err(_) => return false,
            }
        }
    }

    async fn flush(&mut self, out: &mut Outgoing, pace: Pace) -> bool {
        out.flush(&mut self.client, pace, &mut self.alarm).await
    }

    /// Closes without a reset, which would take the answer from a client that is still sending: says that nothing more
    /// will come, and reads on for a while.
    async fn linger(&mut self) {
        let until = clock::now() + LINGER;
        let (client, alarm) = (&mut self.client, &mut self.alarm);
        std::future::poll_fn(|cx| {
            let _ = client.poll_shutdown(cx);
            loop {
                client.buffer.clear();
                match client.poll_fill(cx, 16 * 1024) {
                    std::task::Poll::Ready(Ok(0) | Err(_)) => return std::task::Poll::Ready(()),
                    std::task::Poll::Ready(Ok(_)) => {}
                    std::task::Poll::Pending => return alarm.poll(cx, until).map(|_| ()),
                }
            }
        })
        .await;
    }
}

/// Finds the route and checks everything that can be checked before a leg starts.
fn admit<'a>(asked: &'a Asked<'_>) -> Result<AdmittedTo<'a>, Refusal> {
    let refuse =
        |status, kind, detail: Cow<'static, str>| (None, RequestResult::Rejected, Problem::new(status, kind, detail));
    let route = asked.listener.route(asked.head).map_err(|none| match none {
        NoRoute::NotAllowed => refuse(403, "http_request_denied", "this method and path are not allowed here".into()),
        NoRoute::NoMatch => refuse(404, "destination_not_found", "no route matches this request".into()),
        NoRoute::Leaves(pattern) => {
            let detail = format!(
                "an endpoint may read this path as one outside of {pattern}, because it has dot segments, plain or encoded: \
                 send the path that is meant"
            );
            refuse(400, "http_request_error", detail.into())
        }
    })?;
    let policy = &route.config.policy;
    let refusal =
        |result, status, kind, detail: String| Err((Some(route.clone()), result, Problem::new(status, kind, detail)));
    if headers::has_passed(asked.head, &route.via) {
        let detail = "this request has been broadcast to these endpoints before".to_owned();
        return refusal(RequestResult::Rejected, 508, "proxy_loop_detected", detail);
    }
    if let (Framing::Length(length), Some(limit)) = (asked.head.framing, policy.max_body)
        && length > limit
    {
        let detail = format!("the request body has {length} bytes, the limit here is {limit}");
        return refusal(RequestResult::Client, 413, "http_request_error", detail);
    }
    let total = route.members.len();
    let empty = |status, detail| refusal(RequestResult::Empty, status, "destination_unavailable", detail);
    if total == 0 {
        return empty(policy.on_empty, format!("{} has no endpoint: {}", route.config.cluster, route.why_empty));
    }
    if total < policy.min_endpoints {
        return empty(503, format!("{total} endpoints, at least {} are wanted", policy.min_endpoints));
    }
    let required = policy.require.required(total);
    if required > total {
        return empty(503, format!("{total} endpoints, {required} are required to be ok"));
    }
    let longest = asked.listener.config.head.target;
    let target = route.config.changes.target(&route.config.matches, asked.head.target(), longest);
    match target {
        Ok(target) => Ok((route, target)),
        Err(why) => {
            let status = if why == Unchangeable::TooLong { 414 } else { 400 };
            refusal(RequestResult::Rejected, status, "http_request_error", why.to_string())
        }
    }
}

/// A route, and the target that its endpoints get where that is not the client's.
type AdmittedTo<'a> = (&'a Arc<RouteEntry>, Option<Vec<u8>>);

type Refusal = (Option<Arc<RouteEntry>>, RequestResult, Problem);

/// The id the client gave the request, where it is one and can be logged.
fn request_id(head: &RequestHead) -> Option<&str> {
    let mut ids = head.fields.of(Class::RequestId);
    let id = std::str::from_utf8(ids.next()?).ok().filter(|_| ids.next().is_none())?;
    (!id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic())).then_some(id)
}

/// An id in hexadecimal. Aligned, because its check as text then takes a quarter of the time.
#[repr(align(16))]
struct RandomId([u8; 32]);

impl RandomId {
    fn as_str(&self) -> &str {
        // Hexadecimal digits are always text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// An id for a request that came without one: 128 random bits.
fn random_id() -> RandomId {
    let mut id = RandomId([0; 32]);
    for digits in id.0.chunks_exact_mut(8) {
        digits.copy_from_slice(&hexadecimal(fastrand::u32(..)).to_le_bytes());
    }
    id
}

/// The hexadecimal digits of a number, the lowest first, as the bytes of a word.
fn hexadecimal(number: u32) -> u64 {
    let mut spread = u64::from(number);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // One in each byte whose digit is a letter.
    let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)
}

/// Whether an answer of unknown length can be chunked for this client.
fn knows_chunks(head: &RequestHead) -> bool {
    head.version == Version::Http11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(hexadecimal(0x89ab_cdef).to_le_bytes(), *b"fedcba98");
        assert_eq!(hexadecimal(0x0123_4567).to_le_bytes(), *b"76543210");
        let (one, other) = (random_id().0, random_id().0);
        assert!(one != other && one.iter().all(u8::is_ascii_hexdigit));
    }
}
