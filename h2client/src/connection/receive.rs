//! What comes in: frames, checked as RFC 9113 section 6 says, and the data in them.

mod control;
mod fields;

use bytes::{Buf as _, BytesMut};

use super::{Connection, Event};
use crate::{
    ConnectionError, Key, Reason, StreamError,
    frame::{FrameHeader, HEADER_BYTES, MAX_PAYLOAD, flag, kind},
    streams::{Found, Receiving},
};

/// The longest piece of a body that is copied, because it costs less than to share the buffer that it came in.
const MAX_COPIED: usize = 1024;

/// What was read.
enum Read {
    /// Nothing: the rest is not a whole frame.
    Nothing,
    /// A frame, and what has happened with it at once. The queue of events is behind that.
    Frame(Option<Event>),
}

type Done<T = ()> = Result<T, ConnectionError>;

impl Connection {
    /// Reads frames from the front of the input until something has happened; none where the rest is not a whole frame.
    ///
    /// # Errors
    /// [`ConnectionError`], where the peer broke the protocol. Then GOAWAY waits to be sent, and nothing else will be read.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ConnectionError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if let Some(error) = self.failed {
                return Err(error);
            }
            match self.read_frame(input) {
                Ok(Read::Frame(Some(event))) => return Ok(Some(event)),
                Ok(Read::Frame(None)) => {}
                Ok(Read::Nothing) => return Ok(None),
                Err(error) => {
                    self.failed = Some(error);
                    self.is_leaving = false;
                    self.go_away(error.reason);
                    return Err(error);
                }
            }
        }
    }

    /// How many more bytes a whole frame needs, as far as that is known.
    #[must_use]
    pub fn needed(input: &[u8]) -> usize {
        let whole =
            FrameHeader::read(input).map_or(HEADER_BYTES, |header| HEADER_BYTES + header.length.min(MAX_PAYLOAD));
        whole.saturating_sub(input.len())
    }

    fn read_frame(&mut self, input: &mut BytesMut) -> Done<Read> {
        let Some(header) = FrameHeader::read(input) else { return Ok(Read::Nothing) };
        self.check_header(header)?;
        let end = HEADER_BYTES + header.length;
        let Some(payload) = input.get(HEADER_BYTES..end) else { return Ok(Read::Nothing) };
        let mut event = None;
        match header.kind {
            kind::DATA => return self.on_data(header, input),
            kind::HEADERS => event = self.on_headers(header, payload)?,
            kind::CONTINUATION => event = self.on_continuation(header, payload)?,
            kind::PRIORITY => self.on_priority(header)?,
            kind::RST_STREAM => self.on_reset(header, payload)?,
            kind::SETTINGS => self.on_settings(header, payload)?,
            kind::PUSH_PROMISE => return Err(ConnectionError::protocol("PUSH_PROMISE, which was not allowed")),
            kind::PING => self.on_ping(header, payload)?,
            kind::GOAWAY => self.on_go_away(header, payload)?,
            kind::WINDOW_UPDATE => self.on_window_update(header, payload)?,
            // RFC 9113 section 5.5.
            _ => {}
        }
        input.advance(end);
        Ok(Read::Frame(event))
    }

    /// What can be said of a frame before its payload is there.
    fn check_header(&self, header: FrameHeader) -> Done {
        let is_settings = header.kind == kind::SETTINGS && !header.has(flag::ACK);
        if !self.peer.has_settings && !is_settings {
            return Err(ConnectionError::protocol("the first frame is no SETTINGS"));
        }
        if header.length > MAX_PAYLOAD {
            return Err(ConnectionError::size("a frame that is longer than allowed"));
        }
        let goes_on = header.kind == kind::CONTINUATION;
        match &self.open_block {
            Some(open) if !goes_on || header.stream != open.stream => {
                Err(ConnectionError::protocol("a block of fields is interrupted by another frame"))
            }
            None if goes_on => Err(ConnectionError::protocol("CONTINUATION without a block of fields")),
            _ => Ok(()),
        }
    }

    // === DATA ===

    fn on_data(&mut self, header: FrameHeader, input: &mut BytesMut) -> Done<Read> {
        if header.stream == 0 {
            return Err(ConnectionError::protocol("DATA of no stream"));
        }
        self.count_data(header.length)?;
        let payload = &input[HEADER_BYTES..HEADER_BYTES + header.length];
        let data = if header.has(flag::PADDED) { without_padding(payload)? } else { payload };
        let ends = header.has(flag::END_STREAM);
        let Some(stream) = self.accept_data(header, data.len(), ends)? else {
            input.advance(HEADER_BYTES + header.length);
            return Ok(Read::Frame(None));
        };
        if data.len() <= MAX_COPIED {
            self.piece.clear();
            self.piece.extend_from_slice(data);
            input.advance(HEADER_BYTES + header.length);
            let has_happened = ends || !self.piece.is_empty();
            return Ok(Read::Frame(has_happened.then_some(Event::Piece { stream, ends })));
        }
        let (length, padded) = (data.len(), header.has(flag::PADDED));
        input.advance(HEADER_BYTES + usize::from(padded));
        let data = input.split_to(length).freeze();
        input.advance(header.length - length - usize::from(padded));
        Ok(Read::Frame(Some(Event::Data { stream, data, ends })))
    }

    /// Counts data against the window of the connection, which is given back by itself.
    fn count_data(&mut self, length: usize) -> Done {
        self.receive_window -= length as i64;
        if self.receive_window < 0 {
            let what = "more data than the connection's window allows";
            return Err(ConnectionError::new(Reason::FLOW_CONTROL_ERROR, what));
        }
        let whole = i64::from(self.config.connection_window);
        if self.receive_window < whole / 2 {
            // No more than the window, which is a number of this kind.
            self.put_window_update(0, (whole - self.receive_window) as u32);
            self.receive_window = whole;
        }
        Ok(())
    }

    /// Checks that so many bytes may come on the stream of this frame, and counts them. Returns the stream where it takes them.
    fn accept_data(&mut self, header: FrameHeader, length: usize, ends: bool) -> Done<Option<Key>> {
        let accepted = match self.streams.find(header.stream) {
            Found::Idle => return Err(ConnectionError::protocol("DATA of a stream that was not opened")),
            Found::Ended => return Err(ConnectionError::new(Reason::STREAM_CLOSED, "DATA of a stream that has ended")),
            Found::Reset(remains) => {
                remains.receive_window -= header.length as i64;
                let what = "more data than the window of a stream that was reset allows";
                let is_within = remains.receive_window >= 0;
                return if is_within { Ok(None) } else { Err(ConnectionError::new(Reason::FLOW_CONTROL_ERROR, what)) };
            }
            Found::There(_, stream) if stream.is_over() => {
                return Err(ConnectionError::new(Reason::STREAM_CLOSED, "DATA of a stream that has ended"));
            }
            Found::There(key, stream) => {
                stream.receive_window -= header.length as i64;
                let counted = match stream.receiving {
                    Receiving::Over => {
                        Err(StreamError::new(Reason::STREAM_CLOSED, "DATA after the end of the response"))
                    }
                    _ if stream.receive_window < 0 => {
                        let what = "more data than the window of the stream allows";
                        Err(StreamError::new(Reason::FLOW_CONTROL_ERROR, what))
                    }
                    Receiving::Head => Err(StreamError::malformed("DATA before the head of the response")),
                    Receiving::Body => count(&mut stream.expected, length, ends),
                };
                counted.map(|()| key).map_err(|error| (key, error))
            }
        };
        let padding = header.length - length;
        match accepted {
            Err((key, error)) => self.malformed(key, error),
            Ok(key) if ends => self.end_receiving(key),
            Ok(key) if padding > 0 => self.consumed(key, padding),
            Ok(_) => {}
        }
        Ok(accepted.ok())
    }
}

/// The payload without the length of the padding in front, and the padding behind.
fn without_padding(payload: &[u8]) -> Done<&[u8]> {
    let (padding, rest) = payload.split_first().ok_or(ConnectionError::size("DATA without its padding"))?;
    let length = rest.len().checked_sub(usize::from(*padding));
    Ok(&rest[..length.ok_or(ConnectionError::protocol("padding that is longer than its frame"))?])
}

/// Counts bytes of a body whose length was said (RFC 9113 section 8.1.1).
fn count(expected: &mut Option<u64>, length: usize, ends: bool) -> Result<(), StreamError> {
    let Some(left) = expected else { return Ok(()) };
    *left = left.checked_sub(length as u64).ok_or(StreamError::malformed("more data than its content-length says"))?;
    if ends && *left > 0 {
        return Err(StreamError::malformed("less data than its content-length says"));
    }
    Ok(())
}
