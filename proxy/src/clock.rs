//! The time, read once per wake-up, so that everything that a task does between two waits has the same time.
//!
//! Otherwise a request would read the clock about ten times, a considerable part of its CPU time in user space.

use std::{cell::Cell, future::poll_fn, pin::Pin};

use tokio::time::Instant;

thread_local! {
    /// The time of the current wake-up, once it was read.
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Whether this thread is within a wake-up.
    static AWAKE: Cell<bool> = const { Cell::new(false) };
}

/// The time of the wake-up within [`per_wake_up`], else the current time.
#[must_use]
pub(crate) fn now() -> Instant {
    match NOW.get() {
        Some(now) => now,
        None => read(),
    }
}

/// Not inlined, because it would be repeated wherever the time is asked for.
#[cold]
fn read() -> Instant {
    let now = Instant::now();
    if AWAKE.get() {
        NOW.set(Some(now));
    }
    now
}

/// Runs a future for which the time stands still between two waits. The future must be pinned already (`Box::pin`), because an
/// `async fn` that pins its argument stores it twice, and most of an idle connection's memory is its future.
pub(crate) fn per_wake_up<T>(mut future: impl Future<Output = T> + Unpin) -> impl Future<Output = T> {
    poll_fn(move |cx| {
        // Clears the time that a panicked wake-up has left behind.
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
    async fn the_clock_advances_only_at_waits() {
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
