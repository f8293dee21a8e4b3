//! Named pipes that nobody writes to: whoever opens one as if it were a file waits.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Makes one.
///
/// # Panics
/// It cannot be made.
pub fn make(path: &Path) {
    let made = mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
    made.unwrap_or_else(|error| panic!("{} cannot be made as a named pipe: {error}", path.display()));
}
