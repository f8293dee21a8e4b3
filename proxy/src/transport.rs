//! Connections to endpoints, as streams of bytes. Each kind is a variant of [`Io`]: no boxed trait stands between a leg and its
//! socket.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::BytesMut;
use runtime::tls::{self, Protocol, Stream, Tls, Turns};
use socket2::SockRef;
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

/// A connection to an endpoint.
#[derive(Debug)]
pub enum Io {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS, boxed because its state is large.
    Tls(Box<Tls>),
}

/// Connects without a time-out.
///
/// # Errors
/// What the system reports.
pub async fn connect(address: SocketAddr) -> io::Result<Io> {
    let stream = TcpStream::connect(address).await?;
    // Writes are whole heads and bodies, which Nagle's algorithm would only delay.
    stream.set_nodelay(true)?;
    Ok(Io::Tcp(stream))
}

thread_local! {
    /// The scheduling of this thread's handshakes, with clients and endpoints.
    static TURNS: Turns = Turns::default();
}

/// The fair scheduling of this thread's handshakes.
pub(crate) fn turns() -> Turns {
    TURNS.with(Clone::clone)
}

/// Does the handshake with an endpoint, within `limit`.
///
/// # Errors
/// The handshake times out or fails, or the certificate cannot be verified.
pub(crate) async fn secure(stream: TcpStream, target: &tls::Target, limit: Duration) -> io::Result<(Io, Protocol)> {
    let connected = tls::connect(stream, target, &turns(), Instant::now() + limit).await?;
    let io = match connected.stream {
        Stream::Plain(stream) => Io::Tcp(stream),
        Stream::Tls(stream) => Io::Tls(stream),
    };
    Ok((io, connected.protocol))
}

/// Ready once a TLS connection has something to read, perhaps in its own buffer.
pub(crate) fn poll_readable(stream: &mut Tls, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    Pin::new(stream).poll_fill_buf(cx).map_ok(|_| ())
}

/// Writes some of the slices with TLS, after earlier writes were flushed, which bounds the buffer.
pub(crate) fn poll_write_tls(
    stream: &mut Tls,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    ready!(Pin::new(&mut *stream).poll_flush(cx))?;
    Pin::new(stream).poll_write_vectored(cx, slices)
}

/// The longest write that is tried without registering for a wake-up.
const MAX_SHORT_WRITE: usize = 16 * 1024;

/// Writes some of the slices. A short write, which nearly always fits, is tried without the runtime's readiness. A longer one is
/// not, because the runtime would not learn that the socket is full.
pub(crate) fn poll_write(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let [one] = slices else { return Pin::new(stream).poll_write_vectored(cx, slices) };
    if one.len() <= MAX_SHORT_WRITE {
        match stream.try_write(one) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
    Pin::new(stream).poll_write(cx, one)
}

impl Io {
    /// Ready once there may be something to read.
    ///
    /// # Errors
    /// What the runtime reports.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) => poll_readable(stream, cx),
        }
    }

    /// Reads what there is into the spare room of the buffer; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => tokio_util::io::poll_read_buf(Pin::new(stream), cx, buffer),
            Self::Tls(stream) => tokio_util::io::poll_read_buf(Pin::new(stream), cx, buffer),
        }
    }

    /// Writes some of the slices.
    ///
    /// # Errors
    /// The error of the socket; also if it accepts nothing.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = match self {
            Self::Tcp(stream) => ready!(poll_write(stream, cx, slices))?,
            Self::Tls(stream) => ready!(poll_write_tls(stream, cx, slices))?,
        };
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    /// Ready once everything that was written is flushed.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Whether an idle connection is usable: the endpoint has neither closed it nor sent unexpected bytes.
    ///
    /// Uses the runtime's readiness, without a system call while nothing has happened.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => {
                matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            // Reading also processes TLS messages, such as tickets.
            Self::Tls(stream) => poll_readable(stream, &mut Context::from_waker(Waker::noop())).is_pending(),
        }
    }

    /// The same with a system call, which includes events that the runtime has not seen yet.
    #[must_use]
    pub fn is_still_quiet(&self) -> bool {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) if !stream.get_ref().0.is_empty() => return false,
            Self::Tls(stream) => stream.get_ref().0.tcp(),
        };
        let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
