//! An answer as the client read it, and what can go wrong before there is one.

use std::fmt;

use crate::http::{BodyDecoder, Cut, Digest, End, Framing, Headers, ResponseHead, printable};

/// A final answer, with the interim ones before it.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The reason phrase, possibly empty.
    pub reason: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The fields.
    pub headers: Headers,
    /// Every byte of the head, the empty line included.
    pub head: Vec<u8>,
    /// The interim answers (1xx) that came before it.
    pub interim: Vec<ResponseHead>,
    /// How the body is delimited.
    pub framing: Framing,
    /// The decoded body, as far as read and kept.
    pub body: Vec<u8>,
    /// The body as on the wire, as far as read and kept.
    pub raw_body: Vec<u8>,
    /// Length of the decoded body so far, in bytes.
    pub body_length: u64,
    /// Checksum of the decoded body so far; compare with [`digest_of`](crate::http::digest_of).
    pub digest: u64,
    /// Trailer fields of a chunked body that has ended.
    pub trailers: Headers,
    /// How the answer ended.
    pub end: End,
    /// Whether the connection may serve another request, by what the head says.
    pub keeps_alive: bool,
    pub(super) decoder: BodyDecoder,
    pub(super) running: Digest,
}

/// Why there is no head of an answer, or no end of it in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The connection ended before the first byte of an answer.
    Closed(Cut),
    /// The connection ended within a head; these are its bytes.
    CutHead(Cut, Vec<u8>),
    /// The head is malformed: why, and all unread bytes.
    Malformed(String, Vec<u8>),
    /// Nothing more came within [`patience`](crate::eventually::patience); these bytes of a head are
    /// there.
    TimedOut(Vec<u8>),
}

impl Response {
    pub(super) fn new(head: ResponseHead, interim: Vec<ResponseHead>) -> Self {
        let keeps_alive = head.keeps_alive();
        let decoder = BodyDecoder::new(head.framing);
        let end = match decoder.is_done() {
            true => End::Complete,
            false => End::Arriving,
        };
        Self {
            status: head.status,
            reason: head.reason,
            version: head.version,
            headers: head.headers,
            head: head.raw,
            interim,
            framing: head.framing,
            body: Vec::new(),
            raw_body: Vec::new(),
            body_length: 0,
            digest: Digest::default().value(),
            trailers: Headers::default(),
            end,
            keeps_alive,
            decoder,
            running: Digest::default(),
        }
    }

    /// The decoded body as text, with replacement characters where it is none.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Whether the answer ended as its framing says.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end.is_complete()
    }

    /// Asserts that the answer is complete, and gives it back.
    ///
    /// # Panics
    /// If it is not; the message shows the answer.
    #[track_caller]
    #[must_use]
    pub fn complete(self) -> Self {
        assert!(self.is_complete(), "this answer is not complete: {self}");
        self
    }

    /// Asserts the status of a complete answer, and gives it back.
    ///
    /// # Panics
    /// If it is another, or the answer is not complete; the message shows the answer.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "in this answer: {self}");
        self.complete()
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { end, framing, body_length, .. } = self;
        writeln!(f, "{end:?}, framing {framing:?}, body of {body_length}")?;
        writeln!(f, "    head: {}", printable(&self.head, 1000))?;
        write!(f, "    body: {}", printable(&self.body, 1000))
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(how) => write!(f, "the connection ended ({how:?}) before an answer"),
            Self::CutHead(how, bytes) => {
                let bytes = printable(bytes, 1000);
                write!(f, "the connection ended ({how:?}) within a head: {bytes}")
            }
            Self::Malformed(why, bytes) => {
                write!(f, "malformed head, {why}: {}", printable(bytes, 1000))
            }
            Self::TimedOut(bytes) => {
                let bytes = printable(bytes, 1000);
                write!(f, "timed out before the head was complete; received `{bytes}`")
            }
        }
    }
}

impl std::error::Error for ReadError {}
