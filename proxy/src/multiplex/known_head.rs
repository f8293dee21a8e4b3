//! A head that an endpoint repeats: it is put into the form of HTTP/1.1 and parsed once, and shared by all exchanges that it answers.

use bytes::{Bytes, BytesMut};
use h2client::Connection;

use super::mailbox;
use crate::http::response::{BadResponse, ResponseHead};

/// The longest head that is kept for the next response.
const MAX_KEPT_BYTES: usize = 4 * 1024;

/// The head that came last on a connection.
#[derive(Debug, Default)]
pub(super) struct KnownHead {
    /// Its number, as the codec counts heads.
    number: u64,
    /// The head, once it has come twice in a row: one that is never repeated needs no copy.
    parsed: Option<ResponseHead>,
}

impl KnownHead {
    /// The head that has just come, if it is the one before.
    pub(super) fn repeated(&mut self, codec: &Connection) -> Option<Bytes> {
        let number = codec.head_number();
        if self.number != number {
            (self.number, self.parsed) = (number, None);
            return None;
        }
        if self.parsed.is_none() && codec.lines().len() <= MAX_KEPT_BYTES {
            let mut bytes = BytesMut::with_capacity(codec.lines().len() + mailbox::FIRST_LINE_BYTES);
            mailbox::write_head(&mut bytes, codec.status(), codec.lines());
            // What is wrong with it is told to each exchange.
            let mut head = ResponseHead::default();
            self.parsed = head.read(bytes.freeze()).ok().map(|()| head);
        }
        self.parsed.as_ref().map(|head| head.fields.head().clone())
    }

    /// Reads the bytes of a head.
    ///
    /// # Errors
    /// As of [`ResponseHead::read`].
    pub(super) fn read(&self, bytes: Bytes, head: &mut ResponseHead) -> Result<(), BadResponse> {
        match &self.parsed {
            Some(parsed) if parsed.fields.is_of(&bytes) => {
                head.become_same(parsed, bytes);
                Ok(())
            }
            _ => head.read(bytes),
        }
    }
}
