//! Formats an entry as one line of plain text, with timestamps and sanitised texts of clients.

use std::{
    cell::Cell,
    io::Write,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::Entry;
use crate::headers::put_number;

/// The most bytes of a logged target.
const TARGET: usize = 2 * 1024;

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

/// Writes an entry as plain text, without the end of the line.
pub(super) fn put(line: &mut Vec<u8>, entry: &Entry<'_>) {
    line.extend_from_slice(&entry.time.0);
    line.push(b' ');
    // Memory takes all that is written to it.
    let _ = write!(line, "{}", entry.client);
    put_all(line, &[" \"", entry.method, " ", entry.target, "\" "]);
    put_number(line, entry.status.into());
    put_all(line, &[" ", entry.result, " "]);
    put_millis(line, entry.took);
    put_all(line, &[" completed=", entry.completed, " route=", entry.route, " host=", entry.host, " id=", entry.id]);
    if let Some(code) = entry.grpc_status {
        let _ = write!(line, " grpc_status={code}");
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
    for leg in entry.legs.iter() {
        put_all(line, &[" ", leg.pod.unwrap_or(leg.endpoint), "="]);
        put_all(line, &[leg.outcome.map_or("running", |outcome| outcome.as_str())]);
        if let Some(status) = leg.status {
            line.push(b':');
            put_number(line, status.into());
        }
        if let Some(code) = leg.grpc_status {
            let _ = write!(line, ":grpc={code}");
        }
        line.push(b':');
        put_millis(line, leg.took);
    }
}

fn put_all(line: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        line.extend_from_slice(text.as_bytes());
    }
}

/// Writes milliseconds with three digits after the point, and their unit.
fn put_millis(line: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    put_number(line, micros / 1000);
    line.push(b'.');
    for unit in [100, 10, 1] {
        line.push(b'0' + (micros / unit % 10) as u8);
    }
    line.extend_from_slice(b"ms");
}

/// The loggable part of a text from a client: printable ASCII of bounded length.
#[must_use]
pub fn loggable(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(TARGET)];
    // Without an early exit the loop is vectorised.
    if kept.iter().fold(true, |all, byte| all & is_loggable(*byte))
        && let Ok(text) = std::str::from_utf8(kept)
    {
        return text.to_owned();
    }
    kept.iter().map(|byte| if is_loggable(*byte) { char::from(*byte) } else { '.' }).collect()
}

fn is_loggable(byte: u8) -> bool {
    byte.is_ascii_graphic() & (byte != b'"')
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
        assert_eq!(loggable(b"/a\r\n\"b\xff"), "/a...b.");
        assert_eq!(loggable(b"/caches?a=b"), "/caches?a=b");
        assert_eq!(loggable(&[b'a'; 5000]).len(), TARGET);
    }
}
