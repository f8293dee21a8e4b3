//! The memory of a request depends neither on its size nor on the number of endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use ::bytes::Bytes;
use testkit::client::RawClient;
use testkit::eventually::{scaled, within_time};
use testkit::http::{BodyMode, Digest};
use testkit::http2::{Frame, Http2Client, flag, kind, request, setting};
use testkit::origin::{Origin, Reading, Reply};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::fixture::{MORE_THAN_SYSTEM_BUFFERS, bytes, loopback, ms};
use crate::http2::room;
use crate::process::Process;

/// The body of the request, in bytes.
const BODY: u64 = 1 << 30;

/// The body window of a request, in bytes.
const WINDOW: usize = 256 << 10;

/// The limit of the process's peak memory, in bytes.
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
    let answer = within_time(scaled(Duration::from_secs(240)), "a gibibyte to be sent", async {
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

/// An HTTP/2 endpoint that accepts one request, and reads at most this number of bytes a second. Returns its address, and the bytes
/// that it has read.
async fn digesting(n: usize, rate: Option<f64>) -> (SocketAddr, JoinHandle<Digest>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Small system buffers, so that they hide neither memory nor slowness.
    socket.set_recv_buffer_size(256 << 10).expect("a buffer of that size");
    socket.bind(loopback(n).parse().expect("an address")).expect("a port");
    let listener = socket.listen(16).expect("it listens");
    let address = listener.local_addr().expect("it is bound");
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        // Without Nagle's algorithm, which would delay every window update.
        stream.set_nodelay(true).expect("an open connection");
        let mut connection = h2::server::handshake(stream).await.expect("it speaks HTTP/2");
        let (request, mut respond) = connection.accept().await.expect("a request").expect("a request");
        let taking = tokio::spawn(async move {
            let (mut body, mut digest, began) = (request.into_body(), Digest::default(), Instant::now());
            while let Some(data) = body.data().await {
                let data = data.expect("the whole body");
                digest.update(&data);
                if let Some(rate) = rate {
                    let due = began + Duration::from_secs_f64(digest.length() as f64 / rate);
                    tokio::time::sleep_until(due).await;
                }
                body.flow_control().release_capacity(data.len()).expect("it was received");
            }
            respond.send_response(http::Response::new(()), true).expect("the stream is open");
            digest
        });
        // It is served as long as it is there.
        let serving = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let digest = taking.await.expect("the whole body");
        drop(serving);
        digest
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_by_http2_to_five_endpoints_of_http2_one_of_them_slow() {
    let mut addresses = Vec::new();
    let mut tasks = Vec::new();
    for n in 0..5 {
        let (address, task) = digesting(n, (n == 4).then_some(f64::from(64 << 20))).await;
        addresses.push(address);
        tasks.push(task);
    }
    let process = Process::over_h2(&addresses, "all").await;
    let stream = TcpStream::connect(process.address).await.expect("it listens");
    stream.set_nodelay(true).expect("an open connection");
    let (send, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);

    let piece = Bytes::from(bytes(1 << 20));
    let mut digest = Digest::default();
    let head = within_time(scaled(Duration::from_secs(240)), "a gibibyte to be sent", async {
        let mut send = send.ready().await.expect("a stream");
        let request = http::Request::post("http://shop/p").header("content-length", BODY).body(()).expect("a request");
        let (response, mut body) = send.send_request(request, false).expect("it is sent");
        for number in 1..=BODY / piece.len() as u64 {
            digest.update(&piece);
            let mut rest = piece.clone();
            while !rest.is_empty() {
                let room = room(&mut body, rest.len()).await;
                let Some(Ok(room)) = room else { panic!("{room:?} in MiB {number}: {:?}", connection.await) };
                let part = rest.split_to(room.min(rest.len()));
                let is_last = rest.is_empty() && number == BODY / piece.len() as u64;
                body.send_data(part, is_last).expect("the stream is open");
            }
        }
        response.await.expect("an answer")
    })
    .await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["x-broadcast-result"], "total=5, ok=5, failed=0, pending=0, required=5");
    for task in tasks {
        let seen = task.await.expect("the whole body");
        assert_eq!((seen.length(), seen.value()), (BODY, digest.value()));
    }
    let peak = process.peak();
    println!("a gibibyte to five endpoints of HTTP/2: {peak} bytes at the peak");
    assert!(peak < PEAK, "the proxy needed {peak} bytes at its peak");
}

#[tokio::test]
async fn forty_bodies_that_no_endpoint_reads_cost_a_window_each() {
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

/// The memory limit of an idle HTTP/2 connection, in bytes.
const IDLE: u64 = 40 << 10;

#[tokio::test]
async fn an_idle_http2_connection_needs_little() {
    const CONNECTIONS: u64 = 300;
    let origin = Origin::builder().address(&loopback(0)).start(Reply::ok("quick"));
    let process = Process::start(&[origin.address()], "all", None).await;
    let mut clients = Vec::new();
    // A warm-up, because the first connections allocate shared memory.
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

/// The memory limit of a stream whose client reads nothing, in bytes, besides a short answer.
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

/// A client that sends these frames, and then those repeatedly until it is stopped. Its connection stays open.
async fn flooding(process: &Process, first: &[Frame], again: &[Frame]) -> Http2Client {
    const MANY: usize = 3_000;
    let mut client = Http2Client::connect(process.address, &[]).await;
    // Sending fails once the server closes the connection, which is expected.
    let bytes = |frames: &[Frame]| frames.iter().flat_map(Frame::bytes).collect::<Vec<u8>>();
    let _ = client.try_send(bytes(first)).await;
    for _ in 0..MANY {
        if again.is_empty() || client.try_send(bytes(again)).await.is_err() || !client.goes_on().await {
            break;
        }
    }
    client
}

#[tokio::test]
async fn hostile_frames_cost_little_memory() {
    const CLIENTS: usize = 30;
    let origin = Origin::builder().address(&loopback(0)).body_mode(BodyMode::Digest).start(Reply::ok("quick"));
    let process = Process::start(&[origin.address()], "all", None).await;
    let open = || Frame::headers(1, 0, &request("POST", "/flood", &[]));
    // An endless header block, in frames of the largest size.
    let mut block = vec![Frame::new(kind::HEADERS, 0, 1, request("GET", "/block", &[]))];
    block.extend(std::iter::repeat_n(Frame::new(kind::CONTINUATION, 0, 1, [0; 16_000]), 7));
    // A field of 3,000 bytes that is added to the dynamic table, and then referenced by one byte as often as a frame has room.
    let mut bomb = request("GET", "/bomb", &[]);
    bomb.extend_from_slice(b"\x40\x01x\x7f\xb9\x16");
    bomb.extend_from_slice(&[b'a'; 3_000]);
    bomb.extend(std::iter::repeat_n(0xbe, 13_000));
    let attacks: [(&str, Vec<Frame>, Vec<Frame>); 9] = [
        ("PING", vec![], vec![Frame::new(kind::PING, 0, 0, [7; 8])]),
        ("SETTINGS", vec![], vec![Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)])]),
        ("WINDOW_UPDATE", vec![], vec![Frame::window_update(0, 1)]),
        ("PRIORITY", vec![], vec![Frame::new(kind::PRIORITY, 0, 9_999, [0, 0, 0, 0, 16])]),
        ("empty DATA", vec![open()], vec![Frame::data(1, 0, b"")]),
        ("CONTINUATION", vec![Frame::new(kind::HEADERS, 0, 1, b"")], vec![Frame::new(kind::CONTINUATION, 0, 1, b"")]),
        ("a block that does not end", block, vec![]),
        ("a list that is large when it is unpacked", vec![Frame::headers(1, flag::END_STREAM, &bomb)], vec![]),
        ("a body of small pieces", vec![open()], vec![Frame::data(1, 0, b"x")]),
    ];
    for (name, first, again) in &attacks {
        let clients = (0..CLIENTS).map(|_| flooding(&process, first, again));
        let clients = futures::future::join_all(clients).await;
        let (now, peak) = (process.resident(), process.peak());
        println!("{CLIENTS} clients with {name}: {now} bytes now, {peak} at the peak");
        assert!(peak < PEAK, "{CLIENTS} clients with {name} made it need {peak} bytes");
        drop(clients);
    }
    // Other clients are served as before.
    let mut client = Http2Client::connect(process.address, &[]).await;
    assert!(client.exchange(&request("GET", "/", &[]), None).await.is_whole(200));
}
