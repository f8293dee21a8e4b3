//! Decodes blocks of fields (RFC 7541 section 6), in bounded memory.

use super::{dynamic_table::DynamicTable, huffman, static_table};

/// The largest dynamic table: the default, which is not changed (RFC 9113 section 6.5.2).
const MAX_TABLE: usize = 4_096;

/// So often may the size of the table change in front of a block (RFC 7541 section 4.2).
const MAX_SIZE_UPDATES: usize = 2;

/// The decoder of one connection.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// Memory for names and values that are not in the block as they are.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Why a block cannot be decoded, which ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.what())]
pub enum HpackError {
    /// It ends in the middle of a field.
    Truncated,
    /// A number that is larger than any that makes sense.
    Number,
    /// An index that stands for no field.
    Index,
    /// RFC 7541 section 5.2.
    Huffman,
    /// RFC 7541 section 4.2.
    TableSize,
}

/// Where a name or a value is.
enum Text<'a> {
    /// In the block.
    Block(&'a [u8]),
    /// Decoded, in the memory for that.
    Decoded,
}

/// The rest of a block.
struct Rest<'a>(&'a [u8]);

// === impl HpackError ===

impl HpackError {
    /// What is wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Truncated => "a block of fields ends in the middle of one",
            Self::Number => "a number in a block of fields is too large",
            Self::Index => "a block of fields refers to a field that does not exist",
            Self::Huffman => "a string in a block of fields is not in the Huffman code",
            Self::TableSize => "a block of fields changes the size of the table where it must not",
        }
    }
}

// === impl Rest ===

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Result<u8, HpackError> {
        let (byte, rest) = self.0.split_first().ok_or(HpackError::Truncated)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A number whose first bits are the last ones of this byte (RFC 7541 section 5.1).
    fn number(&mut self, first: u8, bits: u32) -> Result<usize, HpackError> {
        let most = (1_usize << bits) - 1;
        let mut number = usize::from(first) & most;
        if number < most {
            return Ok(number);
        }
        // Four bytes are enough for every length and index that can be meant.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(HpackError::Number)
    }

    /// A string (RFC 7541 section 5.2).
    fn text(&mut self, decoded: &mut Vec<u8>) -> Result<Text<'a>, HpackError> {
        let first = self.byte()?;
        let length = self.number(first, 7)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(HpackError::Truncated)?;
        self.0 = rest;
        if first & 0x80 == 0 {
            return Ok(Text::Block(text));
        }
        decoded.clear();
        huffman::decode(text, decoded)?;
        Ok(Text::Decoded)
    }
}

impl<'a> Text<'a> {
    fn get(self, decoded: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Block(text) => text,
            Self::Decoded => decoded,
        }
    }
}

// === impl Decoder ===

impl Default for Decoder {
    fn default() -> Self {
        Self { table: DynamicTable::new(MAX_TABLE), name: Vec::new(), value: Vec::new() }
    }
}

impl Decoder {
    /// Decodes a whole block, and tells `sink` name and value of every field, in order.
    ///
    /// # Errors
    /// [`HpackError`]: what comes later on the connection cannot be decoded either.
    pub fn decode(&mut self, block: &[u8], mut sink: impl FnMut(&[u8], &[u8])) -> Result<(), HpackError> {
        let (mut rest, mut size_updates, mut has_field) = (Rest(block), 0, false);
        while !rest.0.is_empty() {
            let first = rest.byte()?;
            if first & 0xe0 == 0x20 {
                size_updates += 1;
                let size = rest.number(first, 5)?;
                if has_field || size_updates > MAX_SIZE_UPDATES || size > MAX_TABLE {
                    return Err(HpackError::TableSize);
                }
                self.table.resize(size);
                continue;
            }
            has_field = true;
            if first & 0x80 != 0 {
                let (name, value) = self.entry(rest.number(first, 7)?)?;
                sink(name, value);
            } else {
                let is_indexed = first & 0x40 != 0;
                self.literal(&mut rest, first, if is_indexed { 6 } else { 4 }, is_indexed, &mut sink)?;
            }
        }
        Ok(())
    }

    /// How often the dynamic table has changed. While it has not, a block means what it meant before.
    #[must_use]
    pub fn table_changes(&self) -> u64 {
        self.table.changes()
    }

    /// The field with this index.
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let place = index.checked_sub(1).ok_or(HpackError::Index)?;
        match static_table::ENTRIES.get(place) {
            Some((name, value)) => Ok((name.as_bytes(), value.as_bytes())),
            None => self.table.get(place - static_table::ENTRIES.len()).ok_or(HpackError::Index),
        }
    }

    /// A field whose value is in the block (RFC 7541 section 6.2); `bits` of the first byte are the index of its name.
    fn literal(
        &mut self,
        rest: &mut Rest<'_>,
        first: u8,
        bits: u32,
        is_indexed: bool,
        sink: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        let mut name = std::mem::take(&mut self.name);
        let known = match rest.number(first, bits)? {
            0 => rest.text(&mut name)?,
            index => {
                // A copy, because the entry may have to go for the new one.
                name.clear();
                name.extend_from_slice(self.entry(index)?.0);
                Text::Decoded
            }
        };
        let value = rest.text(&mut self.value)?;
        let (whole_name, whole_value) = (known.get(&name), value.get(&self.value));
        sink(whole_name, whole_value);
        if is_indexed {
            self.table.insert(whole_name, whole_value);
        }
        self.name = name;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, HpackError> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decoder.decode(block, |name, value| fields.push((text(name), text(value))))?;
        Ok(fields)
    }

    fn fields(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn responses_of_the_rfc_with_a_small_table() {
        // RFC 7541 appendix C.6: the same connection, a table of 256 bytes.
        let mut decoder = Decoder::default();
        let first = hex(
            "3fe101 488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        );
        let (date, location) = (("date", "Mon, 21 Oct 2013 20:13:21 GMT"), ("location", "https://www.example.com"));
        let private = ("cache-control", "private");
        assert_eq!(decoded(&mut decoder, &first).unwrap(), fields(&[(":status", "302"), private, date, location]));
        assert_eq!(
            decoded(&mut decoder, &hex("4883640effc1c0bf")).unwrap(),
            fields(&[(":status", "307"), private, date, location])
        );
        let third = hex(
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        );
        let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
        let date = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
        let gzip = ("content-encoding", "gzip");
        assert_eq!(
            decoded(&mut decoder, &third).unwrap(),
            fields(&[(":status", "200"), private, date, location, gzip, cookie])
        );
        assert_eq!((decoder.table.get(0).unwrap().0, decoder.table.get(3)), (&b"set-cookie"[..], None));
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error() {
        let mut decoder = Decoder::default();
        for (block, why) in [
            (&b"\x80"[..], HpackError::Index),
            (b"\xbe", HpackError::Index),
            (b"\x7f\x80\x80\x80\x80\x01\x00", HpackError::Number),
            (b"\x40\x05abc", HpackError::Truncated),
            (b"\x40\x01a", HpackError::Truncated),
            (b"\x40\x01a\x81\xff", HpackError::Huffman),
            (b"\x88\x20", HpackError::TableSize),
            (b"\x20\x20\x20", HpackError::TableSize),
            (b"\x3f\xe2\x1f", HpackError::TableSize),
            (b"\xff", HpackError::Truncated),
        ] {
            assert_eq!(decoded(&mut decoder, block).unwrap_err(), why, "{block:x?}");
        }
        assert_eq!(
            decoded(&mut decoder, b"\x3f\xe1\x1f\x88").unwrap(),
            fields(&[(":status", "200")]),
            "4096 is allowed"
        );
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut decoder = Decoder::default();
        decoded(&mut decoder, b"\x40\x01a\x01b").unwrap();
        assert_eq!(decoded(&mut decoder, b"\xbe").unwrap(), fields(&[("a", "b")]));
        let large = [&b"\x40\x01a\x7f\xa1\x1f"[..], &[b'x'; 4_128]].concat();
        assert_eq!(decoded(&mut decoder, &large).unwrap()[0].1.len(), 4_128);
        assert_eq!(decoded(&mut decoder, b"\xbe"), Err(HpackError::Index));
    }

    #[test]
    fn a_name_may_be_that_of_an_entry_which_goes_for_the_new_one() {
        let mut decoder = Decoder::default();
        let first = [&b"\x40\x03abc\x7f\xd5\x1e"[..], &[b'x'; 4_052]].concat();
        decoded(&mut decoder, &first).unwrap();
        let again = [&b"\x7e\x7f\xd5\x1e"[..], &[b'y'; 4_052]].concat();
        assert_eq!(decoded(&mut decoder, &again).unwrap()[0].0, "abc");
        let kept = decoded(&mut decoder, b"\xbe").unwrap().remove(0);
        assert!(kept.0 == "abc" && kept.1.bytes().all(|b| b == b'y'));
    }
}
