//! The connections of a listener: accepts them within the limits, and closes those that neither finish a request nor read an answer
//! in time.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::{HeaderValue, header::CONNECTION};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

use super::room::{ConnectionHandle, Connections, Slot, WaitingRoom};
use super::transport::{Secure, Transport};
use super::{Limits, Peer};
use crate::accept::{After, Errors, PAUSE};
use crate::tls::ServerTls;

/// How long an idle connection may still bring a request after the listener has begun to close: one may be on its way.
const CLOSING_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A listener whose connections are counted against its limits.
pub(super) struct GuardedListener {
    /// Its name in logs.
    name: &'static str,
    /// `None` once it is closed.
    listener: Option<TcpListener>,
    address: SocketAddr,
    room: Arc<Connections>,
    errors: Errors,
    /// TLS, or none for clear text.
    secure: Option<Secure>,
}

/// A connection with a deadline for what the peer has to do next.
pub(super) struct Guarded {
    stream: Transport,
    limits: Limits,
    place: Slot,
    /// How many requests had begun at the last read.
    begun: usize,
    read: Phase,
    /// Whether a byte of the expected request has arrived.
    heard: bool,
    /// Whether the deadline has been shortened because the listener closes.
    closing: bool,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
}

/// The connection of a request, for its handler.
#[derive(Debug, Clone)]
pub(super) struct ConnectionInfo {
    visit: ConnectionHandle,
    peer: Peer,
}

/// What the peer of a connection must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of the request.
    Reading,
    /// Nothing, because its request is being handled.
    Handling,
}

/// Marks the connection busy while a request is handled, and while a body of unknown length streams, which counts as waiting. Tells
/// the handler who asks and where to wait.
pub(super) async fn track(
    ConnectInfo(ConnectionInfo { visit, peer }): ConnectInfo<ConnectionInfo>,
    request: Request,
    next: Next,
) -> Response {
    let (handling, unfinished) = visit.begin(request.body().is_end_stream());
    let mut request = match unfinished {
        None => request,
        // The handler drops the body when it has read all of it or needs no more.
        Some(unfinished) => request.map(|body| {
            Body::from_stream(body.into_data_stream().map(move |chunk| {
                let _ = &unfinished;
                chunk
            }))
        }),
    };
    let waiting_room = WaitingRoom(visit.clone());
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(waiting_room.clone());
    let mut response = next.run(request).await;
    if response.body().size_hint().exact().is_none() {
        response = match waiting_room.enter() {
            Ok(waiter) => response.map(|body| {
                let guards = (handling, waiter);
                Body::from_stream(body.into_data_stream().map(move |chunk| {
                    let _ = &guards;
                    chunk
                }))
            }),
            Err(full) => full.into_response(),
        };
    }
    if visit.is_closing() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

// === impl GuardedListener ===

impl GuardedListener {
    pub(super) fn new(name: &'static str, listener: TcpListener, address: SocketAddr, limits: Limits) -> Self {
        Self {
            name,
            listener: Some(listener),
            address,
            room: Connections::new(limits),
            errors: Errors::default(),
            secure: None,
        }
    }

    /// Speaks TLS from now on.
    pub(super) fn secure(&mut self, tls: ServerTls) {
        self.secure = Some(Secure::new(self.name, tls));
    }

    pub(super) fn is_secure(&self) -> bool {
        self.secure.is_some()
    }

    pub(super) fn room(&self) -> &Arc<Connections> {
        &self.room
    }

    /// The next connection; none once the listener is closed. It is closed when the room closes, and those that had come in by then
    /// are still taken.
    async fn next(&mut self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let listener = self.listener.as_ref()?;
        if !self.room.is_closing() {
            tokio::select! {
                biased;
                () = self.room.closing() => {}
                accepted = listener.accept() => return Some(accepted),
            }
        }
        let accepted = listener.accept().now_or_never();
        if !matches!(accepted, Some(Ok(_))) {
            self.listener = None;
            self.room.closed();
            return None;
        }
        accepted
    }
}

impl Listener for GuardedListener {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            match self.next().await {
                Some(Ok((stream, peer))) => {
                    self.errors.accepted();
                    let place = self.room.enter().await;
                    let limits = self.room.limits();
                    let transport = match &self.secure {
                        Some(secure) => secure.begin(stream, peer, limits),
                        None => Transport::Open(stream.into()),
                    };
                    return (Guarded::new(transport, place, limits), peer);
                }
                Some(Err(error)) => {
                    let After::Pause { tell } = self.errors.after(&error) else { continue };
                    if tell {
                        tracing::warn!(%error, "the {} listener cannot accept connections, trying again", self.name);
                    }
                    sleep(PAUSE).await;
                }
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

// === impl ConnectionInfo ===

impl Connected<IncomingStream<'_, GuardedListener>> for ConnectionInfo {
    fn connect_info(stream: IncomingStream<'_, GuardedListener>) -> Self {
        Self { visit: stream.io().place.visit(), peer: Peer(*stream.remote_addr()) }
    }
}

// === impl Guarded ===

impl Guarded {
    fn new(stream: Transport, place: Slot, limits: Limits) -> Self {
        Self {
            stream,
            limits,
            place,
            // A new connection is to send a request at once, not within the idle time-out.
            begun: 0,
            read: Phase::Reading,
            heard: false,
            closing: false,
            read_deadline: Box::pin(sleep(limits.read_timeout)),
            write_deadline: None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.read == phase {
            return;
        }
        self.read = phase;
        match phase {
            Phase::Idle => {
                (self.heard, self.closing) = (false, false);
                self.read_deadline.as_mut().reset(Instant::now() + self.limits.idle_timeout);
            }
            Phase::Reading => self.read_deadline.as_mut().reset(Instant::now() + self.limits.read_timeout),
            Phase::Handling => {}
        }
    }

    /// Whether a connection without a request may go on. It ends soon where the listener closes, and at once where another one
    /// needs its place.
    fn check(&mut self, cx: &Context<'_>) -> io::Result<()> {
        if self.place.is_cut(cx) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "another connection needs the place"));
        }
        if !self.heard && !self.closing && self.place.room().is_closing() {
            self.closing = true;
            let soon = Instant::now() + CLOSING_IDLE_TIMEOUT;
            if soon < self.read_deadline.deadline() {
                self.read_deadline.as_mut().reset(soon);
            }
        }
        Ok(())
    }

    /// Limits how long a write may wait for the peer.
    fn bound_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_deadline = None;
            return result;
        }
        self.check(cx)?;
        let bound = self.limits.idle_timeout;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(bound)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read the answer")))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (handling, begun) = this.place.requests();
        if handling > 0 {
            this.enter(Phase::Handling);
        } else if this.read == Phase::Handling || this.begun != begun {
            // A request may have been received and answered between two reads.
            this.read = Phase::Handling;
            this.enter(Phase::Idle);
        }
        this.begun = begun;
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            if buf.filled().len() > before {
                this.heard = true;
                if this.read == Phase::Idle {
                    this.enter(Phase::Reading);
                }
            }
            // A trickle of bytes does not move the deadline of a request.
            if this.read != Phase::Reading || !this.read_deadline.is_elapsed() {
                return Poll::Ready(result);
            }
        }
        this.check(cx)?;
        if this.read == Phase::Handling {
            return Poll::Pending;
        }
        ready!(this.read_deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not send a request in time")))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bound_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bound_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.bound_write(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bound_write(cx, result)
    }
}
