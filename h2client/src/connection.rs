//! One connection: its streams and windows, what has come and what is on its way out.

mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

use crate::{
    ConnectionError, Key, Reason, StreamError,
    fields::Bounds,
    frame::{FIRST_WINDOW, FrameHeader, HEADER_BYTES, MAX_31_BITS, MAX_PAYLOAD, PREFACE, kind, setting},
    hpack::Decoder,
    outbox::Outbox,
    remembered::Remembered,
    streams::Streams,
};

/// Bytes that wait to be sent, past which no stream gets room for more.
const MAX_WAITING: usize = 4 << 20;

/// Bytes of answers to the peer's own frames that may wait to be sent while more is read from it.
const MAX_REPLIES: usize = 64 * 1024;

/// What is said to the peer at the start, and kept to.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes that the peer may send on each stream before some have been taken.
    pub stream_window: u32,
    /// The same for all streams together. It is given back as soon as it is used up, since the streams are bounded.
    pub connection_window: u32,
    /// The size of a list of fields, as RFC 9113 section 6.5.2 counts it.
    pub max_fields_bytes: u32,
    /// How many fields there may be in it.
    pub max_fields: usize,
    /// Bytes of each stream that wait to be sent.
    pub send_buffer: usize,
    /// Streams that the peer is taken to allow until it says how many.
    pub max_streams: usize,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer has sent its settings, or changed them.
    Settings,
    /// An interim response (1xx) has come.
    Interim(Key),
    /// The head of the response has come: see [`Connection::status`] and [`Connection::lines`].
    Head {
        /// The stream.
        stream: Key,
        /// Whether nothing follows it.
        ends: bool,
    },
    /// A piece of the body. It counts as taken when [`Connection::consumed`] is told.
    Data {
        /// The stream.
        stream: Key,
        /// The piece.
        data: Bytes,
        /// Whether nothing follows it.
        ends: bool,
    },
    /// The same, where the piece is short, perhaps empty: see [`Connection::piece`].
    Piece {
        /// The stream.
        stream: Key,
        /// Whether nothing follows it.
        ends: bool,
    },
    /// Trailers have come, and with them the end of the response: see [`Connection::lines`].
    Trailers(Key),
    /// Whoever waits for room on the stream may ask again.
    Room(Key),
    /// The peer has reset the stream.
    Reset(Key, Reason),
    /// The peer broke the protocol on the stream, which is reset.
    Malformed(Key, StreamError),
    /// The peer has not processed the request, and will not (RFC 9113 section 6.8).
    Refused(Key, Reason),
    /// The peer takes no further streams on the connection.
    GoAway(Reason),
}

/// Why there is no stream for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The connection ends.
    #[error("the connection takes no further streams")]
    Closing,
    /// The peer allows no more at a time.
    #[error("the endpoint allows no more streams at a time")]
    Full,
}

/// A block of fields that is not complete.
#[derive(Debug)]
struct OpenBlock {
    stream: u32,
    ends: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    streams: Streams,
    out: Outbox,
    decoder: Decoder,
    heads: Remembered,
    trailers: Remembered,
    /// Whether the fields that came last are trailers.
    are_trailers: bool,
    /// The short piece of a body that came last.
    piece: Vec<u8>,
    /// The block that is coming in several frames.
    open_block: Option<OpenBlock>,
    /// What has come of it.
    block: Vec<u8>,
    events: VecDeque<Event>,
    /// Data that waits to be sent: place and number of its stream, its length, and where it ends among all bytes.
    queued: VecDeque<(Key, u32, usize, u64)>,
    /// Bytes that may be sent on all streams together, less what is set aside.
    send_window: i64,
    /// Streams that wait for some of it, in order.
    waiting: VecDeque<(Key, u32)>,
    /// Whether some stream was denied room because too much waits.
    is_crowded: bool,
    receive_window: i64,
    /// Answers to the peer's frames since that was last looked at, in bytes.
    replies: usize,
    /// Nothing is read before everything up to here is sent.
    reads_after: u64,
    /// What the peer has said.
    peer: Peer,
    /// Whether a block has been sent.
    has_sent_block: bool,
    /// Whether GOAWAY was sent.
    is_leaving: bool,
    /// How the peer broke the protocol.
    failed: Option<ConnectionError>,
}

/// What the peer has said about itself.
#[derive(Debug)]
struct Peer {
    has_settings: bool,
    has_acknowledged: bool,
    max_streams: usize,
    first_window: i64,
    max_payload: usize,
    /// The last stream that it takes, once it has sent GOAWAY, and why.
    last: u32,
    is_leaving: bool,
}

impl Connection {
    /// A connection whose preface waits to be sent.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut this = Self {
            streams: Streams::default(),
            out: Outbox::default(),
            decoder: Decoder::default(),
            heads: Remembered::default(),
            trailers: Remembered::default(),
            are_trailers: false,
            piece: Vec::new(),
            open_block: None,
            block: Vec::new(),
            events: VecDeque::new(),
            queued: VecDeque::new(),
            send_window: FIRST_WINDOW,
            waiting: VecDeque::new(),
            is_crowded: false,
            receive_window: i64::from(config.connection_window),
            replies: 0,
            reads_after: 0,
            peer: Peer {
                has_settings: false,
                has_acknowledged: false,
                max_streams: config.max_streams,
                first_window: FIRST_WINDOW,
                max_payload: MAX_PAYLOAD,
                last: MAX_31_BITS,
                is_leaving: false,
            },
            has_sent_block: false,
            is_leaving: false,
            failed: None,
            config,
        };
        this.greet();
        this
    }

    /// Queues the preface.
    fn greet(&mut self) {
        let settings = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, self.config.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, self.config.max_fields_bytes),
        ];
        self.out.put(|out| {
            out.extend_from_slice(PREFACE);
            FrameHeader { length: settings.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 }.put(out);
            for (id, value) in settings {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&value.to_be_bytes());
            }
        });
        if let Ok(more @ 1..) = u32::try_from(i64::from(self.config.connection_window) - FIRST_WINDOW) {
            self.put_window_update(0, more);
        }
        self.replies = 0;
    }

    /// The status of the response whose head has just come.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.heads.fields().status()
    }

    /// The fields that have just come, each as a line of HTTP/1.1.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        if self.are_trailers { self.trailers.fields().lines() } else { self.heads.fields().lines() }
    }

    /// The number of the head that has just come. It is that of the head before where both are the same, byte for byte.
    #[must_use]
    pub fn head_number(&self) -> u64 {
        self.heads.number()
    }

    /// The short piece of a body that has just come.
    #[must_use]
    pub fn piece(&self) -> &[u8] {
        &self.piece
    }

    /// Streams that the peer allows at a time.
    #[must_use]
    pub fn max_streams(&self) -> usize {
        self.peer.max_streams
    }

    /// Whether another stream can be opened at some time.
    #[must_use]
    pub fn takes_streams(&self) -> bool {
        !self.is_leaving && !self.peer.is_leaving && self.failed.is_none() && self.streams.has_ids()
    }

    /// Whether so much waits to be sent that another connection is better.
    #[must_use]
    pub fn is_clogged(&self) -> bool {
        self.out.len() >= MAX_WAITING
    }

    /// Streams that have not ended.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.open_count()
    }

    /// The streams that have not been released.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.streams.keys().map(|(_, key)| key)
    }

    /// Whether the head of the request on this stream has left as a whole. Where it has not, the peer cannot have processed it.
    #[must_use]
    pub fn has_left(&self, key: Key) -> bool {
        self.streams.get(key).is_some_and(|stream| stream.head_end <= self.out.sent())
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.out.len() > 0
    }

    /// Fills the slices with the next bytes that are to be sent; returns how many are filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.out.fill(slices)
    }

    /// Whether bytes may be read. A peer that does not take the answers to its frames is not read from.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.out.sent() >= self.reads_after
    }

    /// Writes a frame in answer to one of the peer's.
    fn reply(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.out.put(|out| {
            FrameHeader { length: payload.len(), kind, flags, stream }.put(out);
            out.extend_from_slice(payload);
        });
        self.replies += HEADER_BYTES + payload.len();
        if self.replies > MAX_REPLIES {
            (self.replies, self.reads_after) = (0, self.out.end());
        }
    }

    fn put_window_update(&mut self, stream: u32, more: u32) {
        self.reply(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }

    fn bounds(&self) -> Bounds {
        Bounds { bytes: self.config.max_fields_bytes as usize, fields: self.config.max_fields }
    }

    /// Tells the peer that no further streams come. Those that are open go on.
    pub fn go_away(&mut self, reason: Reason) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            // No stream of the peer's was ever taken.
            let payload = [0_u32.to_be_bytes(), reason.0.to_be_bytes()].concat();
            self.reply(kind::GOAWAY, 0, 0, &payload);
        }
    }
}
