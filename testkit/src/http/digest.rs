//! A fast checksum of a body, so that tests can compare bodies too large to keep.

/// A running 64-bit checksum. It does not depend on how the bytes are cut into pieces, notices
/// changed, lost, repeated and swapped bytes, and is not meant to resist an attacker.
#[derive(Clone, Debug)]
pub struct Digest {
    state: u64,
    length: u64,
    /// Bytes that do not fill a word yet.
    pending: [u8; 8],
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for Digest {
    fn default() -> Self {
        Self { state: MULTIPLIER, length: 0, pending: [0; 8] }
    }
}

impl Digest {
    /// Adds bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let filled = (self.length % 8) as usize;
        self.length += bytes.len() as u64;
        if filled > 0 {
            let n = bytes.len().min(8 - filled);
            self.pending[filled..filled + n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if filled + n < 8 {
                return;
            }
            self.mix(u64::from_le_bytes(self.pending));
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        self.pending[..rest.len()].copy_from_slice(rest);
    }

    /// The checksum of everything added so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        let mut last = self.clone();
        let filled = (self.length % 8) as usize;
        last.pending[filled..].fill(0);
        last.mix(u64::from_le_bytes(last.pending));
        last.mix(self.length);
        last.state ^ (last.state >> 31)
    }

    /// How many bytes were added.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    fn mix(&mut self, word: u64) {
        self.state = (self.state.rotate_left(29) ^ word).wrapping_mul(MULTIPLIER);
    }
}

/// The checksum of these bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> u64 {
    let mut digest = Digest::default();
    digest.update(bytes);
    digest.value()
}
