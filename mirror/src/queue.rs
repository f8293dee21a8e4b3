//! The work queue: local names, each at most once; names that failed come back after a delay.
//!
//! Level-triggered: a name says that something may have changed, never what. A name that is added while it is worked on is worked on
//! once more. Rules: retries are endless, with delays that grow to [`MAX_DELAY`]; a name that fails does not delay others.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use controlplane::index::ServiceKey;
use parking_lot::Mutex;
use runtime::backoff::Backoff;
use tokio::sync::Notify;

/// The first delay after a failure.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest delay between two attempts.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(15);
/// How long a change waits for others to the same name, because a Service and its slices arrive one after the other.
const COALESCING_DELAY: Duration = Duration::from_millis(20);

/// The queue that workers share.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    changed: Notify,
}

/// One name to work on.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) key: ServiceKey,
    /// When it was first added.
    pub(crate) since: Instant,
}

/// How work on a name ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in its desired state.
    Done,
    /// It has to be tried again.
    Failed,
}

#[derive(Debug, Default)]
struct QueueState {
    due: BTreeSet<(Instant, ServiceKey)>,
    waiting: HashMap<ServiceKey, Waiting>,
    running: HashSet<ServiceKey>,
    failing: HashMap<ServiceKey, Backoff>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// When it is due; `None` while it is worked on.
    due: Option<Instant>,
    since: Instant,
}

impl Queue {
    /// Adds names for which something may have changed.
    pub(crate) fn add(&self, keys: impl IntoIterator<Item = ServiceKey>, now: Instant) {
        let mut state = self.state.lock();
        let mut any = false;
        for key in keys {
            state.add(key, now, now + COALESCING_DELAY);
            any = true;
        }
        drop(state);
        if any {
            self.changed.notify_waiters();
        }
    }

    /// The next name, when it is due. It has to be given back by [`Queue::done`].
    pub(crate) async fn next(&self) -> Job {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Register before checking, so that a change in between is not missed.
            changed.as_mut().enable();
            let wait = match self.state.lock().pop(Instant::now()) {
                Ok(job) => return job,
                Err(wait) => wait,
            };
            match wait {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due.into(), changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Notes that work on a name has ended. Returns the delay before the next attempt, if there is one.
    pub(crate) fn done(&self, key: &ServiceKey, outcome: Outcome, now: Instant) -> Option<Duration> {
        let delay = self.state.lock().done(key, outcome, now);
        self.changed.notify_waiters();
        delay
    }

    /// How many names are waiting, and how many of these failed before.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.waiting.len(), state.failing.len())
    }
}

impl QueueState {
    fn add(&mut self, key: ServiceKey, now: Instant, due: Instant) {
        let running = self.running.contains(&key);
        let waiting = self.waiting.entry(key.clone()).or_insert(Waiting { due: None, since: now });
        if running || waiting.due.is_some_and(|earlier| earlier <= due) {
            return;
        }
        let later = waiting.due.replace(due);
        if let Some(later) = later {
            self.due.remove(&(later, key.clone()));
        }
        self.due.insert((due, key));
    }

    /// The first name that is due, or when the first one will be.
    fn pop(&mut self, now: Instant) -> Result<Job, Option<Instant>> {
        let Some((due, _key)) = self.due.first() else { return Err(None) };
        if *due > now {
            return Err(Some(*due));
        }
        let Some((_due, key)) = self.due.pop_first() else { return Err(None) };
        let since = self.waiting.remove(&key).map_or(now, |waiting| waiting.since);
        self.running.insert(key.clone());
        Ok(Job { key, since })
    }

    fn done(&mut self, key: &ServiceKey, outcome: Outcome, now: Instant) -> Option<Duration> {
        self.running.remove(key);
        let again = self.waiting.remove(key);
        match outcome {
            Outcome::Done => {
                self.failing.remove(key);
                if let Some(again) = again {
                    self.add(key.clone(), again.since, now);
                }
                None
            }
            Outcome::Failed => {
                let backoff = self.failing.entry(key.clone());
                let delay = backoff.or_insert_with(|| Backoff::new(FIRST_DELAY, 2.0, MAX_DELAY)).next_delay();
                self.add(key.clone(), again.map_or(now, |again| again.since), now + delay);
                Some(delay)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey { namespace: "m".into(), name: name.into() }
    }

    #[test]
    fn a_name_waits_once_and_runs_once_more_if_it_comes_while_it_runs() {
        let (mut state, now) = (QueueState::default(), Instant::now());
        state.add(key("a"), now, now);
        state.add(key("a"), now, now);
        assert_eq!(state.pop(now).expect("it is due").key, key("a"));
        assert_eq!(state.pop(now).expect_err("it came once"), None);
        state.add(key("a"), now, now);
        assert_eq!(state.pop(now).expect_err("it runs"), None);
        assert_eq!(state.done(&key("a"), Outcome::Done, now), None);
        assert_eq!(state.pop(now).expect("it came meanwhile").key, key("a"));
        state.done(&key("a"), Outcome::Done, now);
        assert_eq!((state.waiting.len(), state.running.len(), state.due.len()), (0, 0, 0));
    }

    #[test]
    fn one_that_fails_waits_longer_and_longer_for_ever_and_holds_up_no_other() {
        let (mut state, mut now) = (QueueState::default(), Instant::now());
        state.add(key("bad"), now, now);
        let mut last = Duration::ZERO;
        for round in 0..100 {
            now += Duration::from_secs(20);
            assert_eq!(state.pop(now).expect("it is tried again").key, key("bad"));
            last = state.done(&key("bad"), Outcome::Failed, now).expect("there is a next try");
            assert!(last <= MAX_DELAY, "{last:?} in round {round}");
            state.add(key("good"), now, now);
            assert_eq!(state.pop(now).expect("it need not wait").key, key("good"));
            state.done(&key("good"), Outcome::Done, now);
        }
        assert!(last >= MAX_DELAY / 2, "{last:?}");
        now += Duration::from_secs(20);
        state.pop(now).expect("it is tried again");
        state.done(&key("bad"), Outcome::Done, now);
        assert!(state.failing.is_empty(), "success starts over");
    }

    #[test]
    fn news_about_one_that_failed_bring_it_forward() {
        let (mut state, now) = (QueueState::default(), Instant::now());
        state.add(key("a"), now, now);
        state.pop(now).expect("it is due");
        state.done(&key("a"), Outcome::Failed, now);
        let later = now + Duration::from_millis(1);
        assert!(state.pop(later).is_err());
        state.add(key("a"), later, later);
        assert_eq!(state.pop(later).expect("there is news").since, now);
        assert_eq!(state.due.len(), 0);
    }

    #[tokio::test]
    async fn a_worker_wakes_when_something_comes() {
        let queue = std::sync::Arc::new(Queue::default());
        let worker = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await.key }
        });
        queue.add([key("a")], Instant::now());
        let got = tokio::time::timeout(Duration::from_secs(60), worker).await;
        assert_eq!(got.expect("in time").expect("no panic"), key("a"));
        assert_eq!(queue.depth(), (0, 0));
    }
}
