//! What a request costs in memory does not depend on how large it is, nor on how many endpoints get it.

use std::net::SocketAddr;

use testkit::client::RawClient;
use testkit::eventually::{scaled, within_time};
use testkit::http::{BodyMode, Digest};
use testkit::http2::{Http2Client, request, setting};
use testkit::origin::{Origin, Reading, Reply};

use crate::fixture::{MORE_THAN_SYSTEM_BUFFERS, bytes, loopback, ms};
use crate::process::Process;

/// The body of the request, in bytes.
const BODY: u64 = 1 << 30;

/// What the proxy keeps of a request's body, in bytes.
const WINDOW: usize = 256 << 10;

/// What the proxy's process may need at its peak, in bytes.
const PEAK: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_to_five_endpoints_one_of_them_slow() {
    let start =
        |n: usize, reply: Reply| Origin::builder().address(&loopback(n)).body_mode(BodyMode::Digest).start(reply);
    let mut origins: Vec<Origin> = (0..4).map(|n| start(n, Reply::ok("quick"))).collect();
    let slow = Origin::builder().address(&loopback(4)).receive_buffer(256 << 10).body_mode(BodyMode::Digest);
    origins.push(slow.start(Reply::ok("slow").reading(Reading::Rate(64 << 20))));
    let addresses: Vec<SocketAddr> = origins.iter().map(Origin::address).collect();
    let process = Process::start(&addresses, "all", None).await;

    let piece = bytes(1 << 20);
    let mut digest = Digest::default();
    let answer = within_time(scaled(std::time::Duration::from_secs(240)), "a gibibyte to be sent", async {
        let mut client = RawClient::connect(process.address).await;
        client.send(crate::fixture::sized_post(BODY as usize)).await;
        for _ in 0..BODY / piece.len() as u64 {
            client.send(&piece).await;
            digest.update(&piece);
        }
        client.read_response("POST").await
    })
    .await
    .expect_status(200);
    assert_eq!(answer.header("x-broadcast-result"), Some("total=5, ok=5, failed=0, pending=0, required=5"));
    for origin in &origins {
        let seen = origin.wait_requests(1).await.remove(0).complete();
        assert_eq!((seen.body_length, seen.digest), (BODY, digest.value()));
    }
    let peak = process.peak();
    assert!(peak < PEAK, "the proxy needed {peak} bytes at its peak");
}

#[tokio::test]
async fn forty_bodies_that_nobody_takes_cost_a_window_each() {
    let gate = testkit::origin::Gate::new();
    let slow = Reply::ok(bytes(300_000)).reading(Reading::HeldAfter(1000, gate.clone()));
    let origin = Origin::builder().address(&loopback(0)).receive_buffer(16 << 10).start(slow);
    let process = Process::start(&[origin.address()], "all", None).await;
    let piece = bytes(MORE_THAN_SYSTEM_BUFFERS);
    let clients = (0..40).map(|_| async {
        let mut client = RawClient::connect(process.address).await;
        // Its end never comes.
        client.send(crate::fixture::sized_post(BODY as usize)).await;
        let sent = client.send_until_stalled(&piece, ms(300)).await.expect("an open connection");
        assert!(sent < piece.len(), "nobody takes the body, and yet {sent} bytes of it were taken");
        assert!(sent > WINDOW, "the proxy takes a window before it waits, and not only {sent} bytes");
        client
    });
    let clients = futures::future::join_all(clients).await;
    gate.wait_reached(clients.len()).await;
    let peak = process.peak();
    assert!(peak < PEAK, "40 requests with a window of 256 KiB each needed {peak} bytes");
}

/// What an idle HTTP/2 connection may need, in bytes.
const IDLE: u64 = 40 << 10;

#[tokio::test]
async fn an_idle_http2_connection_needs_little() {
    const CONNECTIONS: u64 = 300;
    let origin = Origin::builder().address(&loopback(0)).start(Reply::ok("quick"));
    let process = Process::start(&[origin.address()], "all", None).await;
    let mut clients = Vec::new();
    // What the first ones need is there for everybody.
    let mut before = 0;
    for number in 0..CONNECTIONS + 20 {
        if number == 20 {
            before = process.resident();
        }
        let mut client = Http2Client::connect(process.address, &[]).await;
        assert!(client.exchange(&request("GET", "/", &[]), None).await.is_whole(200));
        clients.push(client);
    }
    let each = process.resident().saturating_sub(before) / CONNECTIONS;
    println!("an idle HTTP/2 connection: {each} bytes");
    assert!(each < IDLE, "an idle connection needs {each} bytes");
}

/// What a stream may need whose client takes nothing, in bytes, besides a short answer.
const STALLED: u64 = 24 << 10;

#[tokio::test]
async fn ten_thousand_streams_that_nobody_reads_cost_little_each() {
    const CONNECTIONS: u64 = 100;
    const STREAMS: u64 = 100;
    let origin = Origin::builder().address(&loopback(0)).body_mode(BodyMode::Digest).start(Reply::ok(bytes(1_000)));
    let process = Process::start(&[origin.address()], "all", None).await;
    let before = process.resident();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Http2Client::connect(process.address, &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
        for _ in 0..STREAMS {
            client.open(&request("GET", "/", &[])).await;
        }
        client.heads(STREAMS as usize).await;
        assert!(client.answers().values().all(|answer| answer.status == Some(200) && answer.body.is_empty()));
        clients.push(client);
    }
    let each = process.peak().saturating_sub(before) / (CONNECTIONS * STREAMS);
    println!("a stalled stream of HTTP/2: {each} bytes");
    assert!(each < STALLED, "a stalled stream needs {each} bytes");
}
