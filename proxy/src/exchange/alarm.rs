//! The only timer of a connection. Postponing a deadline costs nothing: the timer then fires early, and is set again for the
//! current deadline.

use std::{
    hint::cold_path,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use crate::clock;

/// A timer that is asked for a different time at every poll.
#[derive(Debug, Default)]
pub struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// The time that the timer is set to, and the task that it will wake; none after it has fired.
    set: Option<(Instant, Waker)>,
}

impl Alarm {
    /// Ready with the current time once `at` has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<Instant> {
        let now = clock::now();
        if now >= at {
            cold_path();
            return Poll::Ready(now);
        }
        // A timer that fires in time for this task need not be changed.
        if let Some((set, task)) = &self.set
            && now < *set
            && *set <= at
            && task.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        cold_path();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        // An overdue timer fires at any moment, and must be set again.
        let until = self.set.as_ref().map_or(at, |(set, _)| if now < *set { at.min(*set) } else { at });
        timer.as_mut().reset(until);
        // Unconstrained: with an exhausted cooperative budget the timer would not register the waker.
        if pin!(unconstrained(timer.as_mut())).poll(cx).is_ready() {
            // Its time has passed during this wake-up, so the task is woken again.
            cx.waker().wake_by_ref();
        }
        self.set = Some((until, cx.waker().clone()));
        Poll::Pending
    }

    /// Waits until `at`.
    #[cfg(test)]
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

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_used_up_its_share_is_woken_all_the_same() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let second = Duration::from_secs(1);
        let mut wakes = 0;
        let woken = std::future::poll_fn(|cx| {
            wakes += 1;
            while tokio::task::coop::has_budget_remaining() && wakes == 1 {
                let Poll::Ready(share) = tokio::task::coop::poll_proceed(cx) else { break };
                share.made_progress();
            }
            alarm.poll(cx, start + second)
        });
        assert_eq!(woken.await, start + second);
        assert!(wakes <= 3, "woken {wakes} times");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_waiter_is_woken() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let minute = Duration::from_secs(60);
        assert!(alarm.poll(&mut Context::from_waker(Waker::noop()), start + minute).is_pending());
        let woken = clock::per_wake_up(Box::pin(alarm.wait(start + minute))).await;
        assert_eq!(woken, start + minute);
    }
}
