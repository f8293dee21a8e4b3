//! A stream of an HTTP/2 connection to an endpoint: sends the request out of the window, reads the response.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Instant;

use super::{MAX_INTERIM, Progress, Sending};
use crate::{
    clock,
    exchange::{
        leg::Failure,
        window::{Coding, Cursor, Window},
    },
    grpc,
    http::response::ResponseHead,
    multiplex::{LinkEnd, StreamFault, StreamSlot},
    outcome::Outcome,
    proxy_error::ProxyError,
};

/// One exchange on a shared connection. Dropping it before its end resets the stream.
#[derive(Debug)]
pub(super) struct Http2 {
    slot: StreamSlot,
    began: Instant,
    /// Why the rest of the request cannot be sent.
    broken: Option<SendFault>,
    /// Whether anything has come back.
    is_heard: bool,
    /// Taken bytes for which the endpoint has no new credit yet.
    uncredited: usize,
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

// Not inlined into the steps of a leg: what HTTP/1.1 executes of them would be scattered.
impl Http2 {
    pub(super) fn new(slot: StreamSlot) -> Self {
        Self { slot, began: clock::now(), broken: None, is_heard: false, uncredited: 0 }
    }

    #[inline(never)]
    pub(super) fn send(&mut self, progress: &mut Progress, cx: &mut Context<'_>, sending: &Sending<'_>) {
        if !self.slot.has_begun() {
            let ends = is_end(sending.window, progress.cursor);
            match self.slot.begin(sending.head, (sending.shared_head, sending.parent), ends, sending.is_head) {
                Ok(()) => (progress.is_sent, progress.has_sent) = (ends, true),
                // The response, or its error, is read next.
                Err(fault) => return self.break_off(progress, SendFault::Unsent(Box::new(fault))),
            }
        }
        if let Poll::Ready(Err(())) = self.poll_data(progress, cx, sending.window) {
            self.break_off(progress, SendFault::Stream);
        }
    }

    fn break_off(&mut self, progress: &mut Progress, fault: SendFault) {
        self.broken = Some(fault);
        progress.is_broken_off = true;
    }

    /// Sends as much of the body as there is and the endpoint accepts.
    fn poll_data(&mut self, progress: &mut Progress, cx: &mut Context<'_>, window: &Window) -> Poll<Result<(), ()>> {
        while !progress.is_sent {
            let Some(mut data) = window.piece(progress.cursor) else {
                if window.is_finished() {
                    if !self.slot.end(window.trailers()) {
                        return Poll::Ready(Err(()));
                    }
                    progress.is_sent = true;
                }
                return Poll::Ready(Ok(()));
            };
            data.truncate(ready!(self.slot.poll_room(cx, data.len()))?);
            window.advance(&mut progress.cursor, Coding::Identity, data.len());
            progress.is_sent = is_end(window, progress.cursor);
            self.slot.send(data, progress.is_sent);
        }
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    pub(super) fn poll_head(
        &mut self,
        progress: &mut Progress,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Box<Failure>>> {
        if let Some(SendFault::Unsent(_)) = self.broken
            && let Some(SendFault::Unsent(fault)) = self.broken.take()
        {
            return Poll::Ready(Err(failure(&fault)));
        }
        let (interim, read) = self.slot.poll_head(cx, head);
        if interim != progress.interim {
            self.receive(progress);
            progress.interim = interim;
            if interim > MAX_INTERIM {
                self.slot.close_connection();
                let detail = format!("more than {MAX_INTERIM} interim responses");
                return Poll::Ready(Err(Box::new(Failure::protocol(detail))));
            }
        }
        let read = ready!(read).map_err(|fault| failure(&fault))?;
        self.receive(progress);
        Poll::Ready(read.map_err(|error| Box::new(Failure::protocol(error.to_string()))))
    }

    fn receive(&mut self, progress: &mut Progress) {
        self.is_heard = true;
        progress.receive();
    }

    #[inline(never)]
    pub(super) fn poll_body(
        &mut self,
        progress: &mut Progress,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Box<Failure>>> {
        let data = ready!(self.slot.poll_data(cx, std::mem::take(&mut self.uncredited)));
        let data = data.map_err(|fault| failure(&fault))?;
        if let Some(data) = &data {
            (self.uncredited, progress.has_arrival) = (data.len(), true);
        }
        Poll::Ready(Ok(data))
    }

    pub(super) fn take_trailers(&mut self) -> Bytes {
        self.slot.take_trailers()
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        if self.slot.has_begun() && !self.is_heard {
            self.slot.unheard(self.began);
        }
    }
}

/// Whether nothing follows this position, not even trailers.
fn is_end(window: &Window, cursor: Cursor) -> bool {
    window.is_finished() && window.trailers().is_empty() && window.is_passed(cursor, Coding::Identity)
}

/// The failure of a stream that ended before its response.
fn failure(fault: &StreamFault) -> Box<Failure> {
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
    Box::new(Failure { is_unprocessed: fault.is_unprocessed(), code, ..failure })
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
