//! An HTTP/1.1 connection to an endpoint: writes the request out of the window, reads the response.

use std::{
    hint::cold_path,
    io::{self, IoSlice},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use super::{MAX_INTERIM, Progress, Sending};
use crate::{
    buffers,
    exchange::leg::{Failure, MAX_HELD_BYTES},
    http::{
        Bounds, Framing, HeadScanner, LastHead, Scan,
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

/// The state of one exchange on a connection.
#[derive(Debug)]
pub(super) struct Http1 {
    head_sent: usize,
    /// Why the rest of the request cannot be written.
    send_error: Option<io::ErrorKind>,
    /// Bytes that were read and not consumed yet.
    buffer: BytesMut,
    scanner: HeadScanner,
    reader: BodyReader,
}

// === impl Http1 ===

impl Default for Http1 {
    fn default() -> Self {
        Self {
            head_sent: 0,
            send_error: None,
            buffer: BytesMut::new(),
            scanner: HeadScanner::default(),
            reader: BodyReader::EMPTY,
        }
    }
}

impl Http1 {
    /// Resets it for another connection.
    pub(super) fn reset(&mut self) {
        (self.head_sent, self.send_error) = (0, None);
        (self.scanner, self.reader) = (HeadScanner::default(), BodyReader::EMPTY);
    }

    /// Gives back the read buffer, if there is one.
    pub(super) fn give_buffer(&mut self) {
        buffers::give(&mut self.buffer);
    }

    pub(super) fn send(&mut self, io: &mut Io, progress: &mut Progress, cx: &mut Context<'_>, sending: &Sending<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_write(io, progress, cx, sending) {
            cold_path();
            // An endpoint may answer before it has read everything, and then close; its answer counts.
            self.send_error = Some(error.kind());
            progress.is_broken_off = true;
        }
    }

    /// Writes everything available.
    fn poll_write(
        &mut self,
        io: &mut Io,
        progress: &mut Progress,
        cx: &mut Context<'_>,
        sending: &Sending<'_>,
    ) -> Poll<io::Result<()>> {
        let Sending { head, window, coding, .. } = *sending;
        while !progress.is_sent {
            let left = &head[self.head_sent..];
            let is_only_head = window.is_passed(progress.cursor, coding) && sending.parent.is_none();
            let mut written = if !left.is_empty() && is_only_head {
                // The fast path: most requests have no body.
                ready!(io.poll_write(cx, &[IoSlice::new(left)]))?
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let from = match &sending.parent {
                    Some(parent) => rest_of(parent.parts(head), self.head_sent, &mut slices),
                    None => rest_of([head], self.head_sent, &mut slices),
                };
                let used = window.fill(progress.cursor, coding, &mut slices, from);
                if used == 0 {
                    ready!(io.poll_flush(cx))?;
                    progress.is_sent = window.is_finished();
                    return Poll::Ready(Ok(()));
                }
                ready!(io.poll_write(cx, &slices[..used]))?
            };
            progress.has_sent = true;
            let of_head = written.min(left.len());
            self.head_sent += of_head;
            written -= of_head;
            if written > 0 {
                window.advance(&mut progress.cursor, coding, written);
            }
            // Checked here, so that the usual case needs one check.
            if self.head_sent == head.len() && window.is_finished() && window.is_passed(progress.cursor, coding) {
                ready!(io.poll_flush(cx))?;
                progress.is_sent = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_head(
        &mut self,
        io: &mut Io,
        progress: &mut Progress,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        last: &mut LastHead,
        to_head: bool,
    ) -> Poll<Result<(), Box<Failure>>> {
        loop {
            let Some(read) = self.next_head(head, last) else {
                if ready!(self.poll_fill(io, progress, cx, buffers::READ_BUFFER_BYTES))? == 0 {
                    return Poll::Ready(Err(match other_protocol(&self.buffer) {
                        Some(spoken) => {
                            Box::new(Failure::protocol(format!("the endpoint does not speak HTTP/1.1{spoken}")))
                        }
                        None => self.ended_early(progress, "in the response head"),
                    }));
                }
                continue;
            };
            self.scanner = HeadScanner::default();
            read.map_err(|error| Box::new(Failure::protocol(error.to_string())))?;
            if head.is_interim() {
                cold_path();
                progress.interim += 1;
                if progress.interim > MAX_INTERIM {
                    let detail = format!("more than {MAX_INTERIM} interim responses");
                    return Poll::Ready(Err(Box::new(Failure::protocol(detail))));
                }
                continue;
            }
            self.reader = head.body(to_head);
            return Poll::Ready(Ok(()));
        }
    }

    /// Takes the head at the front of the buffer, once it is complete.
    fn next_head(&mut self, head: &mut ResponseHead, last: &mut LastHead) -> Option<Result<(), BadResponse>> {
        if self.buffer.is_empty() {
            return None;
        }
        if self.scanner.is_fresh()
            && let Some(taken) = head.take(&mut self.buffer, &RESPONSE_HEAD, last)
        {
            return Some(taken);
        }
        match self.scanner.scan(&self.buffer, &RESPONSE_HEAD) {
            Err(overrun) => Some(Err(overrun.into())),
            Ok(Scan::Partial) => None,
            Ok(Scan::Complete(length)) => Some(head.read(self.buffer.split_to(length).freeze())),
        }
    }

    pub(super) fn poll_body(
        &mut self,
        io: &mut Io,
        progress: &mut Progress,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Box<Failure>>> {
        loop {
            let piece = self.reader.next(&mut self.buffer);
            match piece.map_err(|error| Box::new(Failure::protocol(format!("the response has {error}"))))? {
                Piece::End => return Poll::Ready(Ok(None)),
                Piece::Data(data) => return Poll::Ready(Ok(Some(data))),
                Piece::Partial => {
                    let room = self.reader.room(MAX_HELD_BYTES);
                    if ready!(self.poll_fill(io, progress, cx, room))? == 0 {
                        if !self.reader.ends_at_close() {
                            return Poll::Ready(Err(self.ended_early(progress, "in the response body")));
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
    fn poll_fill(
        &mut self,
        io: &mut Io,
        progress: &mut Progress,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Result<usize, Box<Failure>>> {
        let broke = |error: io::Error| Box::new(Failure::io(&error, "the connection broke"));
        if self.buffer.is_empty() && room <= buffers::READ_BUFFER_BYTES {
            let readable = io.poll_readable(cx);
            if readable.is_pending() && self.buffer.capacity() > 0 {
                // A waiting connection needs no buffer.
                self.give_buffer();
            }
            ready!(readable).map_err(broke)?;
            if self.buffer.capacity() == 0 {
                self.buffer = buffers::take();
            }
        }
        self.buffer.reserve(room);
        let Poll::Ready(read) = io.poll_read(cx, &mut self.buffer) else {
            if self.buffer.is_empty() {
                buffers::give(&mut self.buffer);
            }
            return Poll::Pending;
        };
        let read = read.map_err(broke)?;
        if read > 0 {
            progress.receive();
        }
        Poll::Ready(Ok(read))
    }

    #[cold]
    fn ended_early(&self, progress: &Progress, place: &str) -> Box<Failure> {
        let detail = match self.send_error {
            _ if progress.has_received => format!("the endpoint closed the connection {place}"),
            Some(error) => format!("the endpoint closed the connection while the request was being sent: {error}"),
            None => "the endpoint closed the connection without an answer".to_owned(),
        };
        let kind =
            if progress.has_received { ProxyError::HttpResponseIncomplete } else { ProxyError::ConnectionTerminated };
        Box::new(Failure::new(Outcome::Reset, kind, detail))
    }

    /// Whether the connection can carry another request after this response, of which everything was read.
    pub(super) fn is_at_end_of(&self, response: &ResponseHead, to_head: bool) -> bool {
        response.keepalive
            && self.buffer.is_empty()
            && (response.framing != Framing::Unspecified || response.is_bodiless(to_head))
    }
}

/// What an endpoint speaks instead, and how that is configured, if its first bytes cannot begin a response of HTTP/1.1.
#[cold]
fn other_protocol(received: &[u8]) -> Option<&'static str> {
    const BEGIN: &[u8] = b"HTTP/1.";
    let is_http = received.iter().zip(BEGIN).all(|(a, b)| a == b);
    (!is_http).then_some(match received {
        // A record with an alert or with a message of a handshake.
        [0x15 | 0x16, 3, ..] => ", but TLS: use --upstream-tls",
        // A frame of SETTINGS or GOAWAY, on stream 0.
        [_, _, _, 4 | 7, _, 0, 0, 0, 0, ..] => ", but HTTP/2: use --upstream-protocol h2",
        _ => ": it has sent something else",
    })
}

/// Puts what is left of these parts after the sent bytes into the first slices. Returns how many it needs.
fn rest_of<'a, const N: usize>(parts: [&'a [u8]; N], mut sent: usize, slices: &mut [IoSlice<'a>]) -> usize {
    let mut used = 0;
    for part in parts {
        let (before, left) = part.split_at(sent.min(part.len()));
        sent -= before.len();
        if let Some(slice) = slices.get_mut(used).filter(|_| !left.is_empty()) {
            *slice = IoSlice::new(left);
            used += 1;
        }
    }
    used
}
