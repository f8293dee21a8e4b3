//! The connections of a listener: how many at a time, and how long a peer may keep one without finishing a request or reading an answer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use super::{Limits, Peer};

/// How long to wait after the system refused a connection (out of descriptors): long enough not to spin, short enough for a probe.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A listener that holds at most [`Limits::connections`] connections.
pub(super) struct GuardedListener {
    /// What logs call it.
    name: &'static str,
    listener: TcpListener,
    slots: Arc<Semaphore>,
    limits: Limits,
}

/// A connection with a deadline for whatever the peer owes.
pub(super) struct Guarded {
    stream: TcpStream,
    limits: Limits,
    activity: Activity,
    /// How many requests had begun at the last read.
    begun: usize,
    read: Phase,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    _slot: OwnedSemaphorePermit,
}

/// What a handler's request learns of its connection.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    activity: Activity,
    peer: Peer,
}

/// Requests of one connection that are being handled.
#[derive(Debug, Clone, Default)]
struct Activity {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Being handled now.
    busy: AtomicUsize,
    /// Ever begun; it wraps around, only a difference counts.
    begun: AtomicUsize,
}

/// What the peer of a connection owes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of it.
    Reading,
    /// Nothing: its request is being handled.
    Handling,
}

/// Counts one request as being handled for as long as it lives.
struct Handling(Activity);

/// Marks the connection busy while a request is handled, and while a body of unknown length streams. Tells the handler who
/// asks.
pub(super) async fn track(
    ConnectInfo(Accepted { activity, peer }): ConnectInfo<Accepted>,
    mut request: Request,
    next: Next,
) -> Response {
    let handling = Handling::new(activity);
    request.extensions_mut().insert(peer);
    let response = next.run(request).await;
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let _ = &handling;
            chunk
        }))
    })
}

// === impl GuardedListener ===

impl GuardedListener {
    pub(super) fn new(name: &'static str, listener: TcpListener, limits: Limits) -> Self {
        Self { name, listener, slots: Arc::new(Semaphore::new(limits.connections)), limits }
    }

    async fn slot(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await {
                return slot;
            }
            // The semaphore is never closed; should it be, this must not spin.
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

impl Listener for GuardedListener {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        let slot = self.slot().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (Guarded::new(stream, slot, self.limits), peer),
                // The peer went away before it was accepted: its own affair.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    tracing::warn!(%error, "the {} listener cannot accept a connection, trying again", self.name);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

// === impl Activity ===

impl Connected<IncomingStream<'_, GuardedListener>> for Accepted {
    fn connect_info(stream: IncomingStream<'_, GuardedListener>) -> Self {
        Self { activity: stream.io().activity.clone(), peer: Peer(*stream.remote_addr()) }
    }
}

impl Handling {
    fn new(activity: Activity) -> Self {
        activity.counts.begun.fetch_add(1, Ordering::AcqRel);
        activity.counts.busy.fetch_add(1, Ordering::AcqRel);
        Self(activity)
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.counts.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl Guarded ===

impl Guarded {
    fn new(stream: TcpStream, slot: OwnedSemaphorePermit, limits: Limits) -> Self {
        Self {
            stream,
            limits,
            activity: Activity::default(),
            // A new connection owes a request at once, not a minute later.
            begun: 0,
            read: Phase::Reading,
            read_deadline: Box::pin(sleep(limits.read_timeout)),
            write_deadline: None,
            _slot: slot,
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.read == phase {
            return;
        }
        self.read = phase;
        match phase {
            Phase::Idle => self.read_deadline.as_mut().reset(Instant::now() + self.limits.idle_timeout),
            Phase::Reading => self.read_deadline.as_mut().reset(Instant::now() + self.limits.read_timeout),
            Phase::Handling => {}
        }
    }

    /// Lets a write wait for the peer, but not for ever.
    fn bound_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_deadline = None;
            return result;
        }
        let bound = self.limits.idle_timeout;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(bound)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read the answer")))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let begun = this.activity.counts.begun.load(Ordering::Acquire);
        if this.activity.counts.busy.load(Ordering::Acquire) > 0 {
            this.enter(Phase::Handling);
        } else if this.read == Phase::Handling || this.begun != begun {
            // A request may have come and gone between two reads.
            this.read = Phase::Handling;
            this.enter(Phase::Idle);
        }
        this.begun = begun;
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            if this.read == Phase::Idle && buf.filled().len() > before {
                this.enter(Phase::Reading);
            }
            // A trickle of bytes does not move the deadline of a request.
            if this.read != Phase::Reading || !this.read_deadline.is_elapsed() {
                return Poll::Ready(result);
            }
        }
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
