//! Whether the proxy drains, as a connection sees it: asked at every wake-up for the price of one look, subscribed to
//! once.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::watch, task::unconstrained};

/// The beginning of the drain.
pub(crate) struct Draining {
    /// Changes once, when the drain begins, to how long an idle connection may then still bring a request; here that change is never
    /// marked as seen.
    flag: watch::Receiver<Duration>,
    /// Wakes the task of the connection at that change. Made when the connection first waits.
    wake: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Draining {
    /// Watches a flag that nobody has looked at yet.
    pub(super) fn new(flag: watch::Receiver<Duration>) -> Self {
        Self { flag, wake: None }
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        // Without a sender the worker ends as well.
        self.flag.has_changed().unwrap_or(true)
    }

    /// How long an idle connection may still bring a request, once it has begun.
    pub(super) fn idle(&self) -> Duration {
        *self.flag.borrow()
    }

    /// Whether it has begun; where not, the task that asks first is woken when it begins. No other task may ask.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.has_begun() {
            return true;
        }
        if self.wake.is_some() {
            return false;
        }
        let mut flag = self.flag.clone();
        let wake = self.wake.insert(Box::pin(async move {
            // Whatever comes of it, the task looks for itself.
            let _ = flag.changed().await;
        }));
        // A task that has used up its share must not be told so here: nobody would wake it.
        pin!(unconstrained(wake.as_mut())).poll(cx) == Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_woken_when_it_begins() {
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
