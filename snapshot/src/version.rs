//! Versions: a content hash tells whether two values are equal, a sequence number tells which came later.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

/// A 64-bit hash of a value's content: equal content, equal hash, in every run of the same build.
///
/// It is no defence against somebody who makes collisions on purpose; equality of clusters also compares the values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ContentHash(u64);

/// Where a snapshot stands in the order of publishing, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Version {
    /// Grows by one with every published change, starting from 0 for the empty snapshot of a new publisher.
    pub sequence: u64,
    /// The hash over all clusters.
    pub content: ContentHash,
}

impl ContentHash {
    /// The hash of one value.
    pub fn of(value: &impl Hash) -> Self {
        // `DefaultHasher::new()` has fixed keys, unlike a `RandomState`.
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Adds a member to the hash of a set; the order of adding does not matter.
    pub(crate) fn with(self, member: Self) -> Self {
        Self(self.0.wrapping_add(member.0))
    }

    /// Takes a member out of the hash of a set again.
    pub(crate) fn without(self, member: Self) -> Self {
        Self(self.0.wrapping_sub(member.0))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.sequence, self.content)
    }
}
