//! A socket that is read in pieces of several records: rustls asks for 4 KiB at a time, a quarter of a record, and each would be
//! a system call.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes of one read: two records.
const READ_BUFFER_BYTES: usize = 32 << 10;

/// Free buffers that a thread keeps.
const MAX_FREE_BUFFERS: usize = 4;

thread_local! {
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A socket, and what was read of it ahead. It has a buffer only while something is in it.
#[derive(Debug)]
pub struct ReadAhead {
    stream: TcpStream,
    ahead: Option<Ahead>,
}

struct Ahead {
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
}

// === impl ReadAhead ===

impl ReadAhead {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, ahead: None }
    }

    /// The socket itself.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether no byte is buffered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ahead.is_none()
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ahead.is_none() {
            if buf.remaining() >= READ_BUFFER_BYTES {
                return Pin::new(&mut this.stream).poll_read(cx, buf);
            }
            // A socket without data needs no buffer.
            ready!(this.stream.poll_read_ready(cx))?;
            let mut buffer = take();
            let mut into = ReadBuf::new(&mut buffer);
            let read = Pin::new(&mut this.stream).poll_read(cx, &mut into);
            let to = into.filled().len();
            if to == 0 {
                give(buffer);
                return read;
            }
            this.ahead = Some(Ahead { buffer, from: 0, to });
        }
        if let Some(ahead) = &mut this.ahead {
            let length = buf.remaining().min(ahead.to - ahead.from);
            buf.put_slice(&ahead.buffer[ahead.from..ahead.from + length]);
            ahead.from += length;
        }
        if this.ahead.as_ref().is_some_and(|ahead| ahead.from == ahead.to)
            && let Some(ahead) = this.ahead.take()
        {
            give(ahead.buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.to - self.from)
    }
}

fn take() -> Box<[u8]> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; READ_BUFFER_BYTES].into())
}

fn give(buffer: Box<[u8]>) {
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < MAX_FREE_BUFFERS {
            buffers.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn data_read_ahead_keep_their_order_and_no_empty_buffer_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let mut sender = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
        let mut ahead = ReadAhead::new(listener.accept().await.expect("accepts").0);
        let sent: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let sending = tokio::spawn(async move {
            sender.write_all(&copy).await.expect("writes");
            sender
        });
        let (mut got, mut piece) = (Vec::new(), [0; 700]);
        while got.len() < sent.len() {
            let length = ahead.read(&mut piece).await.expect("reads");
            got.extend_from_slice(&piece[..length]);
        }
        assert!(got == sent);
        assert!(ahead.is_empty());
        drop(sending.await.expect("it ends"));
        assert_eq!(ahead.read(&mut piece).await.expect("reads"), 0);
        assert!(ahead.is_empty());
    }
}
