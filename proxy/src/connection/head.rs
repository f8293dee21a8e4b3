//! Reads the head of the next request: under one deadline for all of it, and under a longer one before it begins.

use std::{future::poll_fn, task::Poll};

use bytes::Buf;
use tokio::time::Instant;

use super::{Connection, LAST_CHANCE};
use crate::{
    buffers, clock,
    config::HeadLimits,
    http::{Bounds, HeadScanner, Scan, request::RequestHead},
    problem::Problem,
    shared::Shared,
};

impl Connection {
    /// The next head; none where the connection ends first.
    pub(super) async fn read_head(&mut self, shared: &Shared) -> Result<Option<RequestHead>, Problem> {
        if self.client.buffer.is_empty() && !self.wait().await {
            return Ok(None);
        }
        self.look_up(shared);
        let deadline = clock::now() + self.config.timeouts.head;
        let (mut scanner, mut skipped) = (HeadScanner::default(), false);
        loop {
            // RFC 9112 section 2.2: an empty line before a request is passed over.
            if !skipped && self.client.buffer.starts_with(b"\r\n") {
                self.client.buffer.advance(2);
                skipped = true;
            }
            let bounds = bounds(&self.config.head, &self.client.buffer);
            if scanner.is_fresh()
                && let Some(head) =
                    RequestHead::take(&mut self.client.buffer, &bounds, self.config.head.target, &mut self.fields)
            {
                return head.map(Some).map_err(Problem::bad_request);
            }
            match scanner.scan(&self.client.buffer, &bounds).map_err(|overrun| Problem::bad_request(overrun.into()))? {
                // A head that begins with an empty line is one that skipping did not help.
                Scan::Complete(2) => return Err(Problem::bad_request(crate::http::request::BadRequest::RequestLine)),
                Scan::Complete(length) => {
                    let bytes = self.client.buffer.split_to(length).freeze();
                    let fields = std::mem::take(&mut self.fields);
                    let head = RequestHead::parse(bytes, self.config.head.target, fields);
                    return head.map(Some).map_err(Problem::bad_request);
                }
                Scan::Partial => {}
            }
            // A lone CR may be the first half of an empty line that is to be passed over.
            if self.client.buffer.is_empty() || (!skipped && &self.client.buffer[..] == b"\r") {
                scanner = HeadScanner::default();
            }
            if !self.fill(deadline).await? {
                return Ok(None);
            }
        }
    }

    /// Sees to it that the configuration is the one in force.
    fn look_up(&mut self, shared: &Shared) {
        let tables = shared.tables_made();
        if tables != self.tables {
            if let Some(entry) = shared.table.load().listeners.get(self.listener) {
                self.config = entry.config.clone();
            }
            self.tables = tables;
        }
    }

    /// Reads more of a head; false where the client is gone.
    async fn fill(&mut self, deadline: Instant) -> Result<bool, Problem> {
        let (client, alarm) = (&mut self.client, &mut self.alarm);
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = client.poll_fill(cx, buffers::ROOM) {
                return Poll::Ready(Some(read));
            }
            alarm.poll(cx, deadline).map(|_| None)
        })
        .await;
        match read {
            Some(Ok(read)) => Ok(read > 0),
            Some(Err(_)) => Ok(false),
            None => {
                let limit = runtime::duration::format(self.config.timeouts.head);
                let detail = format!("the request head took longer than {limit}");
                Err(Problem::new(408, "http_request_error", detail))
            }
        }
    }

    /// Waits for the first byte; false where there will be none, because the client is gone or idle for too long, or
    /// because the proxy drains.
    async fn wait(&mut self) -> bool {
        let mut until = clock::now() + self.config.timeouts.keepalive;
        let fresh = self.served == 0;
        let Self { client, alarm, draining, .. } = self;
        poll_fn(|cx| {
            // What has come before the drain, or with it, is answered.
            if let Poll::Ready(read) = client.poll_fill(cx, buffers::ROOM) {
                return Poll::Ready(read.is_ok_and(|read| read > 0));
            }
            if draining.poll(cx) {
                if !fresh {
                    return Poll::Ready(false);
                }
                until = until.min(clock::now() + LAST_CHANCE);
            }
            alarm.poll(cx, until).map(|_| false)
        })
        .await
    }
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
