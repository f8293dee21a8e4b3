//! Opens a journal: takes its lock, opens its file, and reads its contents.

use super::{
    Damage, JournalError, Opened,
    count::{self, Noted},
    damage::{move_aside, salvage},
    format,
    store::{Contents, Store},
};

use crate::{Stored, core::Write};

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// The file of the store.
const FILE: &str = "journal.redb";
/// Its successor, while it is being written.
const NEW: &str = "journal.redb.new";
/// Its copy, while it is being opened after a crash.
const COPY: &str = "journal.redb.found";
/// The lock file, held while the process has the journal. It is separate from the store, so that the store can be reopened under
/// the lock.
const LOCK: &str = "journal.lock";

/// Takes the lock of a directory; `None` if another process holds it.
pub(super) fn lock(directory: &Path) -> Result<Option<File>, JournalError> {
    let error = |what, path: &Path| {
        let path = path.to_owned();
        move |source| JournalError::File { what, path, source }
    };
    fs::create_dir_all(directory).map_err(error("cannot be made", directory))?;
    let path = directory.join(LOCK);
    let mut options = File::options();
    let file =
        options.create(true).truncate(false).write(true).open(&path).map_err(error("cannot be opened", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(error("cannot be locked", &path)(source)),
    }
}

/// Refuses a directory in which one of the files is something else: opening a pipe or a device may never end.
pub(super) fn check_files(directory: &Path) -> Result<(), JournalError> {
    for path in [FILE, NEW, COPY, count::FILE].map(|name| directory.join(name)) {
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            let source = io::Error::other("it is not a regular file; move it away");
            return Err(JournalError::File { what: "cannot be opened", path, source });
        }
    }
    Ok(())
}

/// Opens the store in a directory whose lock is held, and reads it. Where the process knows better what is owed, because
/// it has had the journal open before, only what is there is read, and no request.
pub(super) fn open(directory: &Path, known: bool) -> Result<(Store, Opened), JournalError> {
    let path = directory.join(FILE);
    format::check(directory)?;
    finish_replacement(directory, &path)?;
    // One that somebody has removed lacks nothing.
    let noted = if path.exists() { count::noted(directory) } else { Noted::default() };
    let copy = UntouchedCopy::of(directory, &path, !known && noted.commits > 0 && !noted.is_closed);
    let read = Store::open(&path).and_then(|mut store| store.read(!known).map(|contents| (store, contents)));
    let (error, jobs) = match read {
        Ok((store, Contents { jobs, known, unread: 0 })) if store.commits() >= noted.commits => {
            return Ok((store, Opened { jobs, damage: None, known }));
        }
        Ok((store, Contents { unread: 0, .. })) => {
            let (before, now) = (noted.commits, store.commits());
            (format!("its last commits are missing: there were {before}, and it has {now}"), None)
        }
        Ok((_, contents)) => {
            let unread = contents.unread;
            (format!("{unread} records cannot be read"), Some(contents.jobs))
        }
        Err(JournalError::Store { what, damaged: true, .. }) => (what, None),
        Err(error) => return Err(error),
    };
    copy.put_back()?;
    let jobs = match jobs {
        Some(jobs) => jobs,
        None if known => Vec::new(),
        None => salvage(&path)?.jobs,
    };
    let aside = replace(directory, &path, &jobs, noted.commits)?;
    let damage = Damage { aside, kept: jobs.len(), error };
    let mut store = Store::open(&path)?;
    store.read(false)?;
    Ok((store, Opened { jobs, damage: Some(damage), known: Vec::new() }))
}

/// The file of the journal in a directory; while a process that has ended was replacing it, its successor.
pub(super) fn existing(directory: &Path) -> PathBuf {
    let (path, new) = (directory.join(FILE), directory.join(NEW));
    if !path.exists() && new.exists() { new } else { path }
}

/// A copy of a file that was not closed: its store repairs it, and writes over what it takes for a commit that was cut off. It is removed
/// unless it is put back.
struct UntouchedCopy {
    copy: PathBuf,
    path: PathBuf,
    is_there: bool,
}

impl UntouchedCopy {
    /// Copies the file, if that is wanted and there is room.
    fn of(directory: &Path, path: &Path, is_wanted: bool) -> Self {
        let copy = directory.join(COPY);
        let is_there = is_wanted && fs::copy(path, &copy).is_ok();
        Self { copy, path: path.to_owned(), is_there }
    }

    /// The file is again as it was found.
    fn put_back(mut self) -> Result<(), JournalError> {
        if !std::mem::take(&mut self.is_there) {
            return Ok(());
        }
        let failed = |source| JournalError::File { what: "cannot be renamed", path: self.copy.clone(), source };
        fs::rename(&self.copy, &self.path).map_err(failed)
    }
}

impl Drop for UntouchedCopy {
    fn drop(&mut self) {
        // One that could not be made in full must not stay either.
        let _ = fs::remove_file(&self.copy);
    }
}

/// Goes on where a process has ended while it replaced a damaged file: the old one is aside already, and the new one is whole.
fn finish_replacement(directory: &Path, path: &Path) -> Result<(), JournalError> {
    let new = directory.join(NEW);
    if path.exists() || !new.exists() {
        return Ok(());
    }
    let failed = |source| JournalError::File { what: "cannot be renamed", path: new.clone(), source };
    fs::rename(&new, path).map_err(failed)
}

/// Replaces a damaged file. The readable records are in the new file before the old one is renamed, and its commits are counted on.
fn replace(directory: &Path, path: &Path, jobs: &[Stored], noted: u64) -> Result<PathBuf, JournalError> {
    let new = directory.join(NEW);
    let failed = |what| {
        let path = new.clone();
        move |source| JournalError::File { what, path, source }
    };
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("cannot be removed")(error)),
        _ => {}
    }
    let puts: Vec<Write> = jobs.iter().map(Write::of_stored).collect();
    Store::open(&new)?.after(noted).commit(puts.iter())?;
    let aside = move_aside(path)?;
    fs::rename(&new, path).map_err(failed("cannot be renamed"))?;
    Ok(aside)
}
