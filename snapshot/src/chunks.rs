//! Lists in chunks that versions of a list share: a new version costs the chunks that differ, and a pointer for each other one.

use std::{iter::FusedIterator, ops::Index, slice, sync::Arc};

/// The most items of a chunk. A chunk of as many pointers takes 512 bytes with its reference counts.
pub(crate) const CHUNK: usize = 62;

/// A list that never changes. Cloning it costs a reference count for each chunk.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Box<[Arc<[T]>]>,
    len: usize,
}

/// The items of a list, in its order.
#[derive(Debug)]
pub struct Iter<'a, T> {
    chunk: slice::Iter<'a, T>,
    chunks: slice::Iter<'a, Arc<[T]>>,
    left: usize,
}

// === impl Chunks ===

impl<T> Chunks<T> {
    /// A list of these chunks, which may differ in size.
    #[must_use]
    pub fn of(chunks: Vec<Arc<[T]>>) -> Self {
        Self { len: chunks.iter().map(|chunk| chunk.len()).sum(), chunks: chunks.into() }
    }

    /// The chunks. Two lists have an equal part where they have the same one.
    #[must_use]
    pub fn chunks(&self) -> &[Arc<[T]>] {
        &self.chunks
    }

    /// The number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item at a place. This looks at the chunks before it.
    #[must_use]
    pub fn get(&self, mut at: usize) -> Option<&T> {
        for chunk in &self.chunks {
            match at.checked_sub(chunk.len()) {
                Some(rest) => at = rest,
                None => return chunk.get(at),
            }
        }
        None
    }

    /// The first item.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    /// Every item.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { chunk: [].iter(), chunks: self.chunks.iter(), left: self.len }
    }

    /// The chunks, to be replaced by others with the same items.
    pub(crate) fn chunks_mut(&mut self) -> &mut [Arc<[T]>] {
        &mut self.chunks
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: Box::default(), len: 0 }
    }
}

impl<T> Clone for Chunks<T> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<T> From<Vec<T>> for Chunks<T> {
    fn from(mut items: Vec<T>) -> Self {
        let mut chunks = Vec::with_capacity(items.len().div_ceil(CHUNK));
        while !items.is_empty() {
            // Of equal sizes, so that a list of a few more than fit into one chunk has none that is nearly empty.
            let left = items.len().div_ceil(CHUNK);
            let rest = items.split_off(items.len().div_ceil(left));
            chunks.push(std::mem::replace(&mut items, rest).into());
        }
        Self::of(chunks)
    }
}

impl<T> FromIterator<T> for Chunks<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Vec::from_iter(items).into()
    }
}

/// Lists are equal if their items are, however they are divided.
impl<T: PartialEq> PartialEq for Chunks<T> {
    fn eq(&self, other: &Self) -> bool {
        let are_shared = || self.chunks.iter().zip(&other.chunks).all(|(one, other)| Arc::ptr_eq(one, other));
        self.len == other.len
            && (self.chunks.len() == other.chunks.len() && are_shared() || self.iter().eq(other.iter()))
    }
}

impl<T: Eq> Eq for Chunks<T> {}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        self.get(at).unwrap_or_else(|| panic!("there is no item {at} in a list of {}", self.len))
    }
}

impl<'a, T> IntoIterator for &'a Chunks<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

// === impl Iter ===

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(item) = self.chunk.next() {
                self.left -= 1;
                return Some(item);
            }
            self.chunk = self.chunks.next()?.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

impl<T> FusedIterator for Iter<'_, T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_its_items_in_order_whatever_its_length() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK + 7] {
            let list: Chunks<usize> = (0..len).collect();
            assert_eq!((list.len(), list.is_empty(), list.iter().len()), (len, len == 0, len));
            assert!(list.iter().copied().eq(0..len));
            assert!((0..len).all(|at| list[at] == at) && list.get(len).is_none());
            assert_eq!(list.chunks().len(), len.div_ceil(CHUNK));
            assert!(list.chunks().iter().all(|chunk| chunk.len() * 2 >= CHUNK || len <= CHUNK), "{len}");
        }
    }

    #[test]
    fn lists_are_equal_if_their_items_are() {
        let whole = Chunks::from(vec![1, 2, 3]);
        let divided = Chunks::of(vec![[].into(), [1].into(), [2, 3].into()]);
        assert!(whole == divided && divided == divided.clone() && divided.first() == Some(&1));
        assert!(whole != Chunks::from(vec![1, 2, 4]) && whole != Chunks::from(vec![1, 2]));
    }

    #[test]
    fn a_chunk_of_pointers_takes_half_a_kibibyte() {
        assert_eq!((CHUNK + 2) * size_of::<Arc<u8>>(), 512);
    }
}
