//! The client side of HTTP/2 (RFC 9113, RFC 7541) without I/O: bytes that have come go in and events come out, requests go in and
//! bytes to be sent come out.
//!
//! It is made for a proxy that sends one request on many connections. What goes out is encoded without the dynamic table, so that a
//! block of fields depends on no connection: it is encoded once, and each connection only puts its own frame header in front.
//! Everything that comes in is bounded and checked, and each fault is the error that the RFC names for it.
//!
//! - [`Connection`]: one connection with its streams and windows, and the bytes on their way out
//! - [`block`]: how blocks of fields are encoded
//! - [`hpack`]: how they are decoded
//! - [`frame`]: the headers of frames

mod connection;
mod error;
mod fields;
pub mod frame;
pub mod hpack;
mod outbox;
mod reason;
mod remembered;
mod streams;

pub use connection::{Config, Connection, Event, OpenError};
pub use error::{ConnectionError, StreamError};
pub use hpack::block;
pub use reason::Reason;
pub use streams::Key;
