//! Whether an endpoint can be reached. While it seems not, a few connects find out for all.
//!
//! A connection to an address that swallows everything costs a socket, a registration and a timer for each request, and
//! takes the time of the requests beside it. So once a connect has timed out, and until one comes to an end by itself,
//! one connect begins at a time, every [`PROBE_INTERVAL`], and the other legs wait for what it finds out, each within its own
//! time-out. None of them has another outcome for that: a connect that began less than [`PROBE_INTERVAL`] ago got no answer
//! either. As soon as there is an answer, be it a refusal, all of them connect.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// How long a connect to a silent endpoint keeps the next one from beginning: what it may cost to notice that the
/// endpoint is back. With the default time-out of 1 s ten are under way.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Whether an endpoint can be reached, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// A connect has timed out, and none has come to an end since.
    silent: AtomicBool,
    /// The connect that keeps the next one from beginning is under way.
    probing: AtomicBool,
    /// Those who wait for it: the latest is the next to try, as it has the most time left.
    waiting: Notify,
}

/// Keeps others from connecting while it lives.
struct Probe<'a>(&'a Reach);

// === impl Reach ===

impl Reach {
    /// A connect has timed out.
    pub(crate) fn doubt(&self) {
        self.silent.store(true, Ordering::Release);
    }

    /// Connects, in its turn while the endpoint is silent. There is no time limit in here.
    pub(crate) async fn connect<T>(&self, connecting: impl Future<Output = T>) -> T {
        let mut connecting = pin!(connecting);
        let early = match self.turn().await {
            Some(_probe) => timeout(PROBE_INTERVAL, connecting.as_mut()).await.ok(),
            None => None,
        };
        let ended = match early {
            Some(ended) => ended,
            None => connecting.await,
        };
        self.answered();
        ended
    }

    /// Waits until a connect may begin; as a probe where the endpoint is silent.
    async fn turn(&self) -> Option<Probe<'_>> {
        loop {
            // Made before it is looked whether there is anything to wait for: what happens in between wakes it, too.
            let changed = self.waiting.notified();
            if !self.silent.load(Ordering::Acquire) {
                return None;
            }
            if !self.probing.swap(true, Ordering::AcqRel) {
                return Some(Probe(self));
            }
            changed.await;
        }
    }

    /// A connect came to an end by itself, one way or the other.
    fn answered(&self) {
        if self.silent.swap(false, Ordering::AcqRel) {
            self.waiting.notify_waiters();
        }
    }
}

// === impl Probe ===

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.probing.store(false, Ordering::Release);
        self.0.waiting.notify_last();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use parking_lot::Mutex;
    use tokio::{sync::watch, task::JoinHandle, time::Instant};

    use super::*;

    /// An endpoint that answers once it is told to, and who has begun to connect to it, and when.
    struct Bed {
        reach: Arc<Reach>,
        answers: watch::Sender<bool>,
        begun: Arc<Mutex<Vec<(usize, Duration)>>>,
        made: Instant,
    }

    impl Bed {
        fn new() -> Self {
            let (reach, begun) = Default::default();
            Self { reach, answers: watch::channel(false).0, begun, made: Instant::now() }
        }

        /// A leg that gives up after `limit`; whether it got an answer.
        fn leg(&self, number: usize, limit: Duration) -> JoinHandle<bool> {
            let (reach, begun, made) = (self.reach.clone(), self.begun.clone(), self.made);
            let mut answers = self.answers.subscribe();
            tokio::spawn(async move {
                let connecting = async {
                    begun.lock().push((number, made.elapsed()));
                    answers.wait_for(|answers| *answers).await.unwrap();
                };
                let got = timeout(limit, reach.connect(connecting)).await;
                if got.is_err() {
                    reach.doubt();
                }
                got.is_ok()
            })
        }

        async fn settle(&self) {
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        }

        fn begun(&self) -> Vec<(usize, Duration)> {
            self.begun.lock().clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connects_to_an_endpoint_that_was_never_silent_begin_at_once() {
        let bed = Bed::new();
        let legs: Vec<_> = (0..50).map(|n| bed.leg(n, PROBE_INTERVAL * 10)).collect();
        bed.settle().await;
        assert_eq!(bed.begun().len(), 50);
        bed.answers.send_replace(true);
        for leg in legs {
            assert!(leg.await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn to_a_silent_one_the_latest_begins_whenever_the_one_before_has_had_its_time() {
        let bed = Bed::new();
        bed.reach.doubt();
        let legs: Vec<_> = (0..50).map(|n| bed.leg(n, PROBE_INTERVAL * 10 - PROBE_INTERVAL / 2)).collect();
        for leg in legs {
            assert!(!leg.await.unwrap());
        }
        let begun: Vec<_> =
            [0, 49, 48, 47, 46, 45, 44, 43, 42, 41].into_iter().zip((0..).map(|n| PROBE_INTERVAL * n)).collect();
        assert_eq!(bed.begun(), begun);
    }

    #[tokio::test(start_paused = true)]
    async fn one_answer_is_for_all() {
        let bed = Bed::new();
        bed.reach.doubt();
        let legs: Vec<_> = (0..50).map(|n| bed.leg(n, PROBE_INTERVAL * 10)).collect();
        bed.settle().await;
        assert_eq!(bed.begun().len(), 1);
        bed.answers.send_replace(true);
        for leg in legs {
            assert!(leg.await.unwrap());
        }
        assert_eq!(bed.begun().last().unwrap().1, Duration::ZERO, "no time has passed");
        bed.answers.send_replace(false);
        bed.leg(50, PROBE_INTERVAL);
        bed.leg(51, PROBE_INTERVAL);
        bed.settle().await;
        assert_eq!(bed.begun().len(), 52, "nothing is left of the silence");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_passes_its_turn_on() {
        let bed = Bed::new();
        bed.reach.doubt();
        let first = bed.leg(0, PROBE_INTERVAL * 10);
        bed.settle().await;
        let second = bed.leg(1, PROBE_INTERVAL * 10);
        bed.settle().await;
        first.abort();
        bed.settle().await;
        assert_eq!(bed.begun().len(), 2);
        // One that was to be the next, and gave up in the same moment.
        let third = bed.leg(2, PROBE_INTERVAL * 10);
        let fourth = bed.leg(3, PROBE_INTERVAL * 10);
        bed.settle().await;
        second.abort();
        fourth.abort();
        bed.settle().await;
        assert_eq!(bed.begun().len(), 3);
        bed.answers.send_replace(true);
        assert!(third.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connect_that_began_before_the_silence_ends_it_too() {
        let bed = Bed::new();
        let early = bed.leg(0, PROBE_INTERVAL * 100);
        bed.settle().await;
        bed.reach.doubt();
        let probe = tokio::spawn({
            let reach = bed.reach.clone();
            async move { reach.connect(pending::<()>()).await }
        });
        bed.settle().await;
        let late = bed.leg(1, PROBE_INTERVAL * 100);
        bed.answers.send_replace(true);
        assert!(early.await.unwrap() && late.await.unwrap());
        assert!(bed.begun().last().unwrap().1 < PROBE_INTERVAL);
        probe.abort();
    }
}
