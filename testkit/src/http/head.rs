//! Request and response heads: found in a byte stream, then parsed strictly.

use super::body::Framing;
use super::headers::{Headers, is_token, split_lines};
use super::printable;

/// The largest head the readers accept, in bytes. Far above what a proxy may send.
pub const HEAD_LIMIT: usize = 1 << 20;

/// The head of a request, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, in its own case.
    pub method: String,
    /// The request target, as sent.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The fields.
    pub headers: Headers,
    /// How the body is delimited.
    pub framing: Framing,
    /// Every byte of the head, the empty line included.
    pub raw: Vec<u8>,
}

/// The head of a response, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The reason phrase, possibly empty.
    pub reason: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The fields.
    pub headers: Headers,
    /// How the body is delimited, given the method of the request.
    pub framing: Framing,
    /// Every byte of the head, the empty line included.
    pub raw: Vec<u8>,
}

/// Where the head at the beginning of `bytes` ends (the offset behind its empty line), or `None` if
/// more bytes are needed.
///
/// # Errors
/// A line feed without a carriage return, a carriage return without a line feed, a NUL, or a head
/// above [`HEAD_LIMIT`]: reported at once, since the end might never come.
pub fn head_end(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut line_start = 0;
    for (i, b) in bytes.iter().enumerate().take(HEAD_LIMIT) {
        match b {
            b'\n' if i == 0 || bytes[i - 1] != b'\r' => {
                return Err(format!("bare LF at byte {i} of the head"));
            }
            b'\n' if i - line_start == 1 => return Ok(Some(i + 1)),
            b'\n' => line_start = i + 1,
            b'\r' if bytes.get(i + 1).is_some_and(|next| *next != b'\n') => {
                return Err(format!("bare CR at byte {i} of the head"));
            }
            0 => return Err(format!("NUL at byte {i} of the head")),
            _ => {}
        }
    }
    if bytes.len() >= HEAD_LIMIT {
        return Err(format!("the head is longer than {HEAD_LIMIT} bytes"));
    }
    Ok(None)
}

impl RequestHead {
    /// Parses a whole head, the empty line included (RFC 9112 sections 3, 5 and 6).
    ///
    /// # Errors
    /// Says what is wrong with the request line, a field, or the framing.
    pub fn parse(raw: &[u8]) -> Result<Self, String> {
        let (line, headers) = split_head(raw)?;
        let bad = |why: &str| format!("{why}: request line `{}`", printable(line, 120));
        let mut parts = line.split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("not three parts with one space between them"));
        };
        if !is_token(method) {
            return Err(bad("the method is not a token"));
        }
        if target.is_empty() || !target.iter().all(|b| *b > 0x20 && *b != 0x7f) {
            return Err(bad("the target is empty or holds control characters"));
        }
        let version = parse_version(version).ok_or_else(|| bad("unknown version"))?;
        let framing = match declared(&headers, version)? {
            Declared::Chunked => Framing::Chunked,
            Declared::Length(n) => Framing::Length(n),
            Declared::Nothing => Framing::Empty,
        };
        Ok(Self {
            method: String::from_utf8_lossy(method).into_owned(),
            target: String::from_utf8_lossy(target).into_owned(),
            version: version.to_owned(),
            headers,
            framing,
            raw: raw.to_vec(),
        })
    }

    /// Whether the sender lets the connection persist (RFC 9112 section 9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(&self.version, &self.headers)
    }
}

impl ResponseHead {
    /// Parses a whole head, the empty line included, as the answer to a request of that method.
    ///
    /// # Errors
    /// Says what is wrong with the status line, a field, or the framing (RFC 9112 sections 4, 5 and
    /// 6.3), a framing field where none may be (1xx and 204) included.
    pub fn parse(raw: &[u8], method: &str) -> Result<Self, String> {
        let (line, headers) = split_head(raw)?;
        let bad = |why: &str| format!("{why}: status line `{}`", printable(line, 120));
        let mut parts = line.splitn(3, |b| *b == b' ');
        let (Some(version), Some(code), Some(reason)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("not three parts (the space after the code is required)"));
        };
        let version = parse_version(version).ok_or_else(|| bad("unknown version"))?;
        let status = match code {
            [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => {
                code.iter().fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'))
            }
            _ => return Err(bad("the status is not three digits")),
        };
        let declared = declared(&headers, version)?;
        let informational = status < 200;
        if (informational || status == 204) && declared != Declared::Nothing {
            return Err(bad("a framing field in an answer that cannot have a body"));
        }
        let bodyless = informational || status == 204 || status == 304 || method == "HEAD";
        let framing = match declared {
            _ if bodyless => Framing::Empty,
            Declared::Chunked => Framing::Chunked,
            Declared::Length(n) => Framing::Length(n),
            Declared::Nothing => Framing::Close,
        };
        Ok(Self {
            status,
            reason: String::from_utf8_lossy(reason).into_owned(),
            version: version.to_owned(),
            headers,
            framing,
            raw: raw.to_vec(),
        })
    }

    /// Whether the sender lets the connection persist (RFC 9112 section 9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.framing != Framing::Close && keeps_alive(&self.version, &self.headers)
    }
}

#[derive(PartialEq, Eq)]
enum Declared {
    Chunked,
    Length(u64),
    Nothing,
}

fn split_head(raw: &[u8]) -> Result<(&[u8], Headers), String> {
    let body = raw.strip_suffix(b"\r\n\r\n").ok_or("the head does not end in an empty line")?;
    let line = split_lines(body).next().unwrap_or_default();
    let fields = body.get(line.len() + 2..).unwrap_or_default();
    Ok((line, Headers::parse(fields)?))
}

fn parse_version(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        b"HTTP/1.1" => Some("HTTP/1.1"),
        b"HTTP/1.0" => Some("HTTP/1.0"),
        _ => None,
    }
}

fn declared(headers: &Headers, version: &str) -> Result<Declared, String> {
    let codings = headers.all("transfer-encoding");
    let lengths = headers.all("content-length");
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Declared::Nothing),
        ([], [length]) => match length.parse::<u64>() {
            Ok(n) if length.bytes().all(|b| b.is_ascii_digit()) => Ok(Declared::Length(n)),
            _ => Err(format!("Content-Length `{length}` is not a number")),
        },
        ([], _) => Err(format!("more than one Content-Length: {lengths:?}")),
        (_, [_, ..]) => Err("both Transfer-Encoding and Content-Length".to_owned()),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => match version {
            "HTTP/1.1" => Ok(Declared::Chunked),
            _ => Err(format!("Transfer-Encoding in a message of {version}")),
        },
        _ => Err(format!("Transfer-Encoding {codings:?} is not just chunked")),
    }
}

fn keeps_alive(version: &str, headers: &Headers) -> bool {
    match version {
        "HTTP/1.1" => !headers.has_token("connection", "close"),
        _ => headers.has_token("connection", "keep-alive"),
    }
}
