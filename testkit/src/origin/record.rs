//! What an origin has seen: every connection and every request, byte for byte.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use crate::http::{Cut, Digest, End, Framing, Headers, RequestHead, printable};

/// Everything an origin has seen, in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// The connections, in order of acceptance; the index is the connection's number.
    pub connections: Vec<Connection>,
    /// The requests whose heads arrived, in that order; the index is the request's number.
    pub requests: Vec<Request>,
}

/// One accepted connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its number, from 0.
    pub number: usize,
    /// The peer's address.
    pub peer: SocketAddr,
    /// Whether it is open: neither side has ended it.
    pub open: bool,
    /// How the peer ended its side, if it has: an orderly close (also a half-close) or a reset.
    pub peer_end: Option<Cut>,
    /// Whether the origin is done with it.
    pub done: bool,
    /// Whether it waits for a next request, with no byte of it here.
    pub idle: bool,
    /// Numbers of its requests.
    pub requests: Vec<usize>,
    /// Bytes that belong to no request: a head that never ended, or garbage. At most 1 MiB is kept.
    pub stray: Vec<u8>,
    /// What is wrong with [`Connection::stray`], if it is not merely unfinished.
    pub fault: Option<String>,
    /// Bytes read from it in all.
    pub received: u64,
    /// Bytes written to it in all (taken by the kernel).
    pub sent: u64,
}

/// One request whose head arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its number at this origin, from 0.
    pub number: usize,
    /// The number of its connection.
    pub connection: usize,
    /// Its place on the connection, from 0.
    pub place: usize,
    /// The method, in its own case.
    pub method: String,
    /// The target, as sent.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The fields.
    pub headers: Headers,
    /// Every byte of the head, the empty line included.
    pub head: Vec<u8>,
    /// How the body is delimited.
    pub framing: Framing,
    /// The decoded body, as far as it is here and kept.
    pub body: Vec<u8>,
    /// The body as on the wire, chunk framing and trailers included, as far as it is here and kept.
    pub raw_body: Vec<u8>,
    /// Length of the decoded body so far, in bytes.
    pub body_length: u64,
    /// Length of the body on the wire so far, in bytes.
    pub raw_length: u64,
    /// Checksum of the decoded body so far; compare with [`digest_of`](crate::http::digest_of).
    pub digest: u64,
    /// Trailer fields of a chunked body that has ended.
    pub trailers: Headers,
    /// How the request ended.
    pub end: End,
    /// Bytes of the final answer written so far (taken by the kernel).
    pub answer_length: u64,
    /// Whether the scripted answer was written to its end.
    pub answered: bool,
    /// When the head had arrived.
    pub head_at: Instant,
    /// When the request ended.
    pub end_at: Option<Instant>,
    pub(super) running: Digest,
}

impl Journal {
    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections.iter().filter(|c| c.open).count()
    }

    /// The requests that are over, whether complete, cut or malformed.
    #[must_use]
    pub fn over(&self) -> Vec<Request> {
        let over = self.requests.iter().filter(|r| r.end.is_over());
        over.cloned().collect()
    }

    /// Every byte that arrived on a connection, if the bodies were kept.
    #[must_use]
    pub fn bytes_of(&self, connection: usize) -> Vec<u8> {
        let Some(connection) = self.connections.get(connection) else {
            return Vec::new();
        };
        let requests = connection.requests.iter().map(|n| &self.requests[*n]);
        let mut bytes: Vec<u8> = requests.flat_map(Request::bytes).collect();
        bytes.extend_from_slice(&connection.stray);
        bytes
    }
}

impl Request {
    pub(super) fn new(number: usize, connection: usize, place: usize, head: RequestHead) -> Self {
        Self {
            number,
            connection,
            place,
            method: head.method,
            target: head.target,
            version: head.version,
            headers: head.headers,
            head: head.raw,
            framing: head.framing,
            body: Vec::new(),
            raw_body: Vec::new(),
            body_length: 0,
            raw_length: 0,
            digest: Digest::default().value(),
            trailers: Headers::default(),
            end: End::Arriving,
            answer_length: 0,
            answered: false,
            head_at: Instant::now(),
            end_at: None,
            running: Digest::default(),
        }
    }

    /// Head and body as they were on the wire, as far as kept.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.raw_body].concat()
    }

    /// The decoded body as text, with replacement characters where it is none.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the request ended as its framing says.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end.is_complete()
    }

    /// Asserts that the request is complete, and gives it back.
    ///
    /// # Panics
    /// If it is not; the message shows the request.
    #[track_caller]
    #[must_use]
    pub fn complete(self) -> Self {
        assert!(self.is_complete(), "this request is not complete: {self}");
        self
    }

    pub(super) fn finish(&mut self, end: End) {
        if !self.end.is_over() {
            self.end = end;
            self.end_at = Some(Instant::now());
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, connection, body_length, raw_length, end, answer_length, .. } = self;
        writeln!(
            f,
            "request {number} on connection {connection}: {end:?}, body of {body_length} bytes \
             ({raw_length} on the wire), {answer_length} bytes of answer written"
        )?;
        writeln!(f, "    head: {}", printable(&self.head, 1000))?;
        write!(f, "    body: {}", printable(&self.body, 200))
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in &self.connections {
            let Connection { number, peer, open, peer_end, received, sent, .. } = c;
            writeln!(
                f,
                "connection {number} from {peer}: open {open}, ended by peer {peer_end:?}, \
                 {received} bytes in, {sent} out, requests {:?}",
                c.requests
            )?;
            if !c.stray.is_empty() {
                let stray = printable(&c.stray, 400);
                writeln!(f, "    no request: {stray} ({:?})", c.fault)?;
            }
        }
        for request in &self.requests {
            writeln!(f, "{request}")?;
        }
        if self.connections.is_empty() {
            writeln!(f, "no connection was made")?;
        }
        Ok(())
    }
}
