//! Output of commands: to standard output, whose reader may close it, and to standard error, which may be closed.

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

/// The exit status that a shell reports for a program that SIGPIPE has ended: the reader has closed its output.
const READER_GONE: u8 = 128 + 13;

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct Unwritable(#[from] io::Error);

/// Writes to standard output, at once.
///
/// # Errors
/// It is closed or full, or its reader has closed it.
pub(crate) fn print(text: &str) -> Result<(), Unwritable> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line to standard error. If that is closed, nobody can read it.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints why a command has failed, unless the reader has closed its output, as `head` does. Returns the exit status.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    let unwritable = error.downcast_ref::<Unwritable>();
    if unwritable.is_some_and(|Unwritable(why)| why.kind() == io::ErrorKind::BrokenPipe) {
        return READER_GONE.into();
    }
    tell(why(error));
    ExitCode::FAILURE
}

/// What is told of an error: its causes, without the secrets in their URLs.
pub(crate) fn why(error: &anyhow::Error) -> String {
    format!("fanfare: {}", runtime::redact::urls(&format!("{error:#}")))
}
