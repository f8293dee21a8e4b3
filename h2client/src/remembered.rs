//! The fields that came last and their block: one that comes again byte for byte, and means the same, is not decoded again.
//!
//! Endpoints answer many requests with one head. What a block means depends on the dynamic table, so that only a block is remembered
//! that has not changed it, and only until another one does.

use crate::{
    fields::{Bounds, Fields},
    hpack::{Decoder, HpackError},
};

/// The longest block that is remembered.
const MAX_REMEMBERED: usize = 1024;

/// Heads or trailers of a connection.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// The fields that came last.
    fields: Fields,
    /// Their block; empty where it is not remembered.
    block: Vec<u8>,
    /// How often the table had changed then.
    table_changes: u64,
    /// How many blocks were decoded.
    decoded: u64,
}

impl Remembered {
    /// Reads the fields of a block.
    ///
    /// # Errors
    /// As of [`Decoder::decode`].
    pub(crate) fn read(
        &mut self,
        block: &[u8],
        are_trailers: bool,
        decoder: &mut Decoder,
        bounds: Bounds,
    ) -> Result<(), HpackError> {
        let table_changes = decoder.table_changes();
        if !self.block.is_empty() && self.table_changes == table_changes && self.block == block {
            return Ok(());
        }
        self.block.clear();
        self.decoded += 1;
        let fields = &mut self.fields;
        fields.begin(are_trailers);
        decoder.decode(block, |name, value| fields.take(name, value, bounds))?;
        if block.len() <= MAX_REMEMBERED && decoder.table_changes() == table_changes {
            self.block.extend_from_slice(block);
            self.table_changes = table_changes;
        }
        Ok(())
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The number of the last block: that of the one before where it has said the same.
    pub(crate) fn number(&self) -> u64 {
        self.decoded
    }
}
