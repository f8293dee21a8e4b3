//! Formats an entry as one line of plain text, with timestamps and sanitised texts of clients.

use std::{
    cell::Cell,
    io::Write,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{Entry, scan};
use crate::{headers::put_number, report::LegReport};

/// The most bytes of a logged text from a client, like a target.
pub(super) const MAX_TARGET: usize = 2 * 1024;

/// The length of a text like `2026-11-21T03:28:14`, in bytes.
const SECOND: usize = 19;

thread_local! {
    /// A cache of the last second since the Unix epoch, and its text, because most entries fall into the same second as the one
    /// before.
    static LAST_SECOND: Cell<(u64, [u8; SECOND])> = const { Cell::new((u64::MAX, [0; SECOND])) };
}

/// A time in UTC as RFC 3339 with milliseconds: `2026-11-21T03:28:14.226Z`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timestamp([u8; SECOND + 5]);

// === impl Timestamp ===

impl Timestamp {
    /// The text of a time. Times before 1970 or after the year 9999 become 1970.
    pub(super) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut text = *b"1970-01-01T00:00:00.000Z";
        if let Some(second) = second(since.as_secs()) {
            text[..SECOND].copy_from_slice(&second);
            let millis = since.subsec_millis();
            for (digit, unit) in text[SECOND + 1..].iter_mut().zip([100, 10, 1]) {
                *digit = b'0' + (millis / unit % 10) as u8;
            }
        }
        Self(text)
    }

    pub(super) fn as_bytes(&self) -> &[u8; SECOND + 5] {
        &self.0
    }

    fn as_str(&self) -> &str {
        // Only digits and signs, which are text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The text of a second since the Unix epoch; none if its year has more than four digits.
fn second(seconds: u64) -> Option<[u8; SECOND]> {
    let (last, text) = LAST_SECOND.get();
    if last == seconds {
        return Some(text);
    }
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    let text = format!("{time:.0}").as_bytes().get(..SECOND)?.try_into().ok()?;
    LAST_SECOND.set((seconds, text));
    Some(text)
}

/// A time in UTC as RFC 3339 with milliseconds.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    Timestamp::of(time).as_str().to_owned()
}

/// Writes an entry and its legs as plain text, without the end of the line.
pub(super) fn put<'a>(line: &mut Vec<u8>, entry: &Entry<'_>, legs: impl Iterator<Item = LegReport<'a>>) {
    line.extend_from_slice(entry.time.as_bytes());
    line.push(b' ');
    put_address(line, entry.client);
    put_all(line, &[" \"", entry.method, " ", entry.target, "\" "]);
    put_number(line, entry.status.into());
    put_all(line, &[" ", entry.result, " "]);
    put_millis(line, entry.took);
    put_all(line, &[" completed=", entry.completed, " route=", entry.route, " host=", entry.host, " id=", entry.id]);
    if let Some(trace) = entry.trace_id {
        put_all(line, &[" trace_id=", trace.to_hex().as_str()]);
    }
    if let Some(code) = entry.grpc_status {
        put_all(line, &[" grpc_status="]);
        put_number(line, code.into());
    }
    if let Some(divergent) = entry.divergent {
        put_all(line, &[" divergent="]);
        put_number(line, divergent as u64);
    }
    if let Some(identity) = entry.identity {
        put_all(line, &[" identity=", identity]);
    }
    if let Some(reason) = entry.reason {
        put_all(line, &[" reason=\"", &quotable(reason), "\""]);
    }
    if let Some(job) = &entry.job {
        put_all(line, &[" job=", job]);
    }
    for leg in legs {
        put_all(line, &[" ", leg.pod.unwrap_or(leg.endpoint), "="]);
        put_all(line, &[leg.outcome.map_or("running", |outcome| outcome.as_str())]);
        if let Some(status) = leg.status {
            line.push(b':');
            put_number(line, status.into());
        }
        if let Some(code) = leg.grpc_status {
            put_all(line, &[":grpc="]);
            put_number(line, code.into());
        }
        line.push(b':');
        put_millis(line, leg.took);
    }
}

/// Writes texts one after the other.
pub(super) fn put_all(line: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        line.extend_from_slice(text.as_bytes());
    }
}

/// Writes an address with its port.
pub(super) fn put_address(line: &mut Vec<u8>, address: SocketAddr) {
    match address {
        // Most are of this kind, for which `core::fmt` would take longer than the rest of the line.
        SocketAddr::V4(address) => {
            for (index, octet) in address.ip().octets().into_iter().enumerate() {
                if index > 0 {
                    line.push(b'.');
                }
                put_number(line, octet.into());
            }
            line.push(b':');
            put_number(line, address.port().into());
        }
        // Memory takes all that is written to it.
        SocketAddr::V6(_) => drop(write!(line, "{address}")),
    }
}

/// Writes milliseconds with three digits after the point. Returns these digits.
pub(super) fn put_fraction(line: &mut Vec<u8>, duration: Duration) -> [u8; 3] {
    let micros = duration.subsec_micros();
    put_number(line, duration.as_secs().saturating_mul(1000).saturating_add(u64::from(micros / 1000)));
    let [hundreds, tens, ones] = [100, 10, 1].map(|unit| b'0' + (micros / unit % 10) as u8);
    line.extend_from_slice(&[b'.', hundreds, tens, ones]);
    [hundreds, tens, ones]
}

/// Writes milliseconds and their unit.
fn put_millis(line: &mut Vec<u8>, duration: Duration) {
    put_fraction(line, duration);
    line.extend_from_slice(b"ms");
}

/// Appends the loggable part of a text from a client: visible ASCII of bounded length.
pub(super) fn push_loggable(out: &mut Vec<u8>, bytes: &[u8]) {
    let kept = &bytes[..bytes.len().min(MAX_TARGET)];
    if scan::is_loggable(kept) {
        out.extend_from_slice(kept);
    } else {
        out.extend(kept.iter().map(|byte| if scan::is_loggable(&[*byte]) { *byte } else { b'.' }));
    }
}

/// The loggable part of a text from a client.
#[must_use]
pub fn loggable(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    push_loggable(&mut text, bytes);
    into_text(text)
}

/// The text of bytes that are only ASCII.
pub(super) fn into_text(ascii: Vec<u8>) -> String {
    String::from_utf8(ascii).unwrap_or_default()
}

/// A text of ours for use between quotes, without characters that would end the quotes.
fn quotable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '"' { '.' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        let at = |micros| timestamp(SystemTime::UNIX_EPOCH + Duration::from_micros(micros));
        assert_eq!(at(951_827_696_007_900), "2000-02-29T12:34:56.007Z");
        assert_eq!(at(951_827_696_999_999), "2000-02-29T12:34:56.999Z");
        assert_eq!(at(951_827_697_000_000), "2000-02-29T12:34:57.000Z");
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(400_000 * 365 * 86_400 * 1_000_000), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn addresses() {
        for address in ["127.0.0.1:80", "0.0.0.0:0", "255.10.9.100:65535", "[::1]:8080", "[fe80::1%3]:1"] {
            let mut line = Vec::new();
            put_address(&mut line, address.parse().expect("an address"));
            assert_eq!(String::from_utf8(line).unwrap(), address);
        }
    }

    #[test]
    fn milliseconds() {
        let text = |micros| {
            let mut line = Vec::new();
            put_millis(&mut line, Duration::from_micros(micros));
            String::from_utf8(line).unwrap()
        };
        assert_eq!([0, 7, 1_000, 868, 1_000_647].map(text), ["0.000ms", "0.007ms", "1.000ms", "0.868ms", "1000.647ms"]);
    }

    #[test]
    fn nothing_of_a_client_breaks_a_line() {
        let loggable = |bytes: &[u8]| {
            let mut text = b"-".to_vec();
            push_loggable(&mut text, bytes);
            into_text(text).split_off(1)
        };
        assert_eq!(loggable(b"/a\r\n\"b\xff"), "/a...b.");
        assert_eq!(loggable(b"/caches?a=b"), "/caches?a=b");
        assert_eq!(loggable(&[b'a'; 5000]).len(), MAX_TARGET);
    }
}
