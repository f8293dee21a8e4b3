//! The socket under an HTTP/2 connection: returns bytes that were read before the protocol was known, checks incoming frames, and
//! reads on for a while after the last write, so that the client can read it.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    buffers, clock,
    downstream::Downstream,
    http2::{
        PREFACE,
        guard::{Abuse, FrameGuard},
    },
    shared::Shared,
};

/// The most bytes that are read and discarded at the end.
const MAX_LEFTOVER: usize = 1024 * 1024;

/// The socket of a client.
#[derive(Debug)]
pub(super) struct Socket {
    client: Downstream,
    watch: Watch,
    /// The remaining bytes that may be discarded.
    leftover: usize,
}

/// The state of the frame checks, shared with the task of the connection.
#[derive(Clone, Debug)]
pub(super) struct Watch(Arc<Mutex<WatchState>>);

#[derive(Debug)]
struct WatchState {
    guard: FrameGuard,
    abuse: Option<Abuse>,
    client: IpAddr,
    /// Has the counts of the client's address over all connections.
    shared: Arc<Shared>,
}

// === impl Watch ===

impl Watch {
    /// The detected abuse, if any.
    pub(super) fn abuse(&self) -> Option<Abuse> {
        self.0.lock().abuse
    }

    /// When the current incomplete header block began.
    pub(super) fn unfinished_block(&self) -> Option<Instant> {
        self.0.lock().guard.unfinished_block()
    }

    /// Checks received bytes. Returns whether they may be processed.
    fn see(&self, bytes: &[u8]) -> bool {
        let watched = &mut *self.0.lock();
        if watched.abuse.is_none() {
            let now = clock::now();
            watched.abuse = watched.guard.see(bytes, now).err();
            let resets = watched.guard.take_resets();
            // Every reset counts for the address, even beyond the limit of this connection.
            let left = (0..resets).filter(|_| watched.shared.resets.take(watched.client, now)).count();
            if left < resets as usize {
                watched.abuse = watched.abuse.or(Some(Abuse::AddressResets));
            }
        }
        watched.abuse.is_none()
    }
}

// === impl Socket ===

impl Socket {
    pub(super) fn new(client: Downstream, shared: &Arc<Shared>) -> (Self, Watch) {
        let guard = FrameGuard::new(PREFACE.len());
        let (address, shared) = (client.peer.ip(), shared.clone());
        let watch = Watch(Arc::new(Mutex::new(WatchState { guard, abuse: None, client: address, shared })));
        (Self { client, watch: watch.clone(), leftover: MAX_LEFTOVER }, watch)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { client, watch, .. } = self.get_mut();
        // After abuse nothing more is processed; the rest is discarded at shutdown.
        if watch.abuse().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if client.buffer.is_empty() {
            ready!(client.poll_read(cx, buf))?;
        } else {
            let taken = client.buffer.len().min(buf.remaining());
            buf.put_slice(&client.buffer[..taken]);
            client.buffer.advance(taken);
            if client.buffer.is_empty() {
                buffers::give(&mut client.buffer);
            }
        }
        if !watch.see(&buf.filled()[before..]) {
            // The task of the connection handles the abuse next.
            buf.set_filled(before);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().client.poll_write(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().client.poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().client.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { client, leftover, .. } = self.get_mut();
        // The client may have disconnected already.
        let _ = ready!(client.poll_shutdown(cx));
        // Closing a socket with unread bytes resets it, which could discard the last write at the client.
        let mut bytes = [0; 4096];
        while *leftover > 0 {
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(client.poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => *leftover = leftover.saturating_sub(buf.filled().len()),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
