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
    Load, PATIENCE, Shape, Tally, Target,
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
    piece: Arc<[u8]>,
    body: u64,
    until: Instant,
    /// How many more requests may begin.
    left: Arc<AtomicU64>,
}

impl Closed {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?, kept: None })
    }

    /// One phase.
    pub(super) fn run(&mut self, target: &Target, shape: &Shape) -> anyhow::Result<Load> {
        let Shape::Closed { seconds, connections, body, requests, reconnect } = *shape else {
            anyhow::bail!("not a closed loop");
        };
        let mut kept = match self.kept.take() {
            Some((before, kept)) if before == *target => kept,
            _ => Vec::new(),
        };
        kept.truncate(connections);
        let connector = Connector::new(target)?;
        let started = Instant::now();
        let job = ConnectionLoop {
            connector,
            reconnect,
            head: wire::request(body).into(),
            piece: vec![b'x'; usize::try_from(body).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)].into(),
            body,
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
        if self.body <= self.piece.len() as u64 && self.body > 0 {
            stream.write_all(&[&*self.head, &*self.piece].concat()).await?;
            return stream.flush().await;
        }
        stream.write_all(&self.head).await?;
        let mut left = self.body;
        while left > 0 {
            let piece = &self.piece[..self.piece.len().min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
            stream.write_all(piece).await?;
            left -= piece.len() as u64;
        }
        // What TLS has taken may still wait for room in the socket.
        stream.flush().await
    }
}
