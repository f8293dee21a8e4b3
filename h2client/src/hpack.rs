//! Compression of fields (RFC 7541).

pub mod block;
mod decoder;
mod dynamic_table;
mod huffman;
mod static_table;

pub use decoder::{Decoder, HpackError};
