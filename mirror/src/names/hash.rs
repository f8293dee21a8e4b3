//! The hash in a name that is too long: ten characters that a DNS label may have.

use sha2::{Digest, Sha256};

use super::HASH_CHARACTERS;

/// The alphabet of RFC 4648, section 7 (base32hex), in lower case: five bits a character.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// The first 50 bits of the SHA-256 of a text, five to a character.
pub(super) fn of(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (0..HASH_CHARACTERS).map(|n| ALPHABET[(bits >> (59 - 5 * n) & 31) as usize] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_prefix_of_the_standard_hash() {
        // printf shop/web | sha256sum | xxd -r -p | basenc --base32hex | head -c 10 | tr A-Z a-z
        assert_eq!(of("shop/web"), "isrlchlhrq");
        assert_eq!(of(""), "seoc8gkovg");
    }
}
