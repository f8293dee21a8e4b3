//! The socket under an HTTP/2 connection: hands out what was read before it was known what is spoken, watches the frames
//! that come, and reads on for a while after the last write, so that the client gets to read that.

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

/// Bytes that are still read once nothing more will be answered.
const MAX_LEFTOVER: usize = 1024 * 1024;

/// The socket of a client.
#[derive(Debug)]
pub(super) struct Socket {
    client: Downstream,
    watch: Watch,
    /// Bytes that may still be thrown away.
    leftover: usize,
}

/// What is known of the frames that have come, shared with the task that decides what becomes of the connection.
#[derive(Clone, Debug)]
pub(super) struct Watch(Arc<Mutex<Watched>>);

#[derive(Debug)]
struct Watched {
    guard: FrameGuard,
    abuse: Option<Abuse>,
    client: IpAddr,
    /// Knows what the client's address has done on other connections.
    shared: Arc<Shared>,
}

// === impl Watch ===

impl Watch {
    /// What the client is doing that it must not.
    pub(super) fn abuse(&self) -> Option<Abuse> {
        self.0.lock().abuse
    }

    /// Since when a header block has not been complete.
    pub(super) fn unfinished_block(&self) -> Option<Instant> {
        self.0.lock().guard.unfinished_block()
    }

    /// Looks at bytes that have come; whether they may be acted upon.
    fn see(&self, bytes: &[u8]) -> bool {
        let watched = &mut *self.0.lock();
        if watched.abuse.is_none() {
            let now = clock::now();
            watched.abuse = watched.guard.see(bytes, now).err();
            let resets = watched.guard.take_resets();
            // Every one counts, also those that are too many for this connection.
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
        let watch = Watch(Arc::new(Mutex::new(Watched { guard, abuse: None, client: address, shared })));
        (Self { client, watch: watch.clone(), leftover: MAX_LEFTOVER }, watch)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { client, watch, .. } = self.get_mut();
        // A connection that is being closed is not read on: what else it brings is thrown away when it is shut down.
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
            // The task that serves the connection looks at the abuse next.
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
        // The other side may be gone already.
        let _ = ready!(client.poll_shutdown(cx));
        // To close a socket with unread bytes resets it, and takes from the client what was written last.
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
