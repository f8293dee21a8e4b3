//! Message bodies: how they are delimited, and a strict decoder that takes bytes as they come.

use super::headers::Headers;
use super::printable;

/// How many body bytes [`BodyMode::Keep`] keeps, in bytes; what lies beyond is counted and digested.
pub const KEEP_LIMIT: usize = 64 << 20;

/// The longest chunk-size line and the longest trailer section accepted, in bytes.
const LINE_LIMIT: usize = 16 << 10;

/// How a body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Everything until the connection is closed. Only in responses.
    Close,
}

/// What a recorder does with the bytes of bodies. Length and digest are always taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// Keep the decoded and the raw bytes, up to [`KEEP_LIMIT`] each.
    #[default]
    Keep,
    /// Keep none: for bodies of any size.
    Digest,
}

/// Takes a body apart as its bytes arrive, in pieces of any size.
#[derive(Debug)]
pub struct BodyDecoder {
    state: DecoderState,
    trailers: Headers,
}

#[derive(Debug)]
enum DecoderState {
    Length(u64),
    /// Within a chunk-size line, the bytes of it so far.
    Size(Vec<u8>),
    /// Within chunk data, so many bytes left.
    Data(u64),
    /// Within the CRLF behind chunk data, so many bytes of it seen.
    DataEnd(usize),
    /// Within the trailer section, the bytes of it so far.
    Trailers(Vec<u8>),
    UntilClose,
    Done,
}

impl BodyDecoder {
    /// A decoder at the first byte of a body framed so.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => DecoderState::Done,
            Framing::Length(n) => DecoderState::Length(n),
            Framing::Chunked => DecoderState::Size(Vec::new()),
            Framing::Close => DecoderState::UntilClose,
        };
        Self { state, trailers: Headers::default() }
    }

    /// Takes bytes, appends the decoded ones to `data`, and returns how many it took: all of them,
    /// or those up to the end of the body.
    ///
    /// # Errors
    /// Says which part of the chunked coding (RFC 9112 section 7.1) is broken. `data` then holds what
    /// came before the fault.
    pub fn feed(&mut self, input: &[u8], data: &mut Vec<u8>) -> Result<usize, String> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            at += self.step(&input[at..], data)?;
        }
        Ok(at)
    }

    /// Whether the body has ended. One delimited by the close of the connection never does here.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, DecoderState::Done)
    }

    /// Whether the close of the connection is the proper end at this point.
    #[must_use]
    pub fn ends_at_close(&self) -> bool {
        matches!(self.state, DecoderState::Done | DecoderState::UntilClose)
    }

    /// The trailer fields, once the body is done.
    #[must_use]
    pub fn trailers(&self) -> &Headers {
        &self.trailers
    }

    /// One step: takes at least one byte of a non-empty input.
    fn step(&mut self, input: &[u8], data: &mut Vec<u8>) -> Result<usize, String> {
        match &mut self.state {
            DecoderState::Done => Ok(0),
            DecoderState::UntilClose => {
                data.extend_from_slice(input);
                Ok(input.len())
            }
            DecoderState::Length(left) | DecoderState::Data(left) => {
                let n = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                data.extend_from_slice(&input[..n]);
                *left -= n as u64;
                if *left == 0 {
                    self.state = match self.state {
                        DecoderState::Data(_) => DecoderState::DataEnd(0),
                        _ => DecoderState::Done,
                    };
                }
                Ok(n)
            }
            DecoderState::DataEnd(seen) => {
                if input[0] != b"\r\n"[*seen] {
                    let shown = printable(input, 20);
                    return Err(format!("no CRLF behind the chunk data but `{shown}`"));
                }
                *seen += 1;
                if *seen == 2 {
                    self.state = DecoderState::Size(Vec::new());
                }
                Ok(1)
            }
            DecoderState::Size(line) => {
                line.push(input[0]);
                if line.len() > LINE_LIMIT {
                    return Err(format!("a chunk-size line above {LINE_LIMIT} bytes"));
                }
                check_line_byte(line, "a chunk-size line")?;
                if let Some(line) = line.strip_suffix(b"\r\n") {
                    self.state = match chunk_size(line)? {
                        0 => DecoderState::Trailers(Vec::new()),
                        n => DecoderState::Data(n),
                    };
                }
                Ok(1)
            }
            DecoderState::Trailers(section) => {
                section.push(input[0]);
                if section.len() > LINE_LIMIT {
                    return Err(format!("a trailer section above {LINE_LIMIT} bytes"));
                }
                check_line_byte(section, "the trailer section")?;
                if section == b"\r\n" || section.ends_with(b"\r\n\r\n") {
                    let fields = &section[..section.len() - 2];
                    self.trailers = Headers::parse(fields)?;
                    self.state = DecoderState::Done;
                }
                Ok(1)
            }
        }
    }
}

/// Checks the line end discipline of the byte just pushed: CR and LF only as a pair.
fn check_line_byte(line: &[u8], place: &str) -> Result<(), String> {
    match line {
        [.., before, b'\n'] if *before == b'\r' => Ok(()),
        [.., b'\n'] => Err(format!("bare LF in {place}")),
        [.., b'\r', _] => Err(format!("bare CR in {place}")),
        _ => Ok(()),
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, String> {
    let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let bad = || format!("`{}` is not a chunk size", printable(line, 40));
    if !(1..=16).contains(&digits) || !(line.len() == digits || line[digits] == b';') {
        return Err(bad());
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| bad())?;
    u64::from_str_radix(text, 16).map_err(|_| bad())
}
