//! A stream of an HTTP/2 connection to an endpoint: sends the request out of the window, reads the response.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Instant;

use super::{MAX_INTERIM, Sending};
use crate::{
    clock,
    exchange::{
        leg::Failure,
        window::{Coding, Cursor, Window},
    },
    grpc,
    http::{Fields, response::ResponseHead},
    multiplex::{LinkEnd, StreamFault, StreamSlot},
    outcome::Outcome,
    proxy_error::ProxyError,
};

/// One exchange on a shared connection. Dropping it before its end resets the stream.
#[derive(Debug)]
pub(in crate::exchange::leg) struct Http2 {
    slot: StreamSlot,
    began: Instant,
    pub(super) cursor: Cursor,
    /// Whether the whole request was handed to the connection.
    pub(super) sent: bool,
    /// Why the rest cannot be sent.
    broken: Option<SendFault>,
    pub(super) has_received: bool,
    /// Whether something has come that nobody was told of.
    pub(super) arrival: bool,
    /// The number of interim responses.
    interim: u8,
    /// Taken bytes for which the endpoint has no new credit yet.
    uncredited: usize,
    /// The lines of the response's trailers, once it is complete.
    pub(super) trailers: Bytes,
}

/// Why a request cannot be sent on.
#[derive(Debug)]
enum SendFault {
    /// The endpoint reads no more of it; its response is more informative.
    Stream,
    /// It was never begun.
    Unsent(Box<StreamFault>),
}

// === impl Http2 ===

impl Http2 {
    pub(super) fn new(slot: StreamSlot) -> Self {
        Self {
            slot,
            began: clock::now(),
            cursor: Cursor::default(),
            sent: false,
            broken: None,
            has_received: false,
            arrival: false,
            interim: 0,
            uncredited: 0,
            trailers: Bytes::new(),
        }
    }

    pub(super) fn is_broken_off(&self) -> bool {
        self.broken.is_some()
    }

    /// Whether anything was sent.
    pub(super) fn has_sent(&self) -> bool {
        self.slot.has_begun()
    }

    pub(super) fn send(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>) {
        if !self.slot.has_begun() {
            let ends = is_end(sending.window, self.cursor);
            match self.slot.begin(sending.head, (sending.shared_head, sending.parent), ends, sending.is_head) {
                Ok(()) => self.sent = ends,
                // The response, or its error, is read next.
                Err(fault) => return self.broken = Some(SendFault::Unsent(Box::new(fault))),
            }
        }
        if let Poll::Ready(Err(())) = self.poll_data(cx, sending.window) {
            self.broken = Some(SendFault::Stream);
        }
    }

    /// Sends as much of the body as there is and the endpoint accepts.
    fn poll_data(&mut self, cx: &mut Context<'_>, window: &Window) -> Poll<Result<(), ()>> {
        while !self.sent {
            let Some(mut data) = window.piece(self.cursor) else {
                if window.is_finished() {
                    if !self.slot.end(window.trailers()) {
                        return Poll::Ready(Err(()));
                    }
                    self.sent = true;
                }
                return Poll::Ready(Ok(()));
            };
            data.truncate(ready!(self.slot.poll_room(cx, data.len()))?);
            window.advance(&mut self.cursor, Coding::Identity, data.len());
            self.sent = is_end(window, self.cursor);
            self.slot.send(data, self.sent);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        fields: &mut Fields,
    ) -> Poll<Result<ResponseHead, Failure>> {
        if let Some(SendFault::Unsent(_)) = self.broken
            && let Some(SendFault::Unsent(fault)) = self.broken.take()
        {
            return Poll::Ready(Err(failure(&fault)));
        }
        let (interim, head) = self.slot.poll_head(cx);
        if interim != self.interim {
            (self.interim, self.has_received, self.arrival) = (interim, true, true);
            if interim > MAX_INTERIM {
                self.slot.close_connection();
                let detail = format!("more than {MAX_INTERIM} interim responses");
                return Poll::Ready(Err(Failure::protocol(detail)));
            }
        }
        let head = ready!(head).map_err(|fault| failure(&fault))?;
        (self.has_received, self.arrival) = (true, true);
        let head = ResponseHead::parse_into(head, std::mem::take(fields));
        Poll::Ready(head.map_err(|error| Failure::protocol(error.to_string())))
    }

    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        let data = self.slot.poll_data(cx, std::mem::take(&mut self.uncredited));
        match ready!(data).map_err(|fault| failure(&fault))? {
            Some(data) => {
                (self.uncredited, self.arrival) = (data.len(), true);
                Poll::Ready(Ok(Some(data)))
            }
            None => {
                self.trailers = self.slot.take_trailers();
                Poll::Ready(Ok(None))
            }
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        if self.slot.has_begun() && !self.has_received {
            self.slot.unheard(self.began);
        }
    }
}

/// Whether nothing follows this position, not even trailers.
fn is_end(window: &Window, cursor: Cursor) -> bool {
    window.is_finished() && window.trailers().is_empty() && window.is_passed(cursor, Coding::Identity)
}

/// The failure of a stream that ended before its response.
fn failure(fault: &StreamFault) -> Failure {
    let (is_fault, code) = match fault {
        StreamFault::Malformed(_) | StreamFault::NotInHttp2(_) => (true, None),
        StreamFault::Reset(reason) => (false, Some(grpc::of_reset(*reason))),
        StreamFault::Connection { end, .. } => (end.is_fault(), None),
        StreamFault::Refused(_) | StreamFault::NotOpened(_) => (false, None),
    };
    let detail = match fault {
        StreamFault::NotOpened(_) | StreamFault::NotInHttp2(_) => fault.to_string(),
        _ => format!("the stream ended: {fault}"),
    };
    let failure = of(is_fault, detail);
    Failure { is_unprocessed: fault.is_unprocessed(), code, ..failure }
}

/// The failure of a connection before its first stream.
pub(in crate::exchange::leg) fn failure_of_connection(end: &LinkEnd) -> Failure {
    of(end.is_fault(), format!("the connection ended: {end}"))
}

/// The failure of what ended, perhaps because the endpoint broke the protocol.
fn of(is_fault: bool, detail: String) -> Failure {
    let (outcome, kind) = if is_fault {
        (Outcome::Protocol, ProxyError::HttpProtocolError)
    } else {
        (Outcome::Reset, ProxyError::ConnectionTerminated)
    };
    Failure::new(outcome, kind, detail)
}
