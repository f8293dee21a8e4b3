//! What stays of a list in its next version, chunk by chunk.

use std::{collections::HashMap, ops::Range, sync::Arc};

/// A stretch of a list in its next version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// These chunks of the former version.
    Same(Range<usize>),
    /// Chunks that the former version does not have, and the chunks of it in whose place they are.
    Other {
        /// Chunks of the former version.
        former: Range<usize>,
        /// Chunks of the next one.
        next: Range<usize>,
    },
}

/// The stretches of a list, in order, as they are found.
#[derive(Default)]
struct Stretches {
    found: Vec<Stretch>,
    /// The ends of what was found, in both versions.
    former: usize,
    next: usize,
}

/// The stretches of the next version, in order. Each chunk of the former version is in one of them. `may_stay` says of which of its chunks
/// what was made from them can be used again.
pub(super) fn stretches<T>(former: &[Arc<[T]>], next: &[Arc<[T]>], may_stay: impl Fn(usize) -> bool) -> Vec<Stretch> {
    let mut stretches = Stretches::default();
    // Mostly one chunk or two have changed: what is before and after them is found without a map.
    let is_same = |(place, at): (usize, usize)| Arc::ptr_eq(&former[place], &next[at]) && may_stay(place);
    let least = former.len().min(next.len());
    let begin = (0..least).take_while(|place| is_same((*place, *place))).count();
    let from_end = |count: &usize| is_same((former.len() - 1 - count, next.len() - 1 - count));
    let end = (0..least - begin).take_while(from_end).count();
    stretches.same(0..begin, 0);
    let between = begin..former.len() - end;
    let places = between.clone().filter(|place| may_stay(*place)).map(|place| (former[place].as_ptr(), place));
    let places: HashMap<*const T, usize> = places.collect();
    for (at, chunk) in next.iter().enumerate().take(next.len() - end).skip(begin) {
        if let Some(place) = places.get(&chunk.as_ptr()).filter(|place| **place >= stretches.former) {
            stretches.same(*place..place + 1, at);
        }
    }
    stretches.same(between.end..former.len(), next.len() - end);
    stretches.found
}

// === impl Stretches ===

impl Stretches {
    /// Adds chunks of the former version that are at this place of the next one, and before them what is between them and those before.
    fn same(&mut self, former: Range<usize>, at: usize) {
        if (self.former, self.next) != (former.start, at) {
            self.found.push(Stretch::Other { former: self.former..former.start, next: self.next..at });
        }
        (self.former, self.next) = (former.end, at + former.len());
        match self.found.last_mut() {
            _ if former.is_empty() => {}
            Some(Stretch::Same(before)) => before.end = former.end,
            _ => self.found.push(Stretch::Same(former)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stretch::Same;
    use super::*;

    #[test]
    fn chunks_that_both_versions_have_stay_and_the_others_are_told_with_what_they_replace() {
        let [a, b, c, d, e] = [1, 2, 3, 4, 5].map(|item| Arc::<[u8]>::from([item]));
        let list = |chunks: &[&Arc<[u8]>]| chunks.iter().map(|chunk| Arc::clone(chunk)).collect::<Vec<_>>();
        let other = |former, next| Stretch::Other { former, next };
        for (former, next, expected) in [
            (list(&[]), list(&[]), vec![]),
            (list(&[]), list(&[&a, &b]), vec![other(0..0, 0..2)]),
            (list(&[&a, &b]), list(&[]), vec![other(0..2, 0..0)]),
            (list(&[&a, &b]), list(&[&a, &b]), vec![Same(0..2)]),
            (list(&[&a, &b, &c]), list(&[&a, &d, &e, &c]), vec![Same(0..1), other(1..2, 1..3), Same(2..3)]),
            (list(&[&a, &b, &c]), list(&[&c]), vec![other(0..2, 0..0), Same(2..3)]),
            (list(&[&a, &b]), list(&[&c, &a, &b, &d]), vec![other(0..0, 0..1), Same(0..2), other(2..2, 3..4)]),
            (list(&[&a, &b, &c]), list(&[&d, &b, &e]), vec![other(0..1, 0..1), Same(1..2), other(2..3, 2..3)]),
        ] {
            assert_eq!(stretches(&former, &next, |_| true), expected);
        }
        let one = list(&[&a, &b]);
        assert_eq!(stretches(&one, &one, |place| place == 1), [other(0..1, 0..1), Same(1..2)]);
        assert_eq!(stretches(&one, &one, |_| false), [other(0..2, 0..2)]);
    }
}
