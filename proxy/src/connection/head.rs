//! Reads the head of the next request: under one deadline for all of it, and under a longer one before it begins.

use std::{future::poll_fn, task::Poll};

use bytes::Buf;
use tokio::time::Instant;

use super::{Connection, LAST_CHANCE};
use crate::{
    config::{HeadLimits, Listener},
    http::{Bounds, HeadScanner, Scan, request::RequestHead},
    problem::Problem,
};

/// Room for one read.
const ROOM: usize = 4 * 1024;

impl Connection {
    /// The next head; none where the connection ends first.
    pub(super) async fn read_head(&mut self) -> Result<Option<RequestHead>, Problem> {
        let Some(listener) = self.worker.shared.table.load().listeners.get(self.listener).map(|l| l.config.clone())
        else {
            return Ok(None);
        };
        if self.client.buffer.is_empty() {
            // An idle connection keeps no more than one read needs.
            self.client.buffer = bytes::BytesMut::new();
            if !self.wait(&listener).await {
                return Ok(None);
            }
        }
        let deadline = Instant::now() + listener.timeouts.head;
        let (mut scanner, mut skipped) = (HeadScanner::default(), false);
        loop {
            // RFC 9112 section 2.2: an empty line before a request is passed over.
            if !skipped && self.client.buffer.starts_with(b"\r\n") {
                self.client.buffer.advance(2);
                skipped = true;
            }
            let bounds = bounds(&listener.head, &self.client.buffer);
            match scanner.scan(&self.client.buffer, &bounds).map_err(|overrun| Problem::bad_request(overrun.into()))? {
                // A head that begins with an empty line is one that skipping did not help.
                Scan::Complete(2) => return Err(Problem::bad_request(crate::http::request::BadRequest::RequestLine)),
                Scan::Complete(length) => {
                    let bytes = self.client.buffer.split_to(length).freeze();
                    let fields = std::mem::take(&mut self.fields);
                    let head = RequestHead::parse(bytes, listener.head.target, fields);
                    return head.map(Some).map_err(Problem::bad_request);
                }
                Scan::Partial => {}
            }
            // A lone CR may be the first half of an empty line that is to be passed over.
            if self.client.buffer.is_empty() || (!skipped && &self.client.buffer[..] == b"\r") {
                scanner = HeadScanner::default();
            }
            if !self.fill(deadline, &listener).await? {
                return Ok(None);
            }
        }
    }

    /// Reads more of a head; false where the client is gone.
    async fn fill(&mut self, deadline: Instant, listener: &Listener) -> Result<bool, Problem> {
        let (client, alarm) = (&mut self.client, &mut self.alarm);
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = client.poll_fill(cx, ROOM) {
                return Poll::Ready(Some(read));
            }
            alarm.poll(cx, deadline).map(|_| None)
        })
        .await;
        match read {
            Some(Ok(read)) => Ok(read > 0),
            Some(Err(_)) => Ok(false),
            None => {
                let limit = runtime::duration::format(listener.timeouts.head);
                let detail = format!("the request head took longer than {limit}");
                Err(Problem::new(408, "http_request_error", detail))
            }
        }
    }

    /// Waits for the first byte; false where there will be none, because the client is gone or idle for too long, or
    /// because the proxy drains.
    async fn wait(&mut self, listener: &Listener) -> bool {
        let mut until = Instant::now() + listener.timeouts.keepalive;
        let fresh = self.served == 0;
        let Self { client, alarm, shutdown, .. } = self;
        loop {
            let draining = *shutdown.borrow_and_update();
            if draining {
                if !fresh {
                    return false;
                }
                until = until.min(Instant::now() + LAST_CHANCE);
            }
            let read = poll_fn(|cx| {
                if let Poll::Ready(read) = client.poll_fill(cx, ROOM) {
                    return Poll::Ready(read.is_ok_and(|read| read > 0));
                }
                alarm.poll(cx, until).map(|_| false)
            });
            if draining {
                return read.await;
            }
            tokio::select! {
                biased;
                read = read => return read,
                // The sender lives as long as the worker.
                _ = shutdown.changed() => {}
            }
        }
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
