//! A client connection: its stream, a read buffer that exists only while it has data, and the client's address and certificate.

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

/// The most unsent bytes in the socket's send buffer (`TCP_NOTSENT_LOWAT`).
const MAX_UNSENT_BYTES: u32 = 64 * 1024;

/// The bytes that a client may read before the socket becomes writable again, which is at half of the unsent limit.
pub(crate) const UNSEEN_BYTES: u64 = MAX_UNSENT_BYTES as u64 / 2;

/// A client connection.
#[derive(Debug)]
pub struct Downstream {
    stream: Stream,
    /// Bytes that were read and not consumed yet.
    pub buffer: BytesMut,
    /// The client's address.
    pub peer: SocketAddr,
    /// The names in its verified certificate.
    pub certificate: Option<Arc<CertificateNames>>,
    /// The deadline of its first head, if its time began before its first byte.
    due: Option<Instant>,
}

impl Downstream {
    /// Takes a stream that was accepted.
    #[must_use]
    pub fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        limit_unsent(&stream);
        Self { stream: stream.into(), buffer: BytesMut::new(), peer, certificate: None, due: None }
    }

    /// A connection after a TLS handshake.
    #[must_use]
    pub fn secured(stream: Stream, peer: SocketAddr, certificate: Option<PeerCertificate>) -> Self {
        limit_unsent(stream.tcp());
        let certificate = certificate.and_then(|shown| CertificateNames::of(&shown.dns, &shown.uris)).map(Arc::new);
        Self { stream, buffer: BytesMut::new(), peer, certificate, due: None }
    }

    /// Sets the deadline of its first head.
    #[must_use]
    pub fn due(self, due: Instant) -> Self {
        Self { due: Some(due), ..self }
    }

    /// Takes the deadline of its first head, if it is set.
    pub fn take_due(&mut self) -> Option<Instant> {
        self.due.take()
    }

    /// The scheme of its requests: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.stream.is_tls() { "https" } else { "http" }
    }

    /// Reads what there is; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() && room <= buffers::READ_BUFFER_BYTES {
            let readable = match &mut self.stream {
                Stream::Plain(stream) => stream.poll_read_ready(cx),
                Stream::Tls(stream) => transport::poll_readable(stream, cx),
            };
            if readable.is_pending() && self.buffer.capacity() > 0 {
                // A waiting connection needs no buffer.
                buffers::give(&mut self.buffer);
            }
            ready!(readable)?;
            if self.buffer.capacity() == 0 {
                self.buffer = buffers::take();
            }
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
    /// The error of the socket; also if it accepts nothing.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => ready!(transport::poll_write(stream, cx, slices))?,
            Stream::Tls(stream) => ready!(transport::poll_write_tls(stream, cx, slices))?,
        };
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    /// Ready once everything that was written is flushed.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Closes it. TLS needs a close_notify, or a body that ends with the connection seems to be truncated.
    pub async fn close(mut self) {
        if self.stream.is_tls() {
            // A client that reads nothing more gets none.
            std::future::poll_fn(|cx| {
                let _ = self.poll_shutdown(cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Shuts down writing.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Limits unsent data, so that megabytes are not buffered before the client reads. Errors mean that the socket is closed.
fn limit_unsent(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
}
