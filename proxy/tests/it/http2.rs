//! HTTP/2 from clients: every head and body reaches endpoints as it would over HTTP/1.1, and every answer comes back.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{SendStream, client::SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};
use testkit::{
    eventually,
    http2::{self as raw, Farewell, Frame, Http2Client, flag, kind},
    origin::{Gate, Reply},
};
use tokio::{net::TcpStream, task::JoinHandle};

use crate::fixture::{NEVER, Proxy, REPORT, assert_head_over, bytes, origin, origins, over};

/// A client that speaks HTTP/2 by prior knowledge.
pub(crate) struct Client {
    pub(crate) send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer that has come to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Client {
    pub(crate) async fn of(proxy: &Proxy) -> Self {
        Self::at(proxy.address).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the proxy listens");
        let (send, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
        Self { send, connection: tokio::spawn(connection) }
    }

    pub(crate) async fn send(&self, request: Request<()>, body: Option<&[u8]>) -> Result<Answer, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, body.is_none())?;
        if let Some(body) = body {
            send_body(&mut stream, Bytes::copy_from_slice(body)).await?;
        }
        let (head, mut stream) = response.await?.into_parts();
        let mut body = Vec::new();
        while let Some(data) = stream.data().await {
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        let trailers = stream.trailers().await?;
        Ok(Answer { head: Response::from_parts(head, ()), body, trailers })
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path, &[]), None).await.expect("an answer")
    }
}

/// Sends a body, until the stream ends: an answer may come early, and end the stream.
async fn send_body(stream: &mut SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        let Some(room) = room(stream, body.len()).await else { return Ok(()) };
        let piece = body.split_to(room?.min(body.len()));
        if stream.send_data(piece, false).is_err() {
            return Ok(());
        }
    }
    // That fails only where the stream has ended.
    let _ = stream.send_data(Bytes::new(), true);
    Ok(())
}

/// Waits until the stream may send something of so many bytes; none if it has ended. Credit that is left over from before is used
/// first: `poll_capacity` only tells of new credit, which may not come while the old one is unused.
pub(crate) async fn room(stream: &mut SendStream<Bytes>, wanted: usize) -> Option<Result<usize, h2::Error>> {
    stream.reserve_capacity(wanted);
    while stream.capacity() == 0 {
        match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            ended => return ended,
        }
    }
    Some(Ok(stream.capacity()))
}

pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://shop{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(http::HeaderName::as_str).collect()
}

#[tokio::test]
async fn a_head_is_the_same_to_an_endpoint_whatever_version_brought_it() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let client = Client::of(&proxy).await;
    let fields =
        [("x-b", "2"), ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-b", "3"), ("host", "shop")];
    let answer = client.send(request("PURGE", "/a%2Fb?c=d", &fields), None).await.expect("an answer");
    assert_eq!((answer.head.status(), &answer.body[..]), (StatusCode::OK, &b"a"[..]));
    for endpoint in [&a, &b] {
        let seen = endpoint.wait_requests(1).await.remove(0).complete();
        let lines = "PURGE /a%2Fb?c=d HTTP/1.1\r\nHost: shop\r\ncookie: a=1; b=2\r\nx-b: 2\r\nx-b: 3\r\n";
        assert_head_over("2.0", &seen, lines, "shop");
    }
}

#[tokio::test]
async fn small_frames_that_came_together_go_on_together() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let client = Client::of(&proxy).await;
    // Shorter ones are limited by `h2` itself.
    let (body, frame) = (Bytes::from(bytes(60_000)), 300);
    let mut send = client.send.clone().ready().await.expect("it takes requests");
    let (response, mut stream) = send.send_request(request("PUT", "/", &[]), false).expect("it takes another one");
    for at in (0..body.len()).step_by(frame) {
        stream.send_data(body.slice(at..at + frame), at + frame == body.len()).expect("the stream is open");
    }
    assert_eq!(response.await.expect("an answer").status(), StatusCode::OK);
    let seen = a.wait_requests(1).await.remove(0).complete();
    // A chunk of a frame alone has seven bytes of framing.
    let most = 7 * (body.len() / frame) / 4;
    assert!(seen.body == body && seen.raw_body.len() - body.len() < most, "{}", seen.raw_body.len());
}

#[tokio::test]
async fn a_body_is_framed_by_its_length_or_in_chunks_and_complete_only_when_it_is() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let client = Client::of(&proxy).await;
    let body = bytes(1 << 20);
    for (number, length) in [Some(body.len()), None].into_iter().enumerate() {
        let length = length.map(|length| length.to_string());
        let fields: Vec<_> = length.iter().map(|length| ("content-length", &**length)).collect();
        let answer = client.send(request("PUT", "/", &fields), Some(&body)).await.expect("an answer");
        assert_eq!(answer.head.status(), 200);
        let seen = a.wait_requests(number + 1).await.remove(number).complete();
        assert_eq!(seen.headers.get("content-length"), length.as_deref());
        assert_eq!(seen.headers.get("transfer-encoding"), length.is_none().then_some("chunked"));
        assert!(seen.body == body);
    }
    // An aborted body never looks complete.
    let mut send = client.send.clone().ready().await.expect("the connection goes on");
    let (_response, mut stream) = send.send_request(request("PUT", "/cut", &[]), false).expect("a stream");
    stream.reserve_capacity(body.len());
    stream.send_data(Bytes::from(vec![b'x'; 60_000]), false).expect("within the window");
    drop((stream, _response));
    assert_eq!(client.get("/after").await.head.status(), 200);
    assert!(a.requests().iter().filter(|seen| seen.target == "/cut").all(|seen| !seen.is_complete()));
}

#[tokio::test]
async fn answers_come_back_without_what_concerns_the_endpoints_connection() {
    let own = Reply::ok("hello").header("Connection", "keep-alive, x-own").header("X-Own", "1").header("X-Kept", "2");
    let [a] = origins([[own, Reply::ok("").chunked(["pie", "ces"]), Reply::new(404), Reply::new(204)]]);
    let proxy = over(&[&a]).start();
    let client = Client::of(&proxy).await;
    let first = client.get("/1").await;
    let want = ["content-length", "x-kept", "x-broadcast-result", "x-broadcast-endpoint"];
    assert!(want.iter().all(|name| names(first.head.headers()).contains(name)), "{first:?}");
    assert!(!names(first.head.headers()).iter().any(|name| ["connection", "x-own"].contains(name)), "{first:?}");
    let second = client.get("/2").await;
    assert_eq!((&second.body[..], second.head.headers().get("content-length")), (&b"pieces"[..], None));
    assert_eq!(client.get("/3").await.head.status(), 404);
    assert_eq!(client.get("/4").await.head.status(), 204);
    let (name, value) = REPORT;
    let report = client.send(request("GET", "/5", &[(&name.to_lowercase(), value)]), None).await.expect("an answer");
    assert_eq!(report.head.headers()["content-type"], value);
    let report: serde_json::Value = serde_json::from_slice(&report.body).expect("JSON");
    assert_eq!(report["results"][0]["status"], 204);
}

#[tokio::test]
async fn an_answer_that_is_cut_does_not_look_whole() {
    use testkit::origin::At;
    let [a] = origins([Reply::ok(bytes(200_000)).reset_at(At::Body(150_000))]);
    let proxy = over(&[&a]).start();
    let cut = Client::of(&proxy).await.send(request("GET", "/", &[]), None).await;
    assert!(cut.as_ref().is_err_and(h2::Error::is_reset), "{cut:?}");
}

#[tokio::test]
async fn requests_side_by_side_wait_for_none_of_the_others() {
    let gate = Gate::new();
    let slow = gate.clone();
    let a = origin(
        0,
        testkit::origin::Script::on_head(move |seen| match &*seen.target {
            "/slow" => Reply::ok("slow").hold(&slow),
            _ => Reply::ok("quick"),
        }),
    );
    let proxy = over(&[&a]).start();
    let client = Client::of(&proxy).await;
    let (slow, ()) = tokio::join!(client.get("/slow"), async {
        a.wait_heads(1).await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await.body, b"quick");
        }
        gate.release();
    });
    assert_eq!(slow.body, b"slow");
}

#[tokio::test]
async fn what_a_request_must_not_say_is_answered_and_reaches_no_endpoint() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let client = Client::of(&proxy).await;
    let cases: [(&[(&str, &str)], u16); 4] = [
        (&[("host", "other")], 400),
        (&[("host", "shop"), ("host", "shop")], 400),
        (&[("x-space", " a")], 400),
        (&[("expect", "something")], 417),
    ];
    for (fields, status) in cases {
        let answer = client.send(request("GET", "/", fields), None).await.expect("an answer");
        assert_eq!(answer.head.status(), status, "{fields:?}");
    }
    let connect = Request::connect("shop:80").body(()).expect("a request");
    assert_eq!(client.send(connect, None).await.expect("an answer").head.status(), 501);
    a.assert_untouched();
}

#[tokio::test]
async fn a_client_that_resets_streams_as_fast_as_it_opens_them_is_told_to_calm_down() {
    let [a] = origins([Reply::never()]);
    let proxy = over(&[&a]).start();
    let client = Client::of(&proxy).await;
    let mut opened = 0;
    while opened < 2_000 {
        let Ok(mut send) = client.send.clone().ready().await else { break };
        let Ok((_, mut stream)) = send.send_request(request("GET", "/", &[]), true) else { break };
        stream.send_reset(h2::Reason::CANCEL);
        opened += 1;
        tokio::task::yield_now().await;
    }
    let ended = client.connection.await.expect("no panic").expect_err("it was ended");
    assert_eq!(ended.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{ended} after {opened}");
    assert!(a.requests().len() <= 100, "{} copies for one client", a.requests().len());
}

#[tokio::test]
async fn a_drain_lets_every_stream_end_and_tells_the_client_to_go() {
    let gate = Gate::new();
    let [a] = origins([Reply::ok("late").hold(&gate)]);
    let mut proxy = over(&[&a]).start();
    let client = Client::of(&proxy).await;
    let second = client.send.clone();
    let drain = async {
        a.wait_heads(1).await;
        let release = async {
            // The client has received GOAWAY when it can begin no further request.
            eventually!("no further stream", second.clone().ready().await.is_err(), |ended| *ended);
            gate.release();
        };
        tokio::join!(proxy.drain(NEVER), release).0
    };
    let (answer, cut) = tokio::join!(client.send(request("GET", "/", &[]), None), drain);
    assert_eq!((answer.expect("an answer").body.as_slice(), cut), (&b"late"[..], 0));
    second.clone().ready().await.expect_err("the connection has ended");
}

#[tokio::test]
async fn a_drain_is_announced_and_takes_what_comes_until_the_client_has_heard_of_it() {
    let gate = Gate::new();
    let [a] = origins([Reply::ok("late").hold(&gate)]);
    let mut proxy = over(&[&a]).start();
    let mut client = Http2Client::connect(proxy.address, &[]).await;
    client.keep_pings();
    let mut taken = Vec::new();
    for path in ["/1", "/2"] {
        taken.push(client.open(&raw::request("GET", path, &[])).await);
    }
    a.wait_heads(2).await;
    let raw_client = async {
        let (first, ping) = match client.farewells(2).await {
            [first, Farewell::Ping(ping)] => (*first, *ping),
            other => panic!("{other:?}"),
        };
        assert_eq!(first, Farewell::GoAway { last: (1 << 31) - 1, reason: 0 });
        // It was sent before the client received it.
        taken.push(client.open(&raw::request("GET", "/between", &[])).await);
        a.wait_heads(3).await;
        client.send(&[Frame::new(kind::PING, flag::ACK, 0, ping)]).await;
        let last = client.farewells(3).await[2];
        assert_eq!(last, Farewell::GoAway { last: taken[2], reason: 0 });
        let late = client.open(&raw::request("GET", "/late", &[])).await;
        gate.release();
        for stream in &taken {
            let answer = client.answer(*stream).await;
            assert!(answer.is_whole(200) && answer.body == b"late", "stream {stream}: {answer:?}");
        }
        client.ended().await;
        assert_eq!(client.answers().get(&late), None);
        assert_eq!(client.farewells(3).await.len(), 3);
    };
    let (cut, ()) = tokio::join!(proxy.drain(NEVER), raw_client);
    assert_eq!(cut, 0);
    assert!(a.requests().iter().all(|seen| seen.target != "/late"));
}

#[tokio::test]
async fn what_has_no_body_has_none_whoever_makes_the_answer() {
    let fields = [("host", "other")];
    let refused = |method: &str| (raw::request(method, "/", &fields), 400);
    let none = |status: u16| over(&[]).policy(|policy| policy.on_empty = status).start();
    let [a] = origins([Reply::new(502)]);
    let report = [(&*REPORT.0.to_lowercase(), REPORT.1)];
    let cases: Vec<(Proxy, Vec<u8>, u16, bool)> = vec![
        (none(503), refused("HEAD").0, refused("HEAD").1, true),
        (none(503), refused("GET").0, refused("GET").1, false),
        (none(503), raw::request("HEAD", "/", &[]), 503, true),
        (none(503), raw::request("GET", "/", &[]), 503, false),
        (none(204), raw::request("GET", "/", &[]), 204, true),
        (none(304), raw::request("GET", "/", &[]), 304, true),
        (none(200), raw::request("GET", "/", &[]), 200, true),
        (over(&[&a]).start(), raw::request("HEAD", "/", &report), 502, true),
        (over(&[&a]).start(), raw::request("HEAD", "/", &[]), 502, true),
    ];
    for (proxy, block, status, is_bodiless) in cases {
        let mut client = Http2Client::connect(proxy.address, &[]).await;
        let answer = client.exchange(&block, None).await;
        assert!(answer.is_whole(status) && answer.body.is_empty() == is_bodiless, "{status}: {answer:?}");
    }
}

#[tokio::test]
async fn trailers_of_the_chosen_answer_reach_a_client_that_takes_them() {
    let reply = |text: &str| Reply::ok("").chunked([text]).trailer("X-Sum", text).trailer("Content-Length", "7");
    let [a, b] = origins([reply("a"), reply("b")]);
    let proxy = over(&[&a, &b]).start();
    let over_http2 = Client::of(&proxy).await.get("/").await;
    assert_eq!(over_http2.body, b"a");
    let trailers = over_http2.trailers.expect("there are some");
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &http::HeaderValue::from_static("a")));
    for (te, want) in [("TE: trailers\r\n", "1\r\na\r\n0\r\nX-Sum: a\r\n\r\n"), ("", "1\r\na\r\n0\r\n\r\n")] {
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{te}Connection: close, TE\r\n\r\n");
        let mut client = proxy.sent(head).await;
        let answer = client.read_response("GET").await;
        assert_eq!(String::from_utf8_lossy(&answer.raw_body), want, "{te}");
    }
}
