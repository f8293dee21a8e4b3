//! The queue of lines: workers append to one buffer, which the log's thread takes as a whole.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// The size of a batch in bytes: with this many, the writer does not wait for more.
pub(super) const BATCH: usize = 64 * 1024;

/// The capacity of the queue in bytes.
const CAPACITY: usize = 4 * 1024 * 1024;

/// The shortest interval between two writes of less than a batch. The first line after a pause is written at once.
const INTERVAL: Duration = Duration::from_millis(10);

/// Lines on their way to the writer.
#[derive(Debug, Default)]
pub(super) struct Lines {
    queue: Mutex<Queue>,
    /// Wakes the writer.
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Lines that were dropped because the queue was full.
    dropped: u64,
    /// Whether the writer waits for a line without a time limit.
    is_idle: bool,
    /// Whether no further lines will come.
    is_closed: bool,
    /// Waiters for a flush of everything queued so far.
    flushes: Vec<SyncSender<()>>,
}

/// What the writer takes from the queue.
pub(super) enum QueueItem {
    /// The batch has lines, or there are waiters for a flush.
    Lines {
        /// Lines that were dropped, since the beginning.
        dropped: u64,
        /// Waiters for the flush of this batch.
        flushes: Vec<SyncSender<()>>,
    },
    /// There will be no more.
    End,
}

impl Lines {
    /// Appends a line, which ends with a line feed. Never waits for the writer: a line without room is dropped and counted.
    pub(super) fn put(&self, line: &[u8]) {
        let mut queue = self.queue.lock();
        let before = queue.bytes.len();
        if before + line.len() > CAPACITY {
            queue.dropped += 1;
            return;
        }
        queue.bytes.extend_from_slice(line);
        let is_batch = before < BATCH && queue.bytes.len() >= BATCH;
        let wakes = is_batch || queue.is_idle;
        queue.is_idle = false;
        drop(queue);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Returns a receiver that is notified when everything queued so far is written.
    pub(super) fn flush(&self) -> Receiver<()> {
        let (sender, receiver) = sync_channel(1);
        self.queue.lock().flushes.push(sender);
        self.wake.notify_one();
        receiver
    }

    /// Closes the queue: no further lines will come.
    pub(super) fn close(&self) {
        self.queue.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// Lines that were dropped, since the beginning.
    pub(super) fn dropped(&self) -> u64 {
        self.queue.lock().dropped
    }

    /// Waits for lines and moves them into `batch`, which must be empty; not earlier than [`INTERVAL`] after the last write.
    ///
    /// The interval comes first: under load there are lines when it is over, and no worker has to wake the writer.
    pub(super) fn take(&self, batch: &mut Vec<u8>, last_write: Option<Instant>) -> QueueItem {
        let mut queue = self.queue.lock();
        let due = last_write.map(|last| last + INTERVAL);
        while let Some(due) = due
            && queue.bytes.len() < BATCH
            && !queue.is_urgent()
            && !self.wake.wait_until(&mut queue, due).timed_out()
        {}
        while queue.bytes.is_empty() && !queue.is_urgent() {
            queue.is_idle = true;
            self.wake.wait(&mut queue);
        }
        queue.is_idle = false;
        if queue.bytes.is_empty() && queue.flushes.is_empty() && queue.is_closed {
            return QueueItem::End;
        }
        std::mem::swap(&mut queue.bytes, batch);
        QueueItem::Lines { dropped: queue.dropped, flushes: std::mem::take(&mut queue.flushes) }
    }
}

impl Queue {
    /// Whether the writer must not wait for more lines.
    fn is_urgent(&self) -> bool {
        self.is_closed || !self.flushes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(lines: &Lines) -> (String, u64) {
        let mut batch = Vec::new();
        match lines.take(&mut batch, None) {
            QueueItem::Lines { dropped, .. } => (String::from_utf8(batch).unwrap(), dropped),
            QueueItem::End => (String::from("end"), 0),
        }
    }

    #[test]
    fn lines_are_taken_together_in_order_and_the_end_comes_after_them() {
        let lines = Lines::default();
        lines.put(b"one\n");
        lines.put(b"two\n");
        lines.close();
        assert_eq!(taken(&lines), (String::from("one\ntwo\n"), 0));
        assert_eq!(taken(&lines), (String::from("end"), 0));
    }

    #[test]
    fn lines_without_room_are_dropped_whole_and_counted() {
        let (lines, long) = (Lines::default(), vec![b'x'; CAPACITY / 2]);
        lines.put(&long);
        lines.put(&long);
        lines.put(b"lost\n");
        assert_eq!((lines.dropped(), taken(&lines)), (1, ("x".repeat(CAPACITY), 1)));
        lines.put(b"there is room again\n");
        assert_eq!(taken(&lines), (String::from("there is room again\n"), 1));
    }

    #[test]
    fn a_flush_is_not_kept_waiting_by_the_interval() {
        let (lines, mut batch) = (Lines::default(), Vec::new());
        lines.put(b"one\n");
        let flushed = lines.flush();
        // A last write in the future: without the flush this would wait for it.
        let later = Instant::now() + Duration::from_secs(3600);
        let QueueItem::Lines { flushes, .. } = lines.take(&mut batch, Some(later)) else { panic!("lines") };
        flushes.iter().for_each(|flush| flush.send(()).unwrap());
        assert_eq!((batch, flushed.recv()), (b"one\n".to_vec(), Ok(())));
    }

    #[test]
    fn the_writer_asks_to_be_woken_only_after_the_interval() {
        let (lines, last_write) = (std::sync::Arc::new(Lines::default()), Instant::now());
        let taking = lines.clone();
        let writer = std::thread::spawn(move || taking.take(&mut Vec::new(), Some(last_write)));
        while !lines.queue.lock().is_idle {
            std::thread::yield_now();
        }
        assert!(last_write.elapsed() >= INTERVAL);
        lines.put(b"one\n");
        assert!(matches!(writer.join().unwrap(), QueueItem::Lines { .. }));
    }

    #[test]
    fn a_whole_batch_is_not_kept_waiting_by_the_interval() {
        let (lines, later) = (std::sync::Arc::new(Lines::default()), Instant::now() + Duration::from_secs(3600));
        lines.put(b"one\n");
        let putting = lines.clone();
        // It may come before or after the writer has begun to wait: either way it must not wait for long.
        let putting = std::thread::spawn(move || putting.put(&[b'x'; BATCH]));
        let mut batch = Vec::new();
        assert!(matches!(lines.take(&mut batch, Some(later)), QueueItem::Lines { .. }));
        assert_eq!(batch.len(), BATCH + 4);
        putting.join().unwrap();
    }
}
