//! The client's side of a connection: its stream, a read buffer that is not there while nothing is in it, and
//! what is known about the client.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{buffers, transport};

/// Bytes that may wait in the system for the client to take them.
const MAX_UNSENT_BYTES: u32 = 64 * 1024;

/// What a client may have taken before it shows: the system asks for more when half of what may wait is gone.
pub(crate) const UNSEEN_BYTES: u64 = MAX_UNSENT_BYTES as u64 / 2;

/// A client connection.
#[derive(Debug)]
pub struct Downstream {
    stream: TcpStream,
    /// What has been read and not been taken yet.
    pub buffer: BytesMut,
    /// The client's address.
    pub peer: SocketAddr,
}

impl Downstream {
    /// Takes a stream that was accepted.
    #[must_use]
    pub fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        // Else megabytes could lie there before it shows whether the client takes them. A socket that cannot is gone.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
        Self { stream, buffer: BytesMut::new(), peer }
    }

    /// Reads what there is; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() == 0 && room <= buffers::READ_BUFFER_BYTES {
            // Whoever waits needs no buffer.
            ready!(self.stream.poll_read_ready(cx))?;
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
        let written = ready!(transport::poll_write(&mut self.stream, cx, slices))?;
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
