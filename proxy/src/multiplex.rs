//! HTTP/2 connections to an endpoint: each carries the exchanges of one worker side by side, as many as the endpoint allows,
//! and another one is opened when none has room.

mod watched;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use parking_lot::Mutex;
use runtime::tls::Protocol;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use self::watched::Watched;
use crate::{
    clock,
    http2::{CONNECTION_WINDOW, MAX_STREAMS, SEND_BUFFER, STREAM_WINDOW},
    target::Opened,
    transport::Io,
};

/// How long an endpoint may be silent on a connection while a request on it is given up, before it gets no further ones: the other side
/// may be gone without a word. HTTP/1.1 has no such time, because there a request that is given up takes its connection with it.
const MAX_SILENCE: Duration = Duration::from_secs(1);

/// Bytes of a response's head.
const RESPONSE_HEAD: u32 = 64 * 1024;

/// The connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed {
    state: Mutex<State>,
    /// Somebody who waits for a stream may look again.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<SharedConnection>,
    /// Connections that are coming about.
    connecting: usize,
    /// Exchanges that wait for a stream.
    waiting: usize,
}

#[derive(Debug)]
struct SharedConnection {
    send: SendRequest<Bytes>,
    scheme: &'static str,
    load: Arc<Load>,
    /// Since when it has had no stream, as far as was looked.
    idle_since: Option<Instant>,
}

/// What is known of a connection.
#[derive(Debug)]
struct Load {
    streams: AtomicUsize,
    /// It takes no further streams.
    closed: AtomicBool,
    /// SETTINGS that the endpoint has sent.
    settings: AtomicUsize,
    began: Instant,
    /// When the last byte came, in milliseconds after it began.
    heard: AtomicU64,
    /// Since when, plus one, no byte has come although a request was given up meanwhile. 0: nothing was given up.
    unheard_since: AtomicU64,
}

/// Room for one exchange on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    pub(crate) send: SendRequest<Bytes>,
    /// The scheme of what is asked for on it (RFC 9113 section 8.3.1).
    pub(crate) scheme: &'static str,
    load: Arc<Load>,
    shared: Arc<Multiplexed>,
}

/// Somebody waits for a stream.
struct WaitingGuard<'a>(&'a Multiplexed);

/// A connection is coming about.
struct ConnectingGuard<'a>(&'a Multiplexed);

// === impl Multiplexed ===

impl Multiplexed {
    /// A stream of a connection that is there and has room.
    pub(crate) fn take(self: &Arc<Self>) -> Option<StreamSlot> {
        let mut state = self.state.lock();
        state.connections.retain(|connection| !connection.load.closed.load(Ordering::Acquire));
        let connection = state.connections.iter_mut().find(|connection| connection.has_room())?;
        connection.idle_since = None;
        connection.load.streams.fetch_add(1, Ordering::AcqRel);
        let (send, load) = (connection.send.clone(), connection.load.clone());
        Some(StreamSlot { send, scheme: connection.scheme, load, shared: self.clone() })
    }

    /// A stream of a connection that is there, or of one that `connect` opens: at most `cap` of them, past which it waits for a
    /// stream to end. Whoever asks watches over the time. Where it turns out that the endpoint does not speak HTTP/2, which
    /// `may_share` says from then on, each gets a connection of its own.
    pub(crate) async fn open<C>(
        self: &Arc<Self>,
        cap: usize,
        connect: impl Fn() -> C,
        may_share: impl Fn() -> bool,
    ) -> io::Result<Opened>
    where
        C: Future<Output = io::Result<(Io, Protocol)>>,
    {
        let _waiting = WaitingGuard::new(self);
        loop {
            // Made before it is looked whether there is anything to wait for: what happens in between wakes it, too.
            let changed = self.changed.notified();
            if let Some(slot) = self.take() {
                return Ok(Opened::Http2(slot));
            }
            let connecting = ConnectingGuard::begin(self, cap);
            if connecting.is_none() && may_share() {
                changed.await;
                continue;
            }
            match connect().await? {
                (io, Protocol::Http2) => self.add(io).await?,
                (io, Protocol::Http1) => return Ok(Opened::Http1(io)),
            }
        }
    }

    /// Begins to speak HTTP/2 on a connection, and shares it once the endpoint has said in its SETTINGS how many streams it takes: what
    /// is begun before that may be more, and would wait for a place on this connection however much room others have.
    async fn add(self: &Arc<Self>, io: Io) -> io::Result<()> {
        let scheme = if matches!(io, Io::Tls(_)) { "https" } else { "http" };
        let load = Arc::new(Load::new());
        let watched = Watched::new(io, load.clone());
        let (send, connection) = builder().handshake(watched).await.map_err(io::Error::other)?;
        let (begun, has_begun) = oneshot::channel();
        tokio::spawn(clock::per_wake_up(Box::pin(self.clone().drive(connection, load.clone(), begun))));
        has_begun.await.map_err(io::Error::other)??;
        self.state.lock().connections.push(SharedConnection { send, scheme, load, idle_since: None });
        Ok(())
    }

    /// Carries a connection to its end, and tells of its first SETTINGS, or why there are none. Its streams are told why it ends.
    async fn drive(
        self: Arc<Self>,
        mut connection: client::Connection<Watched, Bytes>,
        load: Arc<Load>,
        begun: oneshot::Sender<io::Result<()>>,
    ) {
        let (mut begun, mut known) = (Some(begun), 0);
        let ended = poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(ended);
            }
            // What was read has been heeded, too.
            let settings = load.settings.load(Ordering::Relaxed);
            if settings != known {
                known = settings;
                // Whoever has begun the connection may have given up.
                let _ = begun.take().map(|begun| begun.send(Ok(())));
                self.changed.notify_waiters();
            }
            Poll::Pending
        });
        let ended = ended.await;
        load.closed.store(true, Ordering::Release);
        if let Some(begun) = begun {
            let why = ended.map_or_else(io::Error::other, |()| io::ErrorKind::UnexpectedEof.into());
            let _ = begun.send(Err(why));
        }
        self.changed.notify_waiters();
    }

    /// Lets go of connections that are closed, or have been without a stream for `keep`.
    pub(crate) fn sweep(&self, now: Instant, keep: Duration) {
        self.state.lock().connections.retain_mut(|connection| {
            if connection.load.streams.load(Ordering::Acquire) > 0 {
                connection.idle_since = None;
                return true;
            }
            let since = *connection.idle_since.get_or_insert(now);
            !connection.load.closed.load(Ordering::Acquire) && now.saturating_duration_since(since) < keep
        });
    }

    /// Lets go of every connection; each ends with its last stream.
    pub(crate) fn clear(&self) {
        self.state.lock().connections.clear();
    }

    /// Connections without a stream.
    pub(crate) fn idle(&self) -> usize {
        let state = self.state.lock();
        state.connections.iter().filter(|connection| connection.load.streams.load(Ordering::Acquire) == 0).count()
    }
}

fn builder() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(MAX_STREAMS as usize)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(RESPONSE_HEAD)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

// === impl SharedConnection ===

impl SharedConnection {
    fn has_room(&self) -> bool {
        let most = self.send.current_max_send_streams().min(MAX_STREAMS as usize);
        self.load.streams.load(Ordering::Acquire) < most
    }

    /// Whether the endpoint lives, and takes no stream for now: it would take none on another connection either.
    fn is_refusing(&self) -> bool {
        self.send.current_max_send_streams() == 0 && !self.load.closed.load(Ordering::Acquire)
    }
}

// === impl Load ===

impl Load {
    fn new() -> Self {
        let (streams, closed, settings, heard, unheard_since) = Default::default();
        Self { streams, closed, settings, began: clock::now(), heard, unheard_since }
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Something has come.
    fn heard(&self, now: Instant) {
        self.heard.store(self.millis(now), Ordering::Relaxed);
        self.unheard_since.store(0, Ordering::Relaxed);
    }

    /// A request that was sent then is given up, and nothing has come for it. Returns how long nothing at all has come.
    fn unheard(&self, sent: Instant, now: Instant) -> Duration {
        let since = self.millis(sent).max(self.heard.load(Ordering::Relaxed));
        let known = self.unheard_since.compare_exchange(0, since + 1, Ordering::Relaxed, Ordering::Relaxed);
        let since = known.map_or_else(|known| known - 1, |_| since);
        Duration::from_millis(self.millis(now).saturating_sub(since))
    }
}

// === impl StreamSlot ===

impl StreamSlot {
    /// The connection takes no further streams.
    pub(crate) fn close_connection(&self) {
        self.load.closed.store(true, Ordering::Release);
    }

    /// A request that was sent then is given up before anything has come for it. Where nothing at all has come on the connection for
    /// long, it takes no further streams.
    pub(crate) fn unheard(&self, sent: Instant) {
        if self.load.unheard(sent, clock::now()) >= MAX_SILENCE {
            self.close_connection();
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.load.streams.fetch_sub(1, Ordering::AcqRel);
        self.shared.changed.notify_one();
    }
}

// === impl WaitingGuard ===

impl<'a> WaitingGuard<'a> {
    fn new(shared: &'a Multiplexed) -> Self {
        shared.state.lock().waiting += 1;
        Self(shared)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

// === impl ConnectingGuard ===

impl<'a> ConnectingGuard<'a> {
    /// Unless those that are coming about will have room for everybody who waits, there are as many as may be, or the endpoint
    /// takes no streams.
    fn begin(shared: &'a Multiplexed, cap: usize) -> Option<Self> {
        let mut state = shared.state.lock();
        let needed = state.waiting.div_ceil(MAX_STREAMS as usize);
        let has_to_wait = state.connecting >= needed
            || state.connections.len() + state.connecting >= cap.max(1)
            || state.connections.iter().any(SharedConnection::is_refusing);
        if has_to_wait {
            return None;
        }
        state.connecting += 1;
        Some(Self(shared))
    }
}

impl Drop for ConnectingGuard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().connecting -= 1;
        // It has come about, or somebody else has to try.
        self.0.changed.notify_waiters();
    }
}
