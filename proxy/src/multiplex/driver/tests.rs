//! What exchanges of one turn send leaves with one write, and what an endpoint gets is what they sent.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Buf as _;
use h2client::{
    block::Scheme,
    frame::{FrameHeader, HEADER_BYTES, PREFACE, flag, kind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf},
    task::JoinSet,
};

use super::*;
use crate::{
    http::response::ResponseHead,
    multiplex::{Multiplexed, link::StreamSlot},
};

/// Exchanges at a time.
const EXCHANGES: usize = 32;

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

/// Counts writes.
struct Counted {
    io: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl Carrier for Counted {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let whole: Vec<u8> = bufs.iter().flat_map(|slice| slice.iter().copied()).collect();
        Pin::new(&mut self.io).poll_write(cx, &whole)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// An endpoint, byte for byte.
struct Endpoint {
    io: DuplexStream,
    input: BytesMut,
}

impl Endpoint {
    /// The streams of the next requests, so many of them, which have nothing but a head.
    async fn requests(&mut self, count: usize) -> Vec<u32> {
        let mut streams = Vec::new();
        while streams.len() < count {
            if let Some(header) = FrameHeader::read(&self.input)
                && self.input.len() >= HEADER_BYTES + header.length
            {
                if header.kind == kind::HEADERS {
                    assert!(header.has(flag::END_STREAM) && header.has(flag::END_HEADERS), "{header:?}");
                    streams.push(header.stream);
                }
                self.input.advance(HEADER_BYTES + header.length);
            } else {
                assert!(self.io.read_buf(&mut self.input).await.unwrap() > 0, "the connection has ended");
            }
        }
        streams
    }

    /// Answers these streams with one write: a head and two bytes.
    async fn answer(&mut self, streams: &[u32]) {
        let mut all = Vec::new();
        for stream in streams {
            FrameHeader { length: 5, kind: kind::HEADERS, flags: flag::END_HEADERS, stream: *stream }.put(&mut all);
            all.extend_from_slice(b"\x88\x0f\x0d\x012");
            FrameHeader { length: 2, kind: kind::DATA, flags: flag::END_STREAM, stream: *stream }.put(&mut all);
            all.extend_from_slice(b"ok");
        }
        self.io.write_all(&all).await.unwrap();
    }
}

/// A connection whose endpoint has sent its settings, and the count of its writes.
async fn connected() -> (Arc<Link>, Endpoint, Arc<AtomicUsize>) {
    let (io, other) = tokio::io::duplex(1 << 20);
    let (link, writes) = (Link::new(Arc::new(Multiplexed::default()), Scheme::Http), Arc::new(AtomicUsize::new(0)));
    let (begun, has_begun) = oneshot::channel();
    tokio::spawn(Driver::new(Counted { io, writes: writes.clone() }, link.clone(), begun).run());
    let mut endpoint = Endpoint { io: other, input: BytesMut::new() };
    endpoint.io.write_all(&[0, 0, 0, kind::SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
    has_begun.await.unwrap().unwrap();
    let mut preface = vec![0; PREFACE.len()];
    endpoint.io.read_exact(&mut preface).await.unwrap();
    assert_eq!(preface, PREFACE);
    // Its settings, the window, and the acknowledgement.
    while !endpoint.input.ends_with(&[0, 0, 0, kind::SETTINGS, flag::ACK, 0, 0, 0, 0]) {
        assert!(endpoint.io.read_buf(&mut endpoint.input).await.unwrap() > 0);
    }
    (link, endpoint, writes)
}

fn begun(link: &Arc<Link>) -> StreamSlot {
    let mut slot = link.slot();
    slot.begin(HEAD, (None, None), true, false).unwrap();
    slot
}

/// The body of the response on a stream.
async fn response(slot: &StreamSlot) -> Vec<u8> {
    let mut head = ResponseHead::default();
    poll_fn(|cx| slot.poll_head(cx, &mut head).1).await.unwrap().unwrap();
    assert_eq!((head.status, head.fields.bytes()), (200, &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"[..]));
    let mut body = Vec::new();
    while let Some(piece) = poll_fn(|cx| slot.poll_data(cx, 0)).await.unwrap() {
        body.extend_from_slice(&piece);
    }
    body
}

#[tokio::test]
async fn exchanges_that_are_ready_together_are_written_with_one_write() {
    let (link, mut endpoint, writes) = connected().await;
    let mut before = writes.load(Ordering::SeqCst);
    let mut exchanges = JoinSet::new();
    for _ in 0..EXCHANGES {
        let link = link.clone();
        exchanges.spawn(async move {
            let first = response(&begun(&link)).await;
            // What the answers have woken is ready together, too.
            let second = response(&begun(&link)).await;
            (first, second)
        });
    }
    for round in 1..=2_u32 {
        let streams = endpoint.requests(EXCHANGES).await;
        let first = (round - 1) * 2 * EXCHANGES as u32 + 1;
        assert_eq!(streams, (first..).step_by(2).take(EXCHANGES).collect::<Vec<u32>>());
        let written = writes.load(Ordering::SeqCst);
        assert_eq!(written - before, 1, "round {round}");
        before = written;
        endpoint.answer(&streams).await;
    }
    while let Some(bodies) = exchanges.join_next().await {
        assert_eq!(bodies.unwrap(), (b"ok".to_vec(), b"ok".to_vec()));
    }
    assert!(link.load.is_idle());
}

#[tokio::test]
async fn a_request_that_was_put_in_before_an_answer_was_read_waits_for_those_that_the_answer_wakes() {
    let (link, mut endpoint, writes) = connected().await;
    let first = begun(&link);
    let streams = endpoint.requests(1).await;
    let before = writes.load(Ordering::SeqCst);
    let next = tokio::spawn({
        let link = link.clone();
        async move {
            response(&first).await;
            response(&begun(&link)).await
        }
    });
    tokio::task::yield_now().await;
    // In one turn: the answer has come, and a further exchange begins.
    endpoint.answer(&streams).await;
    let other = begun(&link);
    let streams = endpoint.requests(2).await;
    assert_eq!((streams.len(), writes.load(Ordering::SeqCst) - before), (2, 1));
    endpoint.answer(&streams).await;
    assert_eq!((response(&other).await, next.await.unwrap()), (b"ok".to_vec(), b"ok".to_vec()));
}

#[tokio::test]
async fn an_endpoint_that_never_stops_sending_gets_what_waits_for_it() {
    let (link, mut endpoint, _) = connected().await;
    let slot = begun(&link);
    let streams = endpoint.requests(1).await;
    // Answers to pings would wait for ever for a turn in which nothing was read.
    for _ in 0..100 {
        let ping = [&[0, 0, 8, kind::PING, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
        endpoint.io.write_all(&ping).await.unwrap();
        tokio::task::yield_now().await;
    }
    let next = begun(&link);
    assert_eq!(endpoint.requests(1).await, [3]);
    endpoint.answer(&[&streams[..], &[3]].concat()).await;
    assert_eq!((response(&slot).await, response(&next).await), (b"ok".to_vec(), b"ok".to_vec()));
}
