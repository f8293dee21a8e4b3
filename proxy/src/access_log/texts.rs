//! The texts of a request that the log keeps until its last leg has ended, in one piece of memory that later requests of the thread
//! use again.

use std::{cell::RefCell, fmt};

use super::{
    target::push_target,
    text::{into_text, push_loggable},
};

/// The most pieces of memory that a thread keeps.
const KEPT: usize = 64;

/// The most bytes of a kept piece: that of an unusually long target is given back.
const KEPT_BYTES: usize = 1024;

thread_local! {
    /// Pieces of memory without content.
    static FREE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The id of a request, and its method, host and target as they can be logged.
pub struct Texts {
    all: String,
    /// Where the id, the method and the host end.
    ends: [usize; 3],
}

impl Texts {
    /// Keeps these texts; bytes of a client become printable ASCII of bounded length, without credentials of the target's query.
    #[must_use]
    pub fn new(id: &str, method: &[u8], host: &[u8], target: &[u8]) -> Self {
        let mut all = FREE.with_borrow_mut(Vec::pop).unwrap_or_default().into_bytes();
        let mut ends = [0; 3];
        all.extend_from_slice(id.as_bytes());
        for (end, bytes) in ends.iter_mut().zip([method, host]) {
            *end = all.len();
            push_loggable(&mut all, bytes);
        }
        ends[2] = all.len();
        push_target(&mut all, target);
        Self { all: into_text(all), ends }
    }

    /// The id of the request.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.all[..self.ends[0]]
    }

    /// Its method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.all[self.ends[0]..self.ends[1]]
    }

    /// The host it asked for.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.all[self.ends[1]..self.ends[2]]
    }

    /// Its target.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.all[self.ends[2]..]
    }
}

impl Drop for Texts {
    fn drop(&mut self) {
        let mut all = std::mem::take(&mut self.all);
        if all.capacity() > KEPT_BYTES {
            return;
        }
        all.clear();
        // The thread may be about to end, and its memory gone.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(all);
            }
        });
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries([self.id(), self.method(), self.host(), self.target()]).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(texts: &Texts) -> [&str; 4] {
        [texts.id(), texts.method(), texts.host(), texts.target()]
    }

    #[test]
    fn the_memory_of_one_request_is_that_of_a_later_one_and_nothing_of_the_first_is_left() {
        let first = Texts::new("1f", b"PURGE", b"cms.example", b"/a\n?b");
        assert_eq!(seen(&first), ["1f", "PURGE", "cms.example", "/a.?b"]);
        let memory = first.all.as_ptr();
        drop(first);
        let second = Texts::new("2", b"GET", b"", b"/");
        assert_eq!(seen(&second), ["2", "GET", "", "/"]);
        assert_eq!(second.all.as_ptr(), memory);
        let third = Texts::new("3", b"", b"h", b"");
        assert_eq!((seen(&second), seen(&third)), (["2", "GET", "", "/"], ["3", "", "h", ""]));
    }

    #[test]
    fn memory_that_threads_keep_is_bounded() {
        let long = Texts::new("1", b"GET", b"", &[b'a'; 2 * KEPT_BYTES]);
        assert_eq!(long.target().len(), 2 * KEPT_BYTES);
        drop(long);
        drop((0..2 * KEPT).map(|_| Texts::new("1", b"GET", b"", b"/")).collect::<Vec<_>>());
        let kept = FREE.with_borrow(|free| (free.len(), free.iter().map(String::capacity).max()));
        assert!(kept.0 == KEPT && kept.1 <= Some(KEPT_BYTES), "{kept:?}");
    }
}
