//! The task that sends owed deliveries.

use super::{Inner, Redelivery};
use crate::{
    Last,
    core::{AttemptId, Copy, Members, Verdict},
    journal::Health,
};

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{sync::watch, time::sleep};

/// The longest sleep of the task.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Sends copies to endpoints.
pub trait Sender: Send + Sync + 'static {
    /// Sends one copy to the current address of its endpoint, within a time limit of its own.
    fn send(&self, copy: Copy) -> impl Future<Output = Verdict> + Send;
}

impl Redelivery {
    /// Sends owed deliveries until `drain` is ready. Then copies in flight end, and the journal is closed.
    ///
    /// `members` has the endpoints of each snapshot. Before there is one, nothing is sent.
    pub async fn run(
        &self,
        sender: &impl Sender,
        mut members: watch::Receiver<Option<Arc<Members>>>,
        drain: impl Future<Output = ()>,
    ) {
        let inner = &*self.inner;
        let mut drain = pin!(drain);
        let is_draining = AtomicBool::new(false);
        let mut sending = FuturesUnordered::new();
        let mut followed = true;
        members.mark_changed();
        loop {
            let (copies, pause) = inner.in_turn(|core, now| {
                let copies: Vec<Copy> = std::iter::from_fn(|| core.next(now)).collect();
                (copies, core.wake_at().map(|at| Duration::from_millis(at.saturating_sub(now))))
            });
            sending.extend(copies.into_iter().map(|copy| send(inner, sender, copy, &is_draining)));
            tokio::select! {
                // In this order, so that nothing is sent after the drain has begun.
                biased;
                () = &mut drain => break,
                changed = members.changed(), if followed => {
                    followed = changed.is_ok();
                    let newest = members.borrow_and_update().clone();
                    if let Some(newest) = newest {
                        inner.with(|core, now| core.members(now, newest));
                    }
                }
                Some((attempt, verdict)) = sending.next() => inner.with(|core, now| core.tried(now, attempt, verdict)),
                () = inner.wake.notified() => {}
                () = sleep(pause.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)) => {}
            }
        }
        is_draining.store(true, Ordering::Relaxed);
        while let Some((attempt, verdict)) = sending.next().await {
            inner.with(|core, now| core.tried(now, attempt, verdict));
        }
        self.close().await;
    }

    /// Closes the journal, and logs the jobs that remain or are lost.
    async fn close(&self) {
        let inner = self.inner.clone();
        let journal = inner.journal.lock().take();
        if let Some(journal) = journal
            && tokio::task::spawn_blocking(move || journal.close()).await.is_err()
        {
            tracing::error!("closing the journal has panicked");
        }
        let (jobs, health) = (self.owed(), inner.health.borrow().clone());
        if jobs == 0 {
            return;
        }
        let to = self.owed_in_words();
        match (&inner.directory, health) {
            (Some(_), Some(Health::Open)) => tracing::info!(jobs, to, "pending deliveries stay in the journal"),
            (Some(journal), health) => tracing::warn!(
                jobs,
                to,
                journal = %journal.display(),
                ?health,
                "deliveries that were deferred while the journal could not be written, or another process had it, are lost with this process"
            ),
            (None, _) => tracing::warn!(
                jobs,
                to,
                "pending deliveries are lost with this process: they were only in memory; --redeliver-journal keeps them"
            ),
        }
    }

    /// The number of deliveries of each endpoint; of many endpoints only some.
    fn owed_in_words(&self) -> String {
        const NAMED: usize = 10;
        let mut owed = self.owed_by_endpoint();
        owed.retain(|(_, count)| *count > 0);
        owed.sort();
        let more = owed.len().saturating_sub(NAMED);
        let named = owed.iter().take(NAMED).map(|(endpoint, count)| format!("{endpoint}={count}"));
        let named = named.collect::<Vec<_>>().join(" ");
        if more > 0 { format!("{named} and {more} further endpoints") } else { named }
    }
}

/// Sends a copy, unless the drain has begun before it is polled for the first time.
async fn send(inner: &Inner, sender: &impl Sender, copy: Copy, is_draining: &AtomicBool) -> (AttemptId, Verdict) {
    let attempt = copy.attempt;
    if is_draining.load(Ordering::Relaxed) {
        return (attempt, Verdict::Cancelled);
    }
    let verdict = AssertUnwindSafe(sender.send(copy)).catch_unwind().await.unwrap_or_else(|_| {
        let error = Some("sending it has panicked".into());
        Verdict::Missed(Last { outcome: "reset", status: None, at: inner.clock.now(), error })
    });
    (attempt, verdict)
}
