//! What has come on a stream, until its leg takes it.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::end::StreamFault;
use crate::{headers, http, http2::translate};

/// The memory that a stream takes for the head of a response and a short body.
const USUAL_BYTES: usize = 1024;

/// Bytes of a head besides its fields: the first line and the empty one.
pub(super) const FIRST_LINE_BYTES: usize = 64;

/// The most memory that is kept for the next response.
const MAX_KEPT_BYTES: usize = 4 * 1024;

/// The response on one stream, as far as it was not taken.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waker: Option<Waker>,
    /// Whether the leg waits for something.
    is_waiting: bool,
    /// Interim responses that have come.
    pub(super) interim: u8,
    head: Option<Bytes>,
    data: VecDeque<Bytes>,
    /// Short data behind that.
    tail: BytesMut,
    trailers: Bytes,
    /// Whether the response is complete.
    is_complete: bool,
    fault: Option<StreamFault>,
}

impl Mailbox {
    /// Forgets the response of the stream before, but keeps usual memory.
    pub(super) fn clear(&mut self) {
        (self.is_waiting, self.interim, self.is_complete) = (false, 0, false);
        (self.head, self.trailers, self.fault) = (None, Bytes::new(), None);
        self.data.clear();
        self.tail.clear();
        if self.tail.capacity() > MAX_KEPT_BYTES {
            self.tail = BytesMut::new();
        }
    }

    /// Has the leg woken when something comes.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        self.is_waiting = true;
        if self.waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.is_waiting)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }

    // === what comes ===

    /// The head: its fields as lines.
    pub(super) fn put_head(&mut self, status: u16, lines: &[u8]) {
        self.tail.reserve(USUAL_BYTES.max(lines.len() + FIRST_LINE_BYTES));
        write_head(&mut self.tail, status, lines);
        self.head = Some(self.tail.split().freeze());
    }

    /// The head, in the form of HTTP/1.1 already.
    pub(super) fn put_written_head(&mut self, head: Bytes) {
        self.head = Some(head);
    }

    /// A short piece of the body. Such pieces are put together, so that they cost what they hold and keep no read buffer.
    pub(super) fn put_piece(&mut self, piece: &[u8]) {
        self.tail.extend_from_slice(piece);
    }

    /// A long piece of the body.
    pub(super) fn put_data(&mut self, data: Bytes) {
        if !self.tail.is_empty() {
            self.data.push_back(self.tail.split().freeze());
        }
        self.data.push_back(data);
    }

    /// The trailers, as lines.
    pub(super) fn put_trailers(&mut self, lines: &[u8]) {
        self.trailers = translate::kept_trailers(lines);
    }

    /// Nothing follows.
    pub(super) fn complete(&mut self) {
        self.is_complete = true;
    }

    /// The stream has ended. A response that is complete stands.
    pub(super) fn fail(&mut self, fault: StreamFault) {
        if !self.is_complete && self.fault.is_none() {
            self.fault = Some(fault);
        }
        self.wake();
    }

    // === what is taken ===

    pub(super) fn poll_head(&mut self, cx: &Context<'_>) -> Poll<Result<Bytes, StreamFault>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Ok(head));
        }
        self.poll_fault(cx)
    }

    /// The next piece; none at the end.
    pub(super) fn poll_data(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, StreamFault>> {
        if let Some(data) = self.data.pop_front() {
            return Poll::Ready(Ok(Some(data)));
        }
        if !self.tail.is_empty() {
            return Poll::Ready(Ok(Some(self.tail.split().freeze())));
        }
        if self.is_complete {
            return Poll::Ready(Ok(None));
        }
        self.poll_fault(cx)
    }

    fn poll_fault<T>(&mut self, cx: &Context<'_>) -> Poll<Result<T, StreamFault>> {
        if let Some(fault) = &self.fault {
            return Poll::Ready(Err(fault.clone()));
        }
        self.wait(cx);
        Poll::Pending
    }

    pub(super) fn take_trailers(&mut self) -> Bytes {
        std::mem::take(&mut self.trailers)
    }
}

/// Writes a head in the form of HTTP/1.1.
pub(super) fn write_head(out: &mut BytesMut, status: u16, lines: &[u8]) {
    headers::put_status(out, status, http::reason(status).as_bytes());
    out.put_slice(lines);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use h2client::Reason;

    use super::*;

    fn taken(mailbox: &mut Mailbox) -> Poll<Result<Option<Bytes>, StreamFault>> {
        mailbox.poll_data(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn pieces_come_in_order_and_short_ones_together() {
        let mut mailbox = Mailbox::default();
        let long = Bytes::from(vec![b'l'; 5_000]);
        mailbox.put_piece(b"a");
        mailbox.put_piece(b"b");
        mailbox.put_data(long.clone());
        mailbox.put_piece(b"c");
        let mut next = || match taken(&mut mailbox) {
            Poll::Ready(Ok(data)) => data,
            other => panic!("{other:?}"),
        };
        assert_eq!((next().unwrap(), next().unwrap(), next().unwrap()), ("ab".into(), long, "c".into()));
        assert!(taken(&mut mailbox).is_pending());
    }

    #[test]
    fn what_has_come_before_a_fault_is_taken_before_it_and_what_is_complete_stands() {
        let mut cut = Mailbox::default();
        cut.put_head(200, b"a: b\r\n");
        cut.put_piece(b"part");
        cut.fail(StreamFault::Reset(Reason::CANCEL));
        cut.fail(StreamFault::Reset(Reason::NO_ERROR));
        let cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(head)) = cut.poll_head(&cx) else { panic!("a head") };
        assert_eq!(head, "HTTP/1.1 200 OK\r\na: b\r\n\r\n");
        assert!(matches!(taken(&mut cut), Poll::Ready(Ok(Some(data))) if data == "part"));
        assert!(matches!(taken(&mut cut), Poll::Ready(Err(StreamFault::Reset(Reason::CANCEL)))));

        let mut whole = Mailbox::default();
        whole.put_piece(b"all");
        whole.complete();
        whole.fail(StreamFault::Reset(Reason::NO_ERROR));
        assert!(matches!(taken(&mut whole), Poll::Ready(Ok(Some(_)))));
        assert!(matches!(taken(&mut whole), Poll::Ready(Ok(None))));
        whole.clear();
        assert!(taken(&mut whole).is_pending());
    }

    #[test]
    fn the_memory_of_a_response_is_used_again_by_the_next() {
        let mut mailbox = Mailbox::default();
        let cx = Context::from_waker(Waker::noop());
        let mut places = Vec::new();
        for _ in 0..3 {
            mailbox.put_head(200, b"a: b\r\n");
            mailbox.put_piece(b"body");
            let Poll::Ready(Ok(head)) = mailbox.poll_head(&cx) else { panic!("a head") };
            let Poll::Ready(Ok(Some(body))) = mailbox.poll_data(&cx) else { panic!("a body") };
            places.push((head.as_ptr(), body.as_ptr()));
            drop((head, body));
            mailbox.clear();
        }
        assert!(places.windows(2).all(|two| two[0] == two[1]), "{places:?}");
    }
}
