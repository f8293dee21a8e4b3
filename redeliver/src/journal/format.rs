//! The format of a journal: a file in the format of another version of Fanfare is neither read nor changed.
//!
//! In every format a record begins in the same way: magic word, format, kind, length, mask and checksum. So a file can be recognised without
//! the store, which changes a file when it opens it.

use super::{
    JournalError, open,
    record::{self, FORMAT, MAGIC},
};

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use memchr::memmem;

/// Bytes that are read at a time.
const CHUNK: u64 = 1 << 20;
/// Bytes that are looked at again with the next chunk, because a record may begin in one and end in the other. Longer records do not
/// count; each commit writes a short one.
const OVERLAP: usize = 64 << 10;

/// Checks the files of the journal in a directory, if there is one, and its format. Another process may have it open.
///
/// # Errors
/// [`JournalError::Format`], or one of its files is something else. A file that cannot be read is no error here: opening the journal reports that.
pub fn check(directory: &Path) -> Result<(), JournalError> {
    open::check_files(directory)?;
    let path = open::existing(directory);
    let newest = File::open(&path).and_then(newest_format).unwrap_or(None);
    match newest {
        Some(found) if found != FORMAT => Err(JournalError::Format { path, found }),
        _ => Ok(()),
    }
}

/// The newest format of the records: pages that are not in use may have older ones.
fn newest_format(mut from: impl Read) -> io::Result<Option<u8>> {
    let mut newest = None;
    let mut bytes = Vec::new();
    loop {
        if from.by_ref().take(CHUNK).read_to_end(&mut bytes)? == 0 {
            return Ok(newest);
        }
        let formats = memmem::find_iter(&bytes, &MAGIC).filter_map(|at| record::format(&bytes[at..]));
        newest = newest.max(formats.max());
        bytes.drain(..bytes.len().saturating_sub(OVERLAP));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record::Record, *};

    /// Returns one byte at a time at most.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut to[..1])
        }
    }

    #[test]
    fn the_newest_format_counts_wherever_its_record_is() {
        let mark = Record::Mark { commit: 1, first: 2 }.encode();
        let newer = record::in_format(&mark, FORMAT + 1);
        assert_eq!(newest_format(&[][..]).unwrap(), None);
        assert_eq!(newest_format(Trickle(&mark)).unwrap(), Some(FORMAT));
        let chunk = usize::try_from(CHUNK).unwrap();
        for at in [100, chunk - 50, chunk - newer.len() + 1, chunk - 1, chunk, 2 * chunk - 3] {
            let mut bytes = vec![7; at];
            bytes.extend_from_slice(&newer);
            bytes.resize(bytes.len().max(chunk) + 500, 7);
            bytes.extend_from_slice(&mark);
            assert_eq!(newest_format(&bytes[..]).unwrap(), Some(FORMAT + 1), "{at}");
            // A damaged record says nothing.
            bytes[at + 4] += 1;
            assert_eq!(newest_format(&bytes[..]).unwrap(), Some(FORMAT), "{at}");
        }
    }
}
