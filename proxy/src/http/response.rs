//! Response heads of endpoints.

use bytes::Bytes;

use super::{Fields, Framing, FramingError, Overrun, Span, Version, body::BodyReader, members, request::MAX_FIELDS};

/// A checked response head. Its fields are not kept: most responses of a request are never passed on, and the one that is
/// can be parsed once more.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    bytes: Bytes,
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
    #[error("the response head is larger than this proxy takes")]
    TooLarge,
    /// A status outside 100 to 599.
    #[error("the response has a status outside 100 to 599")]
    Status,
    /// 101, though no upgrade was asked for.
    #[error("the endpoint switches protocols, which it was not asked to")]
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

impl ResponseHead {
    /// Parses and checks a complete head, as the scanner found it.
    ///
    /// # Errors
    /// [`BadResponse`] where it is none, or one that no proxy may pass on.
    pub fn parse(bytes: Bytes) -> Result<Self, BadResponse> {
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        let response = parse(&bytes, &mut headers).ok_or(BadResponse::Head)?;
        let (Some(status), Some(minor)) = (response.code, response.version) else {
            return Err(BadResponse::Head);
        };
        if !(100..=599).contains(&status) {
            return Err(BadResponse::Status);
        }
        if status == 101 {
            return Err(BadResponse::Switching);
        }
        let reason = Span::of(response.reason.unwrap_or_default().as_bytes(), &bytes);
        let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        let fields = || response.headers.iter().map(|field| (field.name.as_bytes(), field.value));
        let framing = Framing::of(version, fields())?;
        let (mut close, mut keepalive) = (false, version == Version::Http11);
        for (name, value) in fields() {
            if name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"proxy-connection") {
                for member in members(value) {
                    close |= member.eq_ignore_ascii_case(b"close");
                    keepalive |= member.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        Ok(Self { status, reason, framing, keepalive: keepalive && !close, bytes })
    }

    /// The header fields.
    #[must_use]
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.reset(self.bytes.clone());
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
        // What was a head once is one again.
        if let Some(response) = parse(&self.bytes, &mut headers) {
            response.headers.iter().for_each(|field| fields.push(field));
        }
        fields
    }

    /// The reason phrase, as it came; may be empty.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.reason.get(&self.bytes)
    }

    /// Whether this is a 1xx, which another head follows.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < super::FINAL
    }

    /// Whether there is no body, whatever the fields say (RFC 9112 section 6.3).
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
            Framing::Unsaid => BodyReader::Close,
        }
    }
}

/// Parses a head that ends where the bytes end.
fn parse<'h, 'b>(
    bytes: &'b [u8],
    headers: &'h mut [std::mem::MaybeUninit<httparse::Header<'b>>],
) -> Option<httparse::Response<'h, 'b>> {
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, headers);
    (parsed == Ok(httparse::Status::Complete(bytes.len()))).then_some(response)
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
