//! A strict HTTP/1.1 reader, which the origin and the client share.
//!
//! It does not use the proxy's parser on purpose: a fault in that parser would otherwise hide itself.

mod body;
mod digest;
mod head;
mod headers;

#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, BodyMode, Framing, KEEP_LIMIT};
pub use digest::{Digest, digest_of};
pub use head::{HEAD_LIMIT, RequestHead, ResponseHead, head_end};
pub use headers::Headers;

/// How a message (a request at the origin, a response at the client) ended, as its reader saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its end has not been seen yet.
    Arriving,
    /// It ended as its framing says: the last byte of the length, the last chunk and the trailer
    /// section, or the close of a body delimited by it.
    Complete,
    /// The connection ended before the message did.
    Cut(Cut),
    /// The framing is broken; the text says how. Nothing after the fault was read as body.
    Malformed(String),
    /// The reader itself gave the message up (the script closed or reset the connection).
    Abandoned,
}

/// How a connection ended in the middle of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// An orderly close (FIN) before the end of the message.
    Eof,
    /// A reset (RST), or another error of the socket.
    Reset,
}

impl End {
    /// Whether the message ended as its framing says.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self == Self::Complete
    }

    /// Whether the connection ended before the message did.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Cut(_))
    }

    /// Whether there is nothing more to come: any end but [`End::Arriving`].
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self != Self::Arriving
    }
}

/// Bytes as a reader of a test report wants them: text where it is text, escapes elsewhere, and no
/// more than the first `limit` bytes.
#[must_use]
pub fn printable(bytes: &[u8], limit: usize) -> String {
    let shown = &bytes[..bytes.len().min(limit)];
    let mut text = shown.escape_ascii().to_string();
    if shown.len() < bytes.len() {
        text.push_str(&format!("... ({} bytes in all)", bytes.len()));
    }
    text
}
