//! The wire of a leg: writes the request out of the window, reads the response up to what its mode allows.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::{
    FIRST_READ, Failure, HOLD, Leg, MAX_INTERIM, Mode, Outcome, RESPONSE_HEAD, SLICES, State, Step, Terms, window,
};
use crate::http::{
    HeadScanner, Scan,
    body::Piece,
    response::{BadResponse, ResponseHead},
};

impl Leg {
    /// Writes until everything there is has been written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, window: &window::Window) -> Poll<io::Result<()>> {
        let State::Open(io) = &mut self.state else { return Poll::Pending };
        if self.write_error.is_some() {
            return Poll::Pending;
        }
        while !self.sent {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0;
            if self.head_sent < self.head.len() {
                slices[0] = IoSlice::new(&self.head[self.head_sent..]);
                used = 1;
            }
            let used = window.fill(self.cursor, &mut slices, used);
            if used == 0 {
                self.sent = window.is_finished();
                return Poll::Ready(Ok(()));
            }
            let mut written = ready!(io.poll_write(cx, &slices[..used]))?;
            self.attempt.wrote = true;
            let of_head = written.min(self.head.len() - self.head_sent);
            self.head_sent += of_head;
            written -= of_head;
            if written > 0 {
                window.advance(&mut self.cursor, written);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads up to the end of the final response head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, terms: &Terms, now: Instant) -> Step {
        let protocol = |detail: String| Failure::new(Outcome::Protocol, "http_protocol_error", detail);
        loop {
            let scanned = self.scanner.scan(&self.buffer, &RESPONSE_HEAD);
            match scanned.map_err(|overrun| protocol(BadResponse::from(overrun).to_string()))? {
                Scan::Partial => {
                    if ready!(self.poll_fill(cx, FIRST_READ, now))? == 0 {
                        return Poll::Ready(Err(self.ended_early("in the response head")));
                    }
                }
                Scan::Complete(length) => {
                    self.scanner = HeadScanner::default();
                    let head = ResponseHead::parse(self.buffer.split_to(length).freeze());
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
        self.buffer.reserve(room);
        match ready!(io.poll_read(cx, &mut self.buffer)) {
            Ok(read) => {
                if read > 0 {
                    self.attempt.read = true;
                    self.deadline = None;
                }
                self.last_read = now;
                Poll::Ready(Ok(read))
            }
            Err(error) => Poll::Ready(Err(Failure::io(&error, "the connection broke"))),
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
