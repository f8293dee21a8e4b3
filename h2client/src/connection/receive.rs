//! What comes in: frames, checked as RFC 9113 section 6 says.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{Connection, Event, OpenBlock, send};
use crate::{
    ConnectionError, Key, Reason, StreamError,
    frame::{FrameHeader, HEADER_BYTES, MAX_31_BITS, MAX_PAYLOAD, flag, kind, number, setting},
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
                Ok(true) => {}
                Ok(false) => return Ok(None),
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

    fn read_frame(&mut self, input: &mut BytesMut) -> Done<bool> {
        let Some(header) = FrameHeader::read(input) else { return Ok(false) };
        self.check_header(header)?;
        let Some(payload) = input.get(HEADER_BYTES..HEADER_BYTES + header.length) else { return Ok(false) };
        if header.kind == kind::DATA {
            input.advance(HEADER_BYTES);
            let payload = input.split_to(header.length).freeze();
            self.on_data(header, payload)?;
            return Ok(true);
        }
        match header.kind {
            kind::HEADERS => self.on_headers(header, payload)?,
            kind::CONTINUATION => self.on_continuation(header, payload)?,
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
        input.advance(HEADER_BYTES + header.length);
        Ok(true)
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

    fn on_data(&mut self, header: FrameHeader, payload: Bytes) -> Done {
        if header.stream == 0 {
            return Err(ConnectionError::protocol("DATA of no stream"));
        }
        let length = payload.len() as i64;
        self.receive_window -= length;
        if self.receive_window < 0 {
            return Err(ConnectionError::new(
                Reason::FLOW_CONTROL_ERROR,
                "more data than the connection's window allows",
            ));
        }
        let whole = i64::from(self.config.connection_window);
        if self.receive_window < whole / 2 {
            // No more than the window, which is a number of this kind.
            self.put_window_update(0, (whole - self.receive_window) as u32);
            self.receive_window = whole;
        }
        let data = if header.has(flag::PADDED) { without_padding(payload)? } else { payload };
        let ends = header.has(flag::END_STREAM);
        let wrong = match self.streams.find(header.stream) {
            Found::Idle => return Err(ConnectionError::protocol("DATA of a stream that was not opened")),
            Found::Ended => return Err(ConnectionError::new(Reason::STREAM_CLOSED, "DATA of a stream that has ended")),
            Found::Reset(remains) => {
                remains.receive_window -= length;
                let what = "more data than the window of a stream that was reset allows";
                let is_within = remains.receive_window >= 0;
                return if is_within { Ok(()) } else { Err(ConnectionError::new(Reason::FLOW_CONTROL_ERROR, what)) };
            }
            Found::There(_, stream) if stream.is_over() => {
                return Err(ConnectionError::new(Reason::STREAM_CLOSED, "DATA of a stream that has ended"));
            }
            Found::There(key, stream) => {
                stream.receive_window -= length;
                match stream.receiving {
                    Receiving::Over => {
                        Err((key, StreamError::new(Reason::STREAM_CLOSED, "DATA after the end of the response")))
                    }
                    _ if stream.receive_window < 0 => {
                        let what = "more data than the window of the stream allows";
                        Err((key, StreamError::new(Reason::FLOW_CONTROL_ERROR, what)))
                    }
                    Receiving::Head => Err((key, StreamError::malformed("DATA before the head of the response"))),
                    Receiving::Body => match count(&mut stream.expected, data.len(), ends) {
                        Ok(()) => Ok((key, length as usize - data.len())),
                        Err(error) => Err((key, error)),
                    },
                }
            }
        };
        match wrong {
            Err((key, error)) => self.malformed(key, error),
            Ok((key, padding)) => {
                if ends {
                    self.end_receiving(key);
                } else if padding > 0 {
                    self.consumed(key, padding);
                }
                if ends || !data.is_empty() {
                    self.events.push_back(Event::Data { stream: key, data, ends });
                }
            }
        }
        Ok(())
    }

    // === fields ===

    fn on_headers(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
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
        Ok(())
    }

    fn on_continuation(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if self.block.len() + payload.len() > MAX_BLOCK {
            return Err(ConnectionError::new(Reason::ENHANCE_YOUR_CALM, "a block of fields that does not end"));
        }
        self.block.extend_from_slice(payload);
        if header.has(flag::END_HEADERS)
            && let Some(OpenBlock { stream, ends }) = self.open_block.take()
        {
            // Rare enough to need no memory of its own.
            let block = std::mem::take(&mut self.block);
            self.on_block(stream, &block, ends)?;
        }
        Ok(())
    }

    /// A block of fields has come as a whole.
    fn on_block(&mut self, id: u32, block: &[u8], ends: bool) -> Done {
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
        let fields = &mut self.fields;
        fields.begin(matches!(usage, Use::Trailers(_)));
        let is_read = !matches!(usage, Use::Nothing);
        let decoded = self.decoder.decode(block, |name, value| {
            if is_read {
                fields.take(name, value, bounds);
            }
        });
        decoded.map_err(|error| ConnectionError::new(Reason::COMPRESSION_ERROR, error.what()))?;
        let done = match usage {
            Use::Nothing => Ok(()),
            Use::Head(key) => self.on_head(key, ends).map_err(|error| (key, error)),
            Use::Trailers(key) => self.on_trailers(key, ends).map_err(|error| (key, error)),
        };
        if let Some((key, error)) = done.err().or(wrong) {
            self.malformed(key, error);
        }
        Ok(())
    }

    fn on_head(&mut self, key: Key, ends: bool) -> Result<(), StreamError> {
        self.fields.finish()?;
        let (status, length) = (self.fields.status(), self.fields.content_length());
        if status == 101 {
            return Err(StreamError::malformed("status 101, which HTTP/2 does not have"));
        }
        if status < 200 {
            if ends {
                return Err(StreamError::malformed("an interim response that ends the stream"));
            }
            self.events.push_back(Event::Interim(key));
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        stream.receiving = Receiving::Body;
        // RFC 9110 section 6.4.1: no content, whatever its length would have been.
        let is_bodiless = stream.to_head || matches!(status, 204 | 304);
        stream.expected = if is_bodiless { Some(0) } else { length };
        if ends {
            count(&mut stream.expected, 0, true)?;
            self.end_receiving(key);
        }
        self.events.push_back(Event::Head { stream: key, ends });
        Ok(())
    }

    fn on_trailers(&mut self, key: Key, ends: bool) -> Result<(), StreamError> {
        if !ends {
            return Err(StreamError::malformed("fields in the middle of the response"));
        }
        self.fields.finish()?;
        if let Some(stream) = self.streams.get_mut(key) {
            count(&mut stream.expected, 0, true)?;
        }
        self.end_receiving(key);
        self.events.push_back(Event::Trailers(key));
        Ok(())
    }

    fn end_receiving(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.receiving = Receiving::Over;
        }
        self.streams.ended(key);
    }

    /// Resets a stream because of what the peer has sent on it.
    fn malformed(&mut self, key: Key, error: StreamError) {
        self.reset(key, error.reason);
        self.events.push_back(Event::Malformed(key, error));
    }

    // === the rest ===

    fn on_priority(&mut self, header: FrameHeader) -> Done {
        if header.stream == 0 {
            return Err(ConnectionError::protocol("PRIORITY of no stream"));
        }
        if header.length == 5 {
            return Ok(());
        }
        match self.streams.find(header.stream) {
            Found::There(key, stream) if !stream.is_over() => {
                self.malformed(key, StreamError::new(Reason::FRAME_SIZE_ERROR, "PRIORITY of a wrong length"));
                Ok(())
            }
            _ => Err(ConnectionError::size("PRIORITY of a wrong length")),
        }
    }

    fn on_reset(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.length != 4 {
            return Err(ConnectionError::size("RST_STREAM of a wrong length"));
        }
        if header.stream == 0 {
            return Err(ConnectionError::protocol("RST_STREAM of no stream"));
        }
        match self.streams.find(header.stream) {
            Found::Idle => Err(ConnectionError::protocol("RST_STREAM of a stream that was not opened")),
            Found::There(key, stream) if !stream.is_over() => {
                self.streams.reset(key, false);
                self.return_grant(key);
                self.events.push_back(Event::Reset(key, Reason(number(payload))));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_settings(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.stream != 0 {
            return Err(ConnectionError::protocol("SETTINGS of a stream"));
        }
        if header.has(flag::ACK) {
            if header.length != 0 {
                return Err(ConnectionError::size("an acknowledgement of SETTINGS that has settings"));
            }
            // There is one to acknowledge.
            if std::mem::replace(&mut self.peer.has_acknowledged, true) {
                return Err(ConnectionError::protocol("an acknowledgement of SETTINGS that were not sent"));
            }
            return Ok(());
        }
        if !header.length.is_multiple_of(6) {
            return Err(ConnectionError::size("SETTINGS of a wrong length"));
        }
        for entry in payload.chunks_exact(6) {
            self.on_setting(u16::from_be_bytes([entry[0], entry[1]]), number(&entry[2..]))?;
        }
        self.peer.has_settings = true;
        self.reply(kind::SETTINGS, flag::ACK, 0, &[]);
        self.events.push_back(Event::Settings);
        Ok(())
    }

    fn on_setting(&mut self, id: u16, value: u32) -> Done {
        match id {
            setting::ENABLE_PUSH if value != 0 => {
                return Err(ConnectionError::protocol("SETTINGS_ENABLE_PUSH of a server"));
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer.max_streams = value as usize,
            setting::INITIAL_WINDOW_SIZE => {
                let too_large = |what| ConnectionError::new(Reason::FLOW_CONTROL_ERROR, what);
                if value > MAX_31_BITS {
                    return Err(too_large("a window that is larger than any"));
                }
                let more = i64::from(value) - self.peer.first_window;
                self.peer.first_window = i64::from(value);
                for (key, stream) in self.streams.iter_mut() {
                    stream.send_window += more;
                    if stream.send_window > i64::from(MAX_31_BITS) {
                        return Err(too_large("SETTINGS that make a window larger than any"));
                    }
                    send::wake(&mut self.events, key, stream);
                }
            }
            setting::MAX_FRAME_SIZE => {
                if !(MAX_PAYLOAD as u32..1 << 24).contains(&value) {
                    return Err(ConnectionError::protocol("a size of frames that is not allowed"));
                }
                // Longer ones are of no use, since they hold up those of other streams.
                self.peer.max_payload = MAX_PAYLOAD;
            }
            // The dynamic table is not used; how large a list of fields is, is decided elsewhere.
            _ => {}
        }
        Ok(())
    }

    fn on_ping(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.stream != 0 {
            return Err(ConnectionError::protocol("PING of a stream"));
        }
        if header.length != 8 {
            return Err(ConnectionError::size("PING of a wrong length"));
        }
        if !header.has(flag::ACK) {
            self.reply(kind::PING, flag::ACK, 0, payload);
        }
        Ok(())
    }

    fn on_go_away(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.stream != 0 {
            return Err(ConnectionError::protocol("GOAWAY of a stream"));
        }
        if header.length < 8 {
            return Err(ConnectionError::size("GOAWAY of a wrong length"));
        }
        let (last, reason) = (number(payload) & MAX_31_BITS, Reason(number(&payload[4..])));
        if last > self.peer.last {
            return Err(ConnectionError::protocol("GOAWAY that takes more streams than the one before"));
        }
        (self.peer.last, self.peer.is_leaving) = (last, true);
        self.events.push_back(Event::GoAway(reason));
        let refused: Vec<Key> = self.streams.keys().filter(|(id, _)| *id > last).map(|(_, key)| key).collect();
        for key in refused {
            if self.streams.get(key).is_some_and(|stream| !stream.is_over()) {
                self.streams.reset(key, true);
                self.return_grant(key);
                self.events.push_back(Event::Refused(key, reason));
            }
        }
        Ok(())
    }

    fn on_window_update(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.length != 4 {
            return Err(ConnectionError::size("WINDOW_UPDATE of a wrong length"));
        }
        let more = i64::from(number(payload) & MAX_31_BITS);
        let most = i64::from(MAX_31_BITS);
        if header.stream == 0 {
            if more == 0 {
                return Err(ConnectionError::protocol("WINDOW_UPDATE of nothing"));
            }
            self.send_window += more;
            let set_aside: i64 = self.streams.iter_mut().map(|(_, stream)| stream.granted).sum();
            if self.send_window + set_aside > most {
                return Err(ConnectionError::new(Reason::FLOW_CONTROL_ERROR, "a window that is larger than any"));
            }
            self.distribute();
            return Ok(());
        }
        let error = match self.streams.find(header.stream) {
            Found::Idle => return Err(ConnectionError::protocol("WINDOW_UPDATE of a stream that was not opened")),
            Found::There(key, stream) if !stream.is_over() => {
                stream.send_window += more;
                if more == 0 {
                    (key, StreamError::malformed("WINDOW_UPDATE of nothing"))
                } else if stream.send_window > most {
                    (key, StreamError::new(Reason::FLOW_CONTROL_ERROR, "a window that is larger than any"))
                } else {
                    send::wake(&mut self.events, key, stream);
                    return Ok(());
                }
            }
            _ => return Ok(()),
        };
        self.malformed(error.0, error.1);
        Ok(())
    }
}

/// Takes away the length of the padding in front, and the padding behind.
fn without_padding(mut payload: Bytes) -> Done<Bytes> {
    let (padding, rest) = payload.split_first().ok_or(ConnectionError::size("DATA without its padding"))?;
    let padding = usize::from(*padding);
    let length =
        rest.len().checked_sub(padding).ok_or(ConnectionError::protocol("padding that is longer than its frame"))?;
    payload.advance(1);
    payload.truncate(length);
    Ok(payload)
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
