//! Opens and reads the files that settings name: regular ones only, because reading a pipe or a device may never end.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_setfl};

/// A larger file (16 MiB) is not read.
pub const MAX_BYTES: u64 = 16 << 20;

/// An empty file, as far as anybody who reads it can tell.
const EMPTY: &str = "/dev/null";

/// Opens a regular file; symbolic links are followed. A pipe without a writer is not waited for.
///
/// # Errors
/// It is not a regular file, or cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening a device may have an effect already, so the path is looked up first; it may become another one in between.
    check_regular(&std::fs::metadata(path)?)?;
    let file = open_without_waiting(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file of at most [`MAX_BYTES`]. Blocks the thread.
///
/// # Errors
/// It is larger, is not a regular file, or cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MAX_BYTES)
}

/// Reads a regular file of at most so many bytes. Blocks the thread.
///
/// # Errors
/// It is larger, is not a regular file, or cannot be read.
pub fn read_at_most(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    read_to_end(open(path)?, at_most)
}

/// Reads a file that is read only once, of at most so many bytes. Apart from a regular file it may be what the caller of the process has opened for it
/// (`/dev/stdin`, or `/dev/fd/63` as shells write `<(command)`), and `/dev/null`. Blocks the thread.
///
/// # Errors
/// It is larger, is something else, or cannot be read.
pub fn read_once(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    if path == Path::new(EMPTY) {
        return Ok(Vec::new());
    }
    if is_standard_input(path) {
        return read_standard_input(at_most);
    }
    if !is_descriptor(path) || std::fs::metadata(path)?.is_dir() {
        return read_at_most(path, at_most);
    }
    let file = open_without_waiting(path)?;
    fcntl_setfl(&file, OFlags::empty())?;
    read_to_end(file, at_most)
}

/// Reads standard input to its end, at most so many bytes. Blocks the thread.
///
/// # Errors
/// It is longer, or cannot be read.
pub fn read_standard_input(at_most: u64) -> io::Result<Vec<u8>> {
    read_to_end(File::from(io::stdin().as_fd().try_clone_to_owned()?), at_most)
}

/// Refuses what is not a regular file.
pub(crate) fn check_regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory; name a file in it"));
    } else if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    };
    let why = format!("it is a {what}, which may never end; name a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// One byte more than is allowed is read, so that a longer file is noticed whatever its length is said to be.
fn read_to_end(file: File, at_most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(at_most.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > at_most {
        let why = format!("it has more than the {at_most} bytes allowed");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(content)
}

fn is_standard_input(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].iter().any(|name| path == Path::new(name))
}

/// Whether the path names something that is open in this process.
fn is_descriptor(path: &Path) -> bool {
    let folder = path.parent();
    ["/dev/fd", "/proc/self/fd"].iter().any(|name| folder == Some(Path::new(name)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn refused(path: &Path) -> [String; 2] {
        let told = |read: io::Result<Vec<u8>>| read.expect_err("it is not a regular file").to_string();
        [told(read(path)), told(read_once(path, MAX_BYTES))]
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_at_once_also_behind_a_link() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = |name: &str| folder.path().join(name);
        testkit::named_pipe::make(&path("pipe"));
        symlink("pipe", path("link")).expect("links");
        let _listener = UnixListener::bind(path("socket")).expect("binds");
        for (path, what) in [
            (path("pipe"), "named pipe"),
            (path("link"), "named pipe"),
            (path("socket"), "socket"),
            (folder.path().to_owned(), "directory"),
            ("/dev/zero".into(), "device"),
        ] {
            for told in refused(&path) {
                assert!(told.contains(&format!("it is a {what}")) && told.contains("; name a"), "{told}");
            }
        }
    }

    #[test]
    fn what_the_caller_has_opened_can_be_read_once() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(b"content").expect("it fits");
        drop(writer);
        for folder in ["/dev/fd", "/proc/self/fd"] {
            let path = format!("{folder}/{}", reader.as_raw_fd());
            let expected = if folder == "/dev/fd" { "content" } else { "" };
            assert_eq!(read_once(path.as_ref(), 7).expect("it can be read"), expected.as_bytes());
            assert!(read(path.as_ref()).expect_err("not a regular file").to_string().contains("named pipe"));
        }
        assert_eq!(read_once("/dev/null".as_ref(), 0).expect("it is empty"), b"");
    }

    #[test]
    fn a_longer_file_is_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("file");
        std::fs::write(&path, "1234").expect("writes");
        assert_eq!(read_once(&path, 4).expect("it fits"), b"1234");
        assert!(read_once(&path, 3).expect_err("too long").to_string().contains("more than the 3 bytes allowed"));
    }
}
