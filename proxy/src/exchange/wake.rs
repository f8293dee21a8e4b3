//! Wakers of single legs, so that only legs with an event are polled, however many there are. The wakers are created once and
//! reused for every request.
//!
//! A request with one leg uses the waker of the task directly.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Wake, Waker},
};

use parking_lot::Mutex;

/// Legs per word of the ready set.
const SLOTS_PER_WORD: usize = u64::BITS as usize;

/// The wakers of a set of slots, and which of them were woken or flagged.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    slots: usize,
    words: Vec<Word>,
    wakers: Vec<Waker>,
    /// The task that is registered in the words, to check without a lock whether it has changed.
    task: Option<Waker>,
}

/// The ready flags of 64 slots.
#[derive(Debug, Default)]
struct Word {
    /// The slots that the task itself has flagged.
    flagged: u64,
    woken: Arc<Woken>,
}

/// The slots that were woken, and the task to wake.
#[derive(Debug, Default)]
struct Woken {
    ready: AtomicU64,
    /// An uncontended lock, because everything happens on one thread.
    task: Mutex<Option<Waker>>,
}

struct Slot {
    word: Arc<Woken>,
    bit: u64,
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The first flag of a word has woken the task, which takes all of them together.
        if self.word.ready.fetch_or(self.bit, Ordering::AcqRel) == 0
            && let Some(task) = &*self.word.task.lock()
        {
            task.wake_by_ref();
        }
    }
}

impl Wakers {
    /// Makes sure that there are `slots` slots, and flags all of them.
    pub(super) fn reset(&mut self, slots: usize) {
        self.slots = slots;
        while self.words.len() * SLOTS_PER_WORD < slots {
            self.words.push(Word::default());
            // A new word does not know the task yet.
            self.task = None;
        }
        for (index, word) in self.words.iter_mut().enumerate() {
            word.flagged = match slots.saturating_sub(index * SLOTS_PER_WORD) {
                left if left >= SLOTS_PER_WORD => u64::MAX,
                left => (1 << left) - 1,
            };
        }
        if slots > 1 {
            for slot in self.wakers.len()..slots {
                let word = self.words[slot / SLOTS_PER_WORD].woken.clone();
                self.wakers.push(Waker::from(Arc::new(Slot { word, bit: 1 << (slot % SLOTS_PER_WORD) })));
            }
        }
    }

    /// Registers the task to wake from now on. Must be called before [`Wakers::take`], so that no wake-up is lost.
    pub(super) fn arrive(&mut self, task: &Waker) {
        if self.slots == 1 {
            self.words[0].flagged = 1;
            return;
        }
        if self.task.as_ref().is_none_or(|known| !known.will_wake(task)) {
            for word in &self.words {
                *word.woken.task.lock() = Some(task.clone());
            }
            self.task = Some(task.clone());
        }
    }

    /// The waker of a slot, given that of the task.
    #[must_use]
    pub(super) fn waker<'a>(&'a self, slot: usize, task: &'a Waker) -> &'a Waker {
        if self.slots == 1 { task } else { &self.wakers[slot] }
    }

    /// Flags a slot without waking the task, for the task's own use.
    pub(super) fn flag(&mut self, slot: usize) {
        self.words[slot / SLOTS_PER_WORD].flagged |= 1 << (slot % SLOTS_PER_WORD);
    }

    /// Takes the flags of the slots from `64 * word` on; none past the last word.
    #[must_use]
    pub(super) fn take(&mut self, word: usize) -> Option<u64> {
        let word = self.words.get_mut(word)?;
        let woken = match word.woken.ready.load(Ordering::Acquire) {
            0 => 0,
            _ => word.woken.ready.swap(0, Ordering::AcqRel),
        };
        Some(std::mem::take(&mut word.flagged) | woken)
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

    fn task() -> (Arc<Task>, Waker) {
        let task = Arc::new(Task::default());
        (task.clone(), Waker::from(task))
    }

    #[test]
    fn wakes_flag_their_slots_and_wake_the_task_once_for_a_word() {
        let (mut wakers, (task, waker)) = (Wakers::default(), task());
        wakers.reset(70);
        assert_eq!((wakers.take(0), wakers.take(1)), (Some(u64::MAX), Some(0b11_1111)), "everyone begins");
        wakers.arrive(&waker);
        for slot in [3, 3, 7, 69] {
            wakers.waker(slot, &waker).wake_by_ref();
        }
        assert_eq!(task.0.load(Ordering::SeqCst), 2, "one for each word without a flag");
        assert_eq!((wakers.take(0), wakers.take(1), wakers.take(2)), (Some(1 << 3 | 1 << 7), Some(1 << 5), None));
        assert_eq!(wakers.take(0), Some(0));
        wakers.flag(0);
        assert_eq!((task.0.load(Ordering::SeqCst), wakers.take(0)), (2, Some(1)));
        wakers.waker(7, &waker).wake_by_ref();
        assert_eq!((task.0.load(Ordering::SeqCst), wakers.take(0)), (3, Some(1 << 7)), "its flags were taken");
    }

    #[test]
    fn the_task_of_the_next_request_is_woken_instead() {
        let (mut wakers, (one, first), (two, second)) = (Wakers::default(), task(), task());
        wakers.reset(2);
        wakers.arrive(&first);
        let kept_by_a_socket = wakers.waker(1, &first).clone();
        wakers.reset(2);
        wakers.arrive(&second);
        kept_by_a_socket.wake();
        assert_eq!((one.0.load(Ordering::SeqCst), two.0.load(Ordering::SeqCst)), (0, 1));
    }

    #[test]
    fn a_larger_request_of_the_same_task_wakes_it_from_every_slot() {
        let (mut wakers, (task, waker)) = (Wakers::default(), task());
        wakers.reset(2);
        wakers.arrive(&waker);
        wakers.reset(70);
        wakers.arrive(&waker);
        wakers.waker(69, &waker).wake_by_ref();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn one_leg_is_looked_at_whatever_woke_the_task() {
        let (mut wakers, (_, waker)) = (Wakers::default(), task());
        wakers.reset(1);
        assert_eq!(wakers.take(0), Some(1));
        assert_eq!(wakers.take(0), Some(0));
        wakers.arrive(&waker);
        assert_eq!(wakers.take(0), Some(1));
        assert!(wakers.waker(0, &waker).will_wake(&waker));
    }
}
