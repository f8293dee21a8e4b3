//! Idle connections of HTTP/2: opened, optionally used once, and kept. Frames are written by hand, because a library would need a
//! task for each connection.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    time::timeout,
};

use super::{
    Load, PATIENCE, Tally, Target,
    connect::{Connector, Stream},
};
use crate::wire::Answer;

/// The client's preface and empty SETTINGS.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The answer to SETTINGS.
const ACKNOWLEDGED: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
/// A request of stream 1 without a body: GET, scheme http, the path "/", and an authority (RFC 7541, appendix A).
const REQUEST: &[u8] = b"\0\0\x0e\x01\x05\0\0\0\x01\x82\x86\x84\x01\x09load.test";
/// The position of the scheme in the request, and its byte for https.
const SCHEME: (usize, u8) = (10, 0x87);

/// Types and flags of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
/// The index of `:status: 200` in the static table of HPACK.
const STATUS_200: u8 = 0x88;

/// The open connections.
pub(super) struct IdleHttp2 {
    runtime: Runtime,
    kept: Vec<Stream>,
}

impl IdleHttp2 {
    pub(super) fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, kept: Vec::new() })
    }

    /// Opens `count` connections; `requests` of the result is the number of those that are open and, if requested, were answered
    /// once.
    pub(super) fn open(&mut self, target: &Target, connections: usize, request: bool) -> anyhow::Result<Load> {
        self.close();
        let connector = Connector::new(target)?;
        let started = Instant::now();
        let mut tally = Tally::new();
        for _ in 0..connections {
            let opened = self.runtime.block_on(async {
                timeout(PATIENCE, open(&connector, request)).await.context("no answer").and_then(|opened| opened)
            });
            match opened {
                Ok(stream) => {
                    tally.answered(&Answer { status: 200, ..Answer::default() }, Duration::ZERO);
                    self.kept.push(stream);
                }
                Err(why) => {
                    tally.failed(&format!("{why:#}"));
                    // A limit was reached, so further connections would fail as well.
                    break;
                }
            }
        }
        Ok(tally.into_load(started.elapsed()))
    }

    pub(super) fn close(&mut self) {
        self.kept.clear();
    }
}

/// A connection on which both sides have taken the settings of the other and, if asked for, one request was answered with 200.
async fn open(connector: &Connector, request: bool) -> anyhow::Result<Stream> {
    let mut stream = connector.connect().await.map_err(anyhow::Error::msg)?;
    stream.write_all(OPENING).await?;
    if request {
        let mut request = REQUEST.to_vec();
        if matches!(stream, Stream::Right(_)) {
            request[SCHEME.0] = SCHEME.1;
        }
        stream.write_all(&request).await?;
    }
    stream.flush().await?;
    let (mut settled, mut answered) = (false, !request);
    while !(settled && answered) {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.context("no frame")?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.context("half a frame")?;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                stream.write_all(ACKNOWLEDGED).await?;
                stream.flush().await?;
            }
            SETTINGS => settled = true,
            HEADERS => anyhow::ensure!(is_200(&payload), "an answer with another status than 200"),
            RST_STREAM | GOAWAY => anyhow::bail!("refused, with frame {kind}: {payload:02x?}"),
            _ => {}
        }
        answered |= matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
    }
    Ok(stream)
}

/// Whether a block of fields begins with status 200, perhaps after a change of the table's size.
fn is_200(mut block: &[u8]) -> bool {
    while let [first @ 0x20..=0x3f, rest @ ..] = block {
        block = rest;
        if first & 0x1f == 0x1f {
            let last = block.iter().position(|byte| byte & 0x80 == 0).unwrap_or(block.len().saturating_sub(1));
            block = block.get(last + 1..).unwrap_or_default();
        }
    }
    block.first() == Some(&STATUS_200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_long_as_its_frame_says() {
        assert_eq!((REQUEST.len(), REQUEST[SCHEME.0]), (9 + usize::from(REQUEST[2]), 0x86));
    }

    #[test]
    fn a_status_is_found_behind_changes_of_the_tables_size() {
        assert!(is_200(&[0x88]) && is_200(&[0x20, 0x88, 0x5f]) && is_200(&[0x3f, 0xe1, 0x1f, 0x88]));
        assert!(!is_200(&[0x8d]) && !is_200(&[]) && !is_200(&[0x3f]));
    }
}
