//! Writes the lines of the access log to a file, survives slow readers and errors, and then reports how many lines were lost.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;

use super::{
    lines::{BATCH, Lines, QueueItem},
    timestamp,
};

/// The first pause after an error; each further one is twice as long, up to [`MAX_RETRY_DELAY`].
const MIN_RETRY_DELAY: Duration = Duration::from_millis(2);

/// The longest pause where nothing can be written, for instance on a full disk.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(500);

/// The longest pause where a reader is slow.
const MAX_BUSY_DELAY: Duration = Duration::from_millis(50);

/// What a buffer keeps at most of its memory once what was in it is written.
const MAX_KEPT_BYTES: usize = 2 * BATCH;

/// The line about lost entries.
#[derive(Serialize)]
struct Lost<'a> {
    time: String,
    lost: u64,
    reason: &'a str,
}

/// Writes lines.
pub(super) struct Writer<W> {
    out: W,
    json: bool,
    /// Lost entries that were reported.
    told: u64,
    /// The last error.
    last_error: String,
}

/// Standard output without a buffer, so that the number of written bytes is exact.
pub(super) fn standard_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

// === impl Writer ===

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, json: bool) -> Self {
        Self { out, json, told: 0, last_error: "standard output is read too slowly".to_owned() }
    }

    /// Writes lines until the queue is closed.
    pub(super) fn run(mut self, lines: &Lines) {
        let (mut batch, mut last_write) = (Vec::new(), None);
        while let QueueItem::Lines { dropped, flushes } = lines.take(&mut batch, last_write) {
            self.write(&mut batch);
            if dropped > self.told {
                self.tell_lost(&mut batch, dropped);
            }
            batch.shrink_to(MAX_KEPT_BYTES);
            last_write = Some(Instant::now());
            for flush in flushes {
                // The waiter may have given up.
                let _ = flush.try_send(());
            }
        }
    }

    /// Reports the entries that were lost since the last report; `dropped` counts from the start.
    fn tell_lost(&mut self, batch: &mut Vec<u8>, dropped: u64) {
        let lost = Lost { time: timestamp(SystemTime::now()), lost: dropped - self.told, reason: &self.last_error };
        self.told = dropped;
        let line = match self.json {
            true => serde_json::to_string(&lost).unwrap_or_default(),
            false => format!("{} lost={} reason=\"{}\"", lost.time, lost.lost, lost.reason),
        };
        batch.extend_from_slice(line.as_bytes());
        batch.push(b'\n');
        self.write(batch);
    }

    /// Writes the whole batch, however long that takes; entries that come meanwhile are queued, or dropped and counted.
    fn write(&mut self, batch: &mut Vec<u8>) {
        let (mut rest, mut pause, mut trouble) = (&batch[..], MIN_RETRY_DELAY, false);
        while !rest.is_empty() {
            let error = match self.out.write(rest) {
                Ok(0) => io::Error::from(ErrorKind::WriteZero),
                Ok(written) => {
                    (rest, pause) = (&rest[written..], MIN_RETRY_DELAY);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            // A non-blocking pipe with a slow reader is not an error.
            let busy = error.kind() == ErrorKind::WouldBlock;
            if !busy {
                self.last_error = format!("standard output could not be written: {error}");
                if !std::mem::replace(&mut trouble, true) {
                    tracing::error!(%error, "cannot write the access log to standard output, trying again");
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(if busy { MAX_BUSY_DELAY } else { MAX_RETRY_DELAY });
        }
        batch.clear();
        if trouble {
            tracing::info!("the access log is written again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Accepts the scripted numbers of bytes, or fails as scripted. After the script it accepts everything.
    struct Scripted {
        script: Vec<Result<usize, i32>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = match self.script.pop() {
                None => bytes.len(),
                Some(Ok(taken)) => taken.min(bytes.len()),
                Some(Err(code)) => return Err(io::Error::from_raw_os_error(code)),
            };
            self.written.lock().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const EINTR: i32 = 4;
    const EIO: i32 = 5;
    const EAGAIN: i32 = 11;
    const ENOSPC: i32 = 28;

    /// What is written of two lines by a writer whose file does what the script says; `lost` entries have been lost.
    fn written(script: &[Result<usize, i32>], json: bool, lost: u64) -> String {
        let (written, lines) = (Arc::<Mutex<Vec<u8>>>::default(), Lines::default());
        let out = Scripted { script: script.iter().rev().copied().collect(), written: written.clone() };
        lines.put(b"one\n");
        lines.put(b"two\n");
        for _ in 0..lost {
            lines.put(&vec![b'x'; 8 * 1024 * 1024]);
        }
        let flushed = lines.flush();
        lines.close();
        Writer::new(out, json).run(&lines);
        flushed.recv().expect("is told that it is written");
        let written = written.lock().clone();
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn it_goes_on_after_every_error_with_each_line_once_and_whole() {
        assert_eq!(written(&[], false, 0), "one\ntwo\n");
        let script = [Ok(2), Err(ENOSPC), Err(ENOSPC), Ok(1), Err(EAGAIN), Err(EINTR), Err(EIO), Ok(0), Ok(1)];
        assert_eq!(written(&script, false, 0), "one\ntwo\n");
    }

    #[test]
    fn a_line_says_how_many_were_lost_and_why() {
        let text = written(&[Err(ENOSPC)], false, 7);
        let (entries, lost) = text.split_at("one\ntwo\n".len());
        assert_eq!(entries, "one\ntwo\n");
        assert!(lost.contains(" lost=7 reason=\"standard output could not be written: No space left"), "{text}");
        let json = written(&[], true, 3);
        let lost: serde_json::Value = serde_json::from_str(json.lines().nth(2).expect("a third line")).expect("JSON");
        assert_eq!(lost["lost"], 3);
        assert!(lost["time"].is_string() && lost["reason"].is_string(), "{lost}");
    }
}
