//! The bounded queue between the workers and the thread that exports spans.

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::span::Span;

/// The capacity in spans; further ones are dropped.
pub(crate) const CAPACITY: usize = 16 * 1024;

/// The size of a batch in spans.
pub(crate) const BATCH: usize = 512;

/// How long a span waits for others of its batch.
const INTERVAL: Duration = Duration::from_secs(1);

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: Vec<Span>,
    /// Waiters for a flush of everything queued so far.
    flushes: Vec<SyncSender<()>>,
    is_closed: bool,
}

/// A part of the queue to be exported.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) spans: Vec<Span>,
    /// Waiters for the export of these spans.
    pub(crate) flushes: Vec<SyncSender<()>>,
}

// === impl Queue ===

impl Queue {
    /// Adds the spans of a request, all of them or none. Never waits for the export.
    pub(crate) fn put(&self, spans: impl ExactSizeIterator<Item = Span>) {
        let added = spans.len();
        let mut waiting = self.waiting.lock();
        let before = waiting.spans.len();
        // Otherwise a request with more legs than the capacity would never be recorded.
        if before > 0 && before + added > CAPACITY {
            drop(waiting);
            self.dropped.fetch_add(added as u64, Ordering::Relaxed);
            return;
        }
        waiting.spans.extend(spans);
        drop(waiting);
        if before == 0 || (before < BATCH && before + added >= BATCH) {
            self.wake.notify_one();
        }
    }

    /// Returns a receiver that is notified when everything queued so far was exported, or lost.
    pub(crate) fn flush(&self) -> Receiver<()> {
        let (sender, receiver) = sync_channel(1);
        self.waiting.lock().flushes.push(sender);
        self.wake.notify_one();
        receiver
    }

    /// Closes the queue: no further spans will come.
    pub(crate) fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// The number of dropped spans.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The number of queued spans.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().spans.len()
    }

    /// Waits for spans; none if the queue is closed and empty.
    pub(crate) async fn take(&self) -> Option<Taken> {
        let mut due = None;
        loop {
            {
                let mut waiting = self.waiting.lock();
                let is_urgent = !waiting.flushes.is_empty() || waiting.is_closed || waiting.spans.len() >= BATCH;
                if waiting.spans.is_empty() && waiting.flushes.is_empty() && waiting.is_closed {
                    return None;
                }
                let is_due = due.is_some_and(|due| Instant::now() >= due);
                if is_urgent || (is_due && !waiting.spans.is_empty()) {
                    let (spans, flushes) = (std::mem::take(&mut waiting.spans), std::mem::take(&mut waiting.flushes));
                    return Some(Taken { spans, flushes });
                }
                if !waiting.spans.is_empty() && due.is_none() {
                    due = Some(Instant::now() + INTERVAL);
                }
            }
            match due {
                // The reason of the wake-up does not matter: the queue is checked again.
                Some(due) => drop(tokio::time::timeout_at(due, self.wake.notified()).await),
                None => self.wake.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{Kind, context::RequestTrace};

    fn spans(count: usize) -> std::vec::IntoIter<Span> {
        let trace = RequestTrace::begun(|_| true);
        let now = SystemTime::UNIX_EPOCH;
        let span = |index| Span::new(&trace, Kind::Client, trace.leg_span(index), "GET", (now, now));
        (0..count).map(span).collect::<Vec<_>>().into_iter()
    }

    #[tokio::test(start_paused = true)]
    async fn spans_wait_for_others_but_a_batch_a_flush_or_the_end_does_not() {
        let (queue, began) = (Queue::default(), Instant::now());
        queue.put(spans(3));
        assert_eq!(queue.take().await.unwrap().spans.len(), 3);
        assert!(began.elapsed() >= INTERVAL);
        let ends: [fn(&Queue); 3] = [|queue| drop(queue.flush()), |queue| queue.put(spans(BATCH)), Queue::close];
        for end in ends {
            let began = Instant::now();
            queue.put(spans(1));
            end(&queue);
            assert!(!queue.take().await.unwrap().spans.is_empty());
            assert_eq!(began.elapsed(), Duration::ZERO);
        }
        assert!(queue.take().await.is_none());
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_and_counted_but_one_request_always_has_room() {
        let queue = Queue::default();
        queue.put(spans(CAPACITY + 1));
        queue.put(spans(2));
        assert_eq!((queue.len(), queue.dropped()), (CAPACITY + 1, 2));
        assert_eq!(queue.take().await.unwrap().spans.len(), CAPACITY + 1);
        queue.put(spans(CAPACITY - 1));
        queue.put(spans(2));
        queue.put(spans(1));
        assert_eq!((queue.len(), queue.dropped()), (CAPACITY, 4));
    }
}
