//! What an origin answers: the bytes, when they go out, where they pause or break off, and how the
//! request's body is read meanwhile.

use std::time::Duration;

use super::gate::Gate;

/// One scripted answer. By default it is written when the whole request has arrived, nothing but the
/// given fields and the framing is in its head, and the connection stays open.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) version: String,
    /// Lines of the head without their CRLF.
    pub(super) lines: Vec<Vec<u8>>,
    pub(super) interim: Vec<u8>,
    pub(super) body: Body,
    pub(super) declared_length: Option<u64>,
    pub(super) trailers: Vec<u8>,
    /// The whole response as given, in place of everything above.
    pub(super) raw: Option<Vec<u8>>,
    pub(super) when: When,
    pub(super) reading: Reading,
    pub(super) drip: Option<(usize, Duration)>,
    pub(super) acts: Vec<(At, Act)>,
    pub(super) after: After,
}

/// When the answer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// When the request has arrived completely. A request that never does gets no answer.
    Complete,
    /// As soon as its head has arrived.
    Head,
    /// When so many raw bytes of its body (chunk framing included) have been read, or all of it.
    Body(u64),
}

/// How the body of the request is read.
#[derive(Clone, Debug)]
pub enum Reading {
    /// As fast as it comes.
    Full,
    /// So many bytes per second at most, in 20 steps a second.
    Rate(u64),
    /// Exactly so many raw bytes of the body, then nothing until the gate opens (a gate that never
    /// opens: never). The sockets' buffers still take some: see [`Builder::receive_buffer`]. While
    /// nothing is read, a reset is noticed, but an orderly close is not: its FIN waits behind the
    /// unread bytes.
    ///
    /// [`Builder::receive_buffer`]: super::Builder::receive_buffer
    HeldAfter(u64, Gate),
}

/// A place in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Before the first byte (of the final response, if there are interim ones).
    Start,
    /// Behind so many bytes of the final response, head included.
    Byte(u64),
    /// Behind the head and so many bytes of the body as written (chunk framing included).
    Body(u64),
    /// Behind the last byte.
    End,
}

/// What happens at a place in the response.
#[derive(Clone, Debug)]
pub enum Act {
    /// Wait until the gate is open.
    Hold(Gate),
    /// Wait so long.
    Pause(Duration),
    /// Close the connection. The kernel turns this into a reset if bytes of the request are unread.
    Close,
    /// Close the sending half, and read on until the peer closes its own.
    HalfClose,
    /// Reset the connection (RST).
    Reset,
    /// Write nothing more, and keep the connection until the peer ends it.
    Hang,
}

/// What becomes of the connection when the response and the request are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It serves the next request, unless the request or the framing of the answer ends it.
    KeepAlive,
    /// The sending half is closed at once, the rest of the request is read (unless the reading is
    /// held), then the connection is closed.
    Close,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    /// No body and no framing field.
    Bare,
    Length(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
    UntilClose(Vec<u8>),
    /// One piece, repeated.
    Filler {
        piece: Vec<u8>,
        length: Option<u64>,
    },
}

impl Reading {
    /// Whether nothing will be read unless a gate opens.
    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::HeldAfter(_, gate) if !gate.is_open())
    }
}

impl Reply {
    /// An answer with that status and an empty body: `Content-Length: 0`, or no framing field where
    /// there cannot be a body (1xx, 204, 304).
    #[must_use]
    pub fn new(status: u16) -> Self {
        let bodyless = status < 200 || status == 204 || status == 304;
        Self {
            status,
            reason: reason_of(status).to_owned(),
            version: "HTTP/1.1".to_owned(),
            lines: Vec::new(),
            interim: Vec::new(),
            body: match bodyless {
                true => Body::Bare,
                false => Body::Length(Vec::new()),
            },
            declared_length: None,
            trailers: Vec::new(),
            raw: None,
            when: When::Complete,
            reading: Reading::Full,
            drip: None,
            acts: Vec::new(),
            after: After::KeepAlive,
        }
    }

    /// A 200 with that body and its length.
    #[must_use]
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::new(200).body(body)
    }

    /// These bytes and nothing else, whatever they are. The connection stays open unless told
    /// otherwise ([`Reply::then_close`], [`Reply::reset_at`] and so on).
    #[must_use]
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        let mut reply = Self::new(200);
        reply.raw = Some(bytes.as_ref().to_vec());
        reply
    }

    /// No answer at all: the request is read, the connection stays open and silent.
    #[must_use]
    pub fn never() -> Self {
        Self::new(200).act(At::Start, Act::Hang)
    }

    /// The reason phrase, in place of the usual one.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    /// The version in the status line, in place of `HTTP/1.1`.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Adds a field, in that case; repeat the call to repeat the field.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.header_line(format!("{name}: {value}"))
    }

    /// Adds a line to the head as it is (its CRLF is added), also a broken one.
    #[must_use]
    pub fn header_line(mut self, line: impl AsRef<[u8]>) -> Self {
        self.lines.push(line.as_ref().to_vec());
        self
    }

    /// A body with its Content-Length.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Body::Length(body.as_ref().to_vec());
        self
    }

    /// A chunked body, one chunk for each piece that is not empty.
    #[must_use]
    pub fn chunked<P: AsRef<[u8]>>(mut self, pieces: impl IntoIterator<Item = P>) -> Self {
        let pieces = pieces.into_iter().map(|piece| piece.as_ref().to_vec());
        self.body = Body::Chunked(pieces.filter(|piece| !piece.is_empty()).collect());
        self
    }

    /// A chunked body in chunks of that size (the last may be smaller). The size is at least 1.
    #[must_use]
    pub fn chunked_by(self, size: usize, body: impl AsRef<[u8]>) -> Self {
        self.chunked(body.as_ref().chunks(size.max(1)))
    }

    /// Adds a trailer field to a chunked body.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        self
    }

    /// A body without framing, delimited by the close of the connection, which follows.
    #[must_use]
    pub fn until_close(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Body::UntilClose(body.as_ref().to_vec());
        self
    }

    /// No body and no framing field.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.body = Body::Bare;
        self
    }

    /// A chunked body that never ends: the piece, again and again.
    #[must_use]
    pub fn endless(mut self, piece: impl AsRef<[u8]>) -> Self {
        self.body = Body::Filler { piece: piece.as_ref().to_vec(), length: None };
        self
    }

    /// A body of that length, made of the piece again and again, with its Content-Length: for bodies
    /// too large to hold.
    ///
    /// # Panics
    /// If the piece is empty.
    #[must_use]
    pub fn filler(mut self, piece: impl AsRef<[u8]>, length: u64) -> Self {
        let piece = piece.as_ref().to_vec();
        assert!(!piece.is_empty(), "a filler needs a piece to repeat");
        self.body = Body::Filler { piece, length: Some(length) };
        self
    }

    /// The Content-Length to declare, whatever the body is: for mismatches, and for 304 and HEAD.
    #[must_use]
    pub fn content_length(mut self, length: u64) -> Self {
        self.declared_length = Some(length);
        self
    }

    /// Adds an interim answer (1xx) without fields. All of them go out at once when the head of the
    /// request has arrived, before any wait.
    #[must_use]
    pub fn interim(self, status: u16) -> Self {
        let head = format!("HTTP/1.1 {status} {}\r\n\r\n", reason_of(status));
        self.interim_raw(head)
    }

    /// Adds `n` interim answers of that status.
    #[must_use]
    pub fn interims(self, n: usize, status: u16) -> Self {
        (0..n).fold(self, |reply, _| reply.interim(status))
    }

    /// Adds bytes that go out as interim answers do.
    #[must_use]
    pub fn interim_raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.interim.extend_from_slice(bytes.as_ref());
        self
    }

    /// When the answer starts, in place of [`When::Complete`].
    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// Answers as soon as the head of the request has arrived.
    #[must_use]
    pub fn early(self) -> Self {
        self.when(When::Head)
    }

    /// How the body of the request is read, in place of [`Reading::Full`].
    #[must_use]
    pub fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    /// Never reads the body of the request, and so answers early if at all.
    #[must_use]
    pub fn unread(self) -> Self {
        self.reading(Reading::HeldAfter(0, Gate::new())).early()
    }

    /// Writes the whole response in pieces of so many bytes with a pause between them.
    #[must_use]
    pub fn drip(mut self, piece: usize, pause: Duration) -> Self {
        self.drip = Some((piece.max(1), pause));
        self
    }

    /// Something to happen at a place in the response. Several at one place happen in order.
    #[must_use]
    pub fn act(mut self, at: At, act: Act) -> Self {
        self.acts.push((at, act));
        self
    }

    /// Holds the whole answer until the gate opens.
    #[must_use]
    pub fn hold(self, gate: &Gate) -> Self {
        self.hold_at(At::Start, gate)
    }

    /// Holds the rest of the answer until the gate opens.
    #[must_use]
    pub fn hold_at(self, at: At, gate: &Gate) -> Self {
        self.act(at, Act::Hold(gate.clone()))
    }

    /// Waits so long before the answer.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.act(At::Start, Act::Pause(delay))
    }

    /// Resets the connection there.
    #[must_use]
    pub fn reset_at(self, at: At) -> Self {
        self.act(at, Act::Reset)
    }

    /// Closes the connection there.
    #[must_use]
    pub fn close_at(self, at: At) -> Self {
        self.act(at, Act::Close)
    }

    /// Falls silent there, with the connection open.
    #[must_use]
    pub fn hang_at(self, at: At) -> Self {
        self.act(at, Act::Hang)
    }

    /// Closes the connection when answer and request are over, without announcing it.
    #[must_use]
    pub fn then_close(mut self) -> Self {
        self.after = After::Close;
        self
    }

    /// Announces the close in a `Connection: close` field, then closes.
    #[must_use]
    pub fn connection_close(self) -> Self {
        self.header("Connection", "close").then_close()
    }

    /// The head of the final response, as written in answer to that method.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.version, self.status, self.reason).into_bytes();
        for line in &self.lines {
            head.extend_from_slice(line);
            head.extend_from_slice(b"\r\n");
        }
        let length = self.declared_length.or(match &self.body {
            Body::Length(body) => Some(body.len() as u64),
            Body::Filler { length, .. } => *length,
            Body::Bare | Body::Chunked(_) | Body::UntilClose(_) => None,
        });
        if let Some(length) = length {
            head.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        if matches!(self.body, Body::Chunked(_) | Body::Filler { length: None, .. }) {
            head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Whether only the close of the connection ends the answer.
    pub(super) fn ends_by_close(&self) -> bool {
        self.after == After::Close || (self.raw.is_none() && matches!(self.body, Body::UntilClose(_)))
    }
}

fn reason_of(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}
