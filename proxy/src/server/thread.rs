//! A thread with a runtime of its own, which waits for its work.

use std::{io, pin::Pin, sync::mpsc, thread::JoinHandle};

/// A thread that waits for its work, and ends with it, or when this is dropped.
#[derive(Debug)]
pub(super) struct Thread {
    work: mpsc::SyncSender<Work>,
    join: JoinHandle<()>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Thread {
    /// Starts the thread. All resources are allocated here, so that no worker is missing later.
    pub(super) fn new(name: String) -> io::Result<Self> {
        let (work, taken) = mpsc::sync_channel::<Work>(1);
        let (ready, started) = mpsc::sync_channel(1);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (outcome, runtime) = match runtime {
                Ok(runtime) => (Ok(()), Some(runtime)),
                Err(error) => (Err(error), None),
            };
            // A dropped receiver means that no work will come.
            let _ = ready.send(outcome);
            if let (Some(runtime), Ok(work)) = (runtime, taken.recv()) {
                runtime.block_on(work);
            }
        };
        let join = std::thread::Builder::new().name(name).spawn(run)?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { work, join })
    }

    pub(super) fn run(self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        // The thread is waiting for it.
        let _ = self.work.send(Box::pin(work));
        self.join
    }
}
