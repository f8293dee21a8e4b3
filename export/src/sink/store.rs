//! Types that all kinds of places share: results of reads, conditions of writes, and bounds.

use bytes::Bytes;

/// The largest file that is read, in bytes (64 MiB).
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// The result of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// The whole file, decoded; the tag that a condition on it would name; and its media type, where the place has one.
    Found { bytes: Bytes, tag: Option<String>, media_type: Option<String> },
    /// The file still has the given tag.
    Same,
    /// There is no such file.
    Missing,
    /// The answer is not a file; the text says what it is.
    NoFile(String),
}

/// The condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition<'a> {
    Nothing,
    /// The file does not exist.
    Absent,
    /// The file has this tag.
    Is(&'a str),
}

/// A server's text on one line, of bounded length.
pub(super) fn short(text: &str) -> String {
    const MAX_CHARACTERS: usize = 400;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
