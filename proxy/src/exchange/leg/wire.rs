//! The wire of a leg: writes the request out of the window, reads the response up to what its mode allows.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::{
    Failure, HOLD, Leg, MAX_INTERIM, Mode, Outcome, RESPONSE_HEAD, SLICES, Sending, State, Step, Terms, window,
};
use crate::{
    buffers,
    http::{
        HeadScanner, Scan,
        body::Piece,
        response::{BadResponse, ResponseHead},
    },
};

impl Leg {
    /// Writes until everything there is has been written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>) -> Poll<io::Result<()>> {
        let State::Open(io) = &mut self.state else { return Poll::Pending };
        if self.write_error.is_some() {
            return Poll::Pending;
        }
        let (window, head) = (sending.window, self.own_head.as_deref().unwrap_or(sending.head));
        while !self.sent {
            let left = &head[self.head_sent..];
            let mut written = if !left.is_empty() && window.is_passed(self.cursor) {
                // Most requests have no body: nothing to gather.
                ready!(io.poll_write(cx, &[IoSlice::new(left)]))?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                slices[0] = IoSlice::new(left);
                let from = usize::from(!left.is_empty());
                let used = window.fill(self.cursor, &mut slices, from);
                if used == 0 {
                    self.sent = window.is_finished();
                    return Poll::Ready(Ok(()));
                }
                ready!(io.poll_write(cx, &slices[..used]))?
            };
            self.attempt.wrote = true;
            let of_head = written.min(left.len());
            self.head_sent += of_head;
            written -= of_head;
            if written > 0 {
                window.advance(&mut self.cursor, written);
            }
            // Looked at here, so that the usual case is done with one look.
            self.sent = self.head_sent == head.len() && window.is_passed(self.cursor) && window.is_finished();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads up to the end of the final response head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, terms: &Terms, now: Instant) -> Step {
        let protocol = |detail: String| Failure::new(Outcome::Protocol, "http_protocol_error", detail);
        loop {
            let Some(head) = self.next_head() else {
                if ready!(self.poll_fill(cx, buffers::ROOM, now))? == 0 {
                    return Poll::Ready(Err(self.ended_early("in the response head")));
                }
                continue;
            };
            self.scanner = HeadScanner::default();
            let head = head.map_err(|error| protocol(error.to_string()))?;
            if head.is_interim() {
                self.interim += 1;
                if self.interim > MAX_INTERIM {
                    return Poll::Ready(Err(protocol(format!("more than {MAX_INTERIM} interim responses"))));
                }
                continue;
            }
            self.reader = head.body(terms.is_head);
            self.response = Some(head);
            return Poll::Ready(Ok(()));
        }
    }

    /// The head at the front of the buffer, once it is complete.
    fn next_head(&mut self) -> Option<Result<ResponseHead, BadResponse>> {
        if self.buffer.is_empty() {
            return None;
        }
        if self.scanner.is_fresh()
            && let Some(head) = ResponseHead::take(&mut self.buffer, &RESPONSE_HEAD, &mut self.fields)
        {
            return Some(head);
        }
        match self.scanner.scan(&self.buffer, &RESPONSE_HEAD) {
            Err(overrun) => Some(Err(overrun.into())),
            Ok(Scan::Partial) => None,
            Ok(Scan::Complete(length)) => {
                let fields = std::mem::take(&mut self.fields);
                Some(ResponseHead::parse_into(self.buffer.split_to(length).freeze(), fields))
            }
        }
    }

    /// Reads the body as far as the mode allows; ready when it is complete.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, now: Instant) -> Step {
        while !self.complete {
            if self.mode != Mode::Discard && self.held_bytes >= HOLD {
                return Poll::Pending;
            }
            let piece = self.reader.next(&mut self.buffer).map_err(|error| {
                Failure::new(Outcome::Protocol, "http_protocol_error", format!("the response has {error}"))
            })?;
            match piece {
                Piece::End => self.complete = true,
                Piece::Data(data) => {
                    self.received += data.len() as u64;
                    if self.mode != Mode::Discard {
                        self.held_bytes += data.len().max(window::LEAST);
                        self.held.push_back(data);
                    }
                }
                Piece::Partial => {
                    let room = self.reader.room(HOLD);
                    if ready!(self.poll_fill(cx, room, now))? == 0 {
                        if !self.reader.ends_at_close() {
                            return Poll::Ready(Err(self.ended_early("in the response body")));
                        }
                        self.complete = true;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize, now: Instant) -> Poll<Result<usize, Failure>> {
        let State::Open(io) = &mut self.state else { return Poll::Pending };
        let broke = |error: &io::Error| Failure::io(error, "the connection broke");
        if self.buffer.capacity() == 0 && room <= buffers::ROOM {
            // Whoever waits needs no buffer.
            ready!(io.poll_readable(cx)).map_err(|error| broke(&error))?;
            self.buffer = buffers::take();
        }
        self.buffer.reserve(room);
        let Poll::Ready(read) = io.poll_read(cx, &mut self.buffer) else {
            if self.buffer.is_empty() {
                buffers::give(&mut self.buffer);
            }
            return Poll::Pending;
        };
        match read {
            Ok(read) => {
                if read > 0 {
                    self.attempt.read = true;
                    self.deadline = None;
                }
                self.last_read = now;
                Poll::Ready(Ok(read))
            }
            Err(error) => Poll::Ready(Err(broke(&error))),
        }
    }

    fn ended_early(&self, place: &str) -> Failure {
        let detail = match self.write_error {
            _ if self.attempt.read => format!("the endpoint closed the connection {place}"),
            Some(error) => format!("the endpoint closed the connection while the request was being sent: {error}"),
            None => "the endpoint closed the connection without an answer".to_owned(),
        };
        let kind = if self.attempt.read { "http_response_incomplete" } else { "connection_terminated" };
        Failure::new(Outcome::Reset, kind, detail)
    }
}
