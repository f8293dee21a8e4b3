//! Opens a journal: takes its lock, opens its file, and reads its contents.

use super::{
    Damage, JournalError, Opened, count,
    damage::{move_aside, salvage},
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

/// Opens the store in a directory whose lock is held, and reads it. Where the process knows better what is owed, because
/// it has had the journal open before, only what is there is read, and no request.
pub(super) fn open(directory: &Path, known: bool) -> Result<(Store, Opened), JournalError> {
    let path = directory.join(FILE);
    finish_replacement(directory, &path)?;
    // One that somebody has removed lacks nothing.
    let noted = if path.exists() { count::noted(directory) } else { 0 };
    let read = Store::open(&path).and_then(|mut store| store.read(!known).map(|contents| (store, contents)));
    let (error, jobs) = match read {
        Ok((store, Contents { jobs, known, unread: 0 })) if store.commits() >= noted => {
            return Ok((store, Opened { jobs, damage: None, known }));
        }
        Ok((store, Contents { unread: 0, .. })) => {
            let error = format!("its last commits are missing: there were {noted}, and it has {}", store.commits());
            drop(store);
            (error, if known { Vec::new() } else { salvage(&path)?.jobs })
        }
        Ok((_, contents)) => (format!("{} records cannot be read", contents.unread), contents.jobs),
        Err(JournalError::Store { what, damaged: true, .. }) if known => (what, Vec::new()),
        Err(JournalError::Store { what, damaged: true, .. }) => (what, salvage(&path)?.jobs),
        Err(error) => return Err(error),
    };
    let aside = replace(directory, &path, &jobs, noted)?;
    let damage = Damage { aside, kept: jobs.len(), error };
    let mut store = Store::open(&path)?;
    store.read(false)?;
    Ok((store, Opened { jobs, damage: Some(damage), known: Vec::new() }))
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
