//! A connection's view of the drain: cheap to check at every wake-up, and subscribed to once.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::watch, task::unconstrained};

/// The beginning of the drain.
pub(crate) struct Draining {
    /// Changes once, when the drain begins, to the time for which an idle connection may still bring a request. The change is never
    /// marked as seen here.
    flag: watch::Receiver<Duration>,
    /// Wakes the task of the connection at that change. Made when the connection first waits.
    wake: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Draining {
    /// Watches a flag whose change was not marked as seen.
    pub(super) fn new(flag: watch::Receiver<Duration>) -> Self {
        Self { flag, wake: None }
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        // Without a sender the worker ends as well.
        self.flag.has_changed().unwrap_or(true)
    }

    /// The time for which an idle connection may still bring a request after the drain has begun.
    pub(super) fn idle(&self) -> Duration {
        *self.flag.borrow()
    }

    /// Whether it has begun. If not, the first task that polls is woken when it begins; no other task may poll.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.has_begun() {
            return true;
        }
        if self.wake.is_some() {
            return false;
        }
        let mut flag = self.flag.clone();
        let wake = self.wake.insert(Box::pin(async move {
            // The result is ignored, because the task checks the flag itself.
            let _ = flag.changed().await;
        }));
        // Unconstrained: with an exhausted cooperative budget the poll would return pending without registering the waker.
        pin!(unconstrained(wake.as_mut())).poll(cx) == Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn waiters_are_woken_when_it_begins() {
        let (sender, flag) = watch::channel(Duration::ZERO);
        let mut draining = Draining::new(flag.clone());
        let (mut waits, waiting) = (0, tokio::sync::oneshot::channel());
        let mut told = Some(waiting.0);
        let wait = tokio::spawn(async move {
            poll_fn(|cx| {
                waits += 1;
                told.take().map(|told| told.send(()));
                if draining.poll(cx) { Poll::Ready(waits) } else { Poll::Pending }
            })
            .await
        });
        waiting.1.await.unwrap();
        sender.send_replace(Duration::from_secs(7));
        assert_eq!(wait.await.unwrap(), 2);
        let later = Draining::new(flag);
        assert!(later.has_begun(), "also for a connection that comes later");
        assert_eq!(later.idle(), Duration::from_secs(7));
    }
}
