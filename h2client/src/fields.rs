//! The fields of a response, or of its trailers, checked as they are decoded (RFC 9113 section 8).

use crate::StreamError;

/// What each field counts besides its bytes (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Fields that mean nothing in HTTP/2 (RFC 9113 section 8.2.2), and one that only requests have.
const FORBIDDEN: [&[u8]; 6] =
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"host"];

/// The bytes of names: those of tokens without upper case.
const NAME_BYTES: [bool; 256] = {
    let (mut set, mut at) = ([false; 256], 0);
    let marks = b"!#$%&'*+-.^_`|~";
    while at < 256 {
        set[at] = (at as u8).is_ascii_lowercase() || (at as u8).is_ascii_digit();
        at += 1;
    }
    at = 0;
    while at < marks.len() {
        set[marks[at] as usize] = true;
        at += 1;
    }
    set
};

/// How large a list of fields may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// In bytes, as the RFC counts them.
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
}

/// Fields as they come.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// Whether these are trailers, which have no status.
    are_trailers: bool,
    status: Option<u16>,
    /// Each field as a line of HTTP/1.1.
    lines: Vec<u8>,
    count: usize,
    size: usize,
    content_length: Option<u64>,
    fault: Option<StreamError>,
}

impl Fields {
    /// Forgets what came before.
    pub(crate) fn begin(&mut self, are_trailers: bool) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        *self = Self { are_trailers, lines, ..Self::default() };
    }

    /// Takes note of the next field.
    pub(crate) fn take(&mut self, name: &[u8], value: &[u8], bounds: Bounds) {
        if self.fault.is_none()
            && let Err(what) = self.check(name, value, bounds)
        {
            self.fault = Some(StreamError::malformed(what));
            self.lines.clear();
        }
    }

    fn check(&mut self, name: &[u8], value: &[u8], bounds: Bounds) -> Result<(), &'static str> {
        self.size += name.len() + value.len() + FIELD_OVERHEAD;
        if self.size > bounds.bytes || self.count >= bounds.fields {
            return Err("a list of fields that is larger than the limit");
        }
        if let Some(pseudo) = name.strip_prefix(b":") {
            return self.check_pseudo(pseudo, value);
        }
        if name.is_empty() || !name.iter().all(|byte| NAME_BYTES[usize::from(*byte)]) {
            return Err("the name of a field has a byte that is not allowed there");
        }
        let is_clean = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        let is_space = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        if !value.iter().all(is_clean) || is_space(value.first()) || is_space(value.last()) {
            return Err("the value of a field has a byte that is not allowed there");
        }
        if FORBIDDEN.contains(&name) {
            return Err("it has a field that is not allowed in HTTP/2");
        }
        if name == b"content-length" {
            let length = decimal(value).ok_or("its content-length is not a number")?;
            if self.content_length.replace(length).is_some_and(|other| other != length) {
                return Err("it has several values of content-length");
            }
        }
        self.count += 1;
        for part in [name, b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
        Ok(())
    }

    /// Only the status exists, once, in front of everything else (RFC 9113 sections 8.3 and 8.3.2).
    fn check_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name != b"status" || self.are_trailers {
            return Err("it has a pseudo-header field that does not belong there");
        }
        if self.count > 0 || self.status.is_some() {
            return Err("its status does not stand in front, or is repeated");
        }
        let status = decimal(value).filter(|status| value.len() == 3 && (100..=599).contains(status));
        self.status = Some(status.ok_or("its status is not a number from 100 to 599")? as u16);
        Ok(())
    }

    /// What is wrong, now that all have come.
    pub(crate) fn finish(&self) -> Result<(), StreamError> {
        match self.fault {
            Some(fault) => Err(fault),
            None if !self.are_trailers && self.status.is_none() => Err(StreamError::malformed("it has no status")),
            None => Ok(()),
        }
    }

    /// The status; 0 for trailers.
    pub(crate) fn status(&self) -> u16 {
        self.status.unwrap_or_default()
    }

    /// Each field as a line of HTTP/1.1, in order.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.content_length
    }
}

/// A number of digits only.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 1_000, fields: 5 };

    fn read(are_trailers: bool, all: &[(&str, &str)]) -> Result<String, &'static str> {
        let mut fields = Fields::default();
        fields.begin(are_trailers);
        all.iter().for_each(|(name, value)| fields.take(name.as_bytes(), value.as_bytes(), BOUNDS));
        fields.finish().map_err(|error| error.what)?;
        Ok(format!("{} {}", fields.status(), std::str::from_utf8(fields.lines()).unwrap()))
    }

    #[test]
    fn what_is_well_formed_becomes_lines() {
        let head = [(":status", "200"), ("a", "b c"), ("content-length", "7"), ("content-length", "7"), ("e", "")];
        assert_eq!(read(false, &head).unwrap(), "200 a: b c\r\ncontent-length: 7\r\ncontent-length: 7\r\ne: \r\n");
        assert_eq!(read(true, &[("grpc-status", "0")]).unwrap(), "0 grpc-status: 0\r\n");
        assert_eq!(read(true, &[]).unwrap(), "0 ");
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        let ok = (":status", "200");
        let cases: &[(bool, &[(&str, &str)])] = &[
            (false, &[]),
            (false, &[("a", "b")]),
            (false, &[("a", "b"), ok]),
            (false, &[ok, ok]),
            (false, &[(":status", "2x0")]),
            (false, &[(":status", "600")]),
            (false, &[(":status", "0200")]),
            (false, &[ok, (":path", "/")]),
            (false, &[ok, ("Upper", "b")]),
            (false, &[ok, ("", "b")]),
            (false, &[ok, ("a b", "c")]),
            (false, &[ok, ("a", "b\r\nc: d")]),
            (false, &[ok, ("a", "\0")]),
            (false, &[ok, ("a", " b")]),
            (false, &[ok, ("a", "b\t")]),
            (false, &[ok, ("connection", "close")]),
            (false, &[ok, ("transfer-encoding", "chunked")]),
            (false, &[ok, ("content-length", "+1")]),
            (false, &[ok, ("content-length", "1"), ("content-length", "2")]),
            (false, &[ok, ("a", ""), ("a", ""), ("a", ""), ("a", ""), ("a", ""), ("a", "")]),
            (true, &[ok]),
        ];
        for (are_trailers, fields) in cases {
            assert!(read(*are_trailers, fields).is_err(), "{fields:?}");
        }
        let long = "x".repeat(1_000);
        assert!(read(false, &[ok, ("a", &long)]).is_err());
    }
}
