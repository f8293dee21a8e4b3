//! The task that carries an HTTP/2 connection to an endpoint: it reads for all legs, and writes what all of them have put in.

#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use h2client::{Connection, Event, Reason};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};
use tokio_util::io::poll_read_buf;

use super::{
    end::LinkEnd,
    link::{Link, LinkState},
};
use crate::{
    buffers::{self, READ_BUFFER_BYTES},
    clock,
    http2::guard::FrameGuard,
    transport::Io,
};

/// Buffers written with one system call.
const MAX_SLICES: usize = 64;

/// The most that is read with one system call.
const MAX_READ_BYTES: usize = 64 * 1024;

/// So often is read before others on the thread have their turn.
const MAX_READS: usize = 8;

/// A connection as a stream of bytes.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Unpin {
    /// Ready once there may be something to read.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Carries one connection.
pub(super) struct Driver<T: Carrier = Io> {
    io: T,
    link: Arc<Link>,
    guard: FrameGuard,
    input: BytesMut,
    /// Bytes of the next read.
    read: usize,
    /// Whether what waits to be sent has waited for others that are ready.
    has_waited: bool,
    /// Who waits for the first SETTINGS.
    begun: Option<oneshot::Sender<io::Result<()>>>,
    /// The reason of the endpoint's GOAWAY.
    left: Option<Reason>,
    /// How it ended.
    end: Option<LinkEnd>,
}

impl Carrier for Io {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_readable(self, cx)
    }
}

impl<T: Carrier> Driver<T> {
    pub(super) fn new(io: T, link: Arc<Link>, begun: oneshot::Sender<io::Result<()>>) -> Self {
        let guard = FrameGuard::of_endpoint();
        let (input, read) = (BytesMut::new(), READ_BUFFER_BYTES);
        Self { io, link, guard, input, read, has_waited: false, begun: Some(begun), left: None, end: None }
    }

    /// Carries the connection to its end.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
        // Tried once: an endpoint that reads nothing is not waited for.
        poll_fn(|cx| {
            let _ = Pin::new(&mut self.io).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let link = self.link.clone();
        link.lock().arrive(cx);
        let has_read = match self.read_all(cx) {
            Ok(has_read) => has_read,
            Err(end) => {
                // The endpoint is told why, where its side of the connection has room for that.
                let _ = self.poll_write(cx, &mut link.lock());
                self.finish(end);
                return Poll::Ready(());
            }
        };
        let mut state = link.lock();
        let is_over = link.note(&state);
        // Exchanges that are ready, perhaps because of what was read, have their turn first: what they send leaves with the same write.
        // An exchange wakes this task, which then runs behind all that were ready before.
        let is_shared = state.codec.open_streams() > 0 && !is_over;
        self.has_waited = has_read && is_shared && !self.has_waited && state.codec.has_output();
        if self.has_waited {
            state.wake_task();
            return Poll::Pending;
        }
        if is_over {
            state.codec.go_away(Reason::NO_ERROR);
        }
        let was_paused = !state.codec.wants_input();
        let written = self.poll_write(cx, &mut state);
        if was_paused && state.codec.wants_input() {
            cx.waker().wake_by_ref();
        }
        drop(state);
        let end = match written {
            Poll::Ready(Err(error)) => LinkEnd::Io(Arc::new(error)),
            // Nobody waits for what could not be written yet.
            _ if is_over => self.closed(),
            _ => return Poll::Pending,
        };
        self.finish(end);
        Poll::Ready(())
    }

    /// How a connection ended whose endpoint closed it.
    fn closed(&self) -> LinkEnd {
        self.left.filter(|reason| *reason != Reason::NO_ERROR).map_or(LinkEnd::Closed, LinkEnd::Left)
    }

    /// Tells everybody that it has ended.
    fn finish(&mut self, end: LinkEnd) {
        self.end = Some(end.clone());
        self.link.end(end.clone());
        if let Some(begun) = self.begun.take() {
            // Whoever has begun the connection may have given up.
            let _ = begun.send(Err(io::Error::other(end)));
        }
    }

    // === reading ===

    /// Reads what there is. Returns whether it was anything.
    fn read_all(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkEnd> {
        for reads in 0..MAX_READS {
            if !self.link.lock().codec.wants_input() {
                // Until something has been written.
                return Ok(reads > 0);
            }
            match self.poll_fill(cx) {
                Poll::Pending => return Ok(reads > 0),
                Poll::Ready(Ok(0)) => return Err(self.closed()),
                Poll::Ready(Ok(read)) => self.take(read)?,
                Poll::Ready(Err(error)) => return Err(LinkEnd::Io(Arc::new(error))),
            }
        }
        cx.waker().wake_by_ref();
        Ok(true)
    }

    /// Reads into the buffer; 0 is the end of the connection.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            // A connection that waits needs no buffer.
            ready!(self.io.poll_readable(cx))?;
            self.input = buffers::take();
        }
        let room = self.read.max(Connection::needed(&self.input));
        self.input.reserve(room);
        let room = self.input.capacity() - self.input.len();
        let Poll::Ready(read) = poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input) else {
            if self.input.is_empty() {
                buffers::give(&mut self.input);
            }
            return Poll::Pending;
        };
        let read = read?;
        self.read = if read == room { (self.read * 4).min(MAX_READ_BYTES) } else { READ_BUFFER_BYTES };
        Poll::Ready(Ok(read))
    }

    /// Takes in the bytes that were read last.
    fn take(&mut self, read: usize) -> Result<(), LinkEnd> {
        let now = clock::now();
        self.link.load.heard(now);
        let mut state = self.link.lock();
        let state = &mut *state;
        if let Err(abuse) = self.guard.see(&self.input[self.input.len() - read..], now) {
            state.codec.go_away(Reason::ENHANCE_YOUR_CALM);
            return Err(abuse.into());
        }
        loop {
            match state.codec.receive(&mut self.input)? {
                None => return Ok(()),
                Some(Event::Settings) => {
                    self.link.note_settings(state.codec.max_streams());
                    if let Some(begun) = self.begun.take() {
                        // Whoever has begun the connection may have given up.
                        let _ = begun.send(Ok(()));
                    }
                }
                Some(Event::GoAway(reason)) => {
                    self.left = Some(reason);
                    self.link.leaving();
                }
                Some(event) => state.deliver(event),
            }
        }
    }

    // === writing ===

    /// Writes everything that waits.
    fn poll_write(&mut self, cx: &mut Context<'_>, state: &mut LinkState) -> Poll<io::Result<()>> {
        while state.codec.has_output() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let used = state.codec.fill(&mut slices);
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..used]))?;
            state.codec.written(written);
            self.guard.sent(written);
            state.deliver_all();
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl<T: Carrier> Drop for Driver<T> {
    fn drop(&mut self) {
        // The thread ends, and everything with it.
        if self.end.is_none() {
            self.finish(LinkEnd::Closed);
        }
        buffers::give(&mut self.input);
    }
}
