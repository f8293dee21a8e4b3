//! The client's side of an exchange on the way out: the answer is queued piece by piece and sent as fast as the client reads, over
//! either version of HTTP.

use std::{
    collections::VecDeque,
    hint::cold_path,
    io::IoSlice,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    alarm::Alarm,
    pace::{Pace, Patience},
    spare::SPARE_LIST_ENTRIES,
};
use crate::{
    buffers, clock,
    downstream::{Downstream, UNSEEN_BYTES},
    http::chunked::{self, ChunkHead},
    http2::stream::StreamAnswer,
};

/// Buffers written with one system call.
const MAX_SLICES: usize = 64;

/// The destination of an answer.
#[derive(Debug)]
pub enum Outbound<'a> {
    /// A connection that speaks HTTP/1.1.
    Http1(&'a mut Downstream),
    /// A stream of HTTP/2.
    Http2(&'a mut StreamAnswer),
}

/// How the body of an answer is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyForm {
    /// Unframed: the head has its length, or it ends with the connection.
    #[default]
    Plain,
    /// Chunked, with trailers if the client accepts them (RFC 9110 section 6.5.1).
    Chunks {
        /// It has said `TE: trailers`.
        trailers: bool,
    },
    /// In frames, apart from the head.
    Frames,
}

/// The longest piece that is copied behind the head, because one buffer is written faster than two.
const MAX_COPIED_BYTES: usize = 2 * 1024;

/// Bytes on their way to the client.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The head, and small pieces that follow it directly.
    head: Vec<u8>,
    /// The number of its bytes that were written.
    head_sent: usize,
    queue: VecDeque<Bytes>,
    bytes: usize,
    form: BodyForm,
    ended: bool,
    /// The trailers after the last frame of the body.
    trailers: Bytes,
    /// The wait for a client that reads nothing.
    stalled: Patience,
    /// The bytes that the client has read since it first stalled; before that, buffers may have accepted them.
    taken: u64,
    /// Bytes of body queued so far.
    pub body_bytes: u64,
}

impl Outbound<'_> {
    /// Whether the client has cancelled the answer; the task is woken when it does. With HTTP/1.1 only a write shows that.
    pub(super) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(stream) => stream.is_gone(cx),
        }
    }
}

impl Outgoing {
    /// An answer that begins with this head.
    #[must_use]
    pub fn new(head: Vec<u8>, form: BodyForm) -> Self {
        Self { bytes: head.len(), head, form, ..Self::default() }
    }

    /// Resets it to an answer with the head from `put_head`, reusing its memory.
    pub fn reset(&mut self, form: BodyForm, put_head: impl FnOnce(&mut Vec<u8>)) {
        self.clear();
        put_head(&mut self.head);
        (self.head_sent, self.bytes, self.body_bytes) = (0, self.head.len(), 0);
        (self.form, self.ended) = (form, false);
        (self.stalled, self.taken) = (Patience::default(), 0);
    }

    /// Clears it, but keeps reusable memory.
    pub fn clear(&mut self) {
        self.head.clear();
        self.trailers.clear();
        if !self.queue.is_empty() {
            self.queue.clear();
        }
        // Unusually large memory is not kept.
        if self.head.capacity() > buffers::READ_BUFFER_BYTES || self.queue.capacity() > SPARE_LIST_ENTRIES {
            cold_path();
            self.head.shrink_to(buffers::READ_BUFFER_BYTES);
            self.queue.shrink_to(SPARE_LIST_ENTRIES);
        }
    }

    /// Appends a piece of the body with its framing.
    pub fn push_body(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.body_bytes += data.len() as u64;
        if matches!(self.form, BodyForm::Chunks { .. }) {
            let head = Bytes::copy_from_slice(ChunkHead::of(data.len()).as_bytes());
            self.bytes += head.len() + data.len() + 2;
            self.queue.extend([head, data, Bytes::from_static(b"\r\n")]);
        } else if self.form == BodyForm::Plain
            && data.len() <= MAX_COPIED_BYTES
            && self.queue.is_empty()
            && self.head_sent == 0
            && !self.head.is_empty()
        {
            self.bytes += data.len();
            self.head.extend_from_slice(&data);
        } else {
            self.bytes += data.len();
            self.queue.push_back(data);
        }
    }

    /// The body is complete.
    pub fn end(&mut self) {
        self.end_with(Bytes::new());
    }

    /// The same, with the lines of its trailers.
    pub fn end_with(&mut self, trailers: Bytes) {
        if self.ended {
            return;
        }
        self.ended = true;
        match self.form {
            BodyForm::Plain => {}
            BodyForm::Chunks { trailers: true } if !trailers.is_empty() => {
                let last = [b"0\r\n", &*trailers, b"\r\n"].concat();
                self.bytes += last.len();
                self.queue.push_back(last.into());
            }
            BodyForm::Chunks { .. } => {
                self.bytes += chunked::LAST_CHUNK.len();
                self.queue.push_back(Bytes::from_static(chunked::LAST_CHUNK));
            }
            BodyForm::Frames => self.trailers = trailers,
        }
    }

    /// Writes as much as the client accepts.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, client: &mut Outbound<'_>) -> Poll<std::io::Result<()>> {
        match client {
            Outbound::Http1(client) => self.poll_flush_bytes(cx, client),
            Outbound::Http2(stream) => self.poll_flush_frames(cx, stream),
        }
    }

    /// Sends head and queue in frames, with END_STREAM if nothing follows.
    fn poll_flush_frames(&mut self, cx: &mut Context<'_>, stream: &mut StreamAnswer) -> Poll<std::io::Result<()>> {
        if !stream.has_begun() {
            stream.begin(&self.head, self.is_last())?;
            self.bytes -= self.head.len();
        }
        while let Some(mut front) = self.queue.pop_front() {
            let sent = stream.poll_send(cx, &mut front, self.is_last());
            if !front.is_empty() {
                self.queue.push_front(front);
            }
            let sent = ready!(sent)?;
            self.bytes -= sent;
            self.moved(sent);
        }
        if self.ended && !stream.has_ended() {
            stream.end(&self.trailers)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether nothing follows the pieces taken from the queue.
    fn is_last(&self) -> bool {
        self.ended && self.queue.is_empty() && self.trailers.is_empty()
    }

    /// Writes head and queue as they are.
    fn poll_flush_bytes(&mut self, cx: &mut Context<'_>, client: &mut Downstream) -> Poll<std::io::Result<()>> {
        while self.bytes > 0 {
            let head = &self.head[self.head_sent..];
            let mut written = if self.queue.is_empty() {
                ready!(client.poll_write(cx, &[IoSlice::new(head)]))?
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let pieces = (!head.is_empty()).then_some(head).into_iter().chain(self.queue.iter().map(|b| &b[..]));
                let mut used = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(piece);
                    used += 1;
                }
                ready!(client.poll_write(cx, &slices[..used]))?
            };
            self.bytes -= written;
            let of_head = written.min(head.len());
            self.moved(written);
            self.head_sent += of_head;
            written -= of_head;
            while let Some(front) = self.queue.front_mut() {
                if written < front.len() {
                    bytes::Buf::advance(front, written);
                    break;
                }
                written -= front.len();
                self.queue.pop_front();
            }
        }
        client.poll_flush(cx)
    }

    /// Notes that the client has accepted bytes.
    fn moved(&mut self, written: usize) {
        if self.stalled.is_waiting() {
            cold_path();
            self.stalled.end(clock::now());
        }
        if self.stalled.has_begun() {
            cold_path();
            self.taken += written as u64;
        }
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bytes
    }

    /// Notes that the client accepts nothing. Returns when it will have been too slow.
    pub(super) fn stall(&mut self, pace: Pace, now: Instant) -> Instant {
        self.stalled.begin(now);
        self.stalled.due(pace, self.taken + UNSEEN_BYTES).unwrap_or(now)
    }

    /// Writes everything, giving up on a client that is slower than `pace`.
    pub async fn flush(&mut self, client: &mut Outbound<'_>, pace: Pace, alarm: &mut Alarm) -> bool {
        std::future::poll_fn(|cx| {
            match self.poll_flush(cx, client) {
                Poll::Ready(result) => return Poll::Ready(result.is_ok()),
                Poll::Pending => {}
            }
            let due = self.stall(pace, clock::now());
            alarm.poll(cx, due).map(|_| false)
        })
        .await
    }
}
