//! Scans short texts eight bytes at a time.

/// Eight bytes with this value.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The words of a text. The last one repeats bytes before it, or is filled with letters.
fn words(text: &[u8]) -> impl Iterator<Item = u64> {
    let (whole, rest) = text.as_chunks::<8>();
    let last = match (rest, text.last_chunk::<8>()) {
        ([], _) => None,
        (_, Some(last)) => Some(*last),
        (rest, None) => {
            let mut filled = [b'a'; 8];
            filled[..rest.len()].copy_from_slice(rest);
            Some(filled)
        }
    };
    whole.iter().copied().chain(last).map(u64::from_ne_bytes)
}

/// Has high bits if a byte of the word is less than `bound`, which is at most 128; of a word without such a byte it has none.
fn less_than(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(all(bound)) & !word & all(0x80)
}

/// Has high bits if a byte of the word is `byte`.
fn equal(word: u64, byte: u8) -> u64 {
    less_than(word ^ all(byte), 1)
}

/// Whether JSON has this text as it is between quotes.
pub(super) fn is_plain_in_json(text: &str) -> bool {
    let special = |word| less_than(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
    words(text.as_bytes()).fold(0, |found, word| found | special(word)) == 0
}

/// Whether every byte is visible ASCII and no quotation mark.
pub(super) fn is_loggable(text: &[u8]) -> bool {
    // A byte above `~` is DEL, or has the high bit.
    let special = |word| less_than(word, b'!') | equal(word, b'"') | equal(word, 0x7f) | (word & all(0x80));
    words(text).fold(0, |found, word| found | special(word)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_find_what_bytes_do(text in "[ -~]{0,20}|[a-z\"\\\\\u{0}-\u{21}\u{7d}-\u{81}äß€😀]{0,20}") {
            let plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
            prop_assert_eq!(is_plain_in_json(&text), plain);
            let loggable = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
            prop_assert_eq!(is_loggable(text.as_bytes()), loggable);
        }

        #[test]
        fn every_byte_is_told_at_every_place(byte: u8, length in 1..20_usize, at in 0..20_usize) {
            let mut text = vec![b'z'; length];
            text[at % length] = byte;
            prop_assert_eq!(is_loggable(&text), byte.is_ascii_graphic() && byte != b'"');
            if let Ok(text) = std::str::from_utf8(&text) {
                prop_assert_eq!(is_plain_in_json(text), byte >= 0x20 && byte != b'"' && byte != b'\\');
            }
        }
    }
}
