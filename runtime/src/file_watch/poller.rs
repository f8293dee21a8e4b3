//! Checks of many files, in turns: one blocking task does all of a turn, so that a file costs a system call and not a task.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// A check that takes longer than this, as on a network file system that hangs, is left to its thread, and another one goes on.
const HANGS: Duration = Duration::from_secs(1);

/// Runs checks at regular intervals, until it and its clones are dropped. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Poller(Arc<Shared>);

/// A check of files. It blocks as long as that takes, and breaks if it is not needed any more.
type Check = Box<dyn FnMut() -> ControlFlow<()> + Send>;

#[derive(Debug)]
struct Shared {
    every: Duration,
    added: Arc<Added>,
    /// The task that takes the turns, from the first check on.
    task: OnceLock<AbortHandle>,
}

/// Checks that have had no turn yet.
#[derive(Debug, Default)]
struct Added {
    checks: Mutex<Vec<Arc<Registered>>>,
    some: Notify,
}

/// A check, unless it is not needed any more.
struct Registered(Mutex<Option<Check>>);

/// The checks of one turn, taken one after the other.
struct Turn {
    checks: Vec<Arc<Registered>>,
    next: AtomicUsize,
}

// === impl Poller ===

impl Poller {
    /// A poller of this interval, of at least a millisecond. It does nothing before the first check.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        let every = interval.max(Duration::from_millis(1));
        Self(Arc::new(Shared { every, added: Arc::default(), task: OnceLock::new() }))
    }

    /// Adds a check, which is run at once and then in every turn, in the pool for blocking tasks, until it breaks.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time enabled.
    pub fn add(&self, check: impl FnMut() -> ControlFlow<()> + Send + 'static) {
        let Self(shared) = self;
        shared.added.checks.lock().push(Arc::new(Registered(Mutex::new(Some(Box::new(check))))));
        shared.added.some.notify_one();
        shared.task.get_or_init(|| tokio::spawn(take_turns(shared.added.clone(), shared.every)).abort_handle());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

async fn take_turns(added: Arc<Added>, every: Duration) {
    // The first turn of a check is that in which it was added.
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checks: Vec<Arc<Registered>> = Vec::new();
    loop {
        let begin = tokio::select! {
            _ = ticks.tick(), if !checks.is_empty() => 0,
            () = added.some.notified() => checks.len(),
        };
        checks.append(&mut added.checks.lock());
        take_turn(checks[begin..].to_vec()).await;
        checks.retain(|check| !check.has_ended());
    }
}

/// Runs each of these once. A check that hangs does not hold up the others, and has no further turn until it is over.
async fn take_turn(checks: Vec<Arc<Registered>>) {
    let turn = Arc::new(Turn { checks, next: AtomicUsize::new(0) });
    loop {
        let mut thread = tokio::task::spawn_blocking({
            let turn = turn.clone();
            move || turn.run()
        });
        let mut seen = turn.next.load(Ordering::Relaxed);
        loop {
            match timeout(HANGS, &mut thread).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) if error.is_cancelled() => return,
                Ok(Err(_)) => {
                    tracing::warn!("a check of files has failed; it is repeated at the next interval");
                    break;
                }
                Err(_elapsed) if std::mem::replace(&mut seen, turn.next.load(Ordering::Relaxed)) != seen => {}
                Err(_elapsed) => break,
            }
        }
    }
}

// === impl Turn ===

impl Turn {
    fn run(&self) {
        while let Some(check) = self.checks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            check.run();
        }
    }
}

// === impl Registered ===

impl Registered {
    fn run(&self) {
        // Another thread has it if it hangs.
        let Some(mut check) = self.0.try_lock() else { return };
        if check.as_mut().is_some_and(|check| check().is_break()) {
            *check = None;
        }
    }

    fn has_ended(&self) -> bool {
        self.0.try_lock().is_some_and(|check| check.is_none())
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registered")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use testkit::eventually;

    use super::*;

    /// A check that counts, and ends after so many runs.
    fn counting(poller: &Poller, runs: usize) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        poller.add(move || match counted.fetch_add(1, Ordering::Relaxed) + 1 {
            run if run < runs => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        });
        count
    }

    #[tokio::test]
    async fn a_check_runs_at_once_and_then_in_every_turn_until_it_is_not_needed_any_more() {
        let poller = Poller::every(Duration::from_millis(1));
        let (one, other) = (counting(&poller, 3), counting(&poller, usize::MAX));
        let runs = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        eventually!("many turns", runs(&other), |runs: &usize| *runs > 10);
        assert_eq!(runs(&one), 3);
        let late = counting(&Poller::every(Duration::from_secs(3600)), usize::MAX);
        drop(poller);
        eventually!("the end of the turns", Arc::strong_count(&other), |users: &usize| *users == 1);
        assert!(runs(&late) <= 1, "nobody has its poller any more");
        let seldom = Poller::every(Duration::from_secs(3600));
        for _ in 0..2 {
            let count = counting(&seldom, usize::MAX);
            eventually!("the first turn, at once", runs(&count), |runs: &usize| *runs == 1);
        }
    }

    #[tokio::test]
    async fn a_check_that_hangs_or_panics_does_not_hold_up_the_others() {
        let poller = Poller::every(Duration::from_millis(1));
        let (release, hangs) = mpsc::channel::<()>();
        let (mut is_first, ended) = (true, Arc::new(AtomicUsize::new(0)));
        let count = ended.clone();
        poller.add(move || {
            // It ends when the test does, whatever becomes of that.
            let _ = hangs.recv();
            count.fetch_add(1, Ordering::Relaxed);
            ControlFlow::Break(())
        });
        poller.add(move || {
            assert!(!std::mem::take(&mut is_first), "as expected by this test");
            ControlFlow::Continue(())
        });
        let others = counting(&poller, usize::MAX);
        eventually!("turns", others.load(Ordering::Relaxed), |runs: &usize| *runs > 3);
        assert_eq!(ended.load(Ordering::Relaxed), 0);
        drop(release);
        eventually!("the end of the check", ended.load(Ordering::Relaxed), |ended: &usize| *ended == 1);
    }
}
