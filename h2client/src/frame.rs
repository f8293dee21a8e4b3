//! The headers of frames (RFC 9113 section 4.1), and the numbers that frames are made of.

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes in front of the payload of every frame.
pub const HEADER_BYTES: usize = 9;

/// The longest payload that every peer takes, and the longest one that is taken here.
pub const MAX_PAYLOAD: usize = 16_384;

/// The largest window, and the largest number of a stream.
pub const MAX_31_BITS: u32 = (1 << 31) - 1;

/// The window of a stream and of a connection before anything else was said.
pub const FIRST_WINDOW: i64 = 65_535;

/// Kinds of frames.
pub mod kind {
    #![allow(missing_docs, reason = "the names of the RFC")]
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const PRIORITY: u8 = 0x2;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PUSH_PROMISE: u8 = 0x5;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const WINDOW_UPDATE: u8 = 0x8;
    pub const CONTINUATION: u8 = 0x9;
}

/// Flags of frames.
pub mod flag {
    #![allow(missing_docs, reason = "the names of the RFC")]
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings.
pub mod setting {
    #![allow(missing_docs, reason = "the names of the RFC")]
    pub const ENABLE_PUSH: u16 = 0x2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Of the payload, in bytes.
    pub length: usize,
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// The header at the front of these bytes, once it is there as a whole.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = *bytes.first_chunk()?;
        let length = usize::from(l2) << 16 | usize::from(l1) << 8 | usize::from(l0);
        // The first bit of the number is reserved, and ignored.
        Some(Self { length, kind, flags, stream: u32::from_be_bytes([s3, s2, s1, s0]) & MAX_31_BITS })
    }

    /// Writes it.
    pub fn put(self, out: &mut Vec<u8>) {
        let [_, l2, l1, l0] = (self.length as u32).to_be_bytes();
        let [s3, s2, s1, s0] = self.stream.to_be_bytes();
        out.extend_from_slice(&[l2, l1, l0, self.kind, self.flags, s3, s2, s1, s0]);
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A number of four bytes at the front of these; 0 where there are fewer.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
