//! The one timer of a connection. Moving a deadline costs nothing as long as it does not come closer: the timer then
//! goes off early, and is set again for what is due by then.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is asked for a different time at every poll.
#[derive(Debug, Default)]
pub struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    /// What the timer is set for; none once it has gone off.
    set: Option<Instant>,
}

impl Alarm {
    /// Ready once `at` has passed, with the time it is then.
    pub fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<Instant> {
        loop {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if self.set.is_none_or(|set| set > at) {
                sleep.as_mut().reset(at);
                self.set = Some(at);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.set = None;
            let now = Instant::now();
            if now >= at {
                return Poll::Ready(now);
            }
        }
    }

    /// Waits until `at`.
    pub async fn wait(&mut self, at: Instant) -> Instant {
        std::future::poll_fn(|cx| self.poll(cx, at)).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_may_move_both_ways() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let second = Duration::from_secs(1);
        std::future::poll_fn(|cx| {
            assert!(alarm.poll(cx, start + 5 * second).is_pending());
            assert!(alarm.poll(cx, start + 2 * second).is_pending());
            assert!(alarm.poll(cx, start + 3 * second).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(alarm.wait(start + 3 * second).await, start + 3 * second);
        assert_eq!(alarm.wait(start + 4 * second).await, start + 4 * second);
        assert_eq!(alarm.wait(start + second).await, start + 4 * second, "a time that has passed is due at once");
    }
}
