//! How many commits there are, noted beside the store after each of them.
//!
//! The store takes damage to its very last commit for a commit that was cut off, and goes back to the one before. That there was
//! one more shows only here. The note is not synced: it outlives the process, and after a power failure it may be behind, which
//! says nothing; never is it ahead of what is on disk.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// The file.
const FILE: &str = "journal.commits";

/// The note, open to be written.
#[derive(Debug)]
pub(super) struct CommitCount(File);

impl CommitCount {
    /// Opens the note in a directory whose lock is held. Without one, the journal does its work all the same.
    pub(super) fn open(directory: &Path) -> Option<Self> {
        File::options().create(true).truncate(false).write(true).open(directory.join(FILE)).ok().map(Self)
    }

    /// Notes that there are so many commits, all of them durable.
    pub(super) fn note(&self, commits: u64) {
        // Always as long, so that a full disk makes no difference.
        let _ = self.0.write_all_at(format!("{commits:020}\n").as_bytes(), 0);
    }
}

/// How many commits were noted; 0 where nothing is.
pub(super) fn noted(directory: &Path) -> u64 {
    let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
    text.lines().next().and_then(|line| line.parse().ok()).unwrap_or(0)
}
