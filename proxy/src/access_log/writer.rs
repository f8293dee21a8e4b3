//! Writes the lines of the access log to a file that may take them late or not at all for a while: it goes on when it can, and then
//! says how many were lost.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use serde::Serialize;

use super::timestamp;

/// The first pause after an error; each further one is twice as long, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(2);

/// The longest pause where nothing can be written, for instance on a full disk.
const LONGEST: Duration = Duration::from_millis(500);

/// The longest pause where a reader is slow.
const LONGEST_BUSY: Duration = Duration::from_millis(50);

/// Bytes that are written together.
const BATCH: usize = 64 * 1024;

/// What those who log and the writer share.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Entries that found no room.
    pub(super) dropped: AtomicU64,
    /// LogRecord when what was queued before is written.
    asked: Mutex<Option<SyncSender<()>>>,
}

/// What is written where entries were lost.
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
    counters: Arc<Counters>,
    /// Lost entries that have been told.
    told: u64,
    /// What the last error was.
    last_error: String,
}

/// Standard output without a buffer in between, so that what was not written is known to the byte.
pub(super) fn standard_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

// === impl Counters ===

impl Counters {
    /// Asks to be told when what is queued now is written.
    pub(super) fn ask(&self) -> Receiver<()> {
        let (sender, receiver) = sync_channel(1);
        *self.asked.lock() = Some(sender);
        receiver
    }
}

// === impl Writer ===

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, json: bool, counters: Arc<Counters>) -> Self {
        let last_error = "standard output takes them too slowly".to_owned();
        Self { out, json, counters, told: 0, last_error }
    }

    /// Writes lines until every log that could send one is gone.
    pub(super) fn run(mut self, lines: &Receiver<String>) {
        let mut batch = Vec::new();
        while let Ok(line) = lines.recv() {
            // Before the queue is emptied: whoever asks has put what it waits for there before.
            let asked = self.counters.asked.lock().take();
            put(&mut batch, &line);
            // One write for all that has come meanwhile.
            for line in lines.try_iter() {
                put(&mut batch, &line);
                if batch.len() >= BATCH {
                    self.write(&mut batch);
                }
            }
            self.write(&mut batch);
            self.tell_lost(&mut batch);
            if let Some(asked) = asked {
                // Who waits no longer need not know.
                let _ = asked.try_send(());
            }
        }
    }

    /// Says how many entries were lost since that was last said.
    fn tell_lost(&mut self, batch: &mut Vec<u8>) {
        let dropped = self.counters.dropped.load(Ordering::Relaxed);
        if dropped == self.told {
            return;
        }
        let lost = Lost { time: timestamp(SystemTime::now()), lost: dropped - self.told, reason: &self.last_error };
        self.told = dropped;
        let line = match self.json {
            true => serde_json::to_string(&lost).unwrap_or_default(),
            false => format!("{} lost={} reason=\"{}\"", lost.time, lost.lost, lost.reason),
        };
        put(batch, &line);
        self.write(batch);
    }

    /// Writes all of it, however long that takes: entries that come meanwhile wait, or are lost and counted.
    fn write(&mut self, batch: &mut Vec<u8>) {
        let (mut rest, mut pause, mut trouble) = (&batch[..], SHORTEST, false);
        while !rest.is_empty() {
            let error = match self.out.write(rest) {
                Ok(0) => io::Error::from(ErrorKind::WriteZero),
                Ok(written) => {
                    (rest, pause) = (&rest[written..], SHORTEST);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            // A pipe that others have made non-blocking, and whose reader is slow: no fault.
            let busy = error.kind() == ErrorKind::WouldBlock;
            if !busy {
                self.last_error = format!("standard output could not be written: {error}");
                if !std::mem::replace(&mut trouble, true) {
                    tracing::error!(%error, "cannot write the access log to standard output, trying again");
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(if busy { LONGEST_BUSY } else { LONGEST });
        }
        batch.clear();
        if trouble {
            tracing::info!("the access log is written again");
        }
    }
}

/// Puts a line at the end; an empty one only wakes the writer.
fn put(batch: &mut Vec<u8>, line: &str) {
    if !line.is_empty() {
        batch.extend_from_slice(line.as_bytes());
        batch.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what the script says: so many bytes, or an error. After the script it takes everything.
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

    /// What is written of these lines by a writer whose file does what the script says, so many others having been lost.
    fn written(script: &[Result<usize, i32>], json: bool, lost: u64) -> String {
        let (written, counters) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Counters>::default());
        counters.dropped.store(lost, Ordering::Relaxed);
        let out = Scripted { script: script.iter().rev().copied().collect(), written: written.clone() };
        let (sender, receiver) = sync_channel(10);
        for line in ["one", "two"] {
            sender.send(line.to_owned()).unwrap();
        }
        let asked = counters.ask();
        drop(sender);
        Writer::new(out, json, counters).run(&receiver);
        asked.recv().expect("is told that it is written");
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
