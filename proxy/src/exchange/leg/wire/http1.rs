//! An HTTP/1.1 connection to an endpoint: writes the request out of the window, reads the response.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use super::{MAX_INTERIM, Sending};
use crate::{
    buffers,
    exchange::{
        leg::{Failure, MAX_HELD_BYTES},
        window::Cursor,
    },
    http::{
        Bounds, Fields, Framing, HeadScanner, Scan,
        body::{BodyReader, Piece},
        response::{BadResponse, ResponseHead},
    },
    outcome::Outcome,
    proxy_error::ProxyError,
    transport::Io,
};

/// The bounds of a response head.
const RESPONSE_HEAD: Bounds = Bounds { first_line: 16 * 1024, bytes: 64 * 1024, fields: 256 };

/// Buffers written with one system call.
const MAX_SLICES: usize = 64;

/// One exchange on a connection.
#[derive(Debug)]
pub(in crate::exchange::leg) struct Http1 {
    io: Io,
    head_sent: usize,
    pub(super) cursor: Cursor,
    /// Whether the whole request was written.
    pub(super) sent: bool,
    /// Why the rest cannot be written.
    pub(super) send_error: Option<io::ErrorKind>,
    pub(super) has_sent: bool,
    pub(super) has_received: bool,
    /// Whether something has come that nobody was told of.
    pub(super) arrival: bool,
    /// Bytes that were read and not consumed yet.
    buffer: BytesMut,
    scanner: HeadScanner,
    interim: u8,
    reader: BodyReader,
}

// === impl Http1 ===

impl Http1 {
    pub(super) fn new(io: Io) -> Self {
        Self {
            io,
            head_sent: 0,
            cursor: Cursor::default(),
            sent: false,
            send_error: None,
            has_sent: false,
            has_received: false,
            arrival: false,
            buffer: BytesMut::new(),
            scanner: HeadScanner::default(),
            interim: 0,
            reader: BodyReader::EMPTY,
        }
    }

    pub(super) fn send(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_write(cx, sending) {
            // An endpoint may answer before it has read everything, and then close; its answer counts.
            self.send_error = Some(error.kind());
        }
    }

    /// Writes everything available.
    fn poll_write(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>) -> Poll<io::Result<()>> {
        let Sending { head, window, coding, .. } = *sending;
        while !self.sent {
            let left = &head[self.head_sent..];
            let mut written = if !left.is_empty() && window.is_passed(self.cursor, coding) && sending.parent.is_none() {
                // The fast path: most requests have no body.
                ready!(self.io.poll_write(cx, &[IoSlice::new(left)]))?
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let from = match &sending.parent {
                    Some(parent) => rest_of(parent.parts(head), self.head_sent, &mut slices),
                    None => rest_of([head], self.head_sent, &mut slices),
                };
                let used = window.fill(self.cursor, coding, &mut slices, from);
                if used == 0 {
                    ready!(self.io.poll_flush(cx))?;
                    self.sent = window.is_finished();
                    return Poll::Ready(Ok(()));
                }
                ready!(self.io.poll_write(cx, &slices[..used]))?
            };
            self.has_sent = true;
            let of_head = written.min(left.len());
            self.head_sent += of_head;
            written -= of_head;
            if written > 0 {
                window.advance(&mut self.cursor, coding, written);
            }
            // Checked here, so that the usual case needs one check.
            if self.head_sent == head.len() && window.is_finished() && window.is_passed(self.cursor, coding) {
                ready!(self.io.poll_flush(cx))?;
                self.sent = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        fields: &mut Fields,
        to_head: bool,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            let Some(head) = self.next_head(fields) else {
                if ready!(self.poll_fill(cx, buffers::READ_BUFFER_BYTES))? == 0 {
                    return Poll::Ready(Err(self.ended_early("in the response head")));
                }
                continue;
            };
            self.scanner = HeadScanner::default();
            let head = head.map_err(|error| Failure::protocol(error.to_string()))?;
            if head.is_interim() {
                self.interim += 1;
                if self.interim > MAX_INTERIM {
                    let detail = format!("more than {MAX_INTERIM} interim responses");
                    return Poll::Ready(Err(Failure::protocol(detail)));
                }
                continue;
            }
            self.reader = head.body(to_head);
            return Poll::Ready(Ok(head));
        }
    }

    /// The head at the front of the buffer, once it is complete.
    fn next_head(&mut self, fields: &mut Fields) -> Option<Result<ResponseHead, BadResponse>> {
        if self.buffer.is_empty() {
            return None;
        }
        if self.scanner.is_fresh()
            && let Some(head) = ResponseHead::take(&mut self.buffer, &RESPONSE_HEAD, fields)
        {
            return Some(head);
        }
        match self.scanner.scan(&self.buffer, &RESPONSE_HEAD) {
            Err(overrun) => Some(Err(overrun.into())),
            Ok(Scan::Partial) => None,
            Ok(Scan::Complete(length)) => {
                Some(ResponseHead::parse_into(self.buffer.split_to(length).freeze(), std::mem::take(fields)))
            }
        }
    }

    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        loop {
            let piece = self.reader.next(&mut self.buffer);
            match piece.map_err(|error| Failure::protocol(format!("the response has {error}")))? {
                Piece::End => return Poll::Ready(Ok(None)),
                Piece::Data(data) => return Poll::Ready(Ok(Some(data))),
                Piece::Partial => {
                    let room = self.reader.room(MAX_HELD_BYTES);
                    if ready!(self.poll_fill(cx, room))? == 0 {
                        if !self.reader.ends_at_close() {
                            return Poll::Ready(Err(self.ended_early("in the response body")));
                        }
                        return Poll::Ready(Ok(None));
                    }
                }
            }
        }
    }

    pub(super) fn take_trailers(&mut self) -> Bytes {
        self.reader.take_trailers()
    }

    /// Reads available bytes; 0 is the end of the connection.
    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<usize, Failure>> {
        let broke = |error: io::Error| Failure::io(&error, "the connection broke");
        if self.buffer.capacity() == 0 && room <= buffers::READ_BUFFER_BYTES {
            // A waiting connection needs no buffer.
            ready!(self.io.poll_readable(cx)).map_err(broke)?;
            self.buffer = buffers::take();
        }
        self.buffer.reserve(room);
        let Poll::Ready(read) = self.io.poll_read(cx, &mut self.buffer) else {
            if self.buffer.is_empty() {
                buffers::give(&mut self.buffer);
            }
            return Poll::Pending;
        };
        let read = read.map_err(broke)?;
        self.has_received |= read > 0;
        self.arrival |= read > 0;
        Poll::Ready(Ok(read))
    }

    fn ended_early(&self, place: &str) -> Failure {
        let detail = match self.send_error {
            _ if self.has_received => format!("the endpoint closed the connection {place}"),
            Some(error) => format!("the endpoint closed the connection while the request was being sent: {error}"),
            None => "the endpoint closed the connection without an answer".to_owned(),
        };
        let kind =
            if self.has_received { ProxyError::HttpResponseIncomplete } else { ProxyError::ConnectionTerminated };
        Failure::new(Outcome::Reset, kind, detail)
    }

    pub(super) fn into_idle(mut self, response: &ResponseHead, to_head: bool) -> Option<Io> {
        let reusable = self.sent
            && self.send_error.is_none()
            && response.keepalive
            && self.buffer.is_empty()
            && (response.framing != Framing::Unspecified || response.is_bodiless(to_head));
        buffers::give(&mut self.buffer);
        reusable.then_some(self.io)
    }
}

/// Puts what is left of these parts after the sent bytes into the first slices. Returns how many it needs.
fn rest_of<'a, const N: usize>(parts: [&'a [u8]; N], mut sent: usize, slices: &mut [IoSlice<'a>]) -> usize {
    let left = parts.into_iter().filter_map(|part| {
        let (before, left) = part.split_at(sent.min(part.len()));
        sent -= before.len();
        (!left.is_empty()).then_some(left)
    });
    slices.iter_mut().zip(left).map(|(slice, left)| *slice = IoSlice::new(left)).count()
}
