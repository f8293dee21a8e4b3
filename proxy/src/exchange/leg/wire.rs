//! The connection of a leg to its endpoint, over either version of HTTP: sends the request and reads the response piece by piece.

mod http1;
mod http2;

use std::task::{Context, Poll};

use bytes::Bytes;

pub(super) use self::http2::failure_of_connection;
use self::{http1::Http1, http2::Http2};
use super::Failure;
use crate::{
    exchange::window::{Coding, Cursor, Window},
    http::{Fields, response::ResponseHead},
    http2::translate::SharedHead,
    target::Opened,
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

/// An open connection to an endpoint, for one exchange.
#[derive(Debug)]
pub(super) enum Wire {
    /// HTTP/1.1.
    Http1(Http1),
    /// A stream of HTTP/2.
    Http2(Http2),
}

// === impl Wire ===

impl Wire {
    /// A connection without an exchange so far.
    pub(super) fn new(opened: Opened) -> Self {
        match opened {
            Opened::Http1(io) => Self::Http1(Http1::new(io)),
            Opened::Http2(slot) => Self::Http2(Http2::new(slot)),
        }
    }

    /// Sends as much as there is and the endpoint accepts. Errors are kept for later, because a response is more informative.
    pub(super) fn send(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>) {
        match self {
            Self::Http1(http1) => http1.send(cx, sending),
            Self::Http2(http2) => http2.send(cx, sending),
        }
    }

    /// Whether it can still send more of the request.
    pub(super) fn is_sending(&self) -> bool {
        match self {
            Self::Http1(http1) => !http1.sent && http1.send_error.is_none(),
            Self::Http2(http2) => !http2.sent && !http2.is_broken_off(),
        }
    }

    /// Whether the whole request was sent.
    pub(super) fn is_sent(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.sent,
            Self::Http2(http2) => http2.sent,
        }
    }

    /// Whether the endpoint has stopped reading the request before its end.
    pub(super) fn is_broken_off(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.send_error.is_some(),
            Self::Http2(http2) => http2.is_broken_off(),
        }
    }

    /// Whether anything was sent.
    pub(super) fn has_sent(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.has_sent,
            Self::Http2(http2) => http2.has_sent(),
        }
    }

    /// Whether anything has come back.
    pub(super) fn has_received(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.has_received,
            Self::Http2(http2) => http2.has_received,
        }
    }

    /// Whether something has come since the last call.
    pub(super) fn take_arrival(&mut self) -> bool {
        match self {
            Self::Http1(http1) => std::mem::take(&mut http1.arrival),
            Self::Http2(http2) => std::mem::take(&mut http2.arrival),
        }
    }

    /// Its position in the window.
    pub(super) fn cursor(&self) -> Cursor {
        match self {
            Self::Http1(http1) => http1.cursor,
            Self::Http2(http2) => http2.cursor,
        }
    }

    /// Reads up to the end of the final response head. `fields` is memory for its list of fields, `to_head` says that the
    /// request was a HEAD.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        fields: &mut Fields,
        to_head: bool,
    ) -> Poll<Result<ResponseHead, Failure>> {
        match self {
            Self::Http1(http1) => http1.poll_head(cx, fields, to_head),
            Self::Http2(http2) => http2.poll_head(cx, fields),
        }
    }

    /// The next piece of the response's body; none at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        match self {
            Self::Http1(http1) => http1.poll_body(cx),
            Self::Http2(http2) => http2.poll_body(cx),
        }
    }

    /// The lines of the trailers of a response that is complete.
    pub(super) fn take_trailers(&mut self) -> Bytes {
        match self {
            Self::Http1(http1) => http1.take_trailers(),
            Self::Http2(http2) => std::mem::take(&mut http2.trailers),
        }
    }

    /// Ends the exchange, and returns the connection if it can be reused.
    pub(super) fn into_idle(self, response: &ResponseHead, to_head: bool) -> Option<Io> {
        match self {
            Self::Http1(http1) => http1.into_idle(response, to_head),
            // The connection is shared: only the stream has ended.
            Self::Http2(_) => None,
        }
    }
}
