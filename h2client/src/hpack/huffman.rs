//! Decodes strings in the Huffman code of RFC 7541.
//!
//! The code is canonical: codes of the same length are in the order of their symbols, and the lengths alone make the code.

use super::HpackError;

/// The length of the code of each symbol, and of the end of a string (RFC 7541 appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The longest code.
const LONGEST: usize = 30;

/// Codes up to this length are looked up. Nearly all that occur are.
const SHORT_BITS: usize = 8;

const TABLES: Tables = Tables::build();

struct Tables {
    /// By the next eight bits: the symbol, and the length of its code; 0 for those of longer codes.
    short: [(u8, u8); 1 << SHORT_BITS],
    /// By the length of codes: the first one.
    first: [u32; LONGEST + 1],
    /// By the length of codes: how many there are.
    count: [u32; LONGEST + 1],
    /// By the length of codes: where their symbols begin in the list.
    offset: [u32; LONGEST + 1],
    /// The symbols in the order of their codes.
    symbols: [u16; 257],
}

impl Tables {
    const fn build() -> Self {
        let mut tables = Self {
            short: [(0, 0); 1 << SHORT_BITS],
            first: [0; LONGEST + 1],
            count: [0; LONGEST + 1],
            offset: [0; LONGEST + 1],
            symbols: [0; 257],
        };
        let (mut length, mut code, mut place) = (1, 0_u32, 0);
        while length <= LONGEST {
            code <<= 1;
            (tables.first[length], tables.offset[length]) = (code, place);
            let mut symbol = 0;
            while symbol < 257 {
                if LENGTHS[symbol] as usize == length {
                    if length <= SHORT_BITS {
                        let from = (code as usize) << (SHORT_BITS - length);
                        let mut at = from;
                        while at < from + (1 << (SHORT_BITS - length)) {
                            tables.short[at] = (symbol as u8, length as u8);
                            at += 1;
                        }
                    }
                    tables.symbols[place as usize] = symbol as u16;
                    tables.count[length] += 1;
                    (code, place) = (code + 1, place + 1);
                }
                symbol += 1;
            }
            length += 1;
        }
        tables
    }
}

/// Appends what the coded bytes stand for.
pub(super) fn decode(mut coded: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    // The next bits, the first one on top, and how many there are.
    let (mut bits, mut left) = (0_u64, 0_usize);
    loop {
        while left <= 56
            && let Some((byte, rest)) = coded.split_first()
        {
            (bits, coded) = (bits | u64::from(*byte) << (56 - left), rest);
            left += 8;
        }
        let (symbol, length) = TABLES.short[(bits >> (64 - SHORT_BITS)) as usize];
        let length = usize::from(length);
        if length > 0 && length <= left {
            out.push(symbol);
            (bits, left) = (bits << length, left - length);
            continue;
        }
        // What is left at the end fills up a byte with ones (section 5.2).
        if left < 8 && bits == !(u64::MAX >> left) {
            return Ok(());
        }
        let (symbol, length) = long(bits).filter(|(_, length)| *length <= left).ok_or(HpackError::Huffman)?;
        // The end of a string is no symbol in it.
        out.push(u8::try_from(symbol).map_err(|_| HpackError::Huffman)?);
        (bits, left) = (bits << length, left - length);
    }
}

/// The symbol with a long code at the top of these bits.
fn long(bits: u64) -> Option<(u16, usize)> {
    (SHORT_BITS + 1..=LONGEST).find_map(|length| {
        let nth = ((bits >> (64 - length)) as u32).checked_sub(TABLES.first[length])?;
        (nth < TABLES.count[length]).then(|| (TABLES.symbols[(TABLES.offset[length] + nth) as usize], length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of a symbol, as a number and how many bits it has.
    fn code(symbol: usize) -> (u32, usize) {
        let length = usize::from(LENGTHS[symbol]);
        let place = TABLES.symbols.iter().position(|known| usize::from(*known) == symbol).unwrap() as u32;
        (TABLES.first[length] + place - TABLES.offset[length], length)
    }

    fn encode(symbols: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut bits = String::new();
        for symbol in symbols {
            let (code, length) = code(symbol);
            bits.push_str(&format!("{code:0length$b}"));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn examples_of_the_rfc() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        for (coded, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
        ] {
            assert_eq!(decoded(&hex(coded)).unwrap(), text.as_bytes(), "{text}");
        }
        // Codes of appendix B, the shortest and the longest ones.
        let known =
            [(48, 0x0, 5), (b'a' as usize, 0x3, 5), (0, 0x1ff8, 13), (249, 0xffffffe, 28), (256, 0x3fffffff, 30)];
        for (symbol, want, length) in known {
            assert_eq!(code(symbol), (want, length), "{symbol}");
        }
    }

    #[test]
    fn every_symbol_comes_back_in_every_place() {
        for symbol in 0..256 {
            for before in 0..8 {
                let symbols = std::iter::repeat_n(usize::from(b'0'), before).chain([symbol, usize::from(b'z')]);
                let want: Vec<u8> = symbols.clone().map(|symbol| symbol as u8).collect();
                assert_eq!(decoded(&encode(symbols)).unwrap(), want);
            }
        }
    }

    #[test]
    fn wrong_padding_and_the_end_of_a_string_are_errors() {
        for wrong in [
            &b"\xff"[..],        // Eight bits of padding.
            b"\xff\xff\xff\xff", // The end of a string, and padding.
            b"\xff\xff\xff\xfc", // The end of a string as the longest code.
            b"\x00",             // Padding with zeros.
            b"\x1e",             // `a`, and padding that is not all ones.
        ] {
            assert_eq!(decoded(wrong), Err(HpackError::Huffman), "{wrong:x?}");
        }
        assert_eq!((decoded(b"\x1f"), decoded(b"")), (Ok(b"a".to_vec()), Ok(Vec::new())));
    }
}
