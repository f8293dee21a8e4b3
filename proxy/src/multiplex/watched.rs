//! The socket under an HTTP/2 connection to an endpoint, which watches the frames that come.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Load;
use crate::{clock, http2::guard::FrameGuard, transport::Io};

/// The socket. What the endpoint must not send fails it, with an error that says what it was.
#[derive(Debug)]
pub(super) struct Watched {
    io: Io,
    guard: FrameGuard,
    load: Arc<Load>,
}

impl Watched {
    pub(super) fn new(io: Io, load: Arc<Load>) -> Self {
        Self { io, guard: FrameGuard::of_endpoint(), load }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, guard, load } = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(io).poll_read(cx, buf))?;
        let now = clock::now();
        load.heard(now);
        let seen = guard.see(&buf.filled()[before..], now);
        load.settings.store(guard.settings(), Ordering::Relaxed);
        Poll::Ready(seen.map_err(|abuse| {
            buf.set_filled(before);
            io::Error::new(io::ErrorKind::InvalidData, format!("the endpoint is to blame: {abuse}"))
        }))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(this.io.poll_write(cx, bufs))?;
        this.guard.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
