//! The time, read once per wake-up: what a task does between two waits happens at one time.
//!
//! A request would read the clock about ten times otherwise, which is a good part of what it costs in user space.

use std::{cell::Cell, future::poll_fn, pin::Pin};

use tokio::time::Instant;

thread_local! {
    /// The time of the wake-up that this thread is at work on, once somebody has asked for it.
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Whether this thread is at work on one.
    static AWAKE: Cell<bool> = const { Cell::new(false) };
}

/// The time: within [`per_wake_up`] that of the wake-up, else that of now.
#[must_use]
pub(crate) fn now() -> Instant {
    NOW.get().unwrap_or_else(|| {
        let now = Instant::now();
        if AWAKE.get() {
            NOW.set(Some(now));
        }
        now
    })
}

/// Runs a future for which the time stands still from each wake-up to the next wait. It is pinned already (`Box::pin`), because an
/// `async fn` that pins its argument has room for it twice, and an idle connection is little more than its future.
pub(crate) fn per_wake_up<T>(mut future: impl Future<Output = T> + Unpin) -> impl Future<Output = T> {
    poll_fn(move |cx| {
        // Whoever panicked before has left its time behind.
        NOW.set(None);
        AWAKE.set(true);
        let polled = Pin::new(&mut future).poll(cx);
        AWAKE.set(false);
        NOW.set(None);
        polled
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_between_two_waits_only() {
        let (second, start) = (Duration::from_secs(1), now());
        tokio::time::advance(second).await;
        assert_eq!(now(), start + second, "outside, time is what it is");
        per_wake_up(Box::pin(async {
            let woken = now();
            tokio::time::advance(second).await;
            // `advance` waits, so this is another wake-up.
            assert_eq!(now(), woken + second);
            tokio::time::sleep(second).await;
            assert_eq!(now(), woken + 2 * second);
        }))
        .await;
        assert_eq!(now(), start + 3 * second);
    }
}
