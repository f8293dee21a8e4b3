//! The client's side of a connection: its stream, a read buffer that is not there while nothing is in it, and
//! what is known about the client.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use access::identity::CertificateNames;
use bytes::BytesMut;
use runtime::tls::{PeerCertificate, Stream};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use crate::{buffers, transport};

/// Bytes that may wait in the system for the client to take them.
const MAX_UNSENT_BYTES: u32 = 64 * 1024;

/// What a client may have taken before it shows: the system asks for more when half of what may wait is gone.
pub(crate) const UNSEEN_BYTES: u64 = MAX_UNSENT_BYTES as u64 / 2;

/// A client connection.
#[derive(Debug)]
pub struct Downstream {
    stream: Stream,
    /// What has been read and not been taken yet.
    pub buffer: BytesMut,
    /// The client's address.
    pub peer: SocketAddr,
    /// The names in the certificate that it has shown, for which an authority of the listener vouches.
    pub certificate: Option<Arc<CertificateNames>>,
    /// When its first head must be whole, where the time for that began before the first byte of it.
    due: Option<Instant>,
}

impl Downstream {
    /// Takes a stream that was accepted.
    #[must_use]
    pub fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        limit_unsent(&stream);
        Self { stream: stream.into(), buffer: BytesMut::new(), peer, certificate: None, due: None }
    }

    /// Takes a stream on which the handshake was done.
    #[must_use]
    pub fn secured(stream: Stream, peer: SocketAddr, certificate: Option<PeerCertificate>) -> Self {
        limit_unsent(stream.tcp());
        let certificate = certificate.and_then(|shown| CertificateNames::of(&shown.dns, &shown.uris)).map(Arc::new);
        Self { stream, buffer: BytesMut::new(), peer, certificate, due: None }
    }

    /// The same, whose first head must be whole by then.
    #[must_use]
    pub fn due(self, due: Instant) -> Self {
        Self { due: Some(due), ..self }
    }

    /// When its first head must be whole, where that is known already; asked once.
    pub fn take_due(&mut self) -> Option<Instant> {
        self.due.take()
    }

    /// What a request on it is by: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.stream.is_tls() { "https" } else { "http" }
    }

    /// Reads what there is; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() == 0 && room <= buffers::READ_BUFFER_BYTES {
            // Whoever waits needs no buffer.
            match &mut self.stream {
                Stream::Plain(stream) => ready!(stream.poll_read_ready(cx))?,
                Stream::Tls(stream) => ready!(transport::poll_readable(stream, cx))?,
            }
            self.buffer = buffers::take();
        }
        self.buffer.reserve(room);
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer);
        if read.is_pending() && self.buffer.is_empty() {
            buffers::give(&mut self.buffer);
        }
        read
    }

    /// Reads what there is into a buffer of the caller.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    /// Writes some of the slices.
    ///
    /// # Errors
    /// What the socket reports; also where it takes nothing.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => ready!(transport::poll_write(stream, cx, slices))?,
            Stream::Tls(stream) => ready!(transport::poll_write_tls(stream, cx, slices))?,
        };
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    /// Ready once everything that was written is on its way.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Closes it. By TLS an end has to be said, or what ends with the connection seems to be cut.
    pub async fn close(mut self) {
        if self.stream.is_tls() {
            // Whoever takes nothing more goes without.
            std::future::poll_fn(|cx| {
                let _ = self.poll_shutdown(cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Keeps megabytes from lying in the system before it shows whether the client takes them. A socket that cannot is gone.
fn limit_unsent(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
}
