//! Versions: a content hash tells whether two values are equal, a sequence number tells which came later.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use sha2::{Digest as _, Sha256};

/// The first 64 bits of the SHA-256 of a value's content: equal content, equal hash, in every process and every build.
///
/// It does not protect against deliberate collisions; the equality of clusters also compares their values.
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

/// Hashes a value part by part. The bytes of each part are defined here and not by `std::hash::Hash`, which may change
/// between builds.
#[derive(Debug, Default)]
pub(crate) struct ContentHasher(Sha256);

impl ContentHasher {
    /// Adds a text, preceded by its length so that two texts in a row cannot be confused with others.
    pub(crate) fn text(self, text: &str) -> Self {
        let mut this = self.number(text.len() as u64);
        this.0.update(text.as_bytes());
        this
    }

    /// Adds an optional text; a missing one differs from an empty one.
    pub(crate) fn optional(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.number(1).text(text),
            None => self.number(0),
        }
    }

    /// Adds a number.
    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.update(number.to_be_bytes());
        self
    }

    /// Adds an address.
    pub(crate) fn address(mut self, address: SocketAddr) -> Self {
        match address.ip() {
            IpAddr::V4(ip) => self.0.update(ip.octets()),
            IpAddr::V6(ip) => self.0.update(ip.octets()),
        }
        self.number(u64::from(address.is_ipv6()) << 16 | u64::from(address.port()))
    }

    /// The hash of everything that was added.
    pub(crate) fn finish(self) -> ContentHash {
        let digest = self.0.finalize();
        ContentHash(digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
    }
}

impl ContentHash {
    /// The hash of one text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        ContentHasher::default().text(text).finish()
    }

    /// Adds a member to the hash of a set; the order of adding does not matter.
    pub(crate) fn with(self, member: Self) -> Self {
        Self(self.0.wrapping_add(member.0))
    }

    /// As a part of another hash.
    pub(crate) fn as_number(self) -> u64 {
        self.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_same_in_every_build() {
        // Fixed here: replicas of different builds compare them.
        assert_eq!(ContentHash::of("kube:shop/cache:http").to_string(), "52590c68d3472ad9");
    }
}
