//! What every kind of place has to do with: what a read brings, on what a write depends, how much is taken of an answer.

use bytes::Bytes;

/// No file that is read may be larger, in bytes (64 MiB).
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// What a read brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// The whole file, unpacked; what a condition on it would name; and its media type, where the place tells one.
    Found { bytes: Bytes, tag: Option<String>, media_type: Option<String> },
    /// It still has the tag that was named.
    Same,
    /// There is none.
    Missing,
    /// There is something that is no file. Says what.
    NoFile(String),
}

/// On what a write depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition<'a> {
    Nothing,
    /// There is no such file.
    Absent,
    /// It is the one with this tag.
    Is(&'a str),
}

/// A text of a server on one line, of bounded length.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 400;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
