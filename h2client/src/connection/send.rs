//! What goes out: requests, data as far as windows have room for it, credit, resets.

use bytes::Bytes;

use super::{Connection, Event, MAX_WAITING, OpenError};
use crate::{
    Key, Reason,
    frame::{FrameHeader, flag, kind},
    hpack::block,
    streams::{Receiving, Stream},
};

/// The most of the connection's window that is set aside for a stream at a time, while others wait for some of it.
const MAX_GRANT: i64 = 16 * 1024;

impl Connection {
    /// Sends the head of a request on a new stream: blocks of fields that together make one, as [`block`] encodes them.
    /// `ends` says that nothing follows it, `to_head` that its method is HEAD.
    ///
    /// # Errors
    /// [`OpenError`], where there is no stream for it, and nothing was sent.
    pub fn open(&mut self, parts: &[&[u8]], ends: bool, to_head: bool) -> Result<Key, OpenError> {
        if !self.takes_streams() {
            return Err(OpenError::Closing);
        }
        if self.streams.open_count() >= self.peer.max_streams {
            return Err(OpenError::Full);
        }
        let windows = (self.peer.first_window, i64::from(self.config.stream_window));
        let key = self.streams.open(!ends, to_head, windows).ok_or(OpenError::Closing)?;
        let Some(id) = self.streams.get(key).map(|stream| stream.id) else { return Err(OpenError::Closing) };
        if std::mem::replace(&mut self.has_sent_block, true) {
            self.put_block(id, parts, ends);
        } else {
            let own: &[u8] = &[block::NO_TABLE];
            let parts: Vec<&[u8]> = [own].into_iter().chain(parts.iter().copied()).collect();
            self.put_block(id, &parts, ends);
        }
        let end = self.out.end();
        if let Some(stream) = self.streams.get_mut(key) {
            stream.head_end = end;
        }
        Ok(key)
    }

    /// Writes a block of fields in as many frames as it needs.
    fn put_block(&mut self, stream: u32, parts: &[&[u8]], ends: bool) {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let end_stream = if ends { flag::END_STREAM } else { 0 };
        let most = self.peer.max_payload;
        if length <= most {
            return self.out.put(|out| {
                out.reserve(length + 9);
                FrameHeader { length, kind: kind::HEADERS, flags: end_stream | flag::END_HEADERS, stream }.put(out);
                parts.iter().for_each(|part| out.extend_from_slice(part));
            });
        }
        let whole = parts.concat();
        let count = whole.len().div_ceil(most);
        self.out.put(|out| {
            for (number, piece) in whole.chunks(most).enumerate() {
                let (kind, first) = if number == 0 { (kind::HEADERS, end_stream) } else { (kind::CONTINUATION, 0) };
                let last = if number + 1 == count { flag::END_HEADERS } else { 0 };
                FrameHeader { length: piece.len(), kind, flags: first | last, stream }.put(out);
                out.extend_from_slice(piece);
            }
        });
    }

    /// How many of so many bytes may be sent on a stream now. Where it is none, [`Event::Room`] tells when to ask again.
    pub fn room(&mut self, key: Key, wanted: usize) -> usize {
        let (crowded, no_queue) = (self.out.len() >= MAX_WAITING, self.waiting.is_empty());
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.is_sending) else { return 0 };
        let own = own_room(stream, wanted, self.config.send_buffer);
        if own <= 0 || crowded {
            (stream.is_blocked, self.is_crowded) = (true, self.is_crowded || crowded);
            return 0;
        }
        if stream.granted < own && no_queue {
            let more = (own - stream.granted).min(self.send_window).max(0);
            (stream.granted, self.send_window) = (stream.granted + more, self.send_window - more);
        }
        if stream.granted == 0 {
            if stream.wanted == 0 {
                self.waiting.push_back((key, stream.id));
            }
            (stream.wanted, stream.is_blocked) = (own, true);
            return 0;
        }
        // What is positive and no more than was wanted.
        own.min(stream.granted) as usize
    }

    /// Sends data, which must not be more than there is [room](Self::room) for; `ends` says that nothing follows it.
    pub fn send_data(&mut self, key: Key, mut data: Bytes, ends: bool) {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.is_sending) else { return };
        let (id, length) = (stream.id, data.len());
        debug_assert!(length as i64 <= stream.granted, "more than there is room for");
        stream.granted -= length as i64;
        stream.send_window -= length as i64;
        stream.queued += length;
        loop {
            let piece = data.split_to(data.len().min(self.peer.max_payload));
            let flags = if ends && data.is_empty() { flag::END_STREAM } else { 0 };
            self.out.put(|out| FrameHeader { length: piece.len(), kind: kind::DATA, flags, stream: id }.put(out));
            self.out.put_data(piece);
            if data.is_empty() {
                break;
            }
        }
        if length > 0 {
            self.queued.push_back((key, id, length, self.out.end()));
        }
        if ends {
            self.end_sending(key);
        }
    }

    /// Sends trailers, and with them the end of the request.
    pub fn send_trailers(&mut self, key: Key, block: &[u8]) {
        let Some(id) = self.streams.get(key).filter(|stream| stream.is_sending).map(|stream| stream.id) else { return };
        self.put_block(id, &[block], true);
        self.end_sending(key);
    }

    fn end_sending(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.is_sending = false;
        }
        self.streams.ended(key);
        self.return_grant(key);
    }

    /// Whether whoever has the stream may still send on it.
    #[must_use]
    pub fn is_sending(&self, key: Key) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.is_sending)
    }

    /// So many bytes of the response's body have been taken: the peer may send as many more.
    pub fn consumed(&mut self, key: Key, bytes: usize) {
        let half = self.config.stream_window / 2;
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.receiving != Receiving::Over) else {
            return;
        };
        // No more than the window, which is a number of this kind.
        stream.uncredited += bytes as u32;
        if stream.uncredited >= half {
            let more = std::mem::take(&mut stream.uncredited);
            stream.receive_window += i64::from(more);
            let id = stream.id;
            self.put_window_update(id, more);
        }
    }

    /// Lets go of a stream. One that has not ended is cancelled.
    pub fn release(&mut self, key: Key) {
        if self.streams.get(key).is_some_and(|stream| !stream.is_over()) {
            self.reset(key, Reason::CANCEL);
        }
        self.return_grant(key);
        self.streams.remove(key);
    }

    /// Resets a stream.
    pub(super) fn reset(&mut self, key: Key, reason: Reason) {
        let Some(id) = self.streams.get(key).map(|stream| stream.id) else { return };
        self.streams.reset(key, true);
        self.return_grant(key);
        self.reply(kind::RST_STREAM, 0, id, &reason.0.to_be_bytes());
    }

    /// Gives what was set aside for a stream to those that wait for it.
    pub(super) fn return_grant(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && stream.granted > 0
        {
            self.send_window += std::mem::take(&mut stream.granted);
            self.distribute();
        }
    }

    /// Sets the connection's window aside for those that wait for it, in order.
    pub(super) fn distribute(&mut self) {
        while self.send_window > 0
            && let Some((key, id)) = self.waiting.pop_front()
        {
            let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.id == id && stream.is_sending) else {
                continue;
            };
            let wanted = std::mem::take(&mut stream.wanted).min(stream.send_window);
            if wanted <= 0 {
                // Its own window was made smaller; it is told when that has room.
                continue;
            }
            let grant = wanted.min(self.send_window).min(MAX_GRANT);
            stream.granted += grant;
            self.send_window -= grant;
            wake(&mut self.events, key, stream);
        }
    }

    /// So many bytes have been sent. Look for [events](Self::next_event) after it.
    pub fn written(&mut self, bytes: usize) {
        self.out.advance(bytes);
        while let Some((key, id, length, end)) = self.queued.front().copied()
            && end <= self.out.sent()
        {
            self.queued.pop_front();
            if let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.id == id) {
                stream.queued -= length;
                wake(&mut self.events, key, stream);
            }
        }
        if self.is_crowded && self.out.len() < MAX_WAITING {
            self.is_crowded = false;
            for (key, stream) in self.streams.iter_mut() {
                wake(&mut self.events, key, stream);
            }
        }
    }

    /// What has happened without anything coming in.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// Tells whoever waits for room on a stream.
pub(super) fn wake(events: &mut std::collections::VecDeque<Event>, key: Key, stream: &mut Stream) {
    if std::mem::take(&mut stream.is_blocked) {
        events.push_back(Event::Room(key));
    }
}

/// The room that a stream has by itself.
fn own_room(stream: &Stream, wanted: usize, buffer: usize) -> i64 {
    let free = buffer.saturating_sub(stream.queued).min(wanted);
    i64::try_from(free).unwrap_or(i64::MAX).min(stream.send_window)
}
