//! A thread with a runtime of its own, which waits for its work.

use std::{io, pin::Pin, sync::mpsc, thread::JoinHandle};

/// Waits for what to run, and ends with that, or when it is dropped.
#[derive(Debug)]
pub(super) struct Thread {
    work: mpsc::SyncSender<Work>,
    join: JoinHandle<()>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Thread {
    /// Starts the thread. Whatever may be short is taken here, so that no worker is missing later.
    pub(super) fn new(name: String) -> io::Result<Self> {
        let (work, taken) = mpsc::sync_channel::<Work>(1);
        let (ready, started) = mpsc::sync_channel(1);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (outcome, runtime) = match runtime {
                Ok(runtime) => (Ok(()), Some(runtime)),
                Err(error) => (Err(error), None),
            };
            // Where nobody listens any more, no work comes either.
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
        // The thread waits for exactly this.
        let _ = self.work.send(Box::pin(work));
        self.join
    }
}
