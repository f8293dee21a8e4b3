//! Files of this machine: written under a temporary name beside the target, made durable, and renamed.

use std::{
    ffi::OsString,
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use bytes::Bytes;
use runtime::files;

use super::{Fetched, SinkError, SinkErrorKind, store::MAX_BYTES};

/// The suffix of a temporary file's name, behind the target's name.
const PARTIAL: &str = ".fanfare-";

/// A directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

/// A temporary file, which is removed unless it is renamed.
struct Partial {
    path: PathBuf,
    target: PathBuf,
    /// Locked while in use, so that it is not removed as a left-over.
    file: fs::File,
    renamed: bool,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) async fn fetch(&self, name: &str, _unless: Option<&str>) -> Result<Fetched, SinkError> {
        let path = self.path.join(name);
        match blocking(move || files::read_at_most(&path, MAX_BYTES)).await {
            Ok(bytes) => Ok(Fetched::Found { bytes: bytes.into(), tag: None, media_type: None }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Fetched::Missing),
            Err(error) => Err(self.trouble(name, &error)),
        }
    }

    pub(super) async fn store(
        &self,
        name: &str,
        bytes: Bytes,
        until: Option<Instant>,
    ) -> Result<Option<String>, SinkError> {
        let target = self.path.join(name);
        let partial =
            blocking(move || Partial::write(target, &bytes)).await.map_err(|error| self.trouble(name, &error))?;
        // The rename is not done on another thread, where it would go on after this future was dropped at its deadline.
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(SinkError::new(self, SinkErrorKind::Unavailable, "too slow: the right to write has ended"));
        }
        let directory = partial.rename().map_err(|error| self.trouble(name, &error))?;
        blocking(move || fs::File::open(directory)?.sync_all()).await.map_err(|error| self.trouble(name, &error))?;
        Ok(None)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), SinkError> {
        let path = self.path.join(name);
        match blocking(move || fs::remove_file(path)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.trouble(name, &error)),
            _ => Ok(()),
        }
    }

    fn trouble(&self, name: &str, error: &io::Error) -> SinkError {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => SinkErrorKind::Denied,
            io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::FileTooLarge => SinkErrorKind::Refused,
            _ => SinkErrorKind::Unavailable,
        };
        SinkError::new(&self.path.join(name).display(), kind, error.to_string())
    }
}

impl Partial {
    /// Writes a temporary file beside the target, and makes it durable.
    fn write(target: PathBuf, bytes: &[u8]) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // The target of a link is replaced, not the link.
        let target = match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() => fs::canonicalize(&target)?,
            _ => target,
        };
        let directory = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut prefix = OsString::from(".");
        prefix.push(target.file_name().unwrap_or_default());
        prefix.push(PARTIAL);
        sweep(directory, &prefix);
        prefix.push(format!("{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        let path = directory.join(prefix);
        let file = fs::File::options().write(true).create_new(true).open(&path)?;
        let mut partial = Self { path, target, file, renamed: false };
        partial.file.try_lock()?;
        partial.file.write_all(bytes)?;
        if let Ok(before) = fs::metadata(&partial.target) {
            // The mode is kept, so that the file's readers can still read it. Owner and group cannot be kept without privileges.
            partial.file.set_permissions(fs::Permissions::from_mode(before.permissions().mode() & 0o7777))?;
        }
        partial.file.sync_all()?;
        Ok(partial)
    }

    /// Renames it to the target, and returns the directory, which is not durable yet.
    fn rename(mut self) -> io::Result<PathBuf> {
        fs::rename(&self.path, &self.target)?;
        self.renamed = true;
        Ok(self.target.parent().unwrap_or(Path::new(".")).to_owned())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes temporary files of writers that were killed. Those of living writers are locked.
fn sweep(directory: &Path, prefix: &std::ffi::OsStr) {
    let prefix = prefix.as_encoded_bytes();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(prefix)
            && files::open(&entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With a `/` at its end, because a file name follows.
        self.path.join("").display().fmt(f)
    }
}
