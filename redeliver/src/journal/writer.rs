//! The thread of the journal: group commits, and retries when the disk fails.

use super::{Health, JournalError, Owner, count::CommitCount, open, store::Store};
use crate::core::{Receipt, Write};

use std::{
    collections::VecDeque,
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// The delay after a failure, and between attempts to lock the journal.
const RETRY: Duration = Duration::from_millis(500);
/// The longest delay of writes that no request waits for.
const LAZY: Duration = Duration::from_secs(1);
/// Writes in one transaction.
const BATCH: usize = 8_192;

/// The pending writes.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    state: Mutex<PendingWrites>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PendingWrites {
    writes: VecDeque<Write>,
    /// How many of them a request waits for.
    urgent: usize,
    closing: bool,
}

impl WriteQueue {
    pub(super) fn push(&self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.urgent += urgent(writes.iter());
        state.writes.extend(writes);
        self.changed.notify_one();
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_one();
    }

    /// Takes the next batch, and whether it is the last. Waits until a request waits for a write, or until a time.
    fn take(&self, longest: Duration) -> (Vec<Write>, bool) {
        let until = Instant::now() + longest;
        let mut state = self.state.lock();
        while state.urgent == 0 && !state.closing {
            if self.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        let count = state.writes.len().min(BATCH);
        let taken: Vec<Write> = state.writes.drain(..count).collect();
        state.urgent -= urgent(taken.iter());
        (taken, state.closing && state.writes.is_empty())
    }
}

fn urgent<'a>(writes: impl Iterator<Item = &'a Write>) -> usize {
    writes.filter(|write| write.receipt != Receipt::None).count()
}

/// The state of the thread.
struct Writer<'a> {
    directory: &'a Path,
    owner: &'a dyn Owner,
    lock: Option<File>,
    count: Option<CommitCount>,
    store: Option<Store>,
    /// Whether it has been open before.
    known: bool,
    tried: Option<Instant>,
    health: Option<Health>,
}

/// Runs until the queue is closed.
pub(super) fn run(directory: &Path, queue: &WriteQueue, owner: &dyn Owner) {
    let mut writer =
        Writer { directory, owner, lock: None, count: None, store: None, known: false, tried: None, health: None };
    loop {
        let opened = writer.open();
        let longest = match writer.store {
            // The owner's jobs in memory are not on disk yet.
            Some(_) if opened => Duration::ZERO,
            Some(_) => LAZY,
            None => RETRY,
        };
        let (writes, last) = queue.take(longest);
        if !writes.is_empty() {
            writer.commit(&writes);
        }
        if last {
            writer.note_closed();
            return;
        }
    }
}

impl Writer<'_> {
    /// Opens the journal, if it is not open and it is time. Says whether it has been opened.
    fn open(&mut self) -> bool {
        if self.store.is_some() || self.tried.is_some_and(|tried| tried.elapsed() < RETRY) {
            return false;
        }
        self.tried = Some(Instant::now());
        match self.try_open() {
            Ok(true) => self.tell(Health::Open),
            Ok(false) => self.tell(Health::Waiting),
            Err(error) => self.tell(Health::Failed(error.to_string().into())),
        }
        self.store.is_some()
    }

    fn try_open(&mut self) -> Result<bool, JournalError> {
        if self.lock.is_none() {
            self.lock = open::lock(self.directory)?;
        }
        if self.lock.is_none() {
            return Ok(false);
        }
        let (store, opened) = open::open(self.directory, self.known)?;
        if let Some(damage) = &opened.damage {
            let aside = damage.aside.display();
            tracing::error!(kept = damage.kept, error = damage.error, "the journal is damaged: it is now {aside}");
        }
        self.count = self.count.take().or_else(|| CommitCount::open(self.directory));
        self.note(store.commits());
        self.owner.committed(Duration::ZERO, store.bytes());
        self.store = Some(store);
        self.known = true;
        let jobs = opened.jobs.len();
        self.owner.opened(opened);
        if jobs > 0 {
            tracing::info!(jobs, directory = %self.directory.display(), "the journal has jobs with pending deliveries");
        }
        Ok(true)
    }

    /// What cannot be written is forgotten: when the journal is opened again, its owner compares what it has with what is
    /// owed. So nothing piles up while a disk is full.
    fn commit(&mut self, writes: &[Write]) {
        let receipts: Vec<Receipt> = writes.iter().map(|write| write.receipt).collect();
        let began = Instant::now();
        let result = self.store.as_mut().map(|store| store.commit(writes.iter()));
        match result {
            Some(Ok(())) => {
                let (bytes, commits) = self.store.as_ref().map_or((0, 0), |store| (store.bytes(), store.commits()));
                self.note(commits);
                self.owner.committed(began.elapsed(), bytes);
                self.owner.written(&receipts, true);
            }
            failed => {
                if let Some(Err(error)) = failed {
                    // After an error the store must be reopened.
                    self.store = None;
                    self.tried = Some(Instant::now());
                    self.tell(Health::Failed(error.to_string().into()));
                }
                self.owner.written(&receipts, false);
            }
        }
    }

    /// Notes so many commits, before anybody is told of the last one.
    fn note(&self, commits: u64) {
        if let Some(count) = &self.count {
            count.note(commits, false);
        }
    }

    /// Closes the store, and notes that.
    fn note_closed(&mut self) {
        if let (Some(store), Some(count)) = (self.store.take(), &self.count) {
            let commits = store.commits();
            drop(store);
            count.note(commits, true);
        }
    }

    fn tell(&mut self, health: Health) {
        if self.health.as_ref() == Some(&health) {
            return;
        }
        match &health {
            Health::Open => tracing::info!(directory = %self.directory.display(), "the journal is open"),
            Health::Waiting => tracing::warn!(
                directory = %self.directory.display(),
                "another process has the journal: until it ends, pending deliveries are kept only in memory"
            ),
            Health::Failed(error) => tracing::error!(
                %error,
                "the journal cannot be written: missed requests are not deferred until the cause is removed"
            ),
        }
        self.owner.health(&health);
        self.health = Some(health);
    }
}
