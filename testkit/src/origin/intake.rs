//! The reading side of a connection: bytes from the socket, request bodies out of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::log::Log;
use super::reply::Reading;
use crate::http::{BodyDecoder, Cut, End, Framing, RequestHead, head_end};

/// Bytes that are read at once at most, and read ahead while a reply is being written.
const READ_SIZE: usize = 64 << 10;

/// Pause between two steps of [`Reading::Rate`].
const RATE_STEP: Duration = Duration::from_millis(50);

/// The socket's incoming bytes, with those read but not taken yet. Every method may be cancelled and
/// called again.
pub(super) struct Inbox {
    stream: Arc<TcpStream>,
    log: Log,
    buffer: Vec<u8>,
    ended: Option<Cut>,
    scratch: Box<[u8]>,
}

/// How far the body of a request is, for the writing side.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) taken: u64,
    pub(super) end: End,
}

/// The body of one request on its way in.
pub(super) struct Intake<'a> {
    inbox: &'a mut Inbox,
    decoder: BodyDecoder,
    reading: Reading,
    request: usize,
    progress: watch::Sender<Progress>,
    /// What may still be read in this step of a rate.
    step_left: u64,
    at_gate: bool,
}

impl Inbox {
    pub(super) fn new(stream: Arc<TcpStream>, log: Log) -> Self {
        Self { stream, log, buffer: Vec::new(), ended: None, scratch: vec![0; READ_SIZE].into() }
    }

    /// Reads at least one byte and at most `limit`, or notes the end.
    async fn fill(&mut self, limit: usize) {
        let limit = limit.min(self.scratch.len());
        while self.ended.is_none() {
            // A peer that sends without a pause must not starve the other tasks of the runtime.
            tokio::task::coop::consume_budget().await;
            let ready = self.stream.readable().await;
            match ready.and_then(|()| self.stream.try_read(&mut self.scratch[..limit])) {
                Ok(0) => self.end(Cut::Eof),
                Ok(n) => {
                    self.buffer.extend_from_slice(&self.scratch[..n]);
                    self.log.received(n);
                    return;
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => self.end(Cut::Reset),
            }
        }
    }

    fn end(&mut self, how: Cut) {
        self.ended = Some(how);
        self.log.peer_ended(how);
    }

    /// Waits for a reset while nothing is read.
    async fn reset(&mut self) {
        loop {
            match self.stream.ready(Interest::ERROR).await {
                Ok(ready) if !ready.is_error() => tokio::task::yield_now().await,
                _ => break,
            }
        }
        self.end(Cut::Reset);
    }

    /// The next head, or `None` if there is none: the peer ended, or sent something else. What it
    /// sent is then in the journal as stray, and the flag says whether it was a fault.
    pub(super) async fn head(&mut self) -> Result<RequestHead, Option<String>> {
        loop {
            let parsed = match head_end(&self.buffer) {
                Ok(Some(end)) => RequestHead::parse(&self.buffer[..end]).map(|head| (head, end)),
                Ok(None) if self.ended.is_some() => {
                    self.log.stray(&self.buffer, None);
                    return Err(None);
                }
                Ok(None) => {
                    self.fill(READ_SIZE).await;
                    continue;
                }
                Err(fault) => Err(fault),
            };
            return match parsed {
                Ok((head, end)) => {
                    self.buffer.drain(..end);
                    Ok(head)
                }
                Err(fault) => {
                    self.log.stray(&self.buffer, Some(&fault));
                    self.buffer.clear();
                    Err(Some(fault))
                }
            };
        }
    }

    /// Records unused bytes as stray.
    pub(super) fn leave(mut self) {
        let rest = std::mem::take(&mut self.buffer);
        self.log.stray(&rest, None);
    }

    /// Whether no byte of a next request has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Reads exactly so many bytes as stray, or up to the end.
    pub(super) async fn swallow(&mut self, mut left: u64) {
        while left > 0 && self.ended.is_none() {
            self.fill(usize::try_from(left).unwrap_or(usize::MAX)).await;
            left -= self.buffer.len() as u64;
            self.log.stray(&self.buffer, None);
            self.buffer.clear();
        }
    }

    /// Reads as stray whatever comes until the peer ends.
    pub(super) async fn drain(&mut self) {
        self.log.stray(&self.buffer, None);
        self.buffer.clear();
        self.swallow(u64::MAX).await;
    }
}

impl<'a> Intake<'a> {
    pub(super) fn new(inbox: &'a mut Inbox, framing: Framing, reading: Reading, request: usize) -> Self {
        let mut intake = Self {
            inbox,
            decoder: BodyDecoder::new(framing),
            reading,
            request,
            progress: watch::Sender::new(Progress { taken: 0, end: End::Arriving }),
            step_left: 0,
            at_gate: false,
        };
        if intake.decoder.is_done() {
            intake.over(End::Complete);
        }
        intake
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn read_as(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// Reads the body to its end, whatever end that is.
    pub(super) async fn run(&mut self) -> End {
        loop {
            let Progress { taken, end } = self.progress.borrow().clone();
            if end.is_over() {
                return end;
            }
            let allowed = self.allowed(taken).await;
            if !self.inbox.buffer.is_empty() && allowed > 0 {
                self.take(allowed);
            } else if let Some(cut) = self.inbox.ended {
                self.over(End::Cut(cut));
            } else if allowed > 0 {
                self.inbox.fill(allowed).await;
            }
        }
    }

    /// Reads the body to its end, then reads ahead (within bounds) to notice when the peer ends its
    /// side. Never returns.
    pub(super) async fn run_and_watch(&mut self) -> std::convert::Infallible {
        self.run().await;
        while self.inbox.ended.is_none() && self.inbox.buffer.len() < READ_SIZE {
            self.inbox.fill(READ_SIZE).await;
        }
        std::future::pending().await
    }

    /// Waits until the peer has ended its side, reading the body as scripted meanwhile.
    pub(super) async fn until_peer_ends(&mut self) {
        self.run().await;
        self.inbox.drain().await;
    }

    /// How many bytes the script lets it read now. 0, after a wait, means to ask again.
    async fn allowed(&mut self, taken: u64) -> usize {
        let allowed = match &self.reading {
            Reading::Full => return usize::MAX,
            Reading::HeldAfter(_, gate) if gate.is_open() => return usize::MAX,
            Reading::HeldAfter(limit, gate) => {
                if taken < *limit {
                    limit - taken
                } else if self.inbox.ended.is_some() {
                    0
                } else {
                    if !self.at_gate {
                        gate.arrive();
                        self.at_gate = true;
                    }
                    let gate = gate.clone();
                    tokio::select! {
                        () = gate.opened() => {}
                        () = self.inbox.reset() => {}
                    }
                    return 0;
                }
            }
            Reading::Rate(per_second) => {
                if self.step_left == 0 {
                    tokio::time::sleep(RATE_STEP).await;
                    self.step_left = (per_second / 20).max(1);
                }
                self.step_left
            }
        };
        usize::try_from(allowed).unwrap_or(usize::MAX)
    }

    /// Takes up to `allowed` bytes of the body out of the buffer.
    fn take(&mut self, allowed: usize) {
        let buffer = &mut self.inbox.buffer;
        let offered = buffer.len().min(allowed);
        let mut decoded = Vec::with_capacity(offered);
        let fed = self.decoder.feed(&buffer[..offered], &mut decoded);
        // All that was offered has been looked at when the framing is found to be broken.
        let taken = *fed.as_ref().unwrap_or(&offered);
        self.inbox.log.body(self.request, &buffer[..taken], &decoded);
        buffer.drain(..taken);
        self.step_left = self.step_left.saturating_sub(taken as u64);
        self.progress.send_modify(|p| p.taken += taken as u64);
        match fed {
            Err(fault) => self.over(End::Malformed(fault)),
            Ok(_) if self.decoder.is_done() => self.over(End::Complete),
            Ok(_) => {}
        }
    }

    fn over(&mut self, end: End) {
        let log = &self.inbox.log;
        log.ended(self.request, end.clone(), self.decoder.trailers());
        self.progress.send_modify(|p| p.end = end);
    }
}
