//! The transport of a listener's connection: the socket, or TLS on it. The handshake counts into the time for the first request.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Limits;
use crate::tls::{self, AcceptError, Accepted, ServerTls, Stream, Turns};

/// A connection whose handshake may be under way.
pub(super) enum Transport {
    Open(Stream),
    Handshake(Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>),
    Failed,
}

/// TLS of a listener.
#[derive(Clone)]
pub(super) struct Secure {
    /// The listener's name in logs and metrics.
    name: &'static str,
    tls: ServerTls,
    turns: Turns,
}

// === impl Secure ===

impl Secure {
    pub(super) fn new(name: &'static str, tls: ServerTls) -> Self {
        tls::handshakes_from_zero(name);
        Self { name, tls, turns: Turns::default() }
    }

    /// A connection that begins with a handshake.
    pub(super) fn begin(&self, stream: TcpStream, peer: SocketAddr, limits: Limits) -> Transport {
        let secure = self.clone();
        let deadline = Instant::now() + limits.read_timeout;
        Transport::Handshake(Box::pin(async move { secure.handshake(stream, peer, deadline).await }))
    }

    async fn handshake(self, stream: TcpStream, peer: SocketAddr, deadline: Instant) -> io::Result<Stream> {
        let config = self.tls.config(stream.local_addr().ok().map(|local| local.ip()));
        let accepted = tls::accept(stream, &[], config, &self.turns, deadline).await;
        tls::count_handshake(self.name, &accepted);
        match accepted {
            Ok(Accepted { stream, .. }) => Ok(stream),
            Err(error) => {
                tracing::debug!(%peer, "the {} listener refuses a client: {error}", self.name);
                let text = error.to_string();
                if let AcceptError::NotTls { stream, read } = error {
                    tls::refuse_plain(stream, &read).await;
                }
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    }
}

// === impl Transport ===

impl Transport {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Stream>> {
        if let Self::Handshake(handshake) = self {
            let done = ready!(handshake.as_mut().poll(cx));
            *self = match done {
                Ok(stream) => Self::Open(stream),
                Err(error) => {
                    *self = Self::Failed;
                    return Poll::Ready(Err(error));
                }
            };
        }
        Poll::Ready(match self {
            Self::Open(stream) => Ok(stream),
            Self::Handshake(_) | Self::Failed => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_read(cx, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(stream).poll_flush(cx),
            // Nothing was written yet.
            Self::Handshake(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Handshake(_) | Self::Failed => {
                *self = Self::Failed;
                Poll::Ready(Ok(()))
            }
        }
    }
}
