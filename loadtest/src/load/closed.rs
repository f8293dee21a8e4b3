//! The closed loop: kept connections, each with one request in flight, on one thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    task::JoinSet,
};

use super::{
    Body, ClosedLoop, Load, PATIENCE, Tally, Target,
    connect::{Connector, Stream},
};
use crate::wire::{self, Answer};

/// How much of a body is written at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// The size of the buffer for an answer, in bytes.
const ANSWER: usize = 16 * 1024;
/// How often a connection may fail in a row before it gives up.
const MAX_FAILURES_IN_A_ROW: u32 = 100;

/// The connections and the thread that drives them.
pub(super) struct Closed {
    runtime: Runtime,
    /// Where they lead, and those that are open.
    kept: Option<(Target, Vec<Stream>)>,
}

/// What every connection of a phase does.
#[derive(Clone)]
struct ConnectionLoop {
    connector: Connector,
    reconnect: bool,
    head: Arc<[u8]>,
    /// What the body consists of, again and again, and how many bytes of that there are.
    piece: Arc<[u8]>,
    length: u64,
    /// What ends it.
    end: &'static [u8],
    until: Instant,
    /// How many more requests may begin.
    left: Arc<AtomicU64>,
}

impl Closed {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?, kept: None })
    }

    /// One phase.
    pub(super) fn run(&mut self, target: &Target, shape: &ClosedLoop) -> anyhow::Result<Load> {
        let ClosedLoop { seconds, connections, body, requests, reconnect } = *shape;
        let mut kept = match self.kept.take() {
            Some((before, kept)) if before == *target => kept,
            _ => Vec::new(),
        };
        kept.truncate(connections);
        let connector = Connector::new(target)?;
        let (piece, length, end) = encoded(body);
        let started = Instant::now();
        let job = ConnectionLoop {
            connector,
            reconnect,
            head: wire::request(body).into(),
            piece: piece.into(),
            length,
            end,
            until: started + Duration::from_secs_f64(seconds),
            left: Arc::new(AtomicU64::new(requests.unwrap_or(u64::MAX))),
        };
        let (tally, kept) = self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..connections {
                tasks.spawn(job.clone().connection(kept.pop()));
            }
            let mut sum = Tally::new();
            let mut kept = Vec::new();
            let end = tokio::time::Instant::from_std(job.until + PATIENCE);
            let mut outstanding = connections as u64;
            while let Ok(Some(done)) = tokio::time::timeout_at(end, tasks.join_next()).await {
                outstanding -= 1;
                match done {
                    Ok((tally, stream)) => {
                        sum.add(&tally);
                        kept.extend(stream);
                    }
                    Err(error) => sum.failed(&error.to_string()),
                }
            }
            for _ in 0..outstanding {
                sum.failed("no answer within the patience of the load");
            }
            (sum, kept)
        });
        self.kept = Some((target.clone(), kept));
        Ok(tally.into_load(started.elapsed()))
    }
}

impl ConnectionLoop {
    /// Sends requests one after the other until the time is up; gives back the connection if it can be used again.
    async fn connection(self, mut stream: Option<Stream>) -> (Tally, Option<Stream>) {
        let mut tally = Tally::new();
        let mut buffer = Vec::with_capacity(ANSWER);
        let mut failures = 0;
        while Instant::now() < self.until && failures < MAX_FAILURES_IN_A_ROW && self.begin() {
            let started = Instant::now();
            match self.exchange(&mut stream, &mut buffer).await {
                Ok(answer) => {
                    tally.answered(&answer, started.elapsed());
                    failures = 0;
                    if answer.close || self.reconnect {
                        stream = None;
                    }
                }
                Err(why) => {
                    tally.failed(&why);
                    failures += 1;
                    stream = None;
                    // A proxy that refuses everything is not to be asked as fast as possible.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }
        (tally, stream)
    }

    fn begin(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    async fn exchange(&self, stream: &mut Option<Stream>, buffer: &mut Vec<u8>) -> Result<Answer, String> {
        let stream = match stream {
            Some(stream) => stream,
            none => none.insert(self.connector.connect().await?),
        };
        self.send(stream).await.map_err(|error| format!("send: {error}"))?;
        buffer.clear();
        loop {
            let read = stream.read_buf(buffer).await.map_err(|error| format!("receive: {error}"))?;
            if read == 0 {
                return Err("closed without an answer".to_owned());
            }
            if let Some(answer) = wire::answer(buffer)? {
                return if answer.length == buffer.len() { Ok(answer) } else { Err("more than an answer".to_owned()) };
            }
        }
    }

    async fn send(&self, stream: &mut Stream) -> std::io::Result<()> {
        // A short body goes out together with its head.
        if self.length <= self.piece.len() as u64 && self.length > 0 && self.end.is_empty() {
            stream.write_all(&[&*self.head, &*self.piece].concat()).await?;
            return stream.flush().await;
        }
        stream.write_all(&self.head).await?;
        let mut left = self.length;
        while left > 0 {
            let piece = &self.piece[..self.piece.len().min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
            stream.write_all(piece).await?;
            left -= piece.len() as u64;
        }
        if !self.end.is_empty() {
            stream.write_all(self.end).await?;
        }
        // What TLS has taken may still wait for room in the socket.
        stream.flush().await
    }
}

/// A body on the wire: what is repeated, the length of all of it, and what ends it.
fn encoded(body: Body) -> (Vec<u8>, u64, &'static [u8]) {
    match body {
        Body::Length(length) => {
            (vec![b'x'; usize::try_from(length).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)], length, b"")
        }
        Body::Chunked { chunks, size } => {
            let data = "x".repeat(usize::try_from(size).unwrap_or(PIECE_BYTES));
            let chunk = format!("{size:x}\r\n{data}\r\n").into_bytes();
            let at_once = (PIECE_BYTES / chunk.len()).clamp(1, usize::try_from(chunks).unwrap_or(usize::MAX).max(1));
            (chunk.repeat(at_once), chunk.len() as u64 * chunks, b"0\r\n\r\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_consists_of_whole_chunks_and_an_end() {
        for (chunks, size) in [(1, 5), (3, 1), (100_000, 1), (1, 200_000), (2, 100_000)] {
            let (piece, length, end) = encoded(Body::Chunked { chunks, size });
            let mut wire: Vec<u8> = piece.iter().copied().cycle().take(usize::try_from(length).unwrap()).collect();
            wire.extend_from_slice(end);
            let (mut decoder, mut data) = (wire::Chunks::default(), 0);
            let taken = decoder.take(&wire, &mut data).unwrap();
            assert_eq!((taken, data, decoder.is_done()), (wire.len(), chunks * size, true));
        }
    }
}
