//! The tables of the journal in an embedded store, and how writes change them.

use super::{JournalError, record::Record};
use crate::{
    JobId, Stored,
    core::{Change, Entry, Write},
};

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

/// Requests by job. They are written once.
const JOBS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("jobs");
/// Deliveries by job and index, so that changes are small.
const OWED: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("owed");
/// One record, written with each commit.
const MARK: TableDefinition<'_, (), &[u8]> = TableDefinition::new("mark");

/// The store's cache in bytes. Jobs are in memory already, so the store is rarely read.
const CACHE: usize = 4 << 20;

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
    path: PathBuf,
    commits: u64,
}

/// The contents of a store.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The pending jobs, if requests were read.
    pub(super) jobs: Vec<Stored>,
    /// The pending deliveries, if requests were not read.
    pub(super) known: Vec<Entry>,
    /// The number of unreadable records.
    pub(super) unread: usize,
}

impl Store {
    /// Opens the store, or makes a new one. Every page is checked: by default the store skips checksums after a clean shutdown, and
    /// may panic on damage.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        guarded(path, || {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
            let database = builder.create(path).map_err(redb::Error::from)?;
            let transaction = database.begin_write()?;
            transaction.open_table(JOBS)?;
            transaction.open_table(OWED)?;
            transaction.open_table(MARK)?;
            transaction.commit()?;
            Ok(Self { database, path: path.to_owned(), commits: 0 })
        })
    }

    /// Everything that is owed, with the requests or without.
    pub(super) fn read(&mut self, requests: bool) -> Result<Contents, JournalError> {
        let mut records = Records::default();
        guarded(&self.path, || {
            let transaction = self.database.begin_read()?;
            if requests {
                for entry in transaction.open_table(JOBS)?.iter()? {
                    records.add(Record::decode(entry?.1.value()));
                }
            }
            for entry in transaction.open_table(OWED)?.iter()? {
                records.add(Record::decode(entry?.1.value()));
            }
            for entry in transaction.open_table(MARK)?.iter()? {
                records.add(Record::decode(entry?.1.value()));
            }
            Ok(())
        })?;
        self.commits = records.commits;
        Ok(if requests { records.contents() } else { records.entries() })
    }

    /// Makes writes durable, all or none.
    pub(super) fn commit<'a>(&mut self, writes: impl Iterator<Item = &'a Write>) -> Result<(), JournalError> {
        self.commits += 1;
        let commit = self.commits;
        guarded(&self.path, || {
            let transaction = self.database.begin_write()?;
            for write in writes {
                apply(&transaction, write)?;
            }
            let first = transaction.open_table(OWED)?.first()?.map_or(u64::MAX, |(key, _)| key.value().0);
            let mark = Record::Mark { commit, first }.encode();
            transaction.open_table(MARK)?.insert((), mark.as_slice())?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// How many commits there were, as far as it was read.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    /// Counts its commits from there.
    pub(super) fn after(self, commits: u64) -> Self {
        Self { commits, ..self }
    }

    /// How large its file is.
    pub(super) fn bytes(&self) -> u64 {
        self.path.metadata().map_or(0, |metadata| metadata.len())
    }
}

/// Records, before they are put together.
#[derive(Debug, Default)]
pub(super) struct Records {
    jobs: BTreeMap<JobId, Stored>,
    owed: BTreeMap<(JobId, u32), (crate::Whom, u32)>,
    commits: u64,
    first: u64,
    unread: usize,
}

impl Records {
    pub(super) fn add(&mut self, record: Option<Record>) {
        match record {
            Some(Record::Job(job)) => {
                self.jobs.insert(job.id, job);
            }
            Some(Record::Owed { job, index, whom, attempts }) => {
                let known = self.owed.entry((job, index)).or_insert_with(|| (whom, attempts));
                known.1 = known.1.max(attempts);
            }
            Some(Record::Mark { commit, first }) if commit >= self.commits => {
                (self.commits, self.first) = (commit, first);
            }
            Some(Record::Mark { .. }) => {}
            None => self.unread += 1,
        }
    }

    /// The owed jobs, without those before the first owed one of the last commit.
    pub(super) fn contents(mut self) -> Contents {
        let mut unread = self.unread;
        for ((job, index), (whom, attempts)) in self.owed {
            match self.jobs.get_mut(&job) {
                Some(job) => job.owed.push((index, whom, attempts)),
                None if job.get() < self.first => {}
                None => unread += 1,
            }
        }
        let mut jobs: Vec<Stored> = self.jobs.into_values().collect();
        jobs.retain(|job| job.id.get() >= self.first && !job.owed.is_empty());
        Contents { jobs, known: Vec::new(), unread }
    }

    /// The deliveries that are owed.
    fn entries(self) -> Contents {
        let entry = |((job, index), (_, attempts))| Entry { job, index, attempts };
        Contents { jobs: Vec::new(), known: self.owed.into_iter().map(entry).collect(), unread: self.unread }
    }
}

/// Changes the tables. Repeated writes have no effect.
fn apply(transaction: &WriteTransaction, write: &Write) -> Result<(), redb::Error> {
    let job = write.job.get();
    match &write.change {
        Change::Put(stored) => {
            let mut table = transaction.open_table(OWED)?;
            for (index, whom, attempts) in &stored.owed {
                let record = owed(write.job, *index, whom, *attempts);
                table.insert((job, *index), record.as_slice())?;
            }
            let record = Record::Job(Stored { owed: Vec::new(), ..(**stored).clone() }).encode();
            transaction.open_table(JOBS)?.insert(job, record.as_slice())?;
        }
        Change::Tried { index, whom, attempts } => {
            let mut table = transaction.open_table(OWED)?;
            if table.get((job, *index))?.is_some() {
                table.insert((job, *index), owed(write.job, *index, whom, *attempts).as_slice())?;
            }
        }
        Change::Settled { index, last } => {
            transaction.open_table(OWED)?.remove((job, *index))?;
            if *last {
                // An earlier write may have failed: no delivery may refer to a missing request.
                remove(transaction, job)?;
            }
        }
        Change::Withdrawn => remove(transaction, job)?,
    }
    Ok(())
}

/// Removes a job and all that is owed of it.
fn remove(transaction: &WriteTransaction, job: u64) -> Result<(), redb::Error> {
    let mut owed = transaction.open_table(OWED)?;
    let all = (job, 0)..=(job, u32::MAX);
    if owed.range(all.clone())?.next().is_some() {
        owed.retain_in(all, |_, _| false)?;
    }
    transaction.open_table(JOBS)?.remove(job)?;
    Ok(())
}

fn owed(job: JobId, index: u32, whom: &crate::Whom, attempts: u32) -> Vec<u8> {
    Record::Owed { job, index, whom: whom.clone(), attempts }.encode()
}

/// Runs an operation on the store, and turns panics, which some damage causes, into errors.
fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, JournalError> {
    let store = |what: String, damaged| JournalError::Store { path: path.to_owned(), what, damaged };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let damaged = is_damage(&error);
            Err(store(error.to_string(), damaged))
        }
        Err(_) => Err(store("the store panicked: the file is damaged".into(), true)),
    }
}

/// Whether an error concerns the contents of the file instead of the disk.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. } => true,
        redb::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}
