//! Reads the files of an access, up to a limit, and never a pipe twice.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use runtime::files;

use super::access::Secret;

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Reads files.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileReader {
    /// Whether they were read before: a pipe is consumed then, and reading it again could block for ever.
    pub(super) again: bool,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: io::Error,
    },
    /// It is no regular file and was already read.
    #[error("{} is not a regular file, and is read only once", .0.display())]
    Once(PathBuf),
    /// There is no token in it.
    #[error("{} has no token in it", .0.display())]
    NoToken(PathBuf),
}

impl FileReader {
    /// The contents of a file.
    pub(super) fn read(self, path: &Path) -> Result<Vec<u8>, FileError> {
        let unreadable = |why| FileError::Unreadable { path: path.to_owned(), why };
        if self.again && !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(FileError::Once(path.to_owned()));
        }
        files::read_once(path, MAX_BYTES).map_err(unreadable)
    }

    /// The token in a file, without the line end behind it.
    pub(super) fn token(self, path: &Path) -> Result<Secret, FileError> {
        let token = Secret::new(&String::from_utf8_lossy(&self.read(path)?));
        if token.expose().is_empty() { Err(FileError::NoToken(path.to_owned())) } else { Ok(token) }
    }
}

impl FileError {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable { why, .. } if why.kind() == io::ErrorKind::NotFound)
    }
}
