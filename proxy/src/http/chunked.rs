//! The chunked transfer coding (RFC 9112 section 7.1): a strict decoder, and the framing to write chunks again. Small chunks that came
//! together are given out as one piece, large ones are never copied. Extensions are checked, bounded and dropped; trailers are checked,
//! bounded and kept.

use bytes::{Buf, Bytes, BytesMut};

use super::Class;

/// The longest line of chunk framing, extensions included, and all the trailers together, in bytes.
const MAX_LINE: usize = 4 * 1024;
const MAX_TRAILERS: usize = 16 * 1024;

/// The longest chunk that is joined with the one before it: copying more costs as much as handling another piece.
const MAX_JOINED: u64 = 4 * 1024;

/// The end of a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Decodes one body.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: ChunkedState,
    /// Bytes of trailers, and those of them that may go on.
    trailers_len: usize,
    trailers: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkedState {
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

/// What there is to take.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A piece of the body, never empty.
    Data(Bytes),
    /// The body is complete.
    End,
    /// More bytes are needed.
    Partial,
}

/// Why the bytes are no chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Not hexadecimal, empty, or too large a number.
    #[error("a chunk size that is not a hexadecimal number")]
    Size,
    /// A line without CRLF at its end, or with a control character in it.
    #[error("a chunk line that does not end in CRLF")]
    Line,
    /// Data that does not end where its size says.
    #[error("a chunk longer or shorter than its size")]
    Length,
    /// Too long a line or too many trailers.
    #[error("chunk extensions or trailers beyond bounds")]
    TooLong,
    /// A trailer that is no header field.
    #[error("a trailer that is not a field")]
    Trailer,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: ChunkedState::Size, trailers_len: 0, trailers: BytesMut::new() }
    }
}

impl Decoder {
    /// Takes the next piece from the front of the buffer.
    ///
    /// # Errors
    /// [`ChunkError`] where the bytes cannot be a chunked body; the body is then lost, and so is the connection.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, ChunkError> {
        loop {
            match self.state {
                ChunkedState::Size => match line(buffer)? {
                    None => return Ok(Decoded::Partial),
                    Some(length) => {
                        let size = chunk_size(&buffer[..length])?;
                        buffer.advance(length + 2);
                        self.state = if size == 0 { ChunkedState::Trailer } else { ChunkedState::Data(size) };
                    }
                },
                ChunkedState::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Decoded::Partial);
                    }
                    let taken = self.take(left, buffer.len());
                    let (joined, consumed) = self.join(buffer, taken);
                    let data = buffer.split_to(joined).freeze();
                    buffer.advance(consumed - joined);
                    return Ok(Decoded::Data(data));
                }
                ChunkedState::DataEnd => match buffer.as_ref() {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.state = ChunkedState::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::Partial),
                    _ => return Err(ChunkError::Length),
                },
                ChunkedState::Trailer => match line(buffer)? {
                    None => return Ok(Decoded::Partial),
                    Some(0) => {
                        buffer.advance(2);
                        self.state = ChunkedState::Done;
                    }
                    Some(length) => {
                        self.trailers_len += length + 2;
                        if self.trailers_len > MAX_TRAILERS {
                            return Err(ChunkError::TooLong);
                        }
                        let name = buffer[..length].split(|b| *b == b':').next().unwrap_or_default();
                        if name.len() == length || !std::str::from_utf8(name).is_ok_and(crate::config::is_token) {
                            return Err(ChunkError::Trailer);
                        }
                        // What concerns framing or this connection has no place there (RFC 9110 section 6.5.1).
                        let kept = if Class::of(name) == Class::Other { length + 2 } else { 0 };
                        self.trailers.extend_from_slice(&buffer[..kept]);
                        buffer.advance(length + 2);
                    }
                },
                ChunkedState::Done => return Ok(Decoded::End),
            }
        }
    }
}

impl Decoder {
    /// Takes what there is of a chunk of which `left` bytes are to come. Returns how much that is.
    fn take(&mut self, left: u64, available: usize) -> usize {
        let taken = available.min(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - taken as u64;
        self.state = if left == 0 { ChunkedState::DataEnd } else { ChunkedState::Data(left) };
        taken
    }

    /// Moves the data of the small chunks that follow up to the first `joined` bytes of the buffer, which are data. Returns how many bytes of
    /// data there are then, and how many of the buffer that has consumed. What is wrong is left for the next call.
    fn join(&mut self, buffer: &mut [u8], mut joined: usize) -> (usize, usize) {
        let mut consumed = joined;
        while self.state == ChunkedState::DataEnd {
            let Some(rest) = buffer[consumed..].strip_prefix(b"\r\n") else { break };
            let Ok(Some(length)) = line(rest) else { break };
            let Ok(size @ 1..=MAX_JOINED) = chunk_size(&rest[..length]) else { break };
            let available = rest.len() - (length + 2);
            if available == 0 {
                break;
            }
            let start = buffer.len() - available;
            let taken = self.take(size, available);
            buffer.copy_within(start..start + taken, joined);
            (joined, consumed) = (joined + taken, start + taken);
        }
        (joined, consumed)
    }

    /// The trailers of a body that has ended, as they came.
    pub fn take_trailers(&mut self) -> Bytes {
        std::mem::take(&mut self.trailers).freeze()
    }
}

/// The length of the line at the front of the buffer, without its CRLF; none while it is not complete. What can never
/// become a line is refused at once, however the bytes are cut.
fn line(buffer: &[u8]) -> Result<Option<usize>, ChunkError> {
    let searched = &buffer[..buffer.len().min(MAX_LINE)];
    let end = memchr::memchr2(b'\r', b'\n', searched);
    let text = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
    if !searched[..end.unwrap_or(searched.len())].iter().all(text) {
        return Err(ChunkError::Line);
    }
    match end {
        None if buffer.len() >= MAX_LINE => Err(ChunkError::TooLong),
        None => Ok(None),
        Some(end) if searched[end] == b'\n' => Err(ChunkError::Line),
        Some(end) => match buffer.get(end + 1) {
            Some(b'\n') => Ok(Some(end)),
            None => Ok(None),
            Some(_) => Err(ChunkError::Line),
        },
    }
}

/// The size in a chunk line: hexadecimal digits, then nothing or `;` and extensions.
fn chunk_size(line: &[u8]) -> Result<u64, ChunkError> {
    let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    // 15 digits are an exabyte; more would only be there to overflow somebody.
    if digits == 0 || digits > 15 {
        return Err(ChunkError::Size);
    }
    let rest = line[digits..].trim_ascii_start();
    if !rest.is_empty() && rest[0] != b';' {
        return Err(ChunkError::Size);
    }
    // Up to 15 ASCII hexadecimal digits are always a number.
    std::str::from_utf8(&line[..digits]).ok().and_then(|d| u64::from_str_radix(d, 16).ok()).ok_or(ChunkError::Size)
}

/// The line before the data of a chunk: its length in hexadecimal.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    bytes: [u8; CHUNK_HEAD],
    /// Where it begins in that.
    start: u8,
}

/// The longest line before a chunk: 16 digits and CRLF.
const CHUNK_HEAD: usize = 18;

impl ChunkHead {
    /// The line before a chunk of this length.
    #[must_use]
    pub fn of(length: usize) -> Self {
        let (mut bytes, mut start, mut left) = ([0; CHUNK_HEAD], CHUNK_HEAD - 2, length);
        bytes[start..].copy_from_slice(b"\r\n");
        loop {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[left & 0xf];
            left >>= 4;
            if left == 0 {
                return Self { bytes, start: start as u8 };
            }
        }
    }

    /// The line.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes with the input cut into pieces of `step` bytes.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, bool, usize), ChunkError> {
        let (mut decoder, mut buffer, mut data) = (Decoder::default(), BytesMut::new(), Vec::new());
        let mut fed = 0;
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(piece) => {
                    assert!(!piece.is_empty());
                    data.extend_from_slice(&piece);
                }
                Decoded::End => return Ok((data, true, input.len() - fed + buffer.len())),
                Decoded::Partial if fed == input.len() => return Ok((data, false, buffer.len())),
                Decoded::Partial => {
                    let next = (fed + step).min(input.len());
                    buffer.extend_from_slice(&input[fed..next]);
                    fed = next;
                }
            }
        }
    }

    #[test]
    fn bodies_decode_however_they_are_cut() {
        let input = b"5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\nTrailer: x\r\n\r\nNEXT";
        for step in 1..=input.len() {
            assert_eq!(decode(input, step), Ok((b"hello world".to_vec(), true, 4)), "step {step}");
        }
    }

    /// The pieces that a buffer gives, until more bytes are needed or the body ends.
    fn pieces(wire: &[u8]) -> Vec<Bytes> {
        let (mut decoder, mut buffer, mut pieces) = (Decoder::default(), BytesMut::from(wire), Vec::new());
        while let Ok(Decoded::Data(piece)) = decoder.decode(&mut buffer) {
            pieces.push(piece);
        }
        pieces
    }

    #[test]
    fn small_chunks_that_came_together_are_one_piece() {
        assert_eq!(pieces(&b"1\r\na\r\n".repeat(1000)), [vec![b'a'; 1000]]);
        assert_eq!(pieces(b"3\r\nabc\r\n5;x\r\nde"), ["abcde"], "what has come of the last one belongs to it");
        assert_eq!(pieces(b"3\r\nabc\r\n1\r\n"), ["abc"], "nothing is waited for");
        assert_eq!(pieces(b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"), ["abcd"]);
        assert_eq!(pieces(b"3\r\nabc\r\n1\r\nd\r\nx\r\n"), ["abcd"], "what comes before the fault");
    }

    #[test]
    fn large_chunks_are_not_copied() {
        let chunk = |length: usize| [ChunkHead::of(length).as_bytes(), &vec![b'a'; length], b"\r\n"].concat();
        let wire = [chunk(5), chunk(5000), chunk(5000), chunk(5)].concat();
        let mut buffer = BytesMut::from(&*wire);
        let memory = buffer.as_ptr().addr();
        let (mut decoder, mut places) = (Decoder::default(), Vec::new());
        while let Ok(Decoded::Data(piece)) = decoder.decode(&mut buffer) {
            places.push((piece.as_ptr().addr() - memory, piece.len()));
        }
        assert_eq!(places, [(3, 5), (16, 5000), (5024, 5005)]);
    }

    #[test]
    fn bad_chunks_are_refused_in_every_cut() {
        let bad: [(&[u8], ChunkError); 14] = [
            (b"\r\n", ChunkError::Size),
            (b"x\r\n", ChunkError::Size),
            (b"-1\r\n", ChunkError::Size),
            (b"+5\r\nhello\r\n", ChunkError::Size),
            (b" 5\r\nhello\r\n", ChunkError::Size),
            (b"0x5\r\nhello\r\n", ChunkError::Size),
            (b"5 5\r\nhello\r\n", ChunkError::Size),
            (b"1234567890abcdef0\r\n", ChunkError::Size),
            (b"5\nhello\r\n", ChunkError::Line),
            (b"5\rhello\r\n", ChunkError::Line),
            (b"5;a\0\r\nhello\r\n", ChunkError::Line),
            (b"5\r\nhello!\r\n", ChunkError::Length),
            (b"5\r\nhello\n", ChunkError::Length),
            (b"0\r\nno field\r\n\r\n", ChunkError::Trailer),
        ];
        for (input, error) in bad {
            for step in 1..=input.len() {
                assert_eq!(decode(input, step), Err(error), "{:?} step {step}", input.escape_ascii().to_string());
            }
        }
        let long = [b"5;".as_slice(), &[b'a'; MAX_LINE]].concat();
        assert_eq!(decode(&long, 100), Err(ChunkError::TooLong));
        let trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(4096)].concat();
        assert_eq!(decode(&trailers, 100), Err(ChunkError::TooLong));
    }

    proptest! {
        #[test]
        fn encoded_bodies_decode_to_themselves(chunks: Vec<Vec<u8>>, step in 1..40_usize) {
            let mut wire = Vec::new();
            for chunk in chunks.iter().filter(|c| !c.is_empty()) {
                wire.extend_from_slice(ChunkHead::of(chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(LAST_CHUNK);
            prop_assert_eq!(decode(&wire, step), Ok((chunks.concat(), true, 0)));
        }

        #[test]
        fn no_input_panics_and_cuts_do_not_matter(input: Vec<u8>, step in 1..9_usize) {
            let (one, cut) = (decode(&input, input.len().max(1)), decode(&input, step));
            prop_assert_eq!(one.is_ok(), cut.is_ok());
        }
    }
}
