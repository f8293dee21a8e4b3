//! Bodies of answers that are written piece by piece, by code that may take its time.

use std::{io, time::Duration};

use axum::body::{Body, Bytes};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};

/// The size of a piece.
const PIECE: usize = 64 * 1024;

/// How long a client may take none.
const STALLED: Duration = Duration::from_secs(30);

/// Sends pieces to the connection, and waits while it has no room for them.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
}

/// A body that is written outside of the workers. If its writer fails or panics, it is cut, so that it does not look whole.
pub(crate) fn in_pieces(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()> + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = Pieces { sender, runtime: Handle::current() };
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(PIECE, pieces);
        write(&mut out)?;
        io::Write::flush(&mut out)
    });
    Body::from_stream(futures::stream::unfold(Some((receiver, writing)), |state| async {
        let (mut receiver, writing) = state?;
        match receiver.recv().await {
            Some(piece) => Some((piece, Some((receiver, writing)))),
            None => match writing.await.map_err(io::Error::other) {
                Ok(Ok(())) => None,
                Ok(Err(error)) | Err(error) => Some((Err(error), None)),
            },
        }
    }))
}

// === impl Pieces ===

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(PIECE)];
        let sending = self.sender.send(Ok(Bytes::copy_from_slice(bytes)));
        match self.runtime.block_on(timeout(STALLED, sending)) {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(_gone)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_body_comes_whole_and_in_pieces() {
        let line = b"0123456789abcde\n";
        let body = in_pieces(move |out| (0..100_000).try_for_each(|_| out.write_all(line)));
        let mut stream = body.into_data_stream();
        let (mut longest, mut length) = (0, 0);
        while let Some(piece) = futures::StreamExt::next(&mut stream).await {
            let piece = piece.expect("nothing fails");
            (longest, length) = (piece.len().max(longest), length + piece.len());
        }
        assert_eq!((longest, length), (PIECE, 100_000 * line.len()));
    }

    #[tokio::test]
    async fn a_body_whose_writer_fails_or_panics_does_not_look_whole() {
        for panics in [false, true] {
            let body = in_pieces(move |out| {
                out.write_all(b"begun")?;
                assert!(!panics, "as the test wants it");
                Err(io::ErrorKind::Other.into())
            });
            assert!(axum::body::to_bytes(body, usize::MAX).await.is_err(), "panics: {panics}");
        }
    }
}
