//! The connection of a leg to its endpoint, over either version of HTTP: sends the request and reads the response piece by piece.

mod http1;
mod http2;

use std::{
    hint::cold_path,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

pub(super) use self::http2::failure_of_connection;
use self::{http1::Http1, http2::Http2};
use super::Failure;
use crate::{
    exchange::window::{Coding, Cursor, Window},
    http::{LastHead, response::ResponseHead},
    http2::translate::SharedHead,
    target::{Connecting, Opened},
    traces::OwnParent,
    transport::Io,
};

/// Interim responses (1xx) that are dropped before the connection is given up.
const MAX_INTERIM: u8 = 8;

/// The request that a leg sends.
#[derive(Clone, Copy, Debug)]
pub(in crate::exchange) struct Sending<'a> {
    /// The head, in the form of HTTP/1.1.
    pub(in crate::exchange) head: &'a [u8],
    /// The body.
    pub(in crate::exchange) window: &'a Window,
    /// How HTTP/1.1 frames the body.
    pub(in crate::exchange) coding: Coding,
    /// The head in the form of HTTP/2, which other legs may send, too.
    pub(in crate::exchange) shared_head: Option<&'a SharedHead>,
    /// The parent that takes the place of the one in the head, if the request is traced.
    pub(in crate::exchange) parent: Option<OwnParent>,
    /// Whether the request is a HEAD, whose answers have no body.
    pub(in crate::exchange) is_head: bool,
}

/// The connection of a leg, and the state of its exchange. The state stays in its place from one connection to the next, because
/// moving it costs more than what is done with it.
#[derive(Debug, Default)]
pub(super) struct Wire {
    link: Link,
    progress: Progress,
    http1: Http1,
}

#[derive(Default)]
enum Link {
    /// There is no connection.
    #[default]
    Closed,
    /// There will be one.
    Connecting(Connecting),
    /// A connection of its own.
    Http1(Io),
    /// A stream of a shared connection.
    Http2(Http2),
}

/// How far an exchange is, whatever the version of HTTP. Without a connection it is at its start.
#[derive(Debug, Default)]
struct Progress {
    /// Its position in the window.
    cursor: Cursor,
    /// Whether the whole request was sent, or handed to a shared connection.
    is_sent: bool,
    /// Whether the rest of the request cannot be sent.
    is_broken_off: bool,
    /// Whether anything was sent.
    has_sent: bool,
    /// Whether anything has come back.
    has_received: bool,
    /// Whether something has come that the leg does not know of.
    has_arrival: bool,
    /// The number of interim responses.
    interim: u8,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "Closed",
            Self::Connecting(_) => "Connecting",
            Self::Http1(_) => "Http1",
            Self::Http2(_) => "Http2",
        })
    }
}

// === impl Progress ===

impl Progress {
    /// Notes that bytes of the response have come.
    fn receive(&mut self) {
        (self.has_received, self.has_arrival) = (true, true);
    }
}

// === impl Wire ===

impl Wire {
    /// Begins an exchange on this connection.
    pub(super) fn open(&mut self, opened: Opened) {
        self.close();
        self.link = match opened {
            Opened::Http1(io) => {
                self.http1.reset();
                Link::Http1(io)
            }
            Opened::Http2(slot) => Link::Http2(Http2::new(slot)),
        };
    }

    /// Waits for a connection, which [`Wire::poll_connect`] opens.
    pub(super) fn connect(&mut self, connecting: Connecting) {
        self.close();
        self.link = Link::Connecting(connecting);
    }

    /// Ready once a connection is open. `Ok(false)` means that none is to be waited for.
    pub(super) fn poll_connect(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Box<Failure>>> {
        let Link::Connecting(connecting) = &mut self.link else { return Poll::Ready(Ok(false)) };
        match ready!(connecting.as_mut().poll(cx)) {
            Ok(opened) => {
                self.open(opened);
                Poll::Ready(Ok(true))
            }
            Err(error) => Poll::Ready(Err(Box::new(Failure::connect(&error)))),
        }
    }

    /// Ends the exchange, and closes the connection or resets the stream.
    pub(super) fn close(&mut self) {
        if !matches!(self.link, Link::Closed) {
            cold_path();
            (self.link, self.progress) = (Link::Closed, Progress::default());
            self.http1.give_buffer();
        }
    }

    /// Ends the exchange, and returns the connection if it is one of its own that can be used again.
    pub(super) fn finish(&mut self, response: &ResponseHead, to_head: bool) -> Option<Io> {
        let is_intact = self.progress.is_sent && !self.progress.is_broken_off;
        let is_reusable = is_intact && self.http1.is_at_end_of(response, to_head);
        self.http1.give_buffer();
        self.progress = Progress::default();
        match std::mem::take(&mut self.link) {
            Link::Http1(io) if is_reusable => Some(io),
            // If it is shared, only the stream has ended.
            _ => None,
        }
    }

    /// Whether there is a connection.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.link, Link::Http1(_) | Link::Http2(_))
    }

    /// Whether some of the request is still to be sent.
    pub(super) fn is_sending(&self) -> bool {
        !self.progress.is_sent && !self.progress.is_broken_off
    }

    /// Whether the whole request was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.progress.is_sent
    }

    /// Whether the endpoint has stopped reading the request before its end.
    pub(super) fn is_broken_off(&self) -> bool {
        self.progress.is_broken_off
    }

    /// Whether anything was sent on this connection.
    pub(super) fn has_sent(&self) -> bool {
        self.progress.has_sent
    }

    /// Whether anything has come back on this connection.
    pub(super) fn has_received(&self) -> bool {
        self.progress.has_received
    }

    /// Whether something has come since the last call.
    pub(super) fn take_arrival(&mut self) -> bool {
        std::mem::take(&mut self.progress.has_arrival)
    }

    /// Its position in the window.
    pub(super) fn cursor(&self) -> Cursor {
        self.progress.cursor
    }

    /// Sends as much as there is and the endpoint accepts. Errors are kept for later, because a response is more informative.
    pub(super) fn send(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>) {
        match &mut self.link {
            Link::Http1(io) => self.http1.send(io, &mut self.progress, cx, sending),
            Link::Http2(http2) => http2.send(&mut self.progress, cx, sending),
            Link::Closed | Link::Connecting(_) => {}
        }
    }

    /// Reads the final response head into `head`. `last` knows the head that came last, `to_head` says that the request was a HEAD.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        last: &mut LastHead,
        to_head: bool,
    ) -> Poll<Result<(), Box<Failure>>> {
        match &mut self.link {
            Link::Http1(io) => self.http1.poll_head(io, &mut self.progress, cx, head, last, to_head),
            Link::Http2(http2) => http2.poll_head(&mut self.progress, cx, head),
            Link::Closed | Link::Connecting(_) => Poll::Pending,
        }
    }

    /// The next piece of the response's body; none at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Box<Failure>>> {
        match &mut self.link {
            Link::Http1(io) => self.http1.poll_body(io, &mut self.progress, cx),
            Link::Http2(http2) => http2.poll_body(&mut self.progress, cx),
            Link::Closed | Link::Connecting(_) => Poll::Pending,
        }
    }

    /// The lines of the trailers of a response that is complete.
    pub(super) fn take_trailers(&mut self) -> Bytes {
        match &mut self.link {
            Link::Http1(_) => self.http1.take_trailers(),
            Link::Http2(http2) => http2.take_trailers(),
            Link::Closed | Link::Connecting(_) => Bytes::new(),
        }
    }
}
