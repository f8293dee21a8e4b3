//! The journal: what is owed, on disk, so that it survives the process.
//!
//! One thread writes. Whatever is waiting when it is free is one transaction with one fsync, so that many requests share
//! it. A directory has one journal and belongs to one process, which holds a lock file in it; a second one waits for that
//! lock. What cannot be written is said, and tried again later; nothing here ever stops its callers.

mod damage;
mod open;
mod record;
mod store;
mod writer;

use crate::{
    Stored,
    core::{Receipt, Write},
};

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use writer::Queue;

pub use damage::Damage;

/// Whoever is told what becomes of the journal. Calls come from its thread, one after the other.
pub trait Owner: Send + Sync + 'static {
    /// The journal is open. What was in it is owed; from now on writes are taken.
    fn opened(&self, opened: Opened);
    /// Writes have become durable, or could not.
    fn written(&self, receipts: &[Receipt], ok: bool);
    /// The state has changed.
    fn health(&self, health: &Health);
    /// A commit took this long, after which the files have so many bytes.
    fn committed(&self, took: Duration, bytes: u64);
}

/// What was found when a journal was opened.
#[derive(Debug)]
pub struct Opened {
    /// The jobs that are owed, in order of arrival.
    pub jobs: Vec<Stored>,
    /// What could not be read.
    pub damage: Option<Damage>,
    /// Whether what else is known to be owed is not in it, and must be written.
    pub rebuild: bool,
}

/// How the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Another process has it. Until that one ends, jobs are in memory only.
    Waiting,
    /// It is written.
    Open,
    /// It cannot be written.
    Failed(Arc<str>),
}

/// What went wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory, the lock file or the file of the journal.
    #[error("{path}: {what}: {source}", path = path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// Of which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store.
    #[error("{path}: {what}", path = path.display())]
    Store {
        /// Of which file.
        path: PathBuf,
        /// What it said.
        what: String,
        /// Whether the file is damaged, in contrast to a disk that does not do what it should.
        damaged: bool,
    },
}

/// A journal that is being written. It ends, with all that was given to it, when it is closed or dropped.
#[derive(Debug)]
pub struct Journal {
    queue: Arc<Queue>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Journal {
    /// Begins a thread that opens the journal in a directory as soon as nobody else has it.
    pub fn start(directory: &Path, owner: Arc<dyn Owner>) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (directory, shared) = (directory.to_owned(), queue.clone());
        let run = move || writer::run(&directory, &shared, &*owner);
        let thread = thread::Builder::new().name("journal".into()).spawn(run)?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Gives writes to the thread. They become durable in this order.
    pub fn write(&self, writes: Vec<Write>) {
        self.queue.push(writes);
    }

    /// Writes what is still to be written, and gives the journal up.
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
