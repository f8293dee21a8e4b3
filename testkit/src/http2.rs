//! A raw HTTP/2 client: it sends exactly the frames it is given, valid or not, and sorts the answers by stream.

mod frame;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

pub use frame::{Frame, PREFACE, block, flag, kind, request, setting};

use crate::{client::RawClient, eventually::within};

/// One connection. It acknowledges SETTINGS and PING by itself, unless it is told not to, and nothing else.
#[derive(Debug)]
pub struct Http2Client {
    client: RawClient,
    answers: BTreeMap<u32, Answer>,
    goaway: Option<u32>,
    /// What has come of GOAWAY and PING, in order.
    farewells: Vec<Farewell>,
    /// PINGs are not acknowledged.
    keeps_pings: bool,
    next_stream: u32,
    /// Bytes that may still be sent on each stream, beyond what the first window of every stream has room for.
    credit: BTreeMap<u32, i64>,
}

/// Bytes that may be sent on a stream, or a connection, before any credit has come (RFC 9113 section 6.9.2). The servers of tests
/// give streams no less.
const FIRST_WINDOW: i64 = 65_535;

/// A frame by which a server ends a connection (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// GOAWAY.
    GoAway {
        /// The last stream that it takes, as far as it says.
        last: u32,
        /// The reason.
        reason: u32,
    },
    /// PING, with its content.
    Ping([u8; 8]),
}

/// What has come on a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status of the final answer, once there is one.
    pub status: Option<u16>,
    /// The body so far.
    pub body: Vec<u8>,
    /// How it ended, if it has.
    pub end: Option<StreamEnd>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// With its last frame.
    Whole,
    /// Reset, for this reason.
    Reset(u32),
    /// With its connection, for the reason that GOAWAY gave, if it did.
    Connection(Option<u32>),
}

/// Reasons (RFC 9113 section 7).
pub mod reason {
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// Fields that cannot be decoded.
    pub const COMPRESSION_ERROR: u32 = 9;
    /// The peer causes excessive load.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

impl Http2Client {
    /// Connects, sends the preface and these settings, and waits for nothing.
    ///
    /// # Panics
    /// If there is no connection.
    pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        Self::over(RawClient::connect(address).await, settings).await
    }

    /// As [`Self::connect`], with a receive buffer of `receive_buffer` bytes, so that the server soon meets backpressure.
    ///
    /// # Panics
    /// If there is no connection.
    pub async fn connect_small(address: SocketAddr, receive_buffer: u32, settings: &[(u16, u32)]) -> Self {
        Self::over(RawClient::connect_small(address, receive_buffer).await, settings).await
    }

    /// Speaks HTTP/2 on a connection made elsewhere.
    ///
    /// # Panics
    /// If the connection has failed.
    pub async fn over(mut client: RawClient, settings: &[(u16, u32)]) -> Self {
        client.send([PREFACE, &Frame::settings(settings).bytes()].concat()).await;
        let (answers, credit) = (BTreeMap::new(), BTreeMap::new());
        Self { client, answers, goaway: None, farewells: Vec::new(), keeps_pings: false, next_stream: 1, credit }
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// As the system reports it, or `TimedOut` if the server takes none.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.client.try_send(bytes.as_ref()).await
    }

    /// Sends frames.
    ///
    /// # Panics
    /// If the connection has failed.
    #[track_caller]
    pub fn send(&mut self, frames: &[Frame]) -> impl Future<Output = ()> {
        self.client.send(frames.iter().flat_map(Frame::bytes).collect::<Vec<u8>>())
    }

    /// The number of the next stream.
    pub fn new_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        stream
    }

    /// Begins a request without a body, given its fields as [`request`] makes them; returns its stream.
    ///
    /// # Panics
    /// If the connection has failed.
    pub async fn open(&mut self, block: &[u8]) -> u32 {
        let stream = self.new_stream();
        self.send(&[Frame::headers(stream, flag::END_STREAM, block)]).await;
        stream
    }

    /// Sends a request with a body in one frame, and waits for its end.
    ///
    /// # Panics
    /// If the connection has failed, or the request does not end.
    pub async fn exchange(&mut self, block: &[u8], body: Option<&[u8]>) -> Answer {
        let Some(body) = body else {
            let stream = self.open(block).await;
            return self.answer(stream).await;
        };
        let stream = self.new_stream();
        self.send(&[Frame::headers(stream, 0, block), Frame::data(stream, flag::END_STREAM, body)]).await;
        self.answer(stream).await
    }

    /// Takes note that so many bytes of a body were sent, and waits until the windows of its stream and of the connection have room
    /// for as many again.
    ///
    /// # Panics
    /// If they do not get it, or the connection ends.
    pub async fn credit(&mut self, stream: u32, sent: usize) {
        let sent = i64::try_from(sent).expect("a length that fits");
        for window in [0, stream] {
            *self.credit.entry(window).or_insert(FIRST_WINDOW) -= sent;
        }
        within("credit for more bytes", async {
            while [0, stream].iter().any(|window| self.credit[window] < sent) {
                assert!(self.read_frame().await, "the connection ended ({:?}) before it gave credit", self.goaway);
            }
        })
        .await;
    }

    /// Keeps so many bytes of the connection's credit for streams on which nothing is sent: [`Self::credit`] goes by what is left.
    pub fn keep_credit(&mut self, bytes: i64) {
        *self.credit.entry(0).or_insert(FIRST_WINDOW) -= bytes;
    }

    /// Waits until a stream has ended, with its connection if need be.
    ///
    /// # Panics
    /// If it does not.
    pub async fn answer(&mut self, stream: u32) -> Answer {
        within("a stream to end", async {
            loop {
                if self.answers.get(&stream).is_some_and(|answer| answer.end.is_some()) {
                    return self.answers[&stream].clone();
                }
                if !self.read_frame().await {
                    let so_far = self.answers.get(&stream).cloned().unwrap_or_default();
                    return Answer { end: Some(StreamEnd::Connection(self.goaway)), ..so_far };
                }
            }
        })
        .await
    }

    /// Waits until the heads of so many answers have come.
    ///
    /// # Panics
    /// If they do not.
    pub async fn heads(&mut self, n: usize) {
        within("the heads of answers", async {
            while self.answers.values().filter(|answer| answer.status.is_some()).count() < n {
                assert!(self.read_frame().await, "the connection ended ({:?}) before {n} heads had come", self.goaway);
            }
        })
        .await;
    }

    /// Waits until the server has ended the connection, and returns the reason that GOAWAY gave, if it did.
    ///
    /// # Panics
    /// If it does not.
    pub async fn ended(&mut self) -> Option<u32> {
        within("the end of the connection", async { while self.read_frame().await {} }).await;
        self.goaway
    }

    /// Reads the frames that have arrived, and returns whether the connection is still usable.
    pub async fn goes_on(&mut self) -> bool {
        self.client.fill_now().await;
        loop {
            let unread = self.client.unread();
            if unread.len() < Frame::HEADER || unread.len() < Frame::HEADER + Frame::length(unread) {
                break;
            }
            self.read_frame().await;
        }
        self.goaway.is_none() && !self.client.has_ended()
    }

    /// The reason of the last GOAWAY, if one has come.
    #[must_use]
    pub fn goaway(&self) -> Option<u32> {
        self.goaway
    }

    /// Acknowledges no PING from here on.
    pub fn keep_pings(&mut self) {
        self.keeps_pings = true;
    }

    /// Waits until so many frames of GOAWAY and PING have come, and returns all that have.
    ///
    /// # Panics
    /// If they do not.
    pub async fn farewells(&mut self, n: usize) -> &[Farewell] {
        within("GOAWAY and PING", async {
            while self.farewells.len() < n {
                assert!(self.read_frame().await, "the connection ended after {:?}", self.farewells);
            }
        })
        .await;
        &self.farewells
    }

    /// What has come, by stream.
    #[must_use]
    pub fn answers(&self) -> &BTreeMap<u32, Answer> {
        &self.answers
    }

    /// Waits this long without reading.
    pub async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    /// Reads a frame and files it; false where the connection has ended.
    async fn read_frame(&mut self) -> bool {
        let Some(header) = self.client.try_read_bytes(Frame::HEADER).await else { return false };
        let Some(payload) = self.client.try_read_bytes(Frame::length(&header)).await else { return false };
        let frame = Frame::of(&header, payload);
        self.note_farewell(&frame);
        match frame.kind {
            kind::PING if self.keeps_pings => {}
            kind::SETTINGS | kind::PING if frame.flags & flag::ACK == 0 => {
                let payload = if frame.kind == kind::PING { &frame.payload[..] } else { &[] };
                let ack = Frame::new(frame.kind, flag::ACK, 0, payload);
                // Where that fails the connection is over, which shows when it is read on.
                let _ = self.client.try_send(&ack.bytes()).await;
            }
            kind::WINDOW_UPDATE => {
                let credit = self.credit.entry(frame.stream).or_insert(FIRST_WINDOW);
                *credit += i64::from(frame::number(&frame.payload));
            }
            kind::GOAWAY => self.goaway = frame.payload.get(4..8).map(frame::number),
            kind::HEADERS | kind::DATA | kind::RST_STREAM => self.file(&frame),
            _ => {}
        }
        true
    }

    fn note_farewell(&mut self, frame: &Frame) {
        let (bytes, number) = (frame.payload.get(..8).and_then(|bytes| bytes.try_into().ok()), frame::number);
        let Some(bytes): Option<[u8; 8]> = bytes else { return };
        match frame.kind {
            kind::PING if frame.flags & flag::ACK == 0 => self.farewells.push(Farewell::Ping(bytes)),
            kind::GOAWAY => {
                self.farewells.push(Farewell::GoAway { last: number(&bytes[..4]), reason: number(&bytes[4..]) });
            }
            _ => {}
        }
    }

    fn file(&mut self, frame: &Frame) {
        let answer = self.answers.entry(frame.stream).or_default();
        match frame.kind {
            kind::HEADERS => answer.status = frame::status(&frame.payload).or(answer.status),
            kind::DATA => answer.body.extend_from_slice(&frame.payload),
            _ => answer.end = answer.end.or(Some(StreamEnd::Reset(frame::number(&frame.payload)))),
        }
        if frame.kind != kind::RST_STREAM && frame.flags & flag::END_STREAM != 0 {
            answer.end = Some(StreamEnd::Whole);
        }
    }
}

impl Answer {
    /// Whether it is the whole answer to a request, of this status.
    #[must_use]
    pub fn is_whole(&self, status: u16) -> bool {
        self.status == Some(status) && self.end == Some(StreamEnd::Whole)
    }

    /// Whether the request was refused, by an answer that says so or by an error of its stream or of its connection.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self.end {
            Some(StreamEnd::Whole) => self.status.is_some_and(|status| status >= 400),
            Some(StreamEnd::Reset(_) | StreamEnd::Connection(Some(_))) => true,
            Some(StreamEnd::Connection(None)) | None => false,
        }
    }
}
