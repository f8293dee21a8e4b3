//! The body of the request: a text, a file or standard input. A long one is read while it is sent, so that it needs no memory.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::AsFd as _,
    path::Path,
    sync::{Arc, OnceLock},
};

use axum::body::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::io::AsyncReadExt as _;

/// Up to this length a body is read before it is sent, so that its length is known, whatever it comes from.
const READ_FIRST: usize = 1 << 20;

/// The size of the pieces in which the rest is read.
const PIECE: usize = 64 << 10;

/// A body that can be sent.
pub(crate) struct Body {
    /// Its first bytes.
    first: Bytes,
    rest: Option<Rest>,
}

/// What follows them.
struct Rest {
    file: File,
    name: String,
    /// Its length, if it is a regular file.
    length: Option<u64>,
}

/// Why a body could not be read to its end; empty while it could.
pub(super) type ReadFailure = Arc<OnceLock<String>>;

/// What is read, and how much of it is left.
struct Reading {
    file: tokio::fs::File,
    name: String,
    left: Option<u64>,
    failure: ReadFailure,
}

// === impl Body ===

impl Body {
    /// The body that is given as `TEXT`, `@FILE` or `@-`.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn open(data: Option<&str>) -> Result<Self, String> {
        let Some(data) = data else { return Ok(Self { first: Bytes::new(), rest: None }) };
        let (name, file) = match data.strip_prefix('@') {
            None => return Ok(Self { first: data.to_owned().into(), rest: None }),
            Some("-") => ("standard input", io::stdin().as_fd().try_clone_to_owned().map(File::from)),
            Some(path) => (path, File::open(Path::new(path))),
        };
        let read = file.and_then(|file| Self::read(file, name));
        read.map_err(|error| format!("cannot read {name}: {error}"))
    }

    fn read(mut file: File, name: &str) -> io::Result<Self> {
        let mut first = Vec::new();
        file.by_ref().take(READ_FIRST as u64).read_to_end(&mut first)?;
        let is_whole = first.len() < READ_FIRST;
        let metadata = file.metadata()?;
        // The position of standard input in its file is not known.
        let is_file = metadata.is_file() && name != "standard input";
        let length = is_file.then(|| metadata.len().saturating_sub(first.len() as u64));
        let rest = Rest { file, name: name.to_owned(), length };
        Ok(Self { first: first.into(), rest: (!is_whole).then_some(rest) })
    }

    /// Its length, if it is known.
    pub(super) fn length(&self) -> Option<u64> {
        let first = self.first.len() as u64;
        self.rest.as_ref().map_or(Some(first), |rest| rest.length.map(|length| first + length))
    }

    /// The body for a request, and why it could not be read to its end.
    pub(super) fn into_http(self) -> (UnsyncBoxBody<Bytes, io::Error>, ReadFailure) {
        let failure = ReadFailure::default();
        let Self { first, rest } = self;
        let Some(Rest { file, name, length }) = rest else {
            return (Full::new(first).map_err(|never| match never {}).boxed_unsync(), failure);
        };
        let file = tokio::fs::File::from_std(file);
        let reading = Reading { file, name, left: length, failure: failure.clone() };
        let pieces = stream::once(async { Ok(first) }).chain(stream::try_unfold(reading, Reading::next));
        (StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync(), failure)
    }
}

// === impl Reading ===

impl Reading {
    /// The next piece; none at the end.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let most = self.left.map_or(PIECE, |left| usize::try_from(left).unwrap_or(PIECE).min(PIECE));
        let mut piece = Vec::with_capacity(most);
        // What was appended to a file since its length was looked up is not sent.
        let read = if most == 0 { Ok(0) } else { (&mut self.file).take(most as u64).read_buf(&mut piece).await };
        let read = match (read, self.left) {
            (Ok(0), Some(1..)) => Err(io::Error::other("it has become shorter")),
            (read, _) => read,
        };
        match read {
            Ok(0) => Ok(None),
            Ok(count) => {
                self.left = self.left.map(|left| left - count as u64);
                Ok(Some((piece.into(), self)))
            }
            Err(error) => {
                // Only the first failure is set, and there is no second one.
                let _ = self.failure.set(format!("cannot read {}: {error}", self.name));
                Err(error)
            }
        }
    }
}
