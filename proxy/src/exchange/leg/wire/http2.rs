//! A stream of an HTTP/2 connection to an endpoint: sends the request out of the window, reads the response.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
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
    http2::{small_frames::DataFrames, translate},
    multiplex::StreamSlot,
    outcome::Outcome,
    proxy_error::ProxyError,
};

/// One exchange on a shared connection. Dropping it before its end resets the stream.
#[derive(Debug)]
pub(in crate::exchange::leg) struct Http2 {
    slot: StreamSlot,
    began: Instant,
    /// The send side, once the head was sent.
    request: Option<SendStream<Bytes>>,
    response: Option<ResponseFuture>,
    /// The receive side of the response's body.
    body: Option<RecvStream>,
    frames: DataFrames,
    pub(super) cursor: Cursor,
    /// Whether the whole request was handed to `h2`.
    pub(super) sent: bool,
    /// Why the rest cannot be sent.
    broken: Option<SendFault>,
    pub(super) has_received: bool,
    /// Whether something has come that nobody was told of.
    pub(super) arrival: bool,
    /// The number of interim responses.
    interim: u8,
    /// Consumed bytes whose flow-control credit was not returned yet.
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
    Unsent(Failure),
}

// === impl Http2 ===

impl Http2 {
    pub(super) fn new(slot: StreamSlot) -> Self {
        Self {
            slot,
            began: clock::now(),
            request: None,
            response: None,
            body: None,
            frames: DataFrames::default(),
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
        self.request.is_some()
    }

    pub(super) fn send(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>) {
        if self.request.is_none() {
            match self.poll_begin(cx, sending) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => {
                    self.broken = Some(SendFault::Unsent(failure));
                    // The response, or its error, is read next.
                    return;
                }
            }
        }
        if let Poll::Ready(Err(_)) = self.poll_data(cx, sending) {
            self.broken = Some(SendFault::Stream);
        }
    }

    /// Sends the head.
    fn poll_begin(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>) -> Poll<Result<(), Failure>> {
        if let Err(error) = ready!(self.slot.send.poll_ready(cx)) {
            self.slot.close_connection();
            return Poll::Ready(Err(Failure { is_unprocessed: true, ..stream_failure(&self.slot, &error) }));
        }
        let scheme = self.slot.scheme;
        let request = match sending.shared_head {
            Some(shared) => shared.request(sending.head, scheme),
            None => translate::request(sending.head, scheme),
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                return Poll::Ready(Err(Failure::protocol(error.to_string())));
            }
        };
        let ends = is_end(sending.window, self.cursor);
        match self.slot.send.send_request(request, ends) {
            Ok((response, request)) => {
                (self.request, self.response, self.sent) = (Some(request), Some(response), ends);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(Failure { is_unprocessed: true, ..stream_failure(&self.slot, &error) })),
        }
    }

    /// Sends as much of the body as there is and the endpoint accepts.
    fn poll_data(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>) -> Poll<Result<(), h2::Error>> {
        let Some(request) = &mut self.request else { return Poll::Pending };
        let window = sending.window;
        while !self.sent {
            let Some(mut data) = window.piece(self.cursor) else {
                if window.is_finished() {
                    match translate::trailers(window.trailers()) {
                        Some(trailers) => request.send_trailers(trailers)?,
                        None => request.send_data(Bytes::new(), true)?,
                    }
                    self.sent = true;
                }
                return Poll::Ready(Ok(()));
            };
            request.reserve_capacity(data.len());
            while request.capacity() == 0 {
                match ready!(request.poll_capacity(cx)) {
                    Some(capacity) => drop(capacity?),
                    None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
                }
            }
            data.truncate(request.capacity());
            window.advance(&mut self.cursor, Coding::Identity, data.len());
            let ends = is_end(window, self.cursor);
            request.send_data(data, ends)?;
            self.sent = ends;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        fields: &mut Fields,
    ) -> Poll<Result<ResponseHead, Failure>> {
        if let Some(SendFault::Unsent(_)) = self.broken
            && let Some(SendFault::Unsent(failure)) = self.broken.take()
        {
            return Poll::Ready(Err(failure));
        }
        let Some(response) = &mut self.response else { return Poll::Pending };
        while let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            interim.map_err(|error| stream_failure(&self.slot, &error))?;
            (self.has_received, self.arrival) = (true, true);
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                self.slot.close_connection();
                let detail = format!("more than {MAX_INTERIM} interim responses");
                return Poll::Ready(Err(Failure::protocol(detail)));
            }
        }
        let response = ready!(Pin::new(response).poll(cx)).map_err(|error| stream_failure(&self.slot, &error))?;
        (self.has_received, self.arrival) = (true, true);
        let (parts, body) = response.into_parts();
        self.body = Some(body);
        let head = translate::response_head(&parts, std::mem::take(fields));
        Poll::Ready(head.map_err(|error| Failure::protocol(error.to_string())))
    }

    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        let Some(body) = &mut self.body else { return Poll::Pending };
        // An error means that the stream has ended, which the next read reports.
        let _ = body.flow_control().release_capacity(std::mem::take(&mut self.uncredited));
        match ready!(self.frames.poll_piece(body, cx)) {
            Some(Ok(data)) => {
                self.uncredited = data.len();
                self.arrival = true;
                Poll::Ready(Ok(Some(data)))
            }
            Some(Err(error)) => Poll::Ready(Err(stream_failure(&self.slot, &error))),
            None => {
                let trailers = ready!(body.poll_trailers(cx)).map_err(|error| stream_failure(&self.slot, &error))?;
                self.trailers = trailers.as_ref().map(translate::trailer_lines).unwrap_or_default();
                Poll::Ready(Ok(None))
            }
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        if self.response.is_some() && !self.has_received {
            self.slot.unheard(self.began);
        }
    }
}

/// Whether nothing follows this position, not even trailers.
fn is_end(window: &Window, cursor: Cursor) -> bool {
    window.is_finished() && window.trailers().is_empty() && window.is_passed(cursor, Coding::Identity)
}

/// The failure of a stream that ended before its response. After a connection error the connection gets no further streams.
fn stream_failure(slot: &StreamSlot, error: &h2::Error) -> Failure {
    if error.is_go_away() || error.is_io() {
        slot.close_connection();
    }
    failure("the stream", error)
}

/// Why a stream, or a connection before its first stream, has ended.
pub(in crate::exchange::leg) fn failure(what: &str, error: &h2::Error) -> Failure {
    let reason = error.reason();
    // RFC 9113 sections 6.8 and 8.7: the endpoint has not processed the request. For streams that it may have processed, `h2`
    // reports the end of the connection instead of GOAWAY.
    let is_unprocessed = error.is_remote() && (reason == Some(Reason::REFUSED_STREAM) || error.is_go_away());
    // The error of the connection's frame guard.
    let is_refused = error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData);
    let (outcome, kind) = if error.is_remote() || (error.is_io() && !is_refused) {
        (Outcome::Reset, ProxyError::ConnectionTerminated)
    } else {
        (Outcome::Protocol, ProxyError::HttpProtocolError)
    };
    let code = error.is_reset().then_some(reason).flatten().map(grpc::of_reset);
    Failure { is_unprocessed, code, ..Failure::new(outcome, kind, format!("{what} ended: {error}")) }
}
