//! The HTTP/1.1 codec, used on both sides: strict in what it accepts, because what one lenient parser lets through N
//! endpoints would read in N ways. Heads on `httparse`, framing and chunked coding here. Nothing in here does I/O.

pub mod body;
pub mod chunked;
mod class;
mod last_head;
pub mod request;
pub mod response;
mod scan;

use bytes::Bytes;

pub use class::Class;
pub use last_head::LastHead;
pub use scan::{Bounds, HeadScanner, Overrun, Scan};

/// The versions spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
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
    /// What kind of field it is.
    pub class: Class,
}

/// The header fields of one head, in order, repeated ones and their case kept.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The whole head.
    bytes: Bytes,
    fields: Vec<Field>,
    /// A bit for each class that occurs: most are asked for with every head and are in hardly any. And [`NOMINATES`].
    classes: u32,
}

/// The bit which says that a `Connection` field has more than one of its two usual options.
const NOMINATES: u32 = 1 << 31;

impl Span {
    /// The place of `part` in `whole`, of which it must be a part: the offset is found by comparing addresses.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize).min(whole.len());
        let end = (start + part.len()).min(whole.len());
        // A head is bounded far below 4 GiB by its limits.
        Self { start: start as u32, end: end as u32 }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes of this part.
    #[must_use]
    pub fn get(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

impl Field {
    /// Where its line is in the head, the line end included, if it is written the way this proxy writes fields: one
    /// space after the colon, none at the end.
    pub(crate) fn plain_line(&self, head: &[u8]) -> Option<std::ops::Range<usize>> {
        let (name, value) = (self.name.end as usize, self.value.end as usize);
        let plain = name + 2 == self.value.start as usize
            && head.get(name..name + 2) == Some(b": ")
            && head.get(value..value + 2) == Some(b"\r\n");
        plain.then_some(self.name.start as usize..value + 2)
    }
}

impl Fields {
    /// The memory of the list, without what was in it; no more of it than most heads need.
    #[must_use]
    pub fn recycle(mut self) -> Self {
        self.clear();
        self
    }

    /// The same in place.
    fn clear(&mut self) {
        (self.bytes, self.classes) = (Bytes::new(), 0);
        self.fields.clear();
        if self.fields.capacity() > request::USUAL_FIELDS {
            self.fields.shrink_to(request::USUAL_FIELDS);
        }
    }

    /// Becomes the same list, of a head with these bytes.
    fn become_same(&mut self, other: &Self, bytes: Bytes) {
        self.fields.clear();
        self.fields.extend_from_slice(&other.fields);
        (self.bytes, self.classes) = (bytes, other.classes);
    }

    /// The whole head, to be shared.
    pub(crate) fn head(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether these are the fields of this head: the very same bytes, not only equal ones.
    pub(crate) fn is_of(&self, head: &Bytes) -> bool {
        self.bytes.as_ptr() == head.as_ptr() && self.bytes.len() == head.len()
    }

    /// Takes over the list of a parser that has read the bytes of this head.
    fn fill(&mut self, parsed: &[httparse::Header<'_>], bytes: &[u8]) {
        self.fields.clear();
        self.classes = 0;
        self.fields.extend(parsed.iter().map(|field| {
            let class = Class::of(field.name.as_bytes());
            self.classes |= 1 << class as u32;
            if class == Class::Connection && !is_persistence(field.value) {
                self.classes |= NOMINATES;
            }
            Field { name: Span::of(field.name.as_bytes(), bytes), value: Span::of(field.value, bytes), class }
        }));
    }

    /// Whether a head of `length` bytes at the front of `buffer`, which a parser has read as these fields, is what the
    /// scanner would have found there: every line ends in CRLF, and no bound is passed.
    ///
    /// A head that comes in one piece, as nearly all do, need not be scanned first.
    fn are_strict(&self, buffer: &[u8], length: usize, bounds: &Bounds) -> bool {
        let ends_line = |at: usize| at.checked_sub(2).is_some_and(|from| buffer.get(from..at) == Some(b"\r\n"));
        let first_line = self.fields.first().map_or(length.saturating_sub(2), |field| field.name.start as usize);
        length <= bounds.bytes
            && first_line <= bounds.first_line
            && self.fields.len() <= bounds.fields
            // A parser passes over empty lines in front of a head.
            && buffer.first().is_some_and(u8::is_ascii_graphic)
            && self.fields.iter().all(|field| ends_line(field.name.start as usize))
            && ends_line(length)
            && ends_line(length - 2)
    }

    /// Whether a field of this class occurs.
    #[must_use]
    pub fn has(&self, class: Class) -> bool {
        self.classes & (1 << class as u32) != 0
    }

    /// Whether a `Connection` field may name other fields, because it has more than one of its two usual options.
    #[must_use]
    pub fn nominates(&self) -> bool {
        self.classes & NOMINATES != 0
    }

    /// Every field, in order: name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (field.name.get(&self.bytes), field.value.get(&self.bytes)))
    }

    /// Every field, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The whole head.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Every field, in order: class and value.
    pub fn classes(&self) -> impl Iterator<Item = (Class, &[u8])> {
        self.fields.iter().map(|field| (field.class, field.value.get(&self.bytes)))
    }

    /// The values of the fields of this class.
    pub fn of(&self, class: Class) -> impl Iterator<Item = &[u8]> {
        let fields = if self.has(class) { &self.fields[..] } else { &[] };
        fields.iter().filter(move |field| field.class == class).map(|field| field.value.get(&self.bytes))
    }

    /// The members of a comma-separated list field, over all fields of this class (RFC 9110 section 5.6.1).
    pub fn list(&self, class: Class) -> impl Iterator<Item = &[u8]> {
        self.of(class).flat_map(members)
    }

    /// The values of the fields with this name, compared without regard to case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
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

/// Whether a value of `Connection` is one of its two usual options.
fn is_persistence(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

/// Whether a value of `Connection` has the options `close` and `keep-alive`. Nearly every value is one of the two.
fn persistence(value: &[u8]) -> (bool, bool) {
    let is = |option: &[u8], name: &[u8]| option.eq_ignore_ascii_case(name);
    if is(value, b"keep-alive") {
        return (false, true);
    }
    if is(value, b"close") {
        return (true, false);
    }
    members(value).fold((false, false), |(close, keepalive), option| {
        (close || is(option, b"close"), keepalive || is(option, b"keep-alive"))
    })
}

/// What the framing fields of a head say about its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding.
    #[default]
    Unspecified,
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
    #[error("a Content-Length that is not one decimal number")]
    Length,
    /// Two different lengths.
    #[error("several Content-Length fields that differ")]
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
    fn of(version: Version, fields: &Fields) -> Result<Self, FramingError> {
        let mut framing = Self::Unspecified;
        if !fields.has(Class::ContentLength) && !fields.has(Class::TransferEncoding) {
            return Ok(framing);
        }
        let mut coded = false;
        for (class, value) in fields.classes() {
            if class == Class::ContentLength {
                for member in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    let length = decimal(member).ok_or(FramingError::Length)?;
                    match framing {
                        Self::Length(other) if other != length => return Err(FramingError::Lengths),
                        _ => framing = Self::Length(length),
                    }
                }
            } else if class == Class::TransferEncoding {
                if coded || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(FramingError::Coding);
                }
                coded = true;
            }
        }
        match (coded, framing) {
            (false, framing) => Ok(framing),
            (true, Self::Unspecified) if version == Version::Http10 => Err(FramingError::OldVersion),
            (true, Self::Unspecified) => Ok(Self::Chunked),
            (true, _) => Err(FramingError::Both),
        }
    }
}

/// A set of bytes, to be looked up instead of searched.
pub(crate) struct ByteSet([bool; 256]);

impl ByteSet {
    /// ASCII letters and digits, and `others`.
    pub(crate) const fn alphanumeric_and(others: &[u8]) -> Self {
        let (mut set, mut at) = ([false; 256], 0);
        while at < 256 {
            set[at] = (at as u8).is_ascii_alphanumeric();
            at += 1;
        }
        at = 0;
        while at < others.len() {
            set[others[at] as usize] = true;
            at += 1;
        }
        Self(set)
    }

    /// Whether every byte is in the set.
    pub(crate) fn has_all(&self, bytes: &[u8]) -> bool {
        bytes.iter().all(|b| self.0[usize::from(*b)])
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
pub const MIN_FINAL_STATUS: u16 = 200;

/// The standard reason phrase of a status (RFC 9110 section 15), or an empty one.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        // Where the library has the former names.
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        _ => ::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default(),
    }
}
