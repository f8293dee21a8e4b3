//! Recovery from damaged files: readable records are kept, and the file is renamed.

use super::{
    JournalError,
    record::{MAGIC, Record},
    store::{Contents, Records},
};
use crate::wall_clock;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use memchr::memmem;

/// The largest file that is searched, in bytes, because it is read into memory.
const LARGEST: u64 = 2 << 30;

/// The damage of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The new path of the file.
    pub aside: PathBuf,
    /// The number of jobs that could be read.
    pub kept: usize,
    /// The error of the store.
    pub error: String,
}

/// Moves a file aside.
pub(super) fn move_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let now = wall_clock();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{now}"));
    let aside = PathBuf::from(name);
    let failed = |source| JournalError::File { what: "cannot be moved aside", path: path.to_owned(), source };
    fs::rename(path, &aside).map_err(failed)?;
    Ok(aside)
}

/// Finds every record in a file that the store cannot read.
///
/// Pages are copied on write, so some records are outdated. Each commit records the first owed job, by which most of these are
/// recognised; the others are delivered again (at-least-once delivery).
pub(super) fn salvage(path: &Path) -> Result<Contents, JournalError> {
    let failed = |source| JournalError::File { what: "cannot be read", path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST {
        return Err(failed(io::Error::other("too large to be searched for readable records")));
    }
    let bytes = fs::read(path).map_err(failed)?;
    let mut records = Records::default();
    for at in memmem::find_iter(&bytes, &MAGIC) {
        if let Some(record) = Record::decode(&bytes[at..]) {
            records.add(Some(record));
        }
    }
    Ok(records.contents())
}
