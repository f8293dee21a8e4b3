//! Encodes the fields of requests without the dynamic table (RFC 7541 section 6.2.2): a block means the same on every connection.

use super::static_table;

/// Says that the dynamic table is not used; stands in front of the first block of a connection.
pub const NO_TABLE: u8 = 0x20;

/// Fields with literal values, which are not indexed.
const LITERAL: u8 = 0x00;

/// The same for values that no intermediary may index either (RFC 7541 section 7.1.3).
const NEVER_INDEXED: u8 = 0x10;

const AUTHORITY: u32 = 1;
const METHOD: u32 = 2;
const PATH: u32 = 4;

/// The schemes that requests have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// The whole field, in one byte: it can stand in front of a block that requests of both schemes share.
    #[must_use]
    pub fn field(self) -> [u8; 1] {
        match self {
            Self::Http => [0x86],
            Self::Https => [0x87],
        }
    }
}

/// Appends `:method`.
pub fn put_method(out: &mut Vec<u8>, method: &[u8]) {
    match method {
        b"GET" => out.push(0x82),
        b"POST" => out.push(0x83),
        _ => put_known(out, LITERAL, METHOD, method),
    }
}

/// Appends `:path`.
pub fn put_path(out: &mut Vec<u8>, path: &[u8]) {
    match path {
        b"/" => out.push(0x84),
        _ => put_known(out, LITERAL, PATH, path),
    }
}

/// Appends `:authority`.
pub fn put_authority(out: &mut Vec<u8>, authority: &[u8]) {
    put_known(out, LITERAL, AUTHORITY, authority);
}

/// Appends a field. The name must be in lower case.
pub fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let first = if is_secret(name) { NEVER_INDEXED } else { LITERAL };
    match static_table::index_of(name) {
        Some(index) => put_known(out, first, index, value),
        None => {
            out.push(first);
            put_text(out, name);
            put_text(out, value);
        }
    }
}

/// Whether values of this field are worth guessing.
fn is_secret(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"cookie" | b"proxy-authorization")
}

/// A field whose name has an index.
fn put_known(out: &mut Vec<u8>, first: u8, index: u32, value: &[u8]) {
    put_number(out, first, 4, index as usize);
    put_text(out, value);
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// A number of which `bits` have room in the first byte (RFC 7541 section 5.1).
fn put_number(out: &mut Vec<u8>, first: u8, bits: u32, mut number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        return out.push(first | number as u8);
    }
    out.push(first | most as u8);
    number -= most;
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Decoder;

    #[test]
    fn what_is_encoded_is_decoded_alike_and_fills_no_table() {
        let long = vec![b'v'; 20_000];
        let fields: [(&[u8], &[u8]); 6] = [
            (b"authorization", b"Bearer secret"),
            (b"x-long", &long),
            (b"content-type", b"text/plain"),
            (b"x-empty", b""),
            (b"cookie", b"a=b"),
            (b"te", b"trailers"),
        ];
        let mut block = vec![NO_TABLE];
        block.extend(Scheme::Https.field());
        put_method(&mut block, b"PURGE");
        put_path(&mut block, b"/a?b");
        put_authority(&mut block, b"shop:80");
        fields.iter().for_each(|(name, value)| put_field(&mut block, name, value));
        let pseudo: [(&[u8], &[u8]); 4] =
            [(b":scheme", b"https"), (b":method", b"PURGE"), (b":path", b"/a?b"), (b":authority", b"shop:80")];
        let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
        decoder.decode(&block, |name, value| seen.push((name.to_vec(), value.to_vec()))).unwrap();
        let want: Vec<_> = pseudo.iter().chain(&fields).map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        assert!(seen == want, "{seen:?}");
        assert!(decoder.decode(&[0xbe], |_, _| {}).is_err(), "the table is empty");
    }

    #[test]
    fn short_forms_stand_for_what_is_usual() {
        let mut block = Vec::new();
        put_method(&mut block, b"GET");
        put_method(&mut block, b"POST");
        put_path(&mut block, b"/");
        assert_eq!(block, [0x82, 0x83, 0x84]);
        let mut secret = Vec::new();
        put_field(&mut secret, b"authorization", b"x");
        assert_eq!(secret, [0x1f, 8, 1, b'x'], "never indexed");
    }
}
