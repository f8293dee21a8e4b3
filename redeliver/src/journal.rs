//! The journal: the owed jobs on disk, so that they survive the process.
//!
//! One thread writes. All waiting writes become one transaction with one fsync (group commit). A directory has one journal and
//! belongs to one process, which holds a lock file in it; a second one waits for that lock. Failed writes are reported and retried;
//! callers are never blocked.

mod count;
mod damage;
mod format;
mod open;
mod record;
mod store;
mod writer;

use crate::{
    Stored,
    core::{Entry, Receipt, Write},
};

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use record::FORMAT;
use writer::WriteQueue;

pub use damage::Damage;
pub use format::check;

/// Receives the events of a journal. Calls come from its thread, one after the other.
pub trait Owner: Send + Sync + 'static {
    /// The journal is open, with these jobs; it accepts writes from now on.
    fn opened(&self, opened: Opened);
    /// Writes have become durable, or have failed.
    fn written(&self, receipts: &[Receipt], ok: bool);
    /// The state has changed.
    fn health(&self, health: &Health);
    /// The duration of a commit, and the size of the file after it in bytes.
    fn committed(&self, took: Duration, bytes: u64);
}

/// The contents of a journal that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The jobs that are owed, in order of arrival.
    pub jobs: Vec<Stored>,
    /// The damage, if some of it could not be read.
    pub damage: Option<Damage>,
    /// The deliveries that the process knows, because it has had the journal open before; they are not among the jobs.
    pub known: Vec<Entry>,
}

/// The state of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Another process holds it. Until that one ends, jobs are in memory only.
    Waiting,
    /// It is open for writing.
    Open,
    /// It cannot be written.
    Failed(Arc<str>),
}

/// An error of a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory, the lock file or the file of the journal.
    #[error("{path}: {what}: {source}", path = path.display())]
    File {
        /// The operation.
        what: &'static str,
        /// Of which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The store.
    #[error("{path}: {what}", path = path.display())]
    Store {
        /// Of which file.
        path: PathBuf,
        /// Its error.
        what: String,
        /// Whether the file is damaged, as opposed to a failing disk.
        damaged: bool,
    },
    /// Another version of Fanfare wrote the file.
    #[error(
        "{path} has format {found}, which {age} version of Fanfare wrote, and this one reads format {FORMAT}: run that version until \
         its pending deliveries have ended, or name another directory. The file has not been changed",
        path = path.display(),
        age = if *found > FORMAT { "a newer" } else { "an older" }
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
}

/// An open journal. Closing or dropping it writes everything that is pending.
#[derive(Debug)]
pub struct Journal {
    queue: Arc<WriteQueue>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Journal {
    /// Starts a thread that opens the journal in a directory as soon as no other process holds it.
    pub fn start(directory: &Path, owner: Arc<dyn Owner>) -> io::Result<Self> {
        let queue = Arc::new(WriteQueue::default());
        let (directory, shared) = (directory.to_owned(), queue.clone());
        let run = move || writer::run(&directory, &shared, &*owner);
        let thread = thread::Builder::new().name("journal".into()).spawn(run)?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Queues writes, which become durable in this order.
    pub fn write(&self, writes: Vec<Write>) {
        self.queue.push(writes);
    }

    /// Writes everything that is pending, and closes the journal.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the journal has panicked");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end();
    }
}
