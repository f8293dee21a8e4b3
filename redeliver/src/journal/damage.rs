//! Damaged files: what can be read is kept, and the file moves aside under another name.

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

/// A larger file is not searched: it would not fit into memory beside what is there.
const LARGEST: u64 = 2 << 30;

/// What was found to be damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the file is now.
    pub aside: PathBuf,
    /// How many jobs could be read.
    pub kept: usize,
    /// What the store said.
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

/// Finds every record in a file that the store does not read any more.
///
/// Pages are copied on write, so that some of what is found is old. Of each commit the number of the first job that was
/// still owed is kept, which tells most of it; the rest is sent once more, which is what at least once means.
pub(super) fn salvage(path: &Path) -> Result<Contents, JournalError> {
    let failed = |source| JournalError::File { what: "cannot be read", path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST {
        return Err(failed(io::Error::other("too large to be searched for what is left of it")));
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
