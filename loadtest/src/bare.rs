//! The bare loop: the least code that broadcasts, as the reference for everything else.
//!
//! One thread. For each client connection: read what comes (64 KiB at most), write it to N kept sockets, go on until the request is
//! whole, read one answer from each, write the first one back. It knows only as much of HTTP as it needs to find the end of a
//! request: the end of the head, Content-Length, and the last bytes of a chunked body. It checks nothing and handles no errors.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::wire;

/// The size of the read buffer, in bytes.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// The size of the buffer for an answer, in bytes.
const ANSWER_BUFFER_BYTES: usize = 4 * 1024;

/// The end of a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Serves until standard input ends; prints its address first.
pub(crate) fn serve(endpoints: &[SocketAddr]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served: std::io::Result<()> = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", serde_json::to_string(&listener.local_addr()?)?);
        let endpoints: &'static [SocketAddr] = Vec::leak(endpoints.to_vec());
        let mut stdin = tokio::io::stdin();
        let end = async { stdin.read_to_end(&mut Vec::new()).await.map(|_| ()) };
        let accept = async {
            loop {
                let (client, _) = listener.accept().await?;
                // A failed connection is closed, which the measurement counts.
                tokio::spawn(async move { exchange(client, endpoints).await.ok() });
            }
        };
        tokio::select! { ended = end => ended, failed = accept => failed }
    });
    // Standard input has a thread of its own, which must not be waited for.
    runtime.shutdown_background();
    served.context("the bare loop")
}

async fn exchange(mut client: TcpStream, endpoints: &[SocketAddr]) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    // A connection that has never been used keeps nothing.
    client.peek(&mut [0]).await?;
    let mut upstreams = Vec::new();
    let mut request = vec![0; READ_BUFFER_BYTES];
    let mut answers = [vec![0; ANSWER_BUFFER_BYTES], vec![0; ANSWER_BUFFER_BYTES]];
    loop {
        let mut read = client.read(&mut request).await?;
        if read == 0 {
            return Ok(());
        }
        if upstreams.is_empty() {
            for endpoint in endpoints {
                let upstream = TcpStream::connect(endpoint).await?;
                upstream.set_nodelay(true)?;
                upstreams.push(upstream);
            }
        }
        let head = wire::head_length(&request[..read]).ok_or(std::io::ErrorKind::InvalidData)?;
        let chunked = wire::field(&request[..head], "transfer-encoding").is_some();
        let mut left = head as u64 + wire::content_length(&request[..head]).unwrap_or(0);
        let mut tail = Vec::new();
        loop {
            for upstream in &mut upstreams {
                upstream.write_all(&request[..read]).await?;
            }
            if chunked {
                // No data of a load here looks like it.
                tail.extend_from_slice(&request[read.saturating_sub(LAST_CHUNK.len())..read]);
                if tail.ends_with(LAST_CHUNK) {
                    break;
                }
                tail.drain(..tail.len().saturating_sub(LAST_CHUNK.len()));
            } else {
                left = left.checked_sub(read as u64).ok_or(std::io::ErrorKind::InvalidData)?;
                if left == 0 {
                    break;
                }
            }
            read = client.read(&mut request).await?;
            if read == 0 {
                return Ok(());
            }
        }
        let mut first = 0;
        for (index, upstream) in upstreams.iter_mut().enumerate() {
            let answer = &mut answers[usize::from(index > 0)];
            let read = upstream.read(answer).await?;
            if read == 0 {
                return Ok(());
            }
            if index == 0 {
                first = read;
            }
        }
        client.write_all(&answers[0][..first]).await?;
    }
}
