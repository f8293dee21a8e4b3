//! One client connection that speaks HTTP/2: each request has a stream and a task of its own, and the connection controls their
//! number, the client's limits, and the end.

mod socket;

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use access::{clients::Requests, identity::CertificateNames};
use bytes::Bytes;
use futures::task::AtomicWaker;
use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use tokio::time::Instant;

use self::socket::{Socket, Watch};
use super::{Connection, LINGER, draining::Draining};
use crate::{
    clock,
    config::Listener,
    exchange::{Outbound, alarm::Alarm},
    grpc,
    http::request::BadRequest,
    http2::{
        ANSWER_BUFFER, MAX_STREAMS, STREAM_WINDOW,
        ahead::{FIRST_WINDOW, Grant},
        stream::{StreamAnswer, StreamBody},
        translate,
    },
    metrics::RequestResult,
    problem::Problem,
    request::{self, Carrier, RequestContext, WithoutRoute, id::RequestId},
    seats::Seat,
    shared::Worker,
};

/// The state that the requests of one connection share.
struct Streams {
    worker: Arc<Worker>,
    listener: usize,
    client: SocketAddr,
    client_ip: Box<str>,
    /// The names in the client's certificate.
    certificate: Option<Arc<CertificateNames>>,
    /// Counts the client's requests.
    requests: Option<Requests>,
    scheme: &'static str,
    /// Requests whose last leg has not ended.
    open: AtomicUsize,
    /// The waker of the connection's task, which may wait for a place.
    waker: AtomicWaker,
}

/// The place of a request on its connection until its last leg has ended, so that a stream that is reset and opened again counts
/// like any other (CVE-2023-44487).
pub(crate) struct Place(Arc<Streams>);

/// A connection in service.
struct Http2Connection {
    connection: server::Connection<Socket, Bytes>,
    watch: Watch,
    streams: Arc<Streams>,
    config: Arc<Listener>,
    alarm: Alarm,
    draining: Draining,
    seat: Arc<Seat>,
    /// The granted flow-control credit.
    grant: Grant,
    /// When the last request began or ended.
    used: Instant,
    /// When the connection is closed, after GOAWAY was sent.
    ends: Option<Instant>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.waker.wake();
    }
}

impl Connection {
    /// Serves a client that speaks HTTP/2 until the connection ends.
    pub(crate) async fn serve_http2(self, worker: &Arc<Worker>) {
        // Boxed, because the future of the handshake is larger than the connection.
        if let Some(mut http2) = Box::pin(self.begin_http2(worker)).await {
            http2.serve().await;
        }
    }

    /// Does the HTTP/2 handshake.
    async fn begin_http2(self, worker: &Arc<Worker>) -> Option<Box<Http2Connection>> {
        let Self { listener, config, client, client_ip, requests, mut alarm, draining, seat, began, .. } = self;
        let deadline = began + config.timeouts.head;
        let streams = Arc::new(Streams {
            worker: worker.clone(),
            listener,
            client: client.peer,
            client_ip,
            certificate: client.certificate.clone(),
            requests,
            scheme: client.scheme(),
            open: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
        });
        let (socket, watch) = Socket::new(client, &worker.shared);
        let mut handshake = std::pin::pin!(builder(&config).handshake(socket));
        let connection = poll_fn(|cx| match handshake.as_mut().poll(cx) {
            Poll::Ready(connection) => Poll::Ready(connection.ok()),
            Poll::Pending => alarm.poll(cx, deadline).map(|_| None),
        });
        let connection = connection.await?;
        let grant = Grant::new(worker.shared.ahead.clone());
        let (used, ends) = (clock::now(), None);
        Some(Box::new(Http2Connection { connection, watch, streams, config, alarm, draining, seat, grant, used, ends }))
    }
}

fn builder(config: &Listener) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(FIRST_WINDOW)
        .max_header_list_size(u32::try_from(config.head.bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(ANSWER_BUFFER);
    builder
}

// === impl Http2Connection ===

impl Http2Connection {
    async fn serve(&mut self) {
        self.seat.owes();
        while let Some((request, respond)) = poll_fn(|cx| self.poll_request(cx)).await {
            self.seat.paid();
            self.used = clock::now();
            let open = self.streams.open.fetch_add(1, Ordering::AcqRel) + 1;
            if !request.body().is_end_stream()
                && let Some(window) = self.grant.widen(open)
            {
                self.connection.set_target_window_size(window);
            }
            let place = Place(self.streams.clone());
            // The drain waits for the request, even if its connection has ended.
            let work = self.streams.worker.shared.work.begin_work();
            tokio::spawn(async move {
                clock::per_wake_up(Box::pin(serve_stream(place, request, respond))).await;
                drop(work);
            });
            if !self.config.keepalive {
                self.begin_end();
            }
        }
    }

    /// The next request; none if the connection has ended.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<(http::Request<RecvStream>, SendResponse<Bytes>)>> {
        self.streams.waker.register(cx.waker());
        self.seat.register(cx);
        let now = clock::now();
        if self.watch.abuse().is_some() {
            self.abort(now);
        } else if self.draining.poll(cx) || self.seat.is_cut() {
            self.begin_end();
        }
        let open = self.streams.open.load(Ordering::Acquire);
        if open == 0 {
            self.seat.owes();
        } else {
            self.used = now;
        }
        // While all places are taken, no further request is accepted.
        if open < MAX_STREAMS as usize {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(request))) => return Poll::Ready(Some(request)),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
        } else if self.connection.poll_closed(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.poll_time_outs(cx, now)
    }

    fn poll_time_outs<T>(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Option<T>> {
        let block = self.watch.unfinished_block().map(|since| since + self.config.timeouts.head);
        if block.is_some_and(|due| now >= due) {
            self.abort(now);
        }
        let idle = self.streams.open.load(Ordering::Acquire) == 0;
        let idle_until = self.used + self.config.timeouts.keepalive;
        if idle && now >= idle_until {
            self.begin_end();
        }
        // Without requests in flight, the client has this long to read GOAWAY.
        let last = self.ends.filter(|_| idle);
        let due = last.into_iter().chain(block.filter(|due| now < *due)).min().unwrap_or_else(|| {
            if idle { idle_until.max(now + Duration::from_millis(1)) } else { now + self.config.timeouts.keepalive }
        });
        match self.alarm.poll(cx, due) {
            Poll::Ready(_) if last.is_some_and(|last| clock::now() >= last) => Poll::Ready(None),
            Poll::Ready(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Sends GOAWAY: no further requests are accepted, except for those in flight.
    fn begin_end(&mut self) {
        if self.ends.is_none() {
            self.connection.graceful_shutdown();
            self.ends = Some(clock::now() + LINGER);
        }
    }

    /// Ends the connection with all of its streams.
    fn abort(&mut self, now: Instant) {
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        self.ends.get_or_insert(now + LINGER);
    }
}

/// Serves one request.
async fn serve_stream(place: Place, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
    let started = clock::now();
    let streams = place.0.clone();
    let _requesting = streams.requests.as_ref().map(Requests::begin);
    let worker = &streams.worker;
    // The only load of the table for this request.
    let Some(listener) = worker.shared.table.load().listeners.get(streams.listener).cloned() else { return };
    let (parts, body) = request.into_parts();
    let (config, answer) = (&listener.config, StreamAnswer::new(respond));
    let head = translate::request_head(&parts, body.is_end_stream(), &config.head, config.lenient_target);
    let head = match head {
        Ok(head) => head,
        Err(why) => return refuse(&streams, config, &parts, answer, why, started).await,
    };
    let id = RequestId::of(&head);
    let context = RequestContext {
        head: &head,
        listener: &listener,
        worker,
        id: id.as_str(),
        is_new_id: id.is_new(),
        client: streams.client,
        client_ip: &streams.client_ip,
        certificate: streams.certificate.as_deref(),
        scheme: streams.scheme,
        is_grpc: grpc::is_request(&head),
        trace: worker.shared.begin_trace(&head),
        started,
    };
    let mut carrier = Carrier::Http2(request::Http2Carrier::new(StreamBody::new(body, head.framing), answer, place));
    context.serve(&mut carrier, &mut Alarm::default()).await;
}

/// Answers a request whose head is refused.
async fn refuse(
    streams: &Streams,
    config: &Listener,
    parts: &http::request::Parts,
    mut answer: StreamAnswer,
    why: BadRequest,
    began: Instant,
) {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let seen = format!("{} {target}", parts.method);
    let refused = WithoutRoute {
        shared: &streams.worker.shared,
        config,
        client: streams.client,
        seen: seen.as_bytes(),
        result: RequestResult::Client,
        problem: Problem::bad_request(why),
        began,
    };
    refused.refuse(Some(&mut Outbound::Http2(&mut answer)), config.timeouts.body, &mut Alarm::default()).await;
}
