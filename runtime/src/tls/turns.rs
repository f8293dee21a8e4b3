//! Fair scheduling of handshakes: each step computes for a tenth of a millisecond or more, and hundreds may be due at once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Steps of handshakes between two turns of everything else.
const STEPS: usize = 4;

/// Limits how many handshake steps run before every other ready task has run. A handshake that waits for its peer does not
/// count, so that a stalled peer blocks no other. Each thread that serves requests should have a limit of its own. Cloning
/// shares it.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self::new(STEPS)
    }
}

impl Turns {
    /// Allows this many steps (at least one) in each turn.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self(Arc::new(Semaphore::new(steps.max(1))))
    }

    /// Runs a future whose polls compute much.
    pub(super) async fn take<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            // The semaphore is never closed.
            let step = self.0.acquire().await.ok();
            let first = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            // The step is given back when everything that is ready now has had its turn.
            yield_now().await;
            if let Poll::Ready(output) = first {
                return output;
            }
            // The future, and not the end of the turn, may have woken this task.
            let again = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            drop(step);
            if let Poll::Ready(output) = again {
                return output;
            }
            until_woken().await;
        }
    }
}

/// Waits until the task is woken.
async fn until_woken() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[tokio::test]
    async fn no_more_steps_than_allowed_run_between_two_turns_of_something_else() {
        let (turns, steps) = (Turns::new(4), Rc::new(Cell::new(0)));
        tokio::task::LocalSet::new()
            .run_until(async {
                let mut handshakes = Vec::new();
                for _ in 0..100 {
                    let (turns, steps) = (turns.clone(), steps.clone());
                    handshakes.push(tokio::task::spawn_local(async move {
                        turns
                            .take(async {
                                for _ in 0..3 {
                                    steps.set(steps.get() + 1);
                                    yield_now().await;
                                }
                            })
                            .await;
                    }));
                }
                let mut most = 0;
                while steps.get() < 300 {
                    let before = steps.get();
                    yield_now().await;
                    most = most.max(steps.get() - before);
                }
                // Each of those that have a step may be polled twice while it holds it.
                assert!((1..=8).contains(&most), "{most} steps in one turn");
                for handshake in handshakes {
                    handshake.await.expect("it ends");
                }
            })
            .await;
    }

    #[tokio::test]
    async fn handshakes_that_wait_for_their_peer_delay_no_other() {
        let turns = Turns::new(1);
        let stalled: Vec<_> = (0..10)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { turns.take(std::future::pending::<()>()).await })
            })
            .collect();
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(turns.take(async { 7 }).await, 7);
        stalled.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_wake_is_never_lost() {
        let turns = Turns::new(2);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(async move { turns.take(receiver).await });
        for _ in 0..10 {
            yield_now().await;
        }
        sender.send(5).expect("somebody waits");
        assert_eq!(waiting.await.expect("it ends"), Ok(5));
    }
}
