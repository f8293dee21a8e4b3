//! Frames as bytes, and header blocks without any compression (RFC 7541 section 6.2.2).

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 section 6).
pub mod kind {
    /// Bytes of a body.
    pub const DATA: u8 = 0;
    /// A header block, or the beginning of one.
    pub const HEADERS: u8 = 1;
    /// Priorities of streams, which are deprecated and ignored.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream at once.
    pub const RST_STREAM: u8 = 3;
    /// What a side can take.
    pub const SETTINGS: u8 = 4;
    /// A request that the client did not make, which the server will answer.
    pub const PUSH_PROMISE: u8 = 5;
    /// To be acknowledged with the same content.
    pub const PING: u8 = 6;
    /// The end of a connection.
    pub const GOAWAY: u8 = 7;
    /// Credit for more bytes.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a header block.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// The last frame of its side of the stream.
    pub const END_STREAM: u8 = 0x1;
    /// The header block is complete.
    pub const END_HEADERS: u8 = 0x4;
    /// An acknowledgement of SETTINGS or PING.
    pub const ACK: u8 = 0x1;
}

/// Settings (RFC 9113 section 6.5.2).
pub mod setting {
    /// Streams that the peer may have open.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// Bytes that may be on their way on a new stream.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// Bytes of the longest frame.
    pub const MAX_FRAME_SIZE: u16 = 5;
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Bytes before the payload.
    pub(super) const HEADER: usize = 9;

    /// Any frame.
    #[must_use]
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Self {
        Self { kind, flags, stream, payload: payload.as_ref().to_vec() }
    }

    /// A whole header block, with these flags besides.
    #[must_use]
    pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Self {
        Self::new(kind::HEADERS, flags | flag::END_HEADERS, stream, block)
    }

    /// Bytes of a body.
    #[must_use]
    pub fn data(stream: u32, flags: u8, bytes: &[u8]) -> Self {
        Self::new(kind::DATA, flags, stream, bytes)
    }

    /// The end of a stream at once: it is no longer wanted.
    #[must_use]
    pub fn cancel(stream: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, 8_u32.to_be_bytes())
    }

    /// Credit for so many more bytes.
    #[must_use]
    pub fn window_update(stream: u32, bytes: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
    }

    /// Settings.
    #[must_use]
    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let pair = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Self::new(kind::SETTINGS, 0, 0, settings.iter().flat_map(pair).collect::<Vec<u8>>())
    }

    /// Its bytes.
    ///
    /// # Panics
    /// If the payload is longer than the length of a frame can say.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).ok().filter(|length| *length < 1 << 24);
        let length = length.expect("a payload that a frame can carry").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The length that a header says.
    pub(super) fn length(header: &[u8]) -> usize {
        usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2])
    }

    /// The frame with this header.
    pub(super) fn of(header: &[u8], payload: Vec<u8>) -> Self {
        // The highest bit is reserved.
        let stream = number(&header[5..9]) & (u32::MAX >> 1);
        Self { kind: header[3], flags: header[4], stream, payload }
    }
}

/// A header block: each field as it is, names and values whatever they are.
#[must_use]
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        put_text(&mut block, name.as_ref());
        put_text(&mut block, value.as_ref());
    }
    block
}

/// The header block of a request to `http://shop`, with more fields.
#[must_use]
pub fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "shop"), (":path", path)];
    block(&[&pseudo[..], fields].concat())
}

/// A length in seven bits or more (RFC 7541 section 5.1), and the bytes.
fn put_text(block: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        block.push(length as u8);
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push((length % 128) as u8 | 128);
            length /= 128;
        }
        block.push(length as u8);
    }
    block.extend_from_slice(text);
}

/// Four bytes as a number.
pub(super) fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The status that a header block begins with; none where it begins with something else, or is an interim answer.
pub(super) fn status(block: &[u8]) -> Option<u16> {
    // The statuses of the static table (RFC 7541 appendix A).
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A table size update may come first.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    let first = block[start];
    if first & 0x80 != 0 {
        return INDEXED.get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    // A literal whose name is one of those, with or without a place in the table.
    let name = if first & 0x40 != 0 { first & 0x3f } else { first & 0x0f };
    let length = *block.get(start + 1)?;
    let text = block.get(start + 2..start + 2 + usize::from(length & 0x7f))?;
    let digits = if length & 0x80 != 0 { unpack_digits(text) } else { String::from_utf8(text.to_vec()).ok()? };
    (8..=14).contains(&name).then_some(digits.parse().ok()?).filter(|status| *status >= 200)
}

/// Digits in the Huffman code of RFC 7541 appendix B: `0` to `2` have five bits, the others six.
fn unpack_digits(packed: &[u8]) -> String {
    let bits: Vec<u8> = packed.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
    let value = |bits: &[u8]| bits.iter().fold(0, |value, bit| value << 1 | bit);
    let (mut rest, mut digits) = (&bits[..], String::new());
    while rest.len() >= 5 {
        let short = value(&rest[..5]);
        if short <= 2 {
            digits.push(char::from(b'0' + short));
            rest = &rest[5..];
        } else if let Some(long @ 0b01_1001..=0b01_1111) = rest.get(..6).map(value) {
            digits.push(char::from(b'3' + long - 0b01_1001));
            rest = &rest[6..];
        } else {
            break;
        }
    }
    digits
}
