//! Connections to endpoints, as streams of bytes. Each kind is a variant of [`Io`]: no boxed trait stands between a leg and its
//! socket.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connection to an endpoint.
#[derive(Debug)]
pub enum Io {
    /// Plain TCP.
    Tcp(TcpStream),
}

/// Connects, however long it takes.
///
/// # Errors
/// What the system reports.
pub async fn connect(address: SocketAddr) -> io::Result<Io> {
    let stream = TcpStream::connect(address).await?;
    // What is written is whole heads and bodies: waiting for more would only delay it.
    stream.set_nodelay(true)?;
    Ok(Io::Tcp(stream))
}

/// A write up to this long is tried at once.
const MAX_SHORT_WRITE: usize = 16 * 1024;

/// Writes some of the slices. A short one, which nearly always finds room, is tried without asking the runtime to wake
/// anybody; one that may well be cut short is not, because the runtime would not learn that the socket is full.
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
        }
    }

    /// Reads what there is into the spare room of the buffer; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => tokio_util::io::poll_read_buf(Pin::new(stream), cx, buffer),
        }
    }

    /// Writes some of the slices.
    ///
    /// # Errors
    /// What the socket reports; also where it takes nothing.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = match self {
            Self::Tcp(stream) => ready!(poll_write(stream, cx, slices))?,
        };
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    /// Whether an idle connection can carry a request: the endpoint has neither closed it nor sent anything unasked.
    ///
    /// Asks what the runtime has learned already and makes no system call while that is nothing.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => {
                matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }

    /// The same, as the system knows it now: what has happened since the runtime last asked shows as well.
    #[must_use]
    pub fn is_still_quiet(&self) -> bool {
        match self {
            Self::Tcp(stream) => {
                let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
                matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
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
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
