//! The subset of HTTP/1.1 that load, endpoints and bare loop need, whose peers are all started by this harness.

use memchr::{memchr, memmem};

/// The length of every request head, in bytes.
const HEAD: usize = 200;

/// The answer of an endpoint.
pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

/// A request head of 200 bytes: GET without a body, POST with one of that many bytes.
pub(crate) fn request(body: u64) -> Vec<u8> {
    let (method, length) = match body {
        0 => ("GET", String::new()),
        length => ("POST", format!("Content-Length: {length}\r\n")),
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
            let head = request(body);
            assert_eq!((head.len(), head_length(&head)), (HEAD, Some(HEAD)));
            assert_eq!(content_length(&head).unwrap_or(0), body);
        }
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
