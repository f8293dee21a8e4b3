//! The HTTP/1.1 codec, used on both sides: strict in what it accepts, because what one lenient parser lets through N
//! endpoints would read in N ways. Heads on `httparse`, framing and chunked coding here. Nothing in here does I/O.

pub mod body;
pub mod chunked;
pub mod request;
pub mod response;
mod scan;

use bytes::Bytes;

pub use scan::{Bounds, HeadScanner, Overrun, Scan};

/// The two versions spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// A part of the bytes of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

/// A header field, as places in the bytes of its head: name and value as they came, the value without the white space
/// around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name.
    pub name: Span,
    /// The value.
    pub value: Span,
}

/// The header fields of one head, in order, repeated ones and their case kept.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    bytes: Bytes,
    fields: Vec<Field>,
}

impl Span {
    /// The place of `part` in `whole`, of which it must be a part: the offset is found by comparing addresses.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize).min(whole.len());
        let end = (start + part.len()).min(whole.len());
        // A head is bounded far below 4 GiB by its limits.
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes of this part.
    #[must_use]
    pub fn get(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

impl Fields {
    /// The memory of the list, without what was in it.
    #[must_use]
    pub fn recycle(mut self) -> Self {
        self.reset(Bytes::new());
        self
    }

    /// Empties the list and makes it one over other bytes; the memory is used again.
    fn reset(&mut self, bytes: Bytes) {
        self.fields.clear();
        self.bytes = bytes;
    }

    fn push(&mut self, field: &httparse::Header<'_>) {
        let name = Span::of(field.name.as_bytes(), &self.bytes);
        let value = Span::of(field.value, &self.bytes);
        self.fields.push(Field { name, value });
    }

    /// Every field, in order: name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (field.name.get(&self.bytes), field.value.get(&self.bytes)))
    }

    /// The values of the fields with this name, compared without regard to case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The members of a comma-separated list field, over all fields of that name (RFC 9110 section 5.6.1).
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).flat_map(members)
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// The members of one comma-separated value, without white space, empty ones left out.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// What the framing fields of a head say about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding.
    Unsaid,
    /// `Content-Length`
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// Why the framing fields of a head cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// RFC 9112 section 6.1: both at once is how requests are smuggled.
    #[error("both Content-Length and Transfer-Encoding")]
    Both,
    /// RFC 9110 section 8.6.
    #[error("Content-Length is not one decimal number")]
    Length,
    /// Two different lengths.
    #[error("several Content-Lengths that differ")]
    Lengths,
    /// Anything but exactly `chunked`.
    #[error("a Transfer-Encoding other than \"chunked\"")]
    Coding,
    /// HTTP/1.0 does not know chunked coding.
    #[error("Transfer-Encoding in HTTP/1.0")]
    OldVersion,
}

impl Framing {
    /// Reads the framing fields of a head (RFC 9112 section 6).
    fn of<'a>(version: Version, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<Self, FramingError> {
        let mut framing = Self::Unsaid;
        let mut coded = false;
        for (name, value) in fields {
            if name.eq_ignore_ascii_case(b"content-length") {
                for member in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    let length = decimal(member).ok_or(FramingError::Length)?;
                    match framing {
                        Self::Length(other) if other != length => return Err(FramingError::Lengths),
                        _ => framing = Self::Length(length),
                    }
                }
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                if coded || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(FramingError::Coding);
                }
                coded = true;
            }
        }
        match (coded, framing) {
            (false, framing) => Ok(framing),
            (true, Self::Unsaid) if version == Version::Http10 => Err(FramingError::OldVersion),
            (true, Self::Unsaid) => Ok(Self::Chunked),
            (true, _) => Err(FramingError::Both),
        }
    }
}

/// A number of digits only: no sign, no space, no overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// The least status of a final response.
pub const FINAL: u16 = 200;

/// The standard reason phrase of a status (RFC 9110 section 15), or an empty one.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        207 => "Multi-Status",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}
