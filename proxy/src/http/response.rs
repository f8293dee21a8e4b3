//! Response heads of endpoints.

use bytes::{Bytes, BytesMut};

use super::{
    Bounds, Class, Fields, Framing, FramingError, LastHead, Overrun, Span, Version,
    body::BodyReader,
    persistence,
    request::{MAX_FIELDS, USUAL_FIELDS},
};

/// A checked response head. It is read in place, because its memory is used again and moving it costs as much as a part of the
/// parsing. After an error its content means nothing.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The header fields.
    pub fields: Fields,
    /// The status, 100 to 599.
    pub status: u16,
    reason: Span,
    /// What its framing fields say.
    pub framing: Framing,
    /// Whether the endpoint lets the connection carry another request.
    pub keepalive: bool,
}

/// Why a response is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// Not a status line and fields.
    #[error("the response head is malformed")]
    Head,
    /// Beyond the limits.
    #[error("the response head is larger than the limit of this proxy")]
    TooLarge,
    /// A status outside 100 to 599.
    #[error("the status of the response is not between 100 and 599")]
    Status,
    /// 101, though no upgrade was asked for.
    #[error("the endpoint switches protocols (status 101) without having been asked to")]
    Switching,
    /// RFC 9112 section 6.
    #[error("the response has {0}")]
    Framing(#[from] FramingError),
}

impl From<Overrun> for BadResponse {
    fn from(overrun: Overrun) -> Self {
        match overrun {
            Overrun::FirstLine | Overrun::Bytes | Overrun::Fields => Self::TooLarge,
            Overrun::BareLineFeed => Self::Head,
        }
    }
}

/// The parts of a response head, as the parser found them.
struct ParsedResponse {
    status: u16,
    reason: Span,
    version: Version,
    /// Of the whole head, in bytes.
    length: usize,
}

impl ParsedResponse {
    /// Parses a head of at most `N` fields; none if it is not complete.
    fn of<const N: usize>(bytes: &[u8], fields: &mut Fields) -> Result<Option<Self>, httparse::Error> {
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; N];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut headers)?;
        let httparse::Status::Complete(length) = parsed else { return Ok(None) };
        let (Some(status), Some(minor)) = (response.code, response.version) else { return Ok(None) };
        fields.fill(response.headers, bytes);
        let reason = Span::of(response.reason.unwrap_or_default().as_bytes(), bytes);
        let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        Ok(Some(Self { status, reason, version, length }))
    }

    /// Makes the checks that the parser does not make, and completes the head, whose fields are filled.
    fn check(self, bytes: Bytes, head: &mut ResponseHead) -> Result<(), BadResponse> {
        let Self { status, reason, version, .. } = self;
        if !(100..=599).contains(&status) {
            return Err(BadResponse::Status);
        }
        if status == 101 {
            return Err(BadResponse::Switching);
        }
        head.fields.bytes = bytes;
        (head.status, head.reason) = (status, reason);
        head.framing = Framing::of(version, &head.fields)?;
        let (mut close, mut keepalive) = (false, version == Version::Http11);
        if head.fields.has(Class::Connection) || head.fields.has(Class::ProxyConnection) {
            for (class, value) in head.fields.classes() {
                if matches!(class, Class::Connection | Class::ProxyConnection) {
                    let (closes, keeps) = persistence(value);
                    (close, keepalive) = (close || closes, keepalive || keeps);
                }
            }
        }
        head.keepalive = keepalive && !close;
        Ok(())
    }
}

impl ResponseHead {
    /// Parses and checks a complete head, as the scanner found it.
    ///
    /// # Errors
    /// [`BadResponse`] if it is malformed, or must not be passed on.
    #[cfg(any(test, feature = "bench"))]
    pub fn parse(bytes: Bytes) -> Result<Self, BadResponse> {
        let mut head = Self::default();
        head.read(bytes).map(|()| head)
    }

    /// Becomes what the bytes of a complete head say.
    ///
    /// # Errors
    /// [`BadResponse`] if it is malformed, or must not be passed on.
    pub fn read(&mut self, bytes: Bytes) -> Result<(), BadResponse> {
        let read = match ParsedResponse::of::<USUAL_FIELDS>(&bytes, &mut self.fields) {
            Err(httparse::Error::TooManyHeaders) => ParsedResponse::of::<MAX_FIELDS>(&bytes, &mut self.fields),
            read => read,
        };
        let read = read.ok().flatten().filter(|read| read.length == bytes.len());
        read.ok_or(BadResponse::Head)?.check(bytes, self)
    }

    /// Takes a complete head from the front of the buffer without scanning it first. In any case of doubt the buffer is left unchanged,
    /// and the scanner finds out what is wrong or missing.
    ///
    /// # Errors
    /// [`BadResponse`], as of [`ResponseHead::read`].
    pub fn take(
        &mut self,
        buffer: &mut BytesMut,
        bounds: &Bounds,
        last: &mut LastHead,
    ) -> Option<Result<(), BadResponse>> {
        if let Some(length) = last.is_at_front(buffer, bounds) {
            self.become_same(last.head(), buffer.split_to(length).freeze());
            return Some(Ok(()));
        }
        let read = ParsedResponse::of::<USUAL_FIELDS>(buffer, &mut self.fields).ok()??;
        if !self.fields.are_strict(buffer, read.length, bounds) {
            return None;
        }
        let bytes = buffer.split_to(read.length).freeze();
        let checked = read.check(bytes, self);
        if checked.is_ok() {
            last.learn(self, bounds);
        }
        Some(checked)
    }

    /// Becomes the same as `other`, with these bytes.
    pub(crate) fn become_same(&mut self, other: &Self, bytes: Bytes) {
        self.fields.become_same(&other.fields, bytes);
        (self.status, self.reason) = (other.status, other.reason);
        (self.framing, self.keepalive) = (other.framing, other.keepalive);
    }

    /// Lets go of the bytes, but keeps the usual memory for the next head.
    pub fn clear(&mut self) {
        self.fields.clear();
    }

    /// The reason phrase, unchanged; may be empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.reason.get(&self.fields.bytes)
    }

    /// Whether it is interim (1xx): another head follows.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < super::MIN_FINAL_STATUS
    }

    /// Whether it has no body whatever its fields say (RFC 9112 section 6.3).
    #[must_use]
    pub fn is_bodiless(&self, to_head: bool) -> bool {
        to_head || matches!(self.status, 204 | 304)
    }

    /// The reader of its body.
    #[must_use]
    pub fn body(&self, to_head: bool) -> BodyReader {
        match self.framing {
            _ if self.is_bodiless(to_head) => BodyReader::EMPTY,
            Framing::Length(length) => BodyReader::Length(length),
            Framing::Chunked => BodyReader::Chunked(super::chunked::Decoder::default()),
            Framing::Unspecified => BodyReader::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ResponseHead, BadResponse> {
        ResponseHead::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn heads_and_their_bodies() {
        let head = parse("HTTP/1.1 200 Fine, thanks\r\nContent-Length: 3\r\n\r\n").unwrap();
        assert_eq!((head.status, head.reason(), head.keepalive), (200, b"Fine, thanks".as_slice(), true));
        assert!(matches!(head.body(false), BodyReader::Length(3)));
        assert!(matches!(head.body(true), BodyReader::Length(0)), "answer to HEAD");
        assert!(matches!(
            parse("HTTP/1.1 304 \r\nContent-Length: 3\r\n\r\n").unwrap().body(false),
            BodyReader::Length(0)
        ));
        assert!(matches!(parse("HTTP/1.1 200\r\n\r\n").unwrap().body(false), BodyReader::Close));
        let chunked = parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert!(matches!(chunked.body(false), BodyReader::Chunked(_)));
    }

    #[test]
    fn keepalive() {
        let keepalive = |text| parse(text).unwrap().keepalive;
        assert!(!keepalive("HTTP/1.1 200 OK\r\nConnection: x, close\r\n\r\n"));
        assert!(!keepalive("HTTP/1.0 200 OK\r\n\r\n"));
        assert!(keepalive("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_is_refused() {
        let error = |text| parse(text).map(|_| ()).unwrap_err();
        assert_eq!(error("HTTP/1.1 101 Switching\r\n\r\n"), BadResponse::Switching);
        assert_eq!(error("HTTP/1.1 600 X\r\n\r\n"), BadResponse::Status);
        assert_eq!(error("HTTP/1.1 099 X\r\n\r\n"), BadResponse::Status);
        for text in
            ["HTTP/2 200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 200 OK\r\na b\r\n\r\n"]
        {
            assert_eq!(error(text), BadResponse::Head, "{text:?}");
        }
        let both = error("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(both, BadResponse::Framing(FramingError::Both));
    }
}
