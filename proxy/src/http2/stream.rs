//! One request on an HTTP/2 connection of a client: its body as it comes, and its answer as it goes.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};

use super::{small_frames::DataFrames, translate};
use crate::http::{Framing, body::Piece};

/// The body of a request.
#[derive(Debug)]
pub struct StreamBody {
    stream: RecvStream,
    frames: DataFrames,
    /// Bytes that were taken and for which the client has no new credit yet.
    uncredited: usize,
    /// Bytes that are still to come, where the head said how many there are.
    left: Option<u64>,
    /// The last piece of those, held back until the stream has ended: with it a copy would look whole, and more than was said may
    /// follow.
    last: Bytes,
    ended: bool,
    trailers: Bytes,
}

/// The answer to a request.
#[derive(Debug)]
pub struct StreamAnswer {
    respond: SendResponse<Bytes>,
    /// Where its body goes, once its head is out.
    stream: Option<SendStream<Bytes>>,
    ended: bool,
}

/// The client has reset the stream, or is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

// === impl StreamBody ===

impl StreamBody {
    pub(crate) fn new(stream: RecvStream, framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => Some(length),
            Framing::Unspecified | Framing::Chunked => None,
        };
        Self {
            ended: stream.is_end_stream(),
            stream,
            frames: DataFrames::default(),
            uncredited: 0,
            left,
            last: Bytes::new(),
            trailers: Bytes::new(),
        }
    }

    /// The next piece. To be called only while there is room for more: the client gets new credit for what was taken before.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Gone>> {
        self.credit();
        while !self.ended {
            match ready!(self.frames.poll_piece(&mut self.stream, cx)) {
                Some(Ok(data)) => {
                    self.uncredited += data.len();
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    if self.left == Some(0) && !self.stream.is_end_stream() {
                        self.last = data;
                        continue;
                    }
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                Some(Err(_)) => return Poll::Ready(Err(Gone)),
                None => {
                    let Ok(trailers) = ready!(self.stream.poll_trailers(cx)) else { return Poll::Ready(Err(Gone)) };
                    self.trailers = trailers.as_ref().map(translate::trailer_lines).unwrap_or_default();
                    self.ended = true;
                }
            }
        }
        let last = std::mem::take(&mut self.last);
        Poll::Ready(Ok(if last.is_empty() { Piece::End } else { Piece::Data(last) }))
    }

    /// What came after it.
    pub(crate) fn take_trailers(&mut self) -> Bytes {
        std::mem::take(&mut self.trailers)
    }

    /// Whether all of it has come and been taken.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    fn credit(&mut self) {
        // Where that fails the stream is over, which shows when it is read on.
        let _ = self.stream.flow_control().release_capacity(std::mem::take(&mut self.uncredited));
    }
}

// === impl StreamAnswer ===

impl StreamAnswer {
    pub(crate) fn new(respond: SendResponse<Bytes>) -> Self {
        Self { respond, stream: None, ended: false }
    }

    /// Asks for the body of a request whose client waits to be asked.
    pub(crate) fn ask_for_body(&mut self) {
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::CONTINUE;
        // Where that fails the stream is over, which shows when it is read.
        let _ = self.respond.send_informational(response);
    }

    /// Whether its head is out.
    pub(crate) fn has_begun(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether all of it is out.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Sends the head, given in the form of HTTP/1.1; `ends` says that nothing follows it.
    pub(crate) fn begin(&mut self, head: &[u8], ends: bool) -> io::Result<()> {
        let response = translate::response(head).map_err(io::Error::other)?;
        self.stream = Some(self.respond.send_response(response, ends).map_err(io::Error::other)?);
        self.ended = ends;
        Ok(())
    }

    /// Sends as much of the data as the client takes, at least something; `ends` says that nothing follows it. Tells how many
    /// bytes it was.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut Bytes, ends: bool) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let sent = data.split_to(data.len().min(stream.capacity()));
        let (length, ends) = (sent.len(), ends && data.is_empty());
        stream.send_data(sent, ends).map_err(io::Error::other)?;
        self.ended = ends;
        Poll::Ready(Ok(length))
    }

    /// Whether the client has reset the stream, or is gone; whoever asks is woken when that happens.
    pub(crate) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        !self.ended && self.stream.as_mut().is_some_and(|stream| stream.poll_reset(cx).is_ready())
    }

    /// Says that the answer is whole, with the lines of its trailers.
    pub(crate) fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        if let Some(stream) = &mut self.stream {
            match translate::trailers(trailers) {
                Some(trailers) => stream.send_trailers(trailers).map_err(io::Error::other)?,
                None => stream.send_data(Bytes::new(), true).map_err(io::Error::other)?,
            }
        }
        self.ended = true;
        Ok(())
    }
}

impl Drop for StreamAnswer {
    fn drop(&mut self) {
        if !self.ended {
            // What was cut must not look whole.
            match &mut self.stream {
                Some(stream) => stream.send_reset(Reason::INTERNAL_ERROR),
                None => self.respond.send_reset(Reason::INTERNAL_ERROR),
            }
        }
    }
}
