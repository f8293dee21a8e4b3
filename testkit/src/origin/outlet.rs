//! The writing side of a connection: a reply, cut up by what is to happen where in it.

use std::io;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::intake::Progress;
use super::log::Log;
use super::reply::{Act, At, Body, Reply, When};

/// A filler's piece is repeated up to this size, in bytes, so that a small one is not slow.
const FILLER_SIZE: usize = 64 << 10;

/// How the writing of a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Everything is written.
    All,
    /// The connection is to be closed now.
    Close,
    /// The sending half is closed.
    HalfClose,
    /// The connection is to be reset now.
    Reset,
    /// Nothing more is to be written.
    Hang,
    /// The peer takes nothing any more, or there is no request to answer.
    Nothing,
}

/// Where a reply goes.
pub(super) struct Outlet<'a> {
    pub(super) stream: &'a TcpStream,
    pub(super) log: &'a Log,
    pub(super) request: usize,
    pub(super) progress: watch::Receiver<Progress>,
}

/// The body bytes of a reply, as written.
enum Tail {
    Pieces(std::vec::IntoIter<Vec<u8>>),
    Repeat { piece: Vec<u8>, left: Option<u64> },
}

impl Outlet<'_> {
    /// Writes the reply to a request of that method, as scripted.
    pub(super) async fn write(mut self, reply: &Reply, method: &str) -> Wrote {
        if !reply.interim.is_empty() && send(self.stream, self.log, None, &reply.interim).await.is_err() {
            return Wrote::Nothing;
        }
        if !self.started(reply.when).await {
            return Wrote::Nothing;
        }
        let (first, body_at, mut tail) = encode(reply, method);
        let mut acts: Vec<(u64, &Act)> = reply.acts.iter().map(|(at, act)| (offset(*at, body_at), act)).collect();
        acts.sort_by_key(|(at, _)| *at);
        let mut acts = acts.into_iter().peekable();

        let mut sent: u64 = 0;
        let mut piece = Some(first);
        while let Some(bytes) = piece {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                while let Some((_, act)) = acts.next_if(|(at, _)| *at <= sent) {
                    if let Some(end) = self.act(act).await {
                        return end;
                    }
                }
                let mut n = rest.len();
                if let Some((at, _)) = acts.peek() {
                    n = n.min(usize::try_from(at - sent).unwrap_or(usize::MAX));
                }
                if let Some((most, pause)) = reply.drip {
                    n = n.min(most);
                    if sent > 0 {
                        tokio::time::sleep(pause).await;
                    }
                }
                let now = &rest[..n];
                if send(self.stream, self.log, Some(self.request), now).await.is_err() {
                    return Wrote::Nothing;
                }
                sent += n as u64;
                rest = &rest[n..];
            }
            piece = tail.next();
        }
        for (_, act) in acts {
            if let Some(end) = self.act(act).await {
                return end;
            }
        }
        self.log.answered(self.request);
        Wrote::All
    }

    /// Waits until the answer may start; `false` if it never may.
    async fn started(&mut self, when: When) -> bool {
        let reached = |p: &Progress| match when {
            When::Head => true,
            When::Complete => p.end.is_over(),
            When::Body(n) => p.end.is_over() || p.taken >= n,
        };
        let Ok(progress) = self.progress.wait_for(reached).await else {
            return false;
        };
        when != When::Complete || progress.end.is_complete()
    }

    async fn act(&self, act: &Act) -> Option<Wrote> {
        match act {
            Act::Hold(gate) => gate.pass().await,
            Act::Pause(pause) => tokio::time::sleep(*pause).await,
            Act::Close => return Some(Wrote::Close),
            Act::HalfClose => return Some(Wrote::HalfClose),
            Act::Reset => return Some(Wrote::Reset),
            Act::Hang => return Some(Wrote::Hang),
        }
        None
    }
}

impl Iterator for Tail {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Pieces(pieces) => pieces.next(),
            Self::Repeat { piece, left: None } => Some(piece.clone()),
            Self::Repeat { left: Some(0), .. } => None,
            Self::Repeat { piece, left: Some(left) } => {
                let n = usize::try_from(*left).map_or(piece.len(), |left| left.min(piece.len()));
                *left -= n as u64;
                Some(piece[..n].to_vec())
            }
        }
    }
}

/// Writes the bytes, and notes each part the kernel takes.
pub(super) async fn send(stream: &TcpStream, log: &Log, request: Option<usize>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        tokio::task::coop::consume_budget().await;
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(n) => {
                log.sent(request, n);
                bytes = &bytes[n..];
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The first bytes (head, and a small body with it), where the body starts, and the rest.
fn encode(reply: &Reply, method: &str) -> (Vec<u8>, u64, Tail) {
    let none = Tail::Pieces(Vec::new().into_iter());
    if let Some(raw) = &reply.raw {
        let head = raw.windows(4).position(|w| w == b"\r\n\r\n");
        let body_at = head.map_or(raw.len(), |at| at + 4);
        return (raw.clone(), body_at as u64, none);
    }
    let mut first = reply.head();
    let body_at = first.len() as u64;
    let bodyless = reply.status < 200 || reply.status == 204 || reply.status == 304;
    if method == "HEAD" || bodyless {
        return (first, body_at, none);
    }
    let tail = match &reply.body {
        Body::Bare => none,
        // In one piece with the head, so that an ordinary answer is one write.
        Body::Length(body) | Body::UntilClose(body) => {
            first.extend_from_slice(body);
            none
        }
        Body::Chunked(chunks) => {
            for chunk in chunks {
                first.extend_from_slice(&coded(chunk));
            }
            first.extend_from_slice(b"0\r\n");
            first.extend_from_slice(&reply.trailers);
            first.extend_from_slice(b"\r\n");
            none
        }
        Body::Filler { piece, length: None } => Tail::Repeat { piece: coded(piece), left: None },
        Body::Filler { piece, length } => {
            Tail::Repeat { piece: piece.repeat(FILLER_SIZE.div_ceil(piece.len())), left: *length }
        }
    };
    (first, body_at, tail)
}

fn coded(chunk: &[u8]) -> Vec<u8> {
    let size = format!("{:x}\r\n", chunk.len());
    [size.as_bytes(), chunk, b"\r\n"].concat()
}

fn offset(at: At, body_at: u64) -> u64 {
    match at {
        At::Start => 0,
        At::Byte(n) => n,
        At::Body(n) => body_at + n,
        At::End => u64::MAX,
    }
}
