//! Takes a body out of a byte stream by its framing, whichever side it comes from.

use bytes::{Bytes, BytesMut};

use super::chunked::{ChunkError, Decoded, Decoder};

/// The body of one message, while it is being read.
#[derive(Clone, Debug)]
pub enum BodyReader {
    /// This many bytes are still to come.
    Length(u64),
    /// Chunked coding.
    Chunked(Decoder),
    /// Everything until the connection closes; only responses have that.
    Close,
}

/// What there is to take.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A piece of the body, never empty.
    Data(Bytes),
    /// The body is complete.
    End,
    /// More bytes are needed.
    Partial,
}

impl BodyReader {
    /// The reader of a body that is not there.
    pub const EMPTY: Self = Self::Length(0);

    /// Takes the next piece from the front of the buffer.
    ///
    /// # Errors
    /// [`ChunkError`] where chunked coding is broken.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, ChunkError> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            _ if buffer.is_empty() => Ok(Piece::Partial),
            Self::Length(left) => {
                let taken = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(Piece::Data(buffer.split_to(taken).freeze()))
            }
            Self::Close => Ok(Piece::Data(buffer.split().freeze())),
            Self::Chunked(decoder) => Ok(match decoder.decode(buffer)? {
                Decoded::Data(data) => Piece::Data(data),
                Decoded::End => Piece::End,
                Decoded::Partial => Piece::Partial,
            }),
        }
    }

    /// The trailers of a body that has ended, as they came.
    pub fn take_trailers(&mut self) -> Bytes {
        match self {
            Self::Chunked(decoder) => decoder.take_trailers(),
            Self::Length(_) | Self::Close => Bytes::new(),
        }
    }

    /// How much room a read for the rest of the body wants, at most `most` bytes.
    #[must_use]
    pub fn room(&self, most: usize) -> usize {
        match self {
            Self::Length(left) => usize::try_from(*left).unwrap_or(most).min(most),
            Self::Chunked(_) | Self::Close => most,
        }
    }

    /// Whether the end of the connection is the end of this body rather than a cut.
    #[must_use]
    pub fn ends_at_close(&self) -> bool {
        matches!(self, Self::Close | Self::Length(0))
    }
}
