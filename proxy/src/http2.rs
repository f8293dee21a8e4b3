//! HTTP/2 (RFC 9113) at the edge, with clients on the `h2` crate: heads are translated into the one form that is used inside, that of
//! HTTP/1.1, and back, and what a peer may cost is watched.

pub(crate) mod ahead;
pub mod guard;
pub(crate) mod resets;
pub(crate) mod small_frames;
pub mod stream;
pub mod translate;

/// What a client sends first (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that a client may have open on one connection, and that an endpoint is taken to allow until it says how many.
pub(crate) const MAX_STREAMS: u32 = 100;

/// Bytes that may be on their way on one stream before some have been taken.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;

/// The same on a connection to an endpoint: that of all of its streams together, so that one which nobody reads starves no
/// other.
pub(crate) const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Bytes of an answer that wait to be written to a client's connection: a frame. An answer counts as sent once it waits there,
/// so that this, times the streams, is what a client that reads nothing can hold on to once its requests are over.
pub(crate) const ANSWER_BUFFER: usize = 16 * 1024;

/// Bytes of a stream that wait to be written to an endpoint's connection.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;
