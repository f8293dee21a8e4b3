//! Malicious HTTP/2 clients: their cost for endpoints is bounded, and other clients are not affected.

use std::time::{Duration, Instant};

use proxy::config::Listener;
use testkit::{
    eventually,
    http2::{Answer, Frame, Http2Client, StreamEnd, block, flag, kind, reason, request, setting},
    origin::{Gate, Origin, Reply, Script},
};

use crate::fixture::{Proxy, bytes, ms, origin, over};

/// More useless streams or frames than a client is allowed.
const MANY: usize = 20_000;

/// The requests of another client, on a connection of its own.
struct Bystander {
    client: Http2Client,
    served: usize,
}

/// The path that bystanders ask for.
const BYSTANDER: &str = "/bystander";

impl Bystander {
    async fn of(proxy: &Proxy) -> Self {
        let mut this = Self { client: Http2Client::connect(proxy.address, &[]).await, served: 0 };
        this.is_served().await;
        this
    }

    /// Asserts that its connection still carries requests.
    async fn is_served(&mut self) {
        let answer = self.client.exchange(&request("GET", BYSTANDER, &[]), None).await;
        assert!(answer.is_whole(200), "request {} of somebody else: {answer:?}", self.served);
        self.served += 1;
    }
}

/// Requests that an endpoint got, except for those of bystanders.
fn copies(endpoint: &Origin) -> usize {
    endpoint.requests().iter().filter(|seen| seen.target != BYSTANDER).count()
}

/// An endpoint that answers bystanders at once, and others with this reply.
fn endpoint(others: Reply) -> Origin {
    origin(
        0,
        Script::on_head(move |seen| match &*seen.target {
            BYSTANDER => Reply::ok("served"),
            _ => others.clone(),
        }),
    )
}

/// Sends the bytes of `next` repeatedly with a pause, until the server closes the connection. Returns how often.
async fn flood(
    client: &mut Http2Client,
    pause: Duration,
    mut next: impl FnMut(&mut Http2Client) -> Vec<Frame>,
) -> usize {
    let mut due = Instant::now();
    for sent in 0..MANY {
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        due += pause;
        let bytes: Vec<u8> = next(client).iter().flat_map(Frame::bytes).collect();
        if client.try_send(bytes).await.is_err() || !client.goes_on().await {
            return sent + 1;
        }
    }
    MANY
}

/// A request that is reset as soon as it is begun.
fn opened_and_reset(client: &mut Http2Client) -> Vec<Frame> {
    let stream = client.new_stream();
    vec![Frame::headers(stream, flag::END_STREAM, &request("GET", "/reset", &[])), Frame::cancel(stream)]
}

#[tokio::test]
async fn a_paced_rapid_reset_is_stopped_long_before_its_end() {
    for (pause, reply) in [
        (Duration::from_micros(200), Reply::ok("quick")),
        (ms(2), Reply::ok("quick")),
        (Duration::from_micros(200), Reply::never()),
    ] {
        let a = endpoint(reply);
        let proxy = over(&[&a]).start();
        let mut bystander = Bystander::of(&proxy).await;
        let mut client = Http2Client::connect(proxy.address, &[]).await;
        let began = Instant::now();
        let sent = flood(&mut client, pause, opened_and_reset).await;
        // The limit is two hundred at once, plus twenty a second, without those in flight at the end.
        let seconds = began.elapsed().as_secs_f64();
        assert!(sent < MANY, "{sent} streams in {seconds} s");
        let most = 220.0 + 20.0 * seconds;
        assert!((copies(&a) as f64) < most, "{} copies in {seconds} s, {pause:?} apart", copies(&a));
        bystander.is_served().await;
        assert_eq!(client.ended().await, Some(reason::ENHANCE_YOUR_CALM), "{pause:?} apart");
    }
}

#[tokio::test]
async fn resets_on_many_connections_of_one_address_are_bounded_together() {
    let a = endpoint(Reply::ok("quick"));
    let proxy = over(&[&a]).start();
    let mut bystander = Bystander::of(&proxy).await;
    let began = Instant::now();
    let mut stopped_at_once = 0;
    for _ in 0..40 {
        let mut client = Http2Client::connect(proxy.address, &[]).await;
        let sent = flood(&mut client, Duration::ZERO, opened_and_reset).await;
        assert_eq!(client.ended().await, Some(reason::ENHANCE_YOUR_CALM));
        stopped_at_once += usize::from(sent < 150);
    }
    // Forty times what one connection may would be 8,000.
    let most = 2_300.0 + 220.0 * began.elapsed().as_secs_f64();
    let all = copies(&a);
    assert!((all as f64) < most.min(8_000.0), "{all} copies in {:?}", began.elapsed());
    assert!(stopped_at_once > 0, "every connection had a budget of its own");
    bystander.is_served().await;
}

#[tokio::test]
async fn requests_that_make_the_server_reset_them_are_bounded_too() {
    // CVE-2025-8671: a window overflows, and the faulty stream has just been fanned out.
    let a = endpoint(Reply::ok("quick"));
    let proxy = over(&[&a]).start();
    let mut bystander = Bystander::of(&proxy).await;
    let mut client = Http2Client::connect(proxy.address, &[]).await;
    let sent = flood(&mut client, Duration::from_micros(100), |client| {
        let stream = client.new_stream();
        let head = Frame::headers(stream, flag::END_STREAM, &request("GET", "/reset", &[]));
        vec![head, Frame::window_update(stream, (1 << 31) - 1)]
    })
    .await;
    assert!(sent < MANY && copies(&a) <= 1_100, "{} copies of {sent}", copies(&a));
    bystander.is_served().await;
    assert_eq!(client.ended().await, Some(reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn malformed_streams_without_end_are_bounded_and_reach_nobody() {
    let a = endpoint(Reply::ok("quick"));
    let proxy = over(&[&a]).start();
    let mut bystander = Bystander::of(&proxy).await;
    let mut client = Http2Client::connect(proxy.address, &[]).await;
    let sent = flood(&mut client, Duration::ZERO, |client| {
        let block = request("GET", "/malformed", &[("connection", "close")]);
        vec![Frame::headers(client.new_stream(), flag::END_STREAM, &block)]
    })
    .await;
    assert!(sent < MANY, "{sent} malformed streams");
    assert_eq!(client.ended().await, Some(reason::ENHANCE_YOUR_CALM));
    assert_eq!(copies(&a), 0);
    bystander.is_served().await;
}

#[tokio::test]
async fn frames_that_move_nothing_end_their_connection() {
    let a = endpoint(Reply::never());
    let proxy = over(&[&a]).start();
    let mut bystander = Bystander::of(&proxy).await;
    let floods: [(&str, Frame); 7] = [
        ("PING", Frame::new(kind::PING, 0, 0, [7_u8; 8])),
        ("PING acknowledged unasked", Frame::new(kind::PING, flag::ACK, 0, [7_u8; 8])),
        ("SETTINGS", Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)])),
        ("PRIORITY", Frame::new(kind::PRIORITY, 0, 9_999, [0_u8, 0, 0, 0, 16])),
        ("WINDOW_UPDATE", Frame::window_update(0, 1)),
        ("an unknown kind", Frame::new(0x77, 0, 0, [0_u8; 8])),
        ("empty DATA", Frame::data(1, 0, b"")),
    ];
    for (name, frame) in floods {
        let mut client = Http2Client::connect(proxy.address, &[]).await;
        // A request with an unfinished body, to which the frames belong.
        let stream = client.new_stream();
        client.send(&[Frame::headers(stream, 0, &request("POST", "/flood", &[]))]).await;
        let sent = flood(&mut client, Duration::ZERO, |_| vec![frame.clone()]).await;
        assert!(sent < MANY, "{name}: {sent} frames were taken");
        assert_eq!(client.ended().await, Some(reason::ENHANCE_YOUR_CALM), "{name}");
        bystander.is_served().await;
    }
    assert_eq!(copies(&a), 0, "no body was whole");
}

/// A client that has acknowledged the server's settings, so that no acknowledgement falls into a header block; and a stream.
async fn ready(proxy: &Proxy) -> (Http2Client, u32) {
    let mut client = Http2Client::connect(proxy.address, &[]).await;
    assert!(client.exchange(&request("GET", BYSTANDER, &[]), None).await.is_whole(200));
    let stream = client.new_stream();
    (client, stream)
}

#[tokio::test]
async fn a_header_block_is_bounded_in_frames_and_in_time() {
    let a = endpoint(Reply::ok("quick"));
    let proxy = over(&[&a]).listener(|listener| listener.timeouts.head = ms(300)).start();
    let mut bystander = Bystander::of(&proxy).await;
    // Endless and fast: frames with one byte, empty frames, and frames of the largest size.
    for piece in [&b"\0"[..], b"", &[0; 16_000]] {
        let (mut client, stream) = ready(&proxy).await;
        client.send(&[Frame::new(kind::HEADERS, flag::END_STREAM, stream, request("GET", "/block", &[]))]).await;
        let sent = flood(&mut client, Duration::ZERO, |_| vec![Frame::new(kind::CONTINUATION, 0, stream, piece)]).await;
        assert!(sent < MANY, "{sent} frames of {} bytes", piece.len());
        assert!(client.ended().await.is_some(), "frames of {} bytes", piece.len());
        bystander.is_served().await;
    }
    // Few frames, but slower than a head of HTTP/1.1 may come.
    let (mut client, stream) = ready(&proxy).await;
    client.send(&[Frame::new(kind::HEADERS, flag::END_STREAM, stream, request("GET", "/block", &[]))]).await;
    assert_eq!(client.ended().await, Some(reason::ENHANCE_YOUR_CALM));
    bystander.is_served().await;
    assert_eq!(copies(&a), 0);
}

#[tokio::test]
async fn a_header_list_beyond_the_bound_reaches_nobody_however_small_it_was_packed() {
    let a = endpoint(Reply::ok("quick"));
    let proxy = over(&[&a]).start();
    let longest = proxy.given().listeners[0].head.bytes;
    let mut bystander = Bystander::of(&proxy).await;
    let mut refused = 0;
    for times in [longest / 3_000 + 2, 15_000] {
        let mut client = Http2Client::connect(proxy.address, &[]).await;
        // A field that is added to the dynamic table, and then referenced by one byte as often as the frame has room.
        let mut bomb = request("GET", "/bomb", &[]);
        bomb.extend_from_slice(b"\x40\x01x\x7f\xb9\x16");
        bomb.extend_from_slice(&[b'a'; 3_000]);
        bomb.extend(std::iter::repeat_n(0xbe, times.min(13_000)));
        let answer = client.exchange(&bomb, None).await;
        assert!(answer.is_refusal(), "{times} times: {answer:?}");
        refused += usize::from(answer.status == Some(431));
        bystander.is_served().await;
    }
    assert!(refused > 0, "one that is only a little too long is told so");
    assert_eq!(copies(&a), 0);
}

#[tokio::test]
async fn answers_that_nobody_takes_hold_up_nobody_and_are_given_up() {
    let a = endpoint(Reply::ok(bytes(300_000)));
    let proxy = over(&[&a]).listener(|listener| listener.timeouts.body = ms(500)).start();
    let mut bystander = Bystander::of(&proxy).await;
    // Windows that are never updated.
    let mut client = Http2Client::connect(proxy.address, &[]).await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(client.open(&request("GET", "/stalled", &[])).await);
    }
    for _ in 0..20 {
        bystander.is_served().await;
    }
    for stream in streams {
        let Answer { status, body, end } = client.answer(stream).await;
        assert_eq!(status, Some(200));
        assert!(
            matches!(end, Some(StreamEnd::Reset(_) | StreamEnd::Connection(_))),
            "{end:?} after {} bytes",
            body.len()
        );
    }
    assert!(client.answers().values().map(|answer| answer.body.len()).sum::<usize>() <= 65_535);
    proxy.settled().await;
    bystander.is_served().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up() {
    let a = endpoint(Reply::ok(bytes(300_000)));
    let hurry = |listener: &mut Listener| {
        listener.timeouts.body = ms(500);
        listener.timeouts.keepalive = ms(500);
    };
    let proxy = over(&[&a]).listener(hurry).start();
    // It grants all credit, but reads nothing from its socket.
    let settings = [(setting::INITIAL_WINDOW_SIZE, (1 << 31) - 1)];
    let mut client = Http2Client::connect_small(proxy.address, 4096, &settings).await;
    client.send(&[Frame::window_update(0, (1 << 30) - 1)]).await;
    for _ in 0..100 {
        client.open(&request("GET", "/unread", &[])).await;
    }
    eventually!("the requests to have come", copies(&a), |copies| *copies == 100);
    let mut bystander = Bystander::of(&proxy).await;
    for _ in 0..20 {
        bystander.is_served().await;
    }
    proxy.settled().await;
    drop(bystander);
    eventually!("the connection to be closed", proxy.metric("fanfare_client_connections", &[]), |open| *open == 0.0);
    drop(client);
}

#[tokio::test]
async fn a_stream_that_waits_for_its_endpoint_is_not_in_the_way_of_a_hundred_others() {
    let gate = Gate::new();
    let a = endpoint(Reply::ok("late").hold(&gate));
    let proxy = over(&[&a]).start();
    let mut bystander = Bystander::of(&proxy).await;
    let mut client = Http2Client::connect(proxy.address, &[]).await;
    let held = client.open(&request("GET", "/held", &[])).await;
    a.wait_heads(2).await;
    for _ in 0..100 {
        let answer = client.exchange(&request("GET", BYSTANDER, &[]), None).await;
        assert!(answer.is_whole(200), "{answer:?}");
    }
    // Once all places are taken, its own next streams wait, and no other client does.
    let held_too = client.open(&request("GET", "/held", &[])).await;
    bystander.is_served().await;
    gate.release();
    for stream in [held, held_too] {
        assert_eq!(client.answer(stream).await.body, b"late");
    }
}

/// Malformed requests by name: the fields of each, in order.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    const METHOD: (&str, &str) = (":method", "GET");
    const SCHEME: (&str, &str) = (":scheme", "http");
    const AUTHORITY: (&str, &str) = (":authority", "shop");
    const PATH: (&str, &str) = (":path", "/malformed");
    let with = |more: &[(&str, &str)]| request("GET", "/malformed", more);
    let of = |fields: &[(&str, &str)]| block(fields);
    vec![
        ("a name in upper case", with(&[("X-Name", "v")])),
        ("an empty name", with(&[("", "v")])),
        ("a name with a space", with(&[("x name", "v")])),
        ("a name with a colon", with(&[("x:name", "v")])),
        ("a name with a line end", with(&[("x\r\ny", "v")])),
        ("a value with CR LF", with(&[("x", "a\r\nb: c")])),
        ("a value with LF", with(&[("x", "a\nb")])),
        ("a value with CR", with(&[("x", "a\rb")])),
        ("a value with NUL", with(&[("x", "a\0b")])),
        ("a value that begins with a space", with(&[("x", " a")])),
        ("a value that ends with a tab", with(&[("x", "a\t")])),
        ("two paths", of(&[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/other")])),
        ("two methods", of(&[METHOD, (":method", "PUT"), SCHEME, AUTHORITY, PATH])),
        ("two authorities", of(&[METHOD, SCHEME, AUTHORITY, (":authority", "shop"), PATH])),
        ("no path", of(&[METHOD, SCHEME, AUTHORITY])),
        ("an empty path", of(&[METHOD, SCHEME, AUTHORITY, (":path", "")])),
        ("a path without a slash", of(&[METHOD, SCHEME, AUTHORITY, (":path", "malformed")])),
        ("no method", of(&[SCHEME, AUTHORITY, PATH])),
        ("no scheme", of(&[METHOD, AUTHORITY, PATH])),
        ("no authority and no Host", of(&[METHOD, SCHEME, PATH])),
        ("an empty authority", of(&[METHOD, SCHEME, (":authority", ""), PATH])),
        ("userinfo", of(&[METHOD, SCHEME, (":authority", "user:secret@shop"), PATH])),
        ("an authority with a path", of(&[METHOD, SCHEME, (":authority", "shop/x"), PATH])),
        ("an authority with a space", of(&[METHOD, SCHEME, (":authority", "shop x"), PATH])),
        ("an authority with a line end", of(&[METHOD, SCHEME, (":authority", "shop\r\nx: y"), PATH])),
        ("a Host that differs", with(&[("host", "other")])),
        ("two Hosts", with(&[("host", "shop"), ("host", "shop")])),
        ("an unknown pseudo-field", of(&[METHOD, SCHEME, AUTHORITY, PATH, (":unknown", "x")])),
        ("a pseudo-field of responses", of(&[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")])),
        ("a pseudo-field behind a field", of(&[METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH])),
        ("a path with a space", of(&[METHOD, SCHEME, AUTHORITY, (":path", "/a b")])),
        ("a path with a line end", of(&[METHOD, SCHEME, AUTHORITY, (":path", "/a\r\nx: y")])),
        ("a path with NUL", of(&[METHOD, SCHEME, AUTHORITY, (":path", "/a\0")])),
        ("a path with raw UTF-8", of(&[METHOD, SCHEME, AUTHORITY, (":path", "/\u{e4}")])),
        ("a path with a quotation mark", of(&[METHOD, SCHEME, AUTHORITY, (":path", "/\"")])),
        ("a whole URL for a path", of(&[METHOD, SCHEME, AUTHORITY, (":path", "http://other/")])),
        ("a method with a space", of(&[(":method", "GET /x"), SCHEME, AUTHORITY, PATH])),
        ("an empty method", of(&[(":method", ""), SCHEME, AUTHORITY, PATH])),
        ("a scheme that is none", of(&[METHOD, (":scheme", "http://x/"), AUTHORITY, PATH])),
        ("CONNECT", of(&[(":method", "CONNECT"), (":authority", "shop:80")])),
        (
            "an extended CONNECT",
            of(&[(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, AUTHORITY, (":path", "/malformed")]),
        ),
        ("a field of connections", with(&[("connection", "close")])),
        ("TE with more than trailers", with(&[("te", "trailers, chunked")])),
    ]
}

#[tokio::test]
async fn a_malformed_request_costs_at_most_its_own_connection_and_reaches_nobody() {
    let a = endpoint(Reply::ok("quick"));
    let proxy = over(&[&a]).start();
    let mut bystander = Bystander::of(&proxy).await;
    for (name, block) in malformed() {
        let mut client = Http2Client::connect(proxy.address, &[]).await;
        let answer = client.exchange(&block, None).await;
        assert!(answer.is_refusal(), "{name}: {answer:?}");
        bystander.is_served().await;
        assert_eq!(copies(&a), 0, "{name} came through: {}", a.journal());
        // After a stream error the connection continues.
        if !matches!(answer.end, Some(StreamEnd::Connection(_))) {
            let next = client.exchange(&request("GET", BYSTANDER, &[]), None).await;
            assert!(next.is_whole(200), "after {name}: {next:?}");
        }
    }
}

#[tokio::test]
async fn what_follows_a_number_sign_is_no_part_of_the_path() {
    let a = endpoint(Reply::ok("quick"));
    let proxy = over(&[&a]).start();
    let mut client = Http2Client::connect(proxy.address, &[]).await;
    client.exchange(&request("GET", "/a#/../b", &[]), None).await;
    assert!(a.requests().iter().all(|seen| seen.target == "/a"), "{}", a.journal());
}
