//! Joins small DATA frames that came together, so that a peer that sends a few bytes in each costs hardly more than one that does not.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;

/// The longest frame that is joined with others: copying more costs as much as handling another piece.
const MAX_JOINED: usize = 4 * 1024;

/// The longest piece that frames are joined to.
const MAX_PIECE: usize = 64 * 1024;

/// The DATA frames of one stream.
#[derive(Debug, Default)]
pub(crate) struct DataFrames {
    /// A frame that was taken and not given out.
    next: Option<Bytes>,
}

// === impl DataFrames ===

impl DataFrames {
    /// The next piece of the body: a frame, or all small ones that have come behind each other. It is never empty.
    pub(crate) fn poll_piece(
        &mut self,
        stream: &mut RecvStream,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let first = match self.next.take() {
            Some(next) => next,
            None => match ready!(poll_frame(stream, cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            },
        };
        let mut joined = BytesMut::new();
        let mut length = first.len();
        // The end and an error are reported again by the next call.
        while length <= MAX_PIECE - MAX_JOINED
            && (length > first.len() || first.len() <= MAX_JOINED)
            && let Poll::Ready(Some(Ok(frame))) = poll_frame(stream, cx)
        {
            if frame.len() > MAX_JOINED {
                self.next = Some(frame);
                break;
            }
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&frame);
            length = joined.len();
        }
        Poll::Ready(Some(Ok(if joined.is_empty() { first } else { joined.freeze() })))
    }
}

/// The next frame that is not empty.
fn poll_frame(stream: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
    loop {
        match ready!(stream.poll_data(cx)) {
            Some(Ok(frame)) if frame.is_empty() => {}
            frame => return Poll::Ready(frame),
        }
    }
}
