//! HTTP/2 connections to an endpoint: each carries the exchanges of one worker side by side, as many as the endpoint allows,
//! and another one is opened when none has room.

mod driver;
mod end;
mod known_head;
mod link;
mod load;
mod mailbox;

use std::{io, sync::Arc, time::Duration};

use h2client::block::Scheme;
use parking_lot::Mutex;
use runtime::tls::Protocol;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use self::{driver::Driver, link::Link};
pub(crate) use self::{
    end::{LinkEnd, StreamFault},
    link::StreamSlot,
};
use crate::{clock, http2::MAX_STREAMS, target::Opened, transport::Io};

/// The connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed {
    state: Mutex<SharedConnections>,
    /// Somebody who waits for a stream may look again.
    changed: Notify,
}

#[derive(Debug, Default)]
struct SharedConnections {
    connections: Vec<SharedConnection>,
    /// Connections that are coming about.
    connecting: usize,
    /// Exchanges that wait for a stream.
    waiting: usize,
}

#[derive(Debug)]
struct SharedConnection {
    link: Arc<Link>,
    /// Since when it has had no stream, as far as was looked.
    idle_since: Option<Instant>,
}

/// A connection that begins, which is closed when nobody waits for it any more.
struct Beginning(Option<Arc<Link>>);

/// Somebody waits for a stream.
struct WaitingGuard<'a>(&'a Multiplexed);

/// A connection is coming about.
struct ConnectingGuard<'a>(&'a Multiplexed);

// === impl Multiplexed ===

impl Multiplexed {
    /// A stream of a connection that is there and has room.
    pub(crate) fn take(&self) -> Option<StreamSlot> {
        let mut state = self.state.lock();
        state.connections.retain(|connection| !connection.link.load.is_closed());
        let connection = state.connections.iter_mut().find(|connection| connection.link.load.has_room())?;
        connection.idle_since = None;
        Some(connection.link.slot())
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
        let scheme = if matches!(io, Io::Tls(_)) { Scheme::Https } else { Scheme::Http };
        let link = Link::new(self.clone(), scheme);
        let mut beginning = Beginning(Some(link.clone()));
        let (begun, has_begun) = oneshot::channel();
        tokio::spawn(clock::per_wake_up(Box::pin(Driver::new(io, link.clone(), begun).run())));
        has_begun.await.map_err(io::Error::other)??;
        beginning.0 = None;
        self.state.lock().connections.push(SharedConnection { link, idle_since: None });
        Ok(())
    }

    /// Whoever waits for a stream may look again.
    fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// A connection has ended.
    fn forget(&self, link: &Link) {
        self.state.lock().connections.retain(|connection| !std::ptr::eq(&*connection.link, link));
        self.changed();
    }

    /// A place has become free.
    fn released(&self) {
        self.changed.notify_one();
    }

    /// Lets go of connections that are closed, or have been without a stream for `keep`.
    pub(crate) fn sweep(&self, now: Instant, keep: Duration) {
        self.state.lock().connections.retain_mut(|connection| {
            let load = &connection.link.load;
            if load.is_closed() {
                return false;
            }
            if !load.is_idle() {
                connection.idle_since = None;
                return true;
            }
            let since = *connection.idle_since.get_or_insert(now);
            now.saturating_duration_since(since) < keep
        });
    }

    /// Lets go of every connection; each ends with its last stream.
    pub(crate) fn clear(&self) {
        self.state.lock().connections.clear();
    }

    /// Connections without a stream.
    pub(crate) fn idle(&self) -> usize {
        self.state.lock().connections.iter().filter(|connection| connection.link.load.is_idle()).count()
    }
}

// === impl SharedConnection ===

impl Drop for SharedConnection {
    fn drop(&mut self) {
        self.link.close();
    }
}

// === impl Beginning ===

impl Drop for Beginning {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.close();
        }
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
            || state.connections.iter().any(|connection| connection.link.load.is_refusing());
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
