//! Rule: legs over kept HTTP/2 connections allocate nothing. The client speaks HTTP/1.1, so that only legs are counted.
//!
//! Client and endpoints are threads with fixed buffers.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports, in its helpers, too")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use proxy::config::{Policy, UpstreamProtocol};
use stats_alloc::Region;

use crate::{COUNTING, alone, proxy_over, unrecorded};

const REQUEST: &[u8] = b"PURGE /logo.png HTTP/1.1\r\nHost: shop\r\n\r\n";
const WITH_BODY: &[u8] = b"PUT /logo.png HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nvalue";
/// Requests before the count begins, so that every buffer has its size.
const FIRST: usize = 300;
/// Requests that are counted.
const COUNTED: usize = 3_000;
/// What the rest of the process may allocate meanwhile: timers, the sweep of connections. Far less than one for each request.
const OTHERS: usize = 60;

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const ACKNOWLEDGED: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// Answers every request on a connection.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.read_exact(&mut [0; PREFACE])?;
    stream.write_all(&[SETTINGS, ACKNOWLEDGED].concat())?;
    let mut payload = [0; 16_384];
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        stream.read_exact(&mut payload[..length])?;
        let [_, _, _, kind, flags, id @ ..] = header;
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            // Status 200 and content-length 2, the body, and credit for the body of a request.
            let [a, b, c, d] = id;
            let head = [0, 0, 5, HEADERS, 4, a, b, c, d, 0x88, 0x0f, 0x0d, 1, b'2'];
            let body = [0, 0, 2, DATA, END_STREAM, a, b, c, d, b'o', b'k'];
            let credit = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 5];
            let mut all = [0; 14 + 11 + 13];
            all[..14].copy_from_slice(&head);
            all[14..25].copy_from_slice(&body);
            all[25..].copy_from_slice(&credit);
            // Where there was no body nothing was used of the window.
            stream.write_all(if kind == DATA { &all } else { &all[..25] })?;
        }
    }
}

/// An endpoint that answers every request on every connection.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Sends a request so many times over one connection.
fn send(client: &mut TcpStream, request: &[u8], times: usize) {
    let mut buffer = [0; 4096];
    for _ in 0..times {
        client.write_all(request).unwrap();
        let mut length = 0;
        while !buffer[..length].ends_with(b"\r\n\r\nok") {
            let more = client.read(&mut buffer[length..]).unwrap();
            assert!(more > 0, "the proxy closed the connection");
            length += more;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..length]));
    }
}

#[test]
fn a_leg_over_a_kept_http2_connection_allocates_nothing() {
    let _turn = alone();
    for (name, request, tracing) in [
        ("without a body", REQUEST, None),
        ("with a body", WITH_BODY, None),
        ("traced, without a body", REQUEST, Some(unrecorded())),
        ("traced, with a body", WITH_BODY, Some(unrecorded())),
    ] {
        let policy = Policy { protocol: UpstreamProtocol::H2, ..Policy::default() };
        let (address, running, _publisher) = proxy_over(&[endpoint(), endpoint()], policy, tracing);
        let mut client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        send(&mut client, request, FIRST);
        let region = Region::new(COUNTING);
        send(&mut client, request, COUNTED);
        let change = region.change();
        let count = change.allocations + change.reallocations;
        println!("{name}: {count} allocations for {COUNTED} requests");
        assert!(count < OTHERS, "{name}: {count} allocations for {COUNTED} requests: {change:?}");
        drop(client);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(running.drain(Duration::ZERO, Duration::from_secs(60)));
    }
}
