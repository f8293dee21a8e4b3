//! Request heads: parsed into places in their bytes, checked for everything that endpoints might read differently.

use std::hint::cold_path;

use bytes::{Bytes, BytesMut};

use super::{Bounds, ByteSet, Class, Fields, Framing, FramingError, Overrun, Span, Version, members, persistence};

/// A checked request head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    method: Span,
    target: Span,
    /// The version of the request line.
    pub version: Version,
    /// The header fields.
    pub fields: Fields,
    /// How long the body is: [`Framing::Unspecified`] means that there is none (RFC 9112 section 6.3).
    pub framing: Framing,
    host: Option<Span>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether the client lets the connection carry another request.
    pub keepalive: bool,
}

/// Why a request is refused before anything is sent anywhere. The display is for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// RFC 9112 section 2.2: a line ends in CRLF.
    #[error("a line of the request head ends in a bare line feed: every line must end in CRLF")]
    BareLineFeed,
    /// Longer than the limit: 414.
    #[error("the request target is longer than the limit of this proxy")]
    TargetTooLong,
    /// Longer than the limit: 431.
    #[error("the request head is longer than the limit of this proxy")]
    HeadTooLong,
    /// More than the limit: 431.
    #[error("the request head has more header fields than the limit of this proxy")]
    TooManyFields,
    /// Not `METHOD SP target SP HTTP/1.x`.
    #[error("the request line is malformed")]
    RequestLine,
    /// RFC 9112 section 3.2.
    #[error(
        "the request target is malformed: it contains a character that must be percent-encoded, or has no valid form"
    )]
    Target,
    /// A field name that is no token, white space before the colon, or a folded line.
    #[error("a header field name is malformed (white space before the colon and folded lines are not allowed)")]
    FieldName,
    /// A control character in a field value.
    #[error("a header field value contains a control character")]
    FieldValue,
    /// 505.
    #[error("the HTTP version is not supported: use HTTP/1.1, HTTP/1.0 or HTTP/2")]
    Version,
    /// RFC 9112 section 3.2: exactly one in HTTP/1.1.
    #[error("the request must have exactly one valid Host header field")]
    Host,
    /// The authority of an absolute-form target and Host differ.
    #[error("the request target and the Host header field name different hosts")]
    HostDiffers,
    /// RFC 9113 section 8.2.2.
    #[error("a connection-specific header field is not allowed in HTTP/2")]
    ConnectionField,
    /// RFC 9112 section 6: how long the body is cannot be trusted.
    #[error("the request has {0}")]
    Framing(#[from] FramingError),
    /// 417.
    #[error("the expectation is not supported: the only valid value of Expect is 100-continue")]
    Expectation,
    /// 501.
    #[error("CONNECT is not supported: there is no way to tunnel to several endpoints")]
    Connect,
    /// 501.
    #[error("WebSocket is not supported: there is no way to answer for several endpoints")]
    WebSocket,
    /// 405.
    #[error("TRACE is not allowed")]
    Trace,
}

impl BadRequest {
    /// The status of the answer to it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::HeadTooLong | Self::TooManyFields => 431,
            Self::Version => 505,
            Self::Expectation => 417,
            Self::Trace => 405,
            Self::Connect | Self::WebSocket | Self::Framing(FramingError::Coding) => 501,
            _ => 400,
        }
    }
}

impl From<Overrun> for BadRequest {
    fn from(overrun: Overrun) -> Self {
        match overrun {
            Overrun::FirstLine => Self::TargetTooLong,
            Overrun::Bytes => Self::HeadTooLong,
            Overrun::Fields => Self::TooManyFields,
            Overrun::BareLineFeed => Self::BareLineFeed,
        }
    }
}

impl From<httparse::Error> for BadRequest {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName => Self::FieldName,
            httparse::Error::HeaderValue | httparse::Error::NewLine => Self::FieldValue,
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Version => Self::Version,
            httparse::Error::Token => Self::RequestLine,
            httparse::Error::Status => Self::RequestLine,
        }
    }
}

/// Why a head is refused, and its bytes.
pub type BadHead = (BadRequest, Bytes);

/// Which request targets are accepted.
#[derive(Clone, Copy, Debug)]
pub struct TargetRules {
    /// In bytes; a longer one is refused.
    pub longest: usize,
    /// Whether it may hold `|^{}\"` as they are, which Varnish's ban expressions do.
    pub lenient: bool,
}

impl TargetRules {
    fn allow(self, target: &[u8]) -> bool {
        if self.lenient { LENIENT_TARGET_BYTES.has_all(target) } else { TARGET_BYTES.has_all(target) }
    }
}

impl From<usize> for TargetRules {
    fn from(longest: usize) -> Self {
        Self { longest, lenient: false }
    }
}

/// The parts of a request head, as the parser found them.
struct ParsedRequest {
    method: Span,
    target: Span,
    version: Version,
    /// Of the whole head, in bytes.
    length: usize,
}

impl ParsedRequest {
    /// Parses a head of at most `N` fields; none if it is not complete.
    fn of<const N: usize>(bytes: &[u8], fields: &mut Fields) -> Result<Option<Self>, BadRequest> {
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; N];
        let mut request = httparse::Request::new(&mut []);
        let httparse::Status::Complete(length) = request.parse_with_uninit_headers(bytes, &mut headers)? else {
            return Ok(None);
        };
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
            return Ok(None);
        };
        fields.fill(request.headers, bytes);
        let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        let (method, target) = (Span::of(method.as_bytes(), bytes), Span::of(target.as_bytes(), bytes));
        Ok(Some(Self { method, target, version, length }))
    }

    /// Whether exactly one space separates the parts of the request line.
    fn has_plain_line(&self, head: &[u8]) -> bool {
        let version: &[u8] = match self.version {
            Version::Http10 => b" HTTP/1.0\r\n",
            Version::Http11 | Version::Http2 => b" HTTP/1.1\r\n",
        };
        let target_end = self.target.end as usize;
        self.method.start == 0
            && self.method.end + 1 == self.target.start
            && !self.target.is_empty()
            && head.get(target_end..target_end + version.len()) == Some(version)
    }

    /// Makes the checks that the parser does not make.
    fn check(self, bytes: Bytes, max_target: usize, mut fields: Fields) -> Result<RequestHead, BadHead> {
        let Self { method, target, version, .. } = self;
        if target.len() > max_target {
            cold_path();
            return Err((BadRequest::TargetTooLong, bytes));
        }
        fields.bytes = bytes;
        let framing = match Framing::of(version, &fields) {
            Ok(framing) => framing,
            Err(error) => {
                cold_path();
                return Err((error.into(), fields.bytes));
            }
        };
        let mut head = RequestHead {
            method,
            target,
            version,
            framing,
            host: None,
            expects_continue: false,
            keepalive: version == Version::Http11,
            fields,
        };
        let checked = head.check_host().and_then(|()| head.check_target()).and_then(|()| head.check_connection());
        match checked {
            Ok(()) => Ok(head),
            Err(error) => {
                cold_path();
                Err((error, head.fields.bytes))
            }
        }
    }
}

impl RequestHead {
    /// Parses and checks a complete head, as the scanner found it.
    ///
    /// # Errors
    /// [`BadRequest`], with the status to answer with.
    pub fn parse(bytes: Bytes, rules: impl Into<TargetRules>, recycled: Fields) -> Result<Self, BadRequest> {
        let rules = rules.into();
        let line = &bytes[..memchr::memchr(b'\r', &bytes).unwrap_or(bytes.len())];
        check_request_line(line, rules)?;
        let mut fields = recycled;
        let read = match ParsedRequest::of::<USUAL_FIELDS>(&bytes, &mut fields) {
            Err(BadRequest::TooManyFields) => ParsedRequest::of::<MAX_FIELDS>(&bytes, &mut fields)?,
            read => read?,
        };
        // The parser must find the same end as the scanner did: a head on which they disagree is refused.
        let read = read.filter(|read| read.length == bytes.len()).ok_or(BadRequest::RequestLine)?;
        read.check(bytes, rules.longest, fields).map_err(|(error, _)| error)
    }

    /// Takes a complete head from the front of the buffer without scanning it first. In any case of doubt the buffer is left unchanged,
    /// and the scanner finds out what is wrong or missing.
    ///
    /// # Errors
    /// [`BadRequest`], as of [`RequestHead::parse`], and the head that was taken.
    pub fn take(
        buffer: &mut BytesMut,
        bounds: &Bounds,
        rules: impl Into<TargetRules>,
        recycled: &mut Fields,
    ) -> Option<Result<Self, BadHead>> {
        let rules = rules.into();
        let read = ParsedRequest::of::<USUAL_FIELDS>(buffer, recycled).ok()??;
        if !read.has_plain_line(buffer) || !recycled.are_strict(buffer, read.length, bounds) {
            cold_path();
            return None;
        }
        let bytes = buffer.split_to(read.length).freeze();
        if !rules.allow(read.target.get(&bytes)) {
            cold_path();
            return Some(Err((BadRequest::Target, bytes)));
        }
        Some(read.check(bytes, rules.longest, std::mem::take(recycled)))
    }

    fn bytes(&self) -> &[u8] {
        &self.fields.bytes
    }

    /// The method, unchanged.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        self.method.get(self.bytes())
    }

    /// The target in origin form or `*`; an absolute form has become an origin form.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        match self.target.get(self.bytes()) {
            [] if self.method() == b"OPTIONS" => b"*",
            [] => b"/",
            target => target,
        }
    }

    /// The value of Host; none only in HTTP/1.0.
    #[must_use]
    pub fn host(&self) -> Option<&[u8]> {
        self.host.map(|host| host.get(self.bytes()))
    }

    /// Whether it has an `Idempotency-Key`, by which endpoints recognise a repetition of it.
    #[must_use]
    pub fn has_idempotency_key(&self) -> bool {
        self.fields.of(Class::IdempotencyKey).any(|key| !key.is_empty())
    }

    /// Whether the client accepts trailers (RFC 9110 section 10.1.4).
    #[must_use]
    pub fn takes_trailers(&self) -> bool {
        self.fields.list(Class::HopByHop).any(|member| member.eq_ignore_ascii_case(b"trailers"))
            && self.fields.all("te").flat_map(members).any(|member| member.eq_ignore_ascii_case(b"trailers"))
    }

    /// Whether it is a HEAD: a response to it has no body.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    /// Whether a target of query and path needs the leading slash that an absolute form left out (`http://host?x`).
    #[must_use]
    pub fn target_lacks_slash(&self) -> bool {
        self.target().first() == Some(&b'?')
    }

    fn check_host(&mut self) -> Result<(), BadRequest> {
        let mut hosts = self.fields.fields.iter().filter(|field| field.class == Class::Host);
        let host = hosts.next().map(|field| field.value);
        if hosts.next().is_some() || (host.is_none() && self.version == Version::Http11) {
            return Err(BadRequest::Host);
        }
        self.host = host;
        if self.host().is_some_and(|host| !HOST_BYTES.has_all(host)) {
            return Err(BadRequest::Host);
        }
        Ok(())
    }

    /// Origin form, asterisk form with OPTIONS, or absolute form, which becomes an origin form.
    fn check_target(&mut self) -> Result<(), BadRequest> {
        match self.method() {
            b"CONNECT" => return Err(BadRequest::Connect),
            b"TRACE" => return Err(BadRequest::Trace),
            _ => {}
        }
        let target = self.target.get(self.bytes());
        if target.first() == Some(&b'/') || (target == b"*" && self.method() == b"OPTIONS") {
            return Ok(());
        }
        self.take_absolute_form()
    }

    /// Checks a target in absolute form, and changes it to origin form.
    #[cold]
    fn take_absolute_form(&mut self) -> Result<(), BadRequest> {
        let target = self.target.get(self.bytes());
        let scheme = [b"http://".as_slice(), b"https://"]
            .into_iter()
            .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
            .ok_or(BadRequest::Target)?;
        let rest = &target[scheme.len()..];
        let authority = &rest[..rest.iter().position(|b| b"/?".contains(b)).unwrap_or(rest.len())];
        if authority.is_empty() || !HOST_BYTES.has_all(authority) {
            return Err(BadRequest::Target);
        }
        if self.host().is_some_and(|host| !host.eq_ignore_ascii_case(authority)) {
            return Err(BadRequest::HostDiffers);
        }
        let (host, path) = (Span::of(authority, self.bytes()), Span::of(&rest[authority.len()..], self.bytes()));
        (self.host, self.target) = (Some(host), path);
        Ok(())
    }

    fn check_connection(&mut self) -> Result<(), BadRequest> {
        if ![Class::Connection, Class::Upgrade, Class::Expect].into_iter().any(|class| self.fields.has(class)) {
            return Ok(());
        }
        let (mut close, mut keepalive, mut websocket, mut expectation, mut bad_expectation) =
            (false, false, false, false, false);
        for (class, value) in self.fields.classes() {
            match class {
                Class::Connection => {
                    let (closes, keeps) = persistence(value);
                    (close, keepalive) = (close || closes, keepalive || keeps);
                }
                Class::Upgrade => {
                    let is_websocket = |m: &[u8]| m.get(..9).is_some_and(|m| m.eq_ignore_ascii_case(b"websocket"));
                    websocket |= members(value).any(is_websocket);
                }
                Class::Expect => {
                    expectation = true;
                    bad_expectation |= !value.eq_ignore_ascii_case(b"100-continue");
                }
                _ => {}
            }
        }
        if websocket {
            return Err(BadRequest::WebSocket);
        }
        // RFC 9110 section 10.1.1: an HTTP/1.0 client cannot expect anything.
        if expectation && self.version == Version::Http11 {
            if bad_expectation {
                return Err(BadRequest::Expectation);
            }
            self.expects_continue = true;
        }
        self.keepalive = !close && (keepalive || self.version == Version::Http11);
        Ok(())
    }
}

/// The most fields that the parser accepts; the configured limit is lower.
pub const MAX_FIELDS: usize = 1024;

/// Enough fields for nearly every head. A head is first parsed with room for these, because room for [`MAX_FIELDS`] takes 32 KiB of
/// stack, and touching that costs more than parsing a head.
pub const USUAL_FIELDS: usize = 64;

/// The bytes that are valid in a host and port (RFC 3986 section 3.2.2), without user information.
const HOST_BYTES: ByteSet = ByteSet::alphanumeric_and(b"-._~%!$&'()*+,;=:[]");

/// The bytes that are valid in a target: visible ASCII without those that must be percent-encoded, and without `#`, because a request
/// has no fragment.
const TARGET_BYTES: ByteSet = ByteSet::alphanumeric_and(TARGET_MARKS);
const TARGET_MARKS: &[u8] = b"-._~%!$&'()*+,;=:[]/?@";

/// Those, and the bytes that clients which do not encode write into ban expressions.
const LENIENT_TARGET_BYTES: ByteSet = ByteSet::alphanumeric_and(b"-._~%!$&'()*+,;=:[]/?@|^{}\\\"");

/// Whether a byte is valid in a target without being percent-encoded.
pub(crate) fn may_stand_in_target(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || TARGET_MARKS.contains(&byte)
}

/// Makes the checks that `httparse` does not make: exactly two spaces, only characters of RFC 3986 in the target, and a valid
/// version.
fn check_request_line(line: &[u8], rules: TargetRules) -> Result<(), BadRequest> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(_method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(BadRequest::RequestLine);
    };
    if parts.next().is_some() {
        return Err(BadRequest::Target);
    }
    if target.is_empty() || !rules.allow(target) {
        return Err(BadRequest::Target);
    }
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(BadRequest::Version)
        }
        _ => Err(BadRequest::RequestLine),
    }
}

#[cfg(test)]
mod tests;
