//! Reads the head of the next request: within one deadline for the whole head, and a longer one before its first byte.

use std::{
    future::poll_fn,
    hint::cold_path,
    io,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::{Connection, MIN_DRAIN_IDLE};
use crate::{
    buffers, clock,
    config::{HeadLimits, Listener},
    http::{
        Bounds, HeadScanner, Scan,
        request::{BadRequest, RequestHead, TargetRules},
    },
    http2::PREFACE,
    problem::Problem,
    proxy_error::ProxyError,
    seats::Seat,
    shared::Shared,
};

/// The most bytes of a refused head that are parsed for the log.
const MAX_LOGGED_BYTES: usize = 4 * 1024;

/// Why a head is refused, and its received bytes, for the log.
pub(super) struct RefusedHead {
    pub(super) problem: Problem,
    pub(super) seen: Bytes,
}

/// The protocol of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientProtocol {
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Connection {
    /// Detects the client's protocol by its first bytes (RFC 9113 section 3.3); none if the connection ends first.
    pub(super) async fn find_version(&mut self, shared: &Shared) -> Option<ClientProtocol> {
        self.seat.owes();
        // Bytes after a PROXY header were read already.
        if self.client.buffer.is_empty() && !self.wait().await {
            return None;
        }
        self.look_up(shared);
        if !self.config.http2 {
            return Some(ClientProtocol::Http1);
        }
        self.began = clock::now();
        let deadline = self.head_deadline();
        loop {
            let sent = &self.client.buffer[..self.client.buffer.len().min(PREFACE.len())];
            if sent != &PREFACE[..sent.len()] {
                return Some(ClientProtocol::Http1);
            }
            if sent.len() == PREFACE.len() {
                return Some(ClientProtocol::Http2);
            }
            match self.fill(deadline).await {
                Some(Ok(read)) if read > 0 => {}
                // A truncated or late head is answered as in HTTP/1.1.
                _ => return Some(ClientProtocol::Http1),
            }
        }
    }

    /// The next head; none if the connection ends first.
    pub(super) async fn read_head(&mut self, shared: &Shared) -> Result<Option<RequestHead>, RefusedHead> {
        self.seat.owes();
        if !self.wait_for_head().await {
            return Ok(None);
        }
        self.look_up(shared);
        self.began = clock::now();
        let deadline = self.head_deadline();
        let mut scanner = HeadScanner::default();
        loop {
            let bounds = bounds(&self.config.head, &self.client.buffer);
            if scanner.is_fresh()
                && let Some(head) =
                    RequestHead::take(&mut self.client.buffer, &bounds, rules(&self.config), &mut self.fields)
            {
                return head
                    .map(Some)
                    .map_err(|(error, seen)| RefusedHead { problem: Problem::bad_request(error), seen });
            }
            match scanner.scan(&self.client.buffer, &bounds).map_err(|overrun| self.refused(overrun.into()))? {
                // A second empty line in front of a head is an error.
                Scan::Complete(2) => return Err(self.refused(BadRequest::RequestLine)),
                Scan::Complete(length) => {
                    let seen = self.client.buffer.split_to(length).freeze();
                    let fields = std::mem::take(&mut self.fields);
                    let head = RequestHead::parse(seen.clone(), rules(&self.config), fields);
                    return head.map(Some).map_err(|error| RefusedHead { problem: Problem::bad_request(error), seen });
                }
                Scan::Partial => {}
            }
            match self.fill(deadline).await {
                Some(Ok(read)) if read > 0 => {}
                Some(_) => return Ok(None),
                None => {
                    let limit = runtime::duration::format(self.config.timeouts.head);
                    let detail = format!("the request head took longer than {limit}");
                    return Err(RefusedHead {
                        problem: Problem::new(408, ProxyError::HttpRequestError, detail),
                        seen: self.seen(),
                    });
                }
            }
        }
    }

    /// Waits for the first bytes of a head, and skips one empty line before it (RFC 9112 section 2.2). False if there will be no
    /// head.
    async fn wait_for_head(&mut self) -> bool {
        let mut skipped = false;
        loop {
            if !skipped && self.client.buffer.starts_with(b"\r\n") {
                cold_path();
                self.client.buffer.advance(2);
                skipped = true;
            }
            // A lone CR may be the first half of an empty line.
            let begun = match &self.client.buffer[..] {
                [] => false,
                b"\r" => skipped,
                _ => true,
            };
            if begun {
                return true;
            }
            if !self.wait().await {
                return false;
            }
        }
    }

    #[cold]
    fn refused(&self, error: BadRequest) -> RefusedHead {
        RefusedHead { problem: Problem::bad_request(error), seen: self.seen() }
    }

    /// The received part of an incomplete head, for the log.
    fn seen(&self) -> Bytes {
        Bytes::copy_from_slice(&self.client.buffer[..self.client.buffer.len().min(MAX_LOGGED_BYTES)])
    }

    /// Updates the configuration if there is a newer table.
    fn look_up(&mut self, shared: &Shared) {
        let tables = shared.tables_made();
        if tables != self.tables {
            cold_path();
            if let Some(entry) = shared.table.load().listeners.get(self.listener) {
                self.config = entry.config.clone();
            }
            self.tables = tables;
        }
    }

    /// The deadline of a head that begins now.
    fn head_deadline(&self) -> Instant {
        let deadline = self.began + self.config.timeouts.head;
        self.due.map_or(deadline, |due| due.min(deadline))
    }

    /// Reads more of a head, or nothing if the connection is evicted; none if the deadline has passed.
    async fn fill(&mut self, deadline: Instant) -> Option<io::Result<usize>> {
        let Self { client, alarm, seat, is_registered, .. } = self;
        poll_fn(|cx| {
            if let Poll::Ready(read) = client.poll_fill(cx, buffers::READ_BUFFER_BYTES) {
                return Poll::Ready(Some(read));
            }
            if is_evicted(seat, is_registered, cx) {
                return Poll::Ready(Some(Ok(0)));
            }
            alarm.poll(cx, deadline).map(|_| None)
        })
        .await
    }

    /// Waits for a byte; false if there will be none, because the client has disconnected, is idle for too long, or is evicted.
    /// While the proxy drains it still waits, for a shorter time, because a request may be in flight.
    async fn wait(&mut self) -> bool {
        let mut until = clock::now() + self.config.timeouts.keepalive;
        if let Some(due) = self.due {
            cold_path();
            until = until.min(due);
        }
        let fresh = self.served == 0;
        let Self { client, alarm, draining, seat, is_registered, .. } = self;
        poll_fn(|cx| {
            // Bytes that came before the drain, or with it, are served.
            if let Poll::Ready(read) = client.poll_fill(cx, buffers::READ_BUFFER_BYTES) {
                return Poll::Ready(read.is_ok_and(|read| read > 0));
            }
            if is_evicted(seat, is_registered, cx) {
                return Poll::Ready(false);
            }
            if draining.poll(cx) {
                cold_path();
                let idle = if fresh { draining.idle().max(MIN_DRAIN_IDLE) } else { draining.idle() };
                until = until.min(clock::now() + idle);
            }
            alarm.poll(cx, until).map(|_| false)
        })
        .await
    }
}

/// Whether a connection that waits has to make room; the task that asks first is woken then. No other task may ask.
fn is_evicted(seat: &Seat, is_registered: &mut bool, cx: &Context<'_>) -> bool {
    if !std::mem::replace(is_registered, true) {
        cold_path();
        seat.register(cx);
    }
    seat.is_cut()
}

/// Whether the first bytes are neither HTTP/1.1, however malformed, nor HTTP/2: three words, none of which looks like a target or a
/// version.
pub(super) fn is_foreign(seen: &[u8]) -> bool {
    let line = seen.split(|b| b"\r\n".contains(b)).next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let [_, target, version] = words[..] else { return false };
    let is_target = target.first().is_none_or(|first| b"/*?".contains(first)) || target.contains(&b':');
    !is_target && !version.get(..5).is_some_and(|version| version.eq_ignore_ascii_case(b"HTTP/"))
}

fn rules(config: &Listener) -> TargetRules {
    TargetRules { longest: config.head.target, lenient: config.lenient_target }
}

/// The bounds of a head. The first line may have a method and a version around its target.
fn bounds(limits: &HeadLimits, buffer: &[u8]) -> Bounds {
    let method = memchr::memchr(b' ', &buffer[..buffer.len().min(64)]).unwrap_or(64);
    Bounds {
        first_line: method + 1 + limits.target + " HTTP/1.1\r\n".len(),
        bytes: limits.bytes,
        fields: limits.fields,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_http_is_answered_and_nothing_else() {
        for http in
            ["GET / FOO/1.1", "GET x HTTP/1.1", "GET  / HTTP/1.1", "GET /", "", "get * x", "A http://b c", "A b c d"]
        {
            assert!(!is_foreign(http.as_bytes()), "{http}");
        }
        for foreign in ["INVALID CONNECTION PREFACE\r\n\r\n", "SSH over nothing"] {
            assert!(is_foreign(foreign.as_bytes()), "{foreign}");
        }
    }
}
