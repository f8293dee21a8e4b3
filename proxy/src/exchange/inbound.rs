//! The client's side of an exchange on the way in: the next piece of the request's body, whatever version of HTTP brings
//! it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::gather::Fault;
use crate::{
    downstream::Downstream,
    http::body::{BodyReader, Piece},
    http2::stream::StreamBody,
};

/// Where the body of a request comes from.
#[derive(Debug)]
pub enum Inbound<'a> {
    /// A connection that speaks HTTP/1.1, and the framing of the body.
    Http1(&'a mut Downstream, &'a mut BodyReader),
    /// A stream of HTTP/2.
    Http2(&'a mut StreamBody),
}

/// Why a body cannot be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The client is at fault.
    Fault(Fault),
    /// The client has disconnected.
    Gone,
}

/// The largest read of a body, in bytes.
const MAX_READ_BYTES: usize = 64 * 1024;

// === impl Inbound ===

impl Inbound<'_> {
    /// The next piece; [`Piece::Partial`] for an incomplete one. Without `may_read` only buffered bytes are returned, and the task
    /// is not woken for more.
    ///
    /// # Errors
    /// `Broken` if no more will come.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>, may_read: bool) -> Poll<Result<Piece, Broken>> {
        match self {
            Self::Http1(client, body) => {
                let piece = body.next(&mut client.buffer).map_err(|error| Broken::Fault(error.into()))?;
                if piece != Piece::Partial {
                    return Poll::Ready(Ok(piece));
                }
                if !may_read {
                    return Poll::Pending;
                }
                match ready!(client.poll_fill(cx, body.room(MAX_READ_BYTES))) {
                    Ok(0) | Err(_) => Poll::Ready(Err(Broken::Gone)),
                    Ok(_) => Poll::Ready(Ok(Piece::Partial)),
                }
            }
            // `h2` has read everything that has arrived.
            Self::Http2(body) => body.poll_piece(cx).map_err(|_| Broken::Gone),
        }
    }

    /// The lines of the trailers of a body that has ended.
    pub fn take_trailers(&mut self) -> Bytes {
        match self {
            Self::Http1(_, body) => body.take_trailers(),
            Self::Http2(body) => body.take_trailers(),
        }
    }

    /// Discards the buffered rest of an unneeded body. Returns whether that was all of it.
    pub fn skip(&mut self) -> bool {
        match self {
            Self::Http1(client, body) => loop {
                match body.next(&mut client.buffer) {
                    Ok(Piece::End) => return true,
                    Ok(Piece::Data(_)) => {}
                    Ok(Piece::Partial) | Err(_) => return false,
                }
            },
            Self::Http2(body) => body.has_ended(),
        }
    }
}
