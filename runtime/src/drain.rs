//! The drain of a process: one trigger, many watchers, and a count of the work that is still in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Starts the drain. Dropping it does not.
#[derive(Debug, Default)]
pub struct Drain {
    shared: Arc<DrainState>,
}

/// Tells when the drain begins, and registers work that it waits for. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    shared: Arc<DrainState>,
}

/// A piece of work in progress: a connection, a request, a straggler. Dropping it ends it.
#[derive(Debug)]
pub struct Work {
    shared: Arc<DrainState>,
}

#[derive(Debug, Default)]
struct DrainState {
    draining: AtomicBool,
    started: Notify,
    work: AtomicUsize,
    idle: Notify,
}

// === impl Drain ===

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A watcher of this drain.
    #[must_use]
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { shared: Arc::clone(&self.shared) }
    }

    /// Starts the drain. Starting it again changes nothing.
    pub fn start(&self) {
        self.shared.draining.store(true, Ordering::SeqCst);
        self.shared.started.notify_waiters();
    }

    /// Waits until no registered work is left, at most until the deadline, and returns how many pieces are still in progress, which
    /// the caller is about to cut.
    pub async fn wait_idle(&self, deadline: Duration) -> usize {
        let idle = async {
            loop {
                let mut idle = std::pin::pin!(self.shared.idle.notified());
                // Listen before looking, so that the last piece of work ending in between is not missed.
                idle.as_mut().enable();
                if self.in_flight() == 0 {
                    return;
                }
                idle.await;
            }
        };
        let _ = tokio::time::timeout(deadline, idle).await;
        self.in_flight()
    }

    /// How many pieces of work are in progress.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.work.load(Ordering::SeqCst)
    }
}

// === impl DrainWatch ===

impl DrainWatch {
    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::SeqCst)
    }

    /// Waits for the drain to begin; returns at once if it has. Safe to cancel.
    pub async fn wait(&self) {
        loop {
            let mut started = std::pin::pin!(self.shared.started.notified());
            started.as_mut().enable();
            if self.is_draining() {
                return;
            }
            started.await;
        }
    }

    /// Registers a piece of work that [`Drain::wait_idle`] waits for. Work may still be registered while draining (a request on a kept connection).
    #[must_use = "dropping it ends the work"]
    pub fn begin_work(&self) -> Work {
        self.shared.work.fetch_add(1, Ordering::SeqCst);
        Work { shared: Arc::clone(&self.shared) }
    }
}

// === impl Work ===

impl Drop for Work {
    fn drop(&mut self) {
        if self.shared.work.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn every_watcher_sees_the_start_early_or_late() {
        let drain = Drain::new();
        let early = drain.watch();
        assert!(!early.is_draining());
        let waiter = tokio::spawn(async move { early.wait().await });
        drain.start();
        drain.start();
        tokio::time::timeout(PATIENCE, waiter).await.expect("in time").expect("no panic");
        let late = drain.watch().clone();
        assert!(late.is_draining());
        tokio::time::timeout(PATIENCE, late.wait()).await.expect("in time");
    }

    #[tokio::test]
    async fn waits_for_the_last_piece_of_work() {
        let drain = Drain::new();
        let (one, two) = (drain.watch().begin_work(), drain.watch().begin_work());
        assert_eq!(drain.in_flight(), 2);
        let ends = async {
            drop(one);
            tokio::task::yield_now().await;
            drop(two);
        };
        let (cut, ()) = tokio::join!(drain.wait_idle(PATIENCE), ends);
        assert_eq!(cut, 0);
    }

    #[tokio::test]
    async fn counts_what_the_deadline_cuts() {
        let drain = Drain::new();
        let _held = [drain.watch().begin_work(), drain.watch().begin_work()];
        assert_eq!(drain.wait_idle(Duration::from_millis(10)).await, 2);
    }
}
