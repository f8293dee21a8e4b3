//! Rule: a request over kept connections allocates nothing, for ten endpoints as little as for one.
//!
//! Client and endpoints are threads that allocate nothing themselves.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Barrier},
};

use proxy::config::Policy;
use spans::Settings;
use stats_alloc::Region;

use crate::{COUNTING, alone, proxy_over, unrecorded};

/// The end of each answer.
const BODY: &[u8] = b"the end of it";

/// Requests that are counted together.
const BATCH: usize = 50;

/// Batches, of which one has to be without an allocation: what is kept for reuse is let go of every few seconds, and made anew.
const BATCHES: usize = 10;

/// Answers every request with this, once all endpoints have one: so that the proxy reads several answers at a time.
fn serve(listener: &TcpListener, barrier: &Barrier, answer: &[u8]) {
    let mut buffer = [0_u8; 4096];
    let (mut stream, _) = listener.accept().expect("the proxy connects");
    let mut filled = 0;
    while let Ok(read) = stream.read(&mut buffer[filled..]) {
        filled += read;
        if read == 0 {
            return;
        }
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            barrier.wait();
            stream.write_all(answer).expect("the proxy reads");
        }
    }
}

/// Starts so many endpoints.
fn endpoints(count: usize, answer: &'static [u8]) -> Vec<SocketAddr> {
    let barrier = Arc::new(Barrier::new(count));
    let start = |_| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port of loopback");
        let (address, barrier) = (listener.local_addr().expect("it is bound"), barrier.clone());
        std::thread::spawn(move || serve(&listener, &barrier, answer));
        address
    };
    (0..count).map(start).collect()
}

/// Sends the request so many times on one connection, and reads each answer.
fn exchange(client: &mut TcpStream, request: &[u8], times: usize) {
    let mut buffer = [0_u8; 4096];
    for _ in 0..times {
        client.write_all(request).expect("the proxy reads");
        let mut filled = 0;
        while !buffer[..filled].ends_with(BODY) {
            let read = client.read(&mut buffer[filled..]).expect("the proxy answers");
            assert_ne!(read, 0, "the connection is kept");
            filled += read;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..filled]));
    }
}

/// The fewest allocations of a batch of requests.
fn allocations(count: usize, request: &[u8], tracing: Option<Settings>) -> usize {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nServer: nginx\r\nConnection: keep-alive\r\nContent-Length: 13\r\n\r\nthe end of it";
    let (address, _running, _publisher) = proxy_over(&endpoints(count, ANSWER), Policy::default(), tracing);
    let mut client = TcpStream::connect(address).expect("the proxy listens");
    client.set_nodelay(true).expect("it is a TCP socket");
    exchange(&mut client, request, BATCH);
    let batches = (0..BATCHES).map(|_| {
        let region = Region::new(COUNTING);
        exchange(&mut client, request, BATCH);
        let change = region.change();
        change.allocations + change.reallocations
    });
    batches.min().unwrap_or_default()
}

#[test]
fn a_request_over_kept_connections_allocates_nothing() {
    let _turn = alone();
    const PLAIN: &[u8] = b"PURGE /logo.png HTTP/1.1\r\nHost: cache\r\nUser-Agent: a test\r\n\r\n";
    const KEPT_ALIVE: &[u8] =
        b"PURGE /logo.png HTTP/1.1\r\nHost: cache\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\n";
    for count in [1, 3, 10] {
        for request in [PLAIN, KEPT_ALIVE] {
            for tracing in [None, Some(unrecorded())] {
                let traced = tracing.is_some();
                let made = allocations(count, request, tracing);
                let request = String::from_utf8_lossy(request);
                assert_eq!(
                    made, 0,
                    "allocations of {BATCH} requests to {count} endpoints, traced: {traced}: {request}"
                );
            }
        }
    }
}
