//! The subset of HTTP/1.1 that load, endpoints and bare loop need, whose peers are all started by this harness.

use std::io;

use memchr::{memchr, memmem};

use crate::load::Body;

/// The length of every request head, in bytes.
const HEAD: usize = 200;

/// The answer of an endpoint.
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

/// Where in a chunked body a reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// In a line with the size of a chunk, which has been this so far.
    Size(u64),
    /// Before so many bytes of data and the end of their line.
    Data(u64),
    /// In a line after the last chunk, of which there have been so many bytes.
    Trailer(usize),
    /// After the body.
    Done,
    #[default]
    /// At the beginning.
    Start,
}

impl Chunks {
    /// Whether the body is complete.
    pub(crate) fn is_done(self) -> bool {
        self == Self::Done
    }

    /// Takes bytes of the body and returns how many; adds those of data to `data`.
    ///
    /// # Errors
    /// They are not chunks.
    pub(crate) fn take(&mut self, bytes: &[u8], data: &mut u64) -> io::Result<usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).filter(|_| !self.is_done()) {
            *self = match *self {
                Self::Start | Self::Data(0) => {
                    // Nothing is taken here.
                    *self = Self::Size(0);
                    continue;
                }
                Self::Size(size) => match byte {
                    b'\r' => Self::Size(size),
                    b'\n' if size == 0 => Self::Trailer(0),
                    b'\n' => Self::Data(size.saturating_add(2)),
                    _ => {
                        let digit = char::from(*byte).to_digit(16).ok_or(io::ErrorKind::InvalidData)?;
                        Self::Size(size.checked_mul(16).ok_or(io::ErrorKind::InvalidData)? + u64::from(digit))
                    }
                },
                Self::Data(left) => {
                    let now = left.min((bytes.len() - at) as u64);
                    // The last two are the end of the line.
                    *data += now.min(left.saturating_sub(2));
                    at += now as usize;
                    *self = Self::Data(left - now);
                    continue;
                }
                Self::Trailer(0) if *byte == b'\n' => Self::Done,
                Self::Trailer(length) => match byte {
                    b'\r' => Self::Trailer(length),
                    b'\n' => Self::Trailer(0),
                    _ => Self::Trailer(length + 1),
                },
                Self::Done => break,
            };
            at += 1;
        }
        Ok(at)
    }
}

/// A request head of 200 bytes: GET without a body, POST with one.
pub(crate) fn request(body: Body) -> Vec<u8> {
    let (method, length) = match body {
        Body::Length(0) => ("GET", String::new()),
        Body::Length(length) => ("POST", format!("Content-Length: {length}\r\n")),
        Body::Chunked { .. } => ("POST", "Transfer-Encoding: chunked\r\n".to_owned()),
    };
    let fixed = format!("{method} /load/test HTTP/1.1\r\nHost: load.test\r\nUser-Agent: loadtest\r\n{length}X-Pad: ");
    let pad = HEAD.saturating_sub(fixed.len() + 4);
    format!("{fixed}{}\r\n\r\n", "x".repeat(pad)).into_bytes()
}

/// The length of the head that `bytes` begin with, once it is complete.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// The value of the first field with this name.
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = head;
    while let Some(end) = memchr(b'\n', rest) {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.len() > name.len()
            && line[name.len()] == b':'
            && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        {
            return Some(line[name.len() + 1..].trim_ascii());
        }
    }
    None
}

/// The body's length, if the head has it.
pub(crate) fn content_length(head: &[u8]) -> Option<u64> {
    std::str::from_utf8(field(head, "content-length")?).ok()?.parse().ok()
}

/// The status of a response head; 0 if it is malformed.
pub(crate) fn status(head: &[u8]) -> u16 {
    head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// A complete answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Bytes of the whole answer.
    pub(crate) length: usize,
    /// Whether the connection ends with it.
    pub(crate) close: bool,
    /// `total` and `ok` of `X-Broadcast-Result`.
    pub(crate) legs: Option<(u64, u64)>,
}

/// Reads the answer that `bytes` begin with; none while it is incomplete.
///
/// # Errors
/// The end of the answer cannot be determined.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    let Some(head) = head_length(bytes) else { return Ok(None) };
    let head_bytes = &bytes[..head];
    let body = content_length(head_bytes).ok_or("an answer without Content-Length")?;
    let length = usize::try_from(body).ok().and_then(|body| body.checked_add(head)).ok_or("an answer too long")?;
    if bytes.len() < length {
        return Ok(None);
    }
    let close = field(head_bytes, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    let legs = field(head_bytes, "x-broadcast-result").and_then(legs);
    Ok(Some(Answer { status: status(head_bytes), length, close, legs }))
}

/// `total=3, ok=2, ...`
fn legs(value: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(value).ok()?;
    let number = |key: &str| {
        let mut parts = text.split(',').filter_map(|part| part.trim().split_once('='));
        parts.find(|(name, _)| *name == key)?.1.parse().ok()
    };
    Some((number("total")?, number("ok")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_length_it_is_meant_to_have() {
        for body in [0, 1, 1 << 30] {
            let head = request(Body::Length(body));
            assert_eq!((head.len(), head_length(&head)), (HEAD, Some(HEAD)));
            assert_eq!(content_length(&head).unwrap_or(0), body);
        }
    }

    #[test]
    fn the_end_of_a_chunked_body_is_found_however_it_is_cut() {
        let bodies =
            ["0\r\n\r\n", "1\r\nx\r\n0\r\n\r\n", "1a\r\nabcdefghijklmnopqrstuvwxyz\r\n2\r\n\r\n\r\n0\r\nA: b\r\n\r\n"];
        for (body, want) in bodies.into_iter().zip([0, 1, 28]) {
            let followed = format!("{body}GET");
            for step in 1..followed.len() {
                let (mut chunks, mut data, mut taken) = (Chunks::default(), 0, 0);
                for piece in followed.as_bytes().chunks(step) {
                    taken += chunks.take(piece, &mut data).unwrap();
                }
                assert_eq!((taken, data, chunks.is_done()), (body.len(), want, true), "{body:?} in steps of {step}");
            }
        }
        assert!(Chunks::default().take(b"x\r\n", &mut 0).is_err());
    }

    #[test]
    fn an_answer_is_read_once_it_is_complete() {
        for end in 0..ANSWER.len() {
            assert_eq!(answer(&ANSWER[..end]), Ok(None));
        }
        let want = Answer { status: 200, length: ANSWER.len(), close: false, legs: None };
        assert_eq!(answer(ANSWER), Ok(Some(want)));
        let told = b"HTTP/1.1 502 Bad Gateway\r\nX-Broadcast-Result: total=3, ok=2, failed=1\r\nconnection: Close\r\ncontent-length:0\r\n\r\n";
        let want = Answer { status: 502, length: told.len(), close: true, legs: Some((3, 2)) };
        assert_eq!(answer(told), Ok(Some(want)));
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
