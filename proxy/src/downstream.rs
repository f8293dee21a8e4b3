//! The client's side of a connection: pingora's stream, a read buffer that is not there while nothing is in it, and
//! what is known about the client.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use tokio::{io::AsyncWrite, net::TcpStream};

/// A client connection.
#[derive(Debug)]
pub struct Downstream {
    stream: Stream,
    /// What has been read and not been taken yet.
    pub buffer: BytesMut,
    /// The client's address.
    pub peer: SocketAddr,
}

impl Downstream {
    /// Takes a stream that pingora's listener has accepted.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        let digest = stream.get_socket_digest();
        let peer = digest.and_then(|digest| digest.peer_addr().and_then(|addr| addr.as_inet().copied()));
        // Only a socket that is gone already has no peer; its first read will say so.
        let peer = peer.unwrap_or_else(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
        Self { stream, buffer: BytesMut::new(), peer }
    }

    /// Takes a stream that was accepted without pingora.
    #[must_use]
    pub fn plain(stream: TcpStream, peer: SocketAddr) -> Self {
        Self {
            stream: Box::new(pingora_core::protocols::l4::stream::Stream::from(stream)),
            buffer: BytesMut::new(),
            peer,
        }
    }

    /// Reads what there is; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.buffer.reserve(room);
        tokio_util::io::poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer)
    }

    /// Writes some of the slices.
    ///
    /// # Errors
    /// What the socket reports; also where it takes nothing.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = match slices {
            [one] => ready!(Pin::new(&mut self.stream).poll_write(cx, one))?,
            _ => ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?,
        };
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
