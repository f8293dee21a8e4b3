//! Frames with fields: heads and trailers, which are decoded, checked, and remembered in case that they come again.

use super::{Done, count};
use crate::{
    Connection, ConnectionError, Event, Key, Reason, StreamError,
    connection::OpenBlock,
    frame::{FrameHeader, flag},
    streams::{Found, Receiving},
};

/// Bytes of a block of fields before it is decoded. A list of fields that is taken at all is far shorter.
const MAX_BLOCK: usize = 256 * 1024;

/// What is done with a block of fields.
#[derive(Clone, Copy)]
enum Use {
    Head(Key),
    Trailers(Key),
    /// It is decoded, because what comes later may refer to it.
    Nothing,
}

impl Connection {
    pub(super) fn on_headers(&mut self, header: FrameHeader, payload: &[u8]) -> Done<Option<Event>> {
        if header.stream == 0 {
            return Err(ConnectionError::protocol("HEADERS of no stream"));
        }
        let mut block = payload;
        let mut padding = 0;
        if header.has(flag::PADDED) {
            let (length, rest) = block.split_first().ok_or(ConnectionError::size("HEADERS without its padding"))?;
            (padding, block) = (usize::from(*length), rest);
        }
        if header.has(flag::PRIORITY) {
            block = block.get(5..).ok_or(ConnectionError::size("HEADERS without its priority"))?;
        }
        let length = block.len().checked_sub(padding);
        block = &block[..length.ok_or(ConnectionError::protocol("padding that is longer than its frame"))?];
        let ends = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.on_block(header.stream, block, ends);
        }
        self.open_block = Some(OpenBlock { stream: header.stream, ends });
        self.block.clear();
        self.block.extend_from_slice(block);
        Ok(None)
    }

    pub(super) fn on_continuation(&mut self, header: FrameHeader, payload: &[u8]) -> Done<Option<Event>> {
        if self.block.len() + payload.len() > MAX_BLOCK {
            return Err(ConnectionError::new(Reason::ENHANCE_YOUR_CALM, "a block of fields that does not end"));
        }
        self.block.extend_from_slice(payload);
        if header.has(flag::END_HEADERS)
            && let Some(OpenBlock { stream, ends }) = self.open_block.take()
        {
            // Rare enough to need no memory of its own.
            let block = std::mem::take(&mut self.block);
            return self.on_block(stream, &block, ends);
        }
        Ok(None)
    }

    /// A block of fields has come as a whole.
    fn on_block(&mut self, id: u32, block: &[u8], ends: bool) -> Done<Option<Event>> {
        let mut wrong = None;
        let usage = match self.streams.find(id) {
            Found::Idle => return Err(ConnectionError::protocol("HEADERS of a stream that was not opened")),
            Found::Ended => {
                return Err(ConnectionError::new(Reason::STREAM_CLOSED, "HEADERS of a stream that has ended"));
            }
            Found::Reset(remains) => {
                let what = "HEADERS without end on a stream that was reset";
                let left = remains.blocks.checked_sub(1);
                remains.blocks = left.ok_or(ConnectionError::new(Reason::ENHANCE_YOUR_CALM, what))?;
                Use::Nothing
            }
            Found::There(_, stream) if stream.is_over() => {
                return Err(ConnectionError::new(Reason::STREAM_CLOSED, "HEADERS of a stream that has ended"));
            }
            Found::There(key, stream) => match stream.receiving {
                Receiving::Head => Use::Head(key),
                Receiving::Body => Use::Trailers(key),
                Receiving::Over => {
                    wrong =
                        Some((key, StreamError::new(Reason::STREAM_CLOSED, "HEADERS after the end of the response")));
                    Use::Nothing
                }
            },
        };
        let bounds = self.bounds();
        let decoded = match usage {
            Use::Nothing => self.decoder.decode(block, |_, _| {}),
            Use::Head(_) => self.heads.read(block, false, &mut self.decoder, bounds),
            Use::Trailers(_) => self.trailers.read(block, true, &mut self.decoder, bounds),
        };
        decoded.map_err(|error| ConnectionError::new(Reason::COMPRESSION_ERROR, error.what()))?;
        let error = match usage {
            Use::Nothing => wrong,
            Use::Head(key) => match self.on_head(key, ends) {
                Ok(event) => return Ok(Some(event)),
                Err(error) => Some((key, error)),
            },
            Use::Trailers(key) => match self.on_trailers(key, ends) {
                Ok(event) => return Ok(Some(event)),
                Err(error) => Some((key, error)),
            },
        };
        if let Some((key, error)) = error {
            self.malformed(key, error);
        }
        Ok(None)
    }

    fn on_head(&mut self, key: Key, ends: bool) -> Result<Event, StreamError> {
        self.are_trailers = false;
        let fields = self.heads.fields();
        fields.finish()?;
        let (status, length) = (fields.status(), fields.content_length());
        if status == 101 {
            return Err(StreamError::malformed("status 101, which HTTP/2 does not have"));
        }
        if status < 200 {
            if ends {
                return Err(StreamError::malformed("an interim response that ends the stream"));
            }
            return Ok(Event::Interim(key));
        }
        if let Some(stream) = self.streams.get_mut(key) {
            stream.receiving = Receiving::Body;
            // RFC 9110 section 6.4.1: no content, whatever its length would have been.
            let is_bodiless = stream.to_head || matches!(status, 204 | 304);
            stream.expected = if is_bodiless { Some(0) } else { length };
            if ends {
                count(&mut stream.expected, 0, true)?;
                self.end_receiving(key);
            }
        }
        Ok(Event::Head { stream: key, ends })
    }

    fn on_trailers(&mut self, key: Key, ends: bool) -> Result<Event, StreamError> {
        self.are_trailers = true;
        if !ends {
            return Err(StreamError::malformed("fields in the middle of the response"));
        }
        self.trailers.fields().finish()?;
        if let Some(stream) = self.streams.get_mut(key) {
            count(&mut stream.expected, 0, true)?;
        }
        self.end_receiving(key);
        Ok(Event::Trailers(key))
    }

    pub(super) fn end_receiving(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.receiving = Receiving::Over;
        }
        self.streams.ended(key);
    }

    /// Resets a stream because of what the peer has sent on it.
    pub(super) fn malformed(&mut self, key: Key, error: StreamError) {
        self.reset(key, error.reason);
        self.events.push_back(Event::Malformed(key, error));
    }
}
