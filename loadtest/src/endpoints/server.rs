//! The harness's own endpoints: one thread, any number of listeners, persistent connections, and a count of whole requests.

use std::{
    cell::RefCell,
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr, TcpStream as StdStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::ready,
    time::Duration,
};

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead as _, AsyncWriteExt as _, BufReader, ReadBuf},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use super::{Control, Counts, Special, http2};
use crate::{
    cli,
    wire::{self, Chunks},
};

/// The size of the read buffer, in bytes.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// The time limit of the check that an address drops SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// The first bytes of HTTP/2's preface.
const HTTP2: [u8; 3] = *b"PRI";

thread_local! {
    /// One buffer for all connections: bodies are only counted.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER_BYTES].into());
}

/// The counts of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) copies: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// One endpoint.
struct Endpoint {
    address: SocketAddr,
    special: Option<Special>,
    count: Arc<Count>,
    /// The task of its listener, which owns its connections.
    task: Option<JoinHandle<()>>,
    /// An endpoint that drops SYNs or refuses connections: the socket with its address, and the connections that fill its queue.
    _dead: Option<(Socket, Vec<StdStream>)>,
}

/// Serves until standard input ends; prints the addresses first.
pub(crate) fn serve(arguments: &cli::Endpoints) -> anyhow::Result<()> {
    let mut special = vec![None; arguments.count];
    for text in &arguments.special {
        let (index, kind) = text.split_once(':').context("--special is index:kind")?;
        *special.get_mut(index.parse::<usize>()?).context("no such endpoint")? = Some(kind.parse::<Special>()?);
    }
    // Otherwise the kernel blocks this thread, and all endpoints with it, whenever it enlarges the table.
    runtime::limits::make_room_for_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let mut endpoints = Vec::new();
        for special in special {
            endpoints.push(Endpoint::new(special).await?);
        }
        let addresses: Vec<SocketAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
        println!("{}", serde_json::to_string(&addresses)?);
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            println!("{}", obey(&mut endpoints, serde_json::from_str(&line)?).await?);
        }
        anyhow::Ok(())
    });
    // Standard input has a thread of its own, which must not be waited for.
    runtime.shutdown_background();
    served
}

async fn obey(endpoints: &mut [Endpoint], control: Control) -> anyhow::Result<String> {
    match control {
        Control::Count => {
            let copies = endpoints.iter().map(|endpoint| endpoint.count.copies.load(Ordering::Relaxed)).collect();
            let bytes = endpoints.iter().map(|endpoint| endpoint.count.bytes.load(Ordering::Relaxed)).sum();
            return Ok(serde_json::to_string(&Counts { copies, bytes })?);
        }
        Control::Stop(index) => {
            if let Some(task) = endpoints.get_mut(index).context("no such endpoint")?.task.take() {
                task.abort();
                // Ends as cancelled, with its listener and connections closed.
                let _ = task.await;
            }
        }
        Control::Start(index) => {
            let endpoint = endpoints.get_mut(index).context("no such endpoint")?;
            endpoint.listen(TcpListener::bind(endpoint.address).await?);
        }
    }
    Ok("true".to_owned())
}

impl Endpoint {
    async fn new(special: Option<Special>) -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let dead = match special {
            Some(Special::Dropped) => Some(full(any)?),
            Some(Special::Refused) => Some(refusing(any)?),
            _ => None,
        };
        if let Some((address, dead)) = dead {
            return Ok(Self { address, special, count: Arc::default(), task: None, _dead: Some(dead) });
        }
        let listener = TcpListener::bind(any).await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let mut endpoint = Self { address, special, count: Arc::default(), task: None, _dead: None };
        endpoint.listen(listener);
        Ok(endpoint)
    }

    fn listen(&mut self, listener: TcpListener) {
        let (special, count) = (self.special, self.count.clone());
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => {
                            let count = count.clone();
                            // A connection ends when its peer has closed it, which is no error.
                            connections.spawn(async move { connection(stream, special, count).await.ok() });
                        }
                        // Out of descriptors: other connections have to end first.
                        Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        }));
    }
}

/// An address that refuses connections and is reserved: its socket never listens.
fn refusing(any: SocketAddr) -> anyhow::Result<(SocketAddr, (Socket, Vec<StdStream>))> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&any.into())?;
    let address = socket.local_addr()?.as_socket().context("an address of the Internet")?;
    Ok((address, (socket, Vec::new())))
}

/// An address that drops SYNs: its accept queue is full, and nothing accepts.
fn full(any: SocketAddr) -> anyhow::Result<(SocketAddr, (Socket, Vec<StdStream>))> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&any.into())?;
    socket.listen(0)?;
    let address = socket.local_addr()?.as_socket().context("an address of the Internet")?;
    let mut filling = Vec::new();
    // Two or three connections fill it; a successful connect on loopback returns at once.
    for _ in 0..16 {
        match StdStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => filling.push(stream),
            Err(_) => return Ok((address, (socket, filling))),
        }
    }
    anyhow::bail!("the system lets connections into a full queue")
}

async fn connection(mut stream: TcpStream, special: Option<Special>, count: Arc<Count>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; HTTP2.len()];
    // A client of HTTP/2 writes the whole preface at once.
    if stream.peek(&mut first).await? == first.len() && first == HTTP2 {
        return http2::serve(stream, count).await.map_err(std::io::Error::other);
    }
    // The part of an incomplete head.
    let mut head = Vec::new();
    let mut body = Left::default();
    loop {
        let read = read(&mut stream).await?;
        if read == 0 {
            return Ok(());
        }
        let complete = SCRATCH.with_borrow(|scratch| take(&scratch[..read], &mut head, &mut body, &count))?;
        for _ in 0..complete {
            match special {
                Some(Special::Silent) => continue,
                Some(Special::Slow(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
                Some(Special::Dropped | Special::Refused) | None => {}
            }
            stream.write_all(wire::ANSWER).await?;
        }
    }
}

/// Reads into the scratch buffer.
async fn read(stream: &mut TcpStream) -> std::io::Result<usize> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut into = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut into))?;
            Ok(into.filled().len()).into()
        })
    })
    .await
}

/// What is missing of a body.
#[derive(Clone, Copy, Debug)]
enum Left {
    Bytes(u64),
    Chunks(Chunks),
}

impl Default for Left {
    fn default() -> Self {
        Self::Bytes(0)
    }
}

impl Left {
    fn is_none(self) -> bool {
        match self {
            Self::Bytes(left) => left == 0,
            Self::Chunks(chunks) => chunks.is_done(),
        }
    }

    /// Takes bytes of the body, and returns how many, and how many of them are data.
    fn take(&mut self, bytes: &[u8]) -> std::io::Result<(usize, u64)> {
        match self {
            Self::Bytes(left) => {
                let now = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= now as u64;
                Ok((now, now as u64))
            }
            Self::Chunks(chunks) => {
                let mut data = 0;
                Ok((chunks.take(bytes, &mut data)?, data))
            }
        }
    }
}

/// Handles received bytes. Returns the number of requests that they complete.
fn take(mut bytes: &[u8], partial: &mut Vec<u8>, left: &mut Left, count: &Count) -> std::io::Result<usize> {
    let mut complete = 0;
    while !bytes.is_empty() {
        if !left.is_none() {
            let (taken, data) = left.take(bytes)?;
            bytes = &bytes[taken..];
            count.bytes.fetch_add(data, Ordering::Relaxed);
        } else {
            let before = partial.len();
            let whole: &[u8] = if before == 0 {
                bytes
            } else {
                partial.extend_from_slice(bytes);
                partial
            };
            let Some(length) = wire::head_length(whole) else {
                if before == 0 {
                    partial.extend_from_slice(bytes);
                }
                // No load here has heads of this length.
                return if partial.len() > READ_BUFFER_BYTES {
                    Err(std::io::ErrorKind::InvalidData.into())
                } else {
                    Ok(complete)
                };
            };
            let head = &whole[..length];
            *left = match wire::field(head, "transfer-encoding") {
                Some(_) => Left::Chunks(Chunks::default()),
                None => Left::Bytes(wire::content_length(head).unwrap_or(0)),
            };
            bytes = &bytes[length - before..];
            partial.clear();
        }
        if left.is_none() {
            count.copies.fetch_add(1, Ordering::Relaxed);
            complete += 1;
        }
    }
    Ok(complete)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Body;

    #[test]
    fn requests_count_when_they_are_whole_however_they_are_cut() {
        let mut stream = Vec::new();
        for body in [0_usize, 3, 0, 1000] {
            stream.extend(wire::request(Body::Length(body as u64)));
            stream.extend(vec![b'\r'; body]);
        }
        stream.extend(wire::request(Body::Chunked { chunks: 1, size: 5 }));
        stream.extend(b"5\r\n\r\n\r\n0\r\n0\r\n\r\n");
        stream.extend(wire::request(Body::Length(0)));
        for step in [1, 7, 199, 200, 201, 5000] {
            let (count, mut partial, mut left, mut complete) = (Count::default(), Vec::new(), Left::default(), 0);
            for piece in stream.chunks(step) {
                complete += take(piece, &mut partial, &mut left, &count).unwrap();
            }
            let seen = (complete, count.copies.into_inner(), count.bytes.into_inner());
            assert_eq!(seen, (6, 6, 1008), "in steps of {step}");
        }
    }
}
