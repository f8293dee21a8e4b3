//! How many commits there are, noted beside the store after each of them.
//!
//! The store takes damage to its very last commit for a commit that was cut off, and goes back to the one before. That there was
//! one more shows only here. The note is not synced: it outlives the process, and after a power failure it may be behind, which
//! says nothing; never is it ahead of what is on disk. It also says whether the journal was closed, which no repair follows.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// The file.
pub(super) const FILE: &str = "journal.commits";
/// The word for a journal that was closed.
const CLOSED: &str = "closed";

/// The note, open to be written.
#[derive(Debug)]
pub(super) struct CommitCount(File);

impl CommitCount {
    /// Opens the note in a directory whose lock is held. Without one, the journal does its work all the same.
    pub(super) fn open(directory: &Path) -> Option<Self> {
        File::options().create(true).truncate(false).write(true).open(directory.join(FILE)).ok().map(Self)
    }

    /// Notes that there are so many commits, all of them durable.
    pub(super) fn note(&self, commits: u64, is_closed: bool) {
        // Always as long, so that a full disk makes no difference.
        let _ =
            self.0.write_all_at(format!("{commits:020} {:6}\n", if is_closed { CLOSED } else { "open" }).as_bytes(), 0);
    }
}

/// What was noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// The number of commits; 0 where nothing is noted.
    pub(super) commits: u64,
    /// Whether the journal was closed after them.
    pub(super) is_closed: bool,
}

/// Reads the note.
pub(super) fn noted(directory: &Path) -> Noted {
    let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
    let mut words = text.split_whitespace();
    let commits = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Noted { commits, is_closed: words.next() == Some(CLOSED) }
}
