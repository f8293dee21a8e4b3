//! Wakes single legs of a request: each has a waker of its own, so that only those are polled for which something
//! happened, however many there are. The wakers are made once and serve every request that uses their slots.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;

/// Legs per word of the ready set.
const WORD: usize = u64::BITS as usize;

/// The wakers of a set of slots, and which of them were woken.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    words: Vec<Arc<Word>>,
    wakers: Vec<Waker>,
}

/// The ready flags of 64 slots, and the task that polls them.
#[derive(Debug, Default)]
struct Word {
    ready: AtomicU64,
    task: AtomicWaker,
}

struct Slot {
    word: Arc<Word>,
    bit: u64,
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A slot that is flagged already has woken its task, which has not looked yet.
        if self.word.ready.fetch_or(self.bit, Ordering::AcqRel) & self.bit == 0 {
            self.word.task.wake();
        }
    }
}

impl Wakers {
    /// Makes sure that there are `slots` slots, none of them flagged.
    pub(super) fn reset(&mut self, slots: usize) {
        while self.wakers.len() < slots {
            let bit = self.wakers.len() % WORD;
            if bit == 0 {
                self.words.push(Arc::default());
            }
            let word = self.words[self.wakers.len() / WORD].clone();
            self.wakers.push(Waker::from(Arc::new(Slot { word, bit: 1 << bit })));
        }
        for word in &self.words {
            word.ready.store(0, Ordering::Release);
        }
    }

    /// The task to wake from now on. Comes before [`Wakers::take`], so that nothing is lost in between.
    pub(super) fn register(&self, task: &Waker) {
        for word in &self.words {
            word.task.register(task);
        }
    }

    /// The waker of a slot.
    #[must_use]
    pub(super) fn waker(&self, slot: usize) -> &Waker {
        &self.wakers[slot]
    }

    /// Flags a slot without waking the task, for the task's own use.
    pub(super) fn flag(&self, slot: usize) {
        self.words[slot / WORD].ready.fetch_or(1 << (slot % WORD), Ordering::AcqRel);
    }

    /// Takes the flags of the slots from `64 * word` on; none past the last word.
    #[must_use]
    pub(super) fn take(&self, word: usize) -> Option<u64> {
        self.words.get(word).map(|word| match word.ready.load(Ordering::Acquire) {
            0 => 0,
            _ => word.ready.swap(0, Ordering::AcqRel),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_wake_flags_its_slot_and_wakes_the_task_once() {
        let (mut wakers, task) = (Wakers::default(), Arc::new(Task::default()));
        wakers.reset(70);
        wakers.register(&Waker::from(task.clone()));
        wakers.waker(3).wake_by_ref();
        wakers.waker(3).wake_by_ref();
        wakers.waker(69).wake_by_ref();
        assert_eq!(task.0.load(Ordering::SeqCst), 2, "one for each word");
        assert_eq!((wakers.take(0), wakers.take(1), wakers.take(2)), (Some(1 << 3), Some(1 << 5), None));
        assert_eq!(wakers.take(0), Some(0));
        wakers.flag(0);
        assert_eq!((task.0.load(Ordering::SeqCst), wakers.take(0)), (2, Some(1)));
    }
}
