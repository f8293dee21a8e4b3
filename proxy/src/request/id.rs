//! The id of a request: the client's, or a random one.

use crate::http::{Class, request::RequestHead};

/// The id of a request.
pub(crate) enum RequestId<'a> {
    /// The client's id.
    Given(&'a str),
    /// A generated id, because the client sent no valid one.
    New(RandomId),
}

// === impl RequestId ===

impl<'a> RequestId<'a> {
    /// The id of the request with this head.
    pub(crate) fn of(head: &'a RequestHead) -> Self {
        given(head).map_or_else(|| Self::New(random()), Self::Given)
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Given(id) => id,
            Self::New(id) => id.as_str(),
        }
    }

    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }
}

/// The client's id, if it is valid and can be logged.
fn given(head: &RequestHead) -> Option<&str> {
    let mut ids = head.fields.of(Class::RequestId);
    let id = std::str::from_utf8(ids.next()?).ok().filter(|_| ids.next().is_none())?;
    (!id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic())).then_some(id)
}

/// An id in hexadecimal. Aligned, because its check as text then takes a quarter of the time.
#[repr(align(16))]
pub(crate) struct RandomId([u8; 32]);

impl RandomId {
    pub(crate) fn as_str(&self) -> &str {
        // Hexadecimal digits are always text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A generated id: 128 random bits.
pub(crate) fn random() -> RandomId {
    let mut id = RandomId([0; 32]);
    for digits in id.0.chunks_exact_mut(8) {
        digits.copy_from_slice(&hexadecimal(fastrand::u32(..)).to_le_bytes());
    }
    id
}

/// The hexadecimal digits of a number, the lowest first, as the bytes of a word.
fn hexadecimal(number: u32) -> u64 {
    let mut spread = u64::from(number);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // One in each byte whose digit is a letter.
    let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(hexadecimal(0x89ab_cdef).to_le_bytes(), *b"fedcba98");
        assert_eq!(hexadecimal(0x0123_4567).to_le_bytes(), *b"76543210");
        let (one, other) = (random().0, random().0);
        assert!(one != other && one.iter().all(u8::is_ascii_hexdigit));
    }
}
